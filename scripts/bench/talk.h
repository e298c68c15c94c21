/* SPDX-License-Identifier: MIT */
/* What the benchmark's client and origin have agreed on, beside HTTP. */
#pragma once

#include <stdint.h>
#include <time.h>

/* GET /stamps: so many pieces of a body, one each few milliseconds, each the sender's clock in hexadecimal digits. */
enum { STAMPS = 200, STAMP_BYTES = 16, STAMP_EVERY_MS = 5 };

/* GET /websocket: frames of up to 125 bytes. The key and its answer are always the same (RFC 6455 1.3). */
enum { TALK_FRAME_HEAD = 2, TALK_MESSAGE_BYTES = 64, TALK_MESSAGES_AHEAD = 16 };

#define TALK_WEBSOCKET_ASK                                                                                     \
	"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"                          \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define TALK_WEBSOCKET_ANSWER                                                                                  \
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                   \
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

static inline uint64_t talk_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}
