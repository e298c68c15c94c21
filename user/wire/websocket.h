/* SPDX-License-Identifier: MIT */
/* WebSocket frames (RFC 6455 section 5): heads, masks, the payload of a close. Pure. */
#pragma once

#include "base/str.h"

enum websocket_opcode {
	WEBSOCKET_CONTINUATION = 0, WEBSOCKET_TEXT = 1, WEBSOCKET_BINARY = 2,
	WEBSOCKET_CLOSE = 8, WEBSOCKET_PING = 9, WEBSOCKET_PONG = 10,
};

/* RFC 6455 7.4.1 */
enum websocket_code {
	WEBSOCKET_NORMAL = 1000, WEBSOCKET_PROTOCOL_ERROR = 1002, WEBSOCKET_NO_STATUS = 1005, WEBSOCKET_ABNORMAL = 1006,
	WEBSOCKET_INVALID_PAYLOAD = 1007, WEBSOCKET_TLS_FAILED = 1015,
};

#define WEBSOCKET_HEAD_MAX    14
#define WEBSOCKET_CONTROL_MAX 125

struct websocket_head {
	bool fin;
	bool rsv1;                   /* first frame of a compressed message, when that was negotiated (RFC 7692) */
	uint8_t opcode;
	bool masked;
	uint8_t key[4];              /* when masked */
	uint64_t len;                /* of the payload */
};

static inline bool websocket_is_control(uint8_t opcode)
{
	return opcode & 8;
}

/*
 * Returns how many bytes the head takes; 0 when bytes ends before it does; -EPROTO, with a phrase in *why, when no
 * frame begins like this. WEBSOCKET_HEAD_MAX bytes are always enough.
 */
int websocket_head_parse(struct websocket_head *h, const uint8_t *bytes, size_t len, const char **why) __must_check;

/* Returns how many bytes it wrote. */
size_t websocket_head_write(uint8_t out[static WEBSOCKET_HEAD_MAX], const struct websocket_head *h);

/* Masks or unmasks; offset: where bytes are in the payload. */
void websocket_mask(uint8_t *bytes, size_t len, const uint8_t key[4], uint64_t offset);

/*
 * The payload of a close; *reason points into it. Returns 0, or the code to answer with and a phrase in *why. An empty
 * payload is WEBSOCKET_NO_STATUS.
 */
int websocket_close_parse(struct str payload, uint16_t *code, struct str *reason, const char **why) __must_check;

/* Codes that stand for the lack of one, and are never sent. */
static inline bool websocket_code_is_local(uint16_t code)
{
	return code == WEBSOCKET_NO_STATUS || code == WEBSOCKET_ABNORMAL || code == WEBSOCKET_TLS_FAILED;
}
