/* SPDX-License-Identifier: MIT */
/* What a TLS server chose (RFC 8446 4.1.3, RFC 5246 7.4.1.3), as far as it says so in the clear. */
#pragma once

#include "base/arena.h"
#include "base/str.h"

/* random borrows from the message, extensions are in the arena, in the server's order. */
struct server_hello {
	uint16_t legacy_version;
	uint16_t cipher_suite;
	struct str random;           /* 32 bytes */
	uint16_t *extensions;        /* their types */
	uint32_t extension_count;
};

/* message: the handshake message with its 4-byte header. 0, -EPROTO (then *out is as before) or -ENOMEM. */
int server_hello_parse_message(struct server_hello *out, struct str message, struct arena *arena) __must_check;
