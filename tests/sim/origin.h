/* SPDX-License-Identifier: MIT */
/* A virtual origin's connection, shared by origin*.c only. */
#pragma once

#include "h2_pipe.h"
#include "starttls_end.h"
#include "universe.h"
#include "ws_end.h"

struct origin_stream;

struct origin {
	struct origin *next;
	struct universe *u;
	struct far *far;
	uint32_t host;                   /* SCRIPT_HOSTS: the proxy behind us, until it is asked for one of them */
	uint16_t port;
	bool proxy;                      /* the proxy behind us, with no tunnel yet */
	struct exchange *x;              /* under way; HTTP/2: the last that began */
	/* HTTP */
	struct reader reader;
	bool answering, request_over;
	uint64_t body_sent, out, limit;  /* bytes of this response; where it is cut */
	uint8_t *pending;                /* requests that came before the answer was out */
	size_t pending_len;
	bool known;                      /* which version the client speaks */
	struct h2_end h2;
	struct origin_stream *streams;
	bool last_words;                 /* HTTP/2: it is closed when all is sent */
	bool leaving;                    /* HTTP/2: GOAWAY is due; what has begun until then is answered */
	bool noticed;                    /* HTTP/2: it has said that GOAWAY will come */
	int32_t last;                    /* HTTP/2: streams beyond it are not looked at; -1: all are */
	struct ws_end ws;
	/* TCP */
	struct starttls_end starttls;
	char line[64];
	size_t line_len, marks;          /* what came before the exchange was known */
	bool resets;                     /* when all is on its way that was said before */
	bool over;
	struct timer resume;
	const char *permission;          /* the proxy behind us: what it still says before there is the tunnel */
	struct timer permit;
};

/* A request's head, whatever its version. */
void origin_check_request(struct origin *o, struct exchange *x, const char *method, const char *id, bool marked);
void origin_check_body(struct origin *o, struct exchange *x, const uint8_t *bytes, size_t len);
/* trailer: the number in it; lossy: it could have none */
void origin_check_end(struct origin *o, struct exchange *x, uint32_t trailer, bool lossy);

/* The index of the host that text begins with; SCRIPT_HOSTS: none. *rest: what is behind it. */
uint32_t origin_host_of(const char *text, const char **rest);
/* Where TLS comes later, if at all. */
void origin_begin_dialogue(struct origin *o);

/* origin_proxy.c: the proxy behind us was asked for a tunnel. */
void origin_ask_tunnel(struct origin *o);
void origin_permit(struct timer *t);

/* origin_h2.c */
void origin_h2_begin(struct origin *o);
void origin_h2_received(struct origin *o, const uint8_t *bytes, size_t len);
void origin_h2_go_on(struct origin *o);
void origin_h2_fini(struct origin *o);
