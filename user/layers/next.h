/* SPDX-License-Identifier: MIT */
/* Decides from the first bytes which layer a connection gets, and stands aside (spec/layers 5; DB-7). */
#pragma once

#include "core/conn.h"

enum next_role {
	NEXT_PROXY,                      /* what a client says to an explicit proxy: TLS to us, or HTTP */
	NEXT_UPSTREAM,                   /* the same; server only says which proxy is behind us */
	NEXT_TUNNEL,                     /* traffic meant for server */
	/* What a client says to us as if we were server, in TLS or not; and how server is spoken to (5.2). */
	NEXT_REVERSE_HTTP,
	NEXT_REVERSE_HTTPS,
	NEXT_REVERSE_TCP,
	NEXT_REVERSE_TLS,
};

/* server: NULL for NEXT_PROXY. NULL: out of memory. */
/* Whether these are a server's first bytes of HTTP/2: it begins with a SETTINGS frame (RFC 9113 3.4). */
bool next_begins_http2(const uint8_t *bytes, size_t len);

struct layer *next_new(struct layer *parent, enum next_role role, struct conn *client,
		       struct conn *server) __must_check;
