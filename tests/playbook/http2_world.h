/* SPDX-License-Identifier: MIT */
/*
 * A world for HTTP/2: frames are given as a peer would send them, and what is sent to a peer is read as frames. All
 * that happens is one line in a text that tests compare:
 *
 *	client HEADERS 1 :status=200 a=b
 *	client DATA 1 end "hello"
 *	open 3            the first own connection to the server
 *	flow response
 *
 * Peers that speak HTTP/1 are shown as text. SETTINGS, their acknowledgement and the connection's first window are left
 * out unless w.all is set.
 */
#pragma once

#include <nghttp2/nghttp2.h>

#include "base/str.h"
#include "playbook.h"

/* H2_TO_PROXY: the client speaks it to an explicit proxy; servers are shown as text. */
enum h2_kind { H2_TO_H2, H1_TO_H2, H2_TO_H1, H2_TO_PROXY };

struct h2_bytes {
	char *ptr;
	size_t len, cap;
};

struct h2_peer {
	bool h2;
	bool server;                     /* it is the one that answers */
	struct h2_bytes in;                /* of a frame that is not whole */
	struct h2_bytes block;             /* of a header block that is not whole */
	nghttp2_hd_inflater *inflater;
	bool magic_seen;
};

struct h2_world {
	struct playbook pb;
	struct layer *l;
	enum h2_kind kind;
	struct h2_peer peers[PLAYBOOK_SIDES];
	struct layer *holder;            /* of a hook that is not answered yet */
	struct h2_bytes lines;
	struct h2_bytes frames;            /* what is given next */
	bool all;                        /* show what is left out */
	bool hold_open, refuse_open, hold_hooks;
	bool full[PLAYBOOK_SIDES];       /* the side takes nothing more */
};

/* False: memory is out, on purpose. The prefaces of both sides are exchanged, unless bare. */
bool h2_begin(struct h2_world *w, enum h2_kind kind);
bool h2_begin_bare(struct h2_world *w, enum h2_kind kind);
void h2_end(struct h2_world *w);

/* Frames are collected, h2_give() sends them to the layer as one event, or byte by byte. */
void h2_frame(struct h2_world *w, uint8_t type, uint8_t flags, int32_t id, const void *payload, size_t len);
/* name, value, …, NULL */
void h2_headers(struct h2_world *w, int32_t id, uint8_t flags, ...);
void h2_data(struct h2_world *w, int32_t id, uint8_t flags, const char *text);
void h2_zeros(struct h2_world *w, int32_t id, uint8_t flags, size_t len);
void h2_number(struct h2_world *w, uint8_t type, int32_t id, uint32_t number);
void h2_goaway(struct h2_world *w, int32_t last, uint32_t code);
void h2_setting(struct h2_world *w, uint16_t id, uint32_t value);
void h2_magic(struct h2_world *w);
void h2_text(struct h2_world *w, const char *text);
void h2_give(struct h2_world *w, int side);
void h2_give_slowly(struct h2_world *w, int side);
void h2_open(struct h2_world *w);
void h2_close(struct h2_world *w, int side, bool reset);
void h2_answer_hook(struct h2_world *w);
/* Time passes until the last wakeup that a layer asked for. */
void h2_sleep(struct h2_world *w);
void h2_writable(struct h2_world *w, int side);

/* What happened since the last time; empties it. */
void h2_want_at(struct h2_world *w, const char *want, const char *file, int line);
#define H2_WANT(w, want) h2_want_at((w), (want), __FILE__, __LINE__)
/* Only whether this is part of it. */
void h2_want_part_at(struct h2_world *w, const char *part, const char *file, int line);
#define H2_WANT_PART(w, part) h2_want_part_at((w), (part), __FILE__, __LINE__)
void h2_forget(struct h2_world *w);

/* The usual messages, and how the usual requests are shown. */
#define END NGHTTP2_FLAG_END_STREAM
#define GET(w, id)                                                                                            \
	h2_headers(w, id, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", NULL)
#define POST(w, id)                                                                                           \
	h2_headers(w, id, 0, ":method", "POST", ":scheme", "http", ":path", "/p", ":authority", "h", NULL)
#define OK(w, id, flags) h2_headers(w, id, flags, ":status", "200", NULL)
#define UP_GET ":method=GET :scheme=http :path=/ :authority=h\n"
#define UP_POST ":method=POST :scheme=http :path=/p :authority=h\n"
