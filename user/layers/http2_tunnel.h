/* SPDX-License-Identifier: MIT */
/*
 * A tunnel with a stream of HTTP/2 at one of its ends, or at both: after a CONNECT (RFC 9113 8.5) or a change of
 * protocol (RFC 8441). The layer inside sees each stream as a connection, with windows for its backpressure, and when
 * that is the client's, as the end of a session of its own: what it opens belongs to the tunnel and goes with it.
 */
#pragma once

#include "layers/http.h"

struct http2_stream;
struct http2_tunnel;

/* A stream as a connection. */
struct http2_pipe {
	struct conn conn;
	struct http2_tunnel *tunnel;
	struct http2_stream *stream;     /* NULL: it is no end of this tunnel, or is over */
	uint32_t blocked;                /* queued events that hold reading back */
	bool writable, ended, gone;      /* what the layer inside is yet to hear */
	bool broken;                     /* it did not end in order */
};

struct http2_asking;

struct http2_tunnel {
	struct layer base;
	struct http2_tunnel *next;       /* in http.tunnels */
	struct http *http;
	struct http_upstream *up;        /* which the server's end is of; NULL: the tunnel's own connections are */
	struct sink sink, *outer;        /* what the layers inside ask for connections */
	struct http2_pipe client, server;
	bool deaf;                       /* nobody inside may be told of anything: it has not begun, or sends itself */
	struct layer *child;
	struct conn **conns;             /* of the layers inside */
	uint32_t conn_count, conn_cap;
	struct http2_asking *asking;     /* for layers inside that wait for a hook's answer; some are idle */
	bool unnoted;                    /* another one waits for which there was no memory */
};

/*
 * client, server: streams, or NULL where the end is a connection; they are the tunnel's from now on. up may be NULL.
 * inner: what the client says is a connection of its own, on which nothing is known yet. The child is to be set next.
 * NULL: memory is out, nothing has changed. The tunnel is freed with up where that is of HTTP/1, else with http.
 */
struct http2_tunnel *http2_tunnel_new(struct http *h, struct http_upstream *up, struct http2_stream *client,
				      struct http2_stream *server, bool inner) __must_check;
/* As its child is to use them. */
struct conn *http2_tunnel_client(struct http2_tunnel *t);
struct conn *http2_tunnel_server(struct http2_tunnel *t);
/* From now on c is the tunnel's own. -ENOMEM. */
int http2_tunnel_adopt(struct http2_tunnel *t, struct conn *c) __must_check;
bool http2_tunnel_owns(const struct http2_tunnel *t, const struct conn *c);
/* After EV_START: what the streams have brought before there was a tunnel goes to the child. */
void http2_tunnel_begin(struct http2_tunnel *t);
/* The client's stream is over, and nobody looks at what is inside any more. */
bool http2_tunnel_over(struct http2_tunnel *t);
/* What is still open inside is closed, as at the end of a session; free it next. */
void http2_tunnel_finish(struct http2_tunnel *t);

/* From http2.c. Take data's bytes. */
void http2_pipe_data(struct http2_pipe *p, struct chain *data);
void http2_pipe_ended(struct http2_pipe *p);
void http2_pipe_writable(struct http2_pipe *p);
/* The stream is no more; reset: it was cut. */
void http2_pipe_gone(struct http2_pipe *p, bool reset);
