/* SPDX-License-Identifier: MIT */
/*
 * HTTP/2 for far ends, on nghttp2 with its own memory: a session whose bytes go out a little at a time, and the parts
 * of frames that both ends need. What is said in streams is the owner's (client_h2.c, origin_h2.c).
 */
#pragma once

#include <nghttp2/nghttp2.h>

#include "script.h"

#define H2_END_ODD_MAX     6
#define H2_END_CHANGES_MAX 5

struct universe;

/* nghttp2's user data. */
struct h2_end {
	nghttp2_session *session;        /* NULL: not begun */
	struct universe *u;
	void *owner;
	/* False: the script leaves here. */
	bool (*put)(void *owner, const uint8_t *bytes, size_t len);
	bool inside;                     /* nghttp2 calls: nothing may be sent now */
	bool settled;                    /* the peer has introduced itself */
	bool said;                       /* it has introduced itself */
	bool server;
	bool shut;                       /* its windows are, until the peer has confirmed it */
	uint32_t odd, changes;           /* what it said that was nothing; how often it changed its settings */
	bool babbles;                    /* it has sent what is no HTTP/2: the proxy may say so */
};

/* The usual callbacks are set already; the owner adds those of streams, then calls h2_end_start(). */
nghttp2_session_callbacks *h2_end_callbacks(void);
/* To be called for each frame that came; 0. */
int h2_end_frame(struct h2_end *e, const nghttp2_frame *frame);
/* Draws settings, introduces itself. Frees callbacks. */
void h2_end_start(struct h2_end *e, nghttp2_session_callbacks *callbacks, bool server);
void h2_end_fini(struct h2_end *e);

void h2_end_received(struct h2_end *e, const uint8_t *bytes, size_t len);
/* Sends some of what there is; the rest when that has drained. False: it has left. */
bool h2_end_flush(struct h2_end *e);
/* The peer takes an extended CONNECT (RFC 8441). */
bool h2_end_extended(const struct h2_end *e);
/* Nothing will ever be said or heard on it. */
bool h2_end_over(const struct h2_end *e);

/* A field whose texts outlive the call that it is given to. */
nghttp2_nv h2_field(const char *name, const char *value);
uint32_t h2_number(const uint8_t *value, size_t len);
bool h2_is(const uint8_t *text, size_t len, const char *name);
