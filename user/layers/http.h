/* SPDX-License-Identifier: MIT */
/*
 * The HTTP layer (spec/layers 8): one codec towards the client, one stream per request, upstream connections with a
 * codec each. Codecs turn bytes into HTTP events and back; streams know nothing of versions, codecs nothing of hooks.
 */
#pragma once

#include "core/conn.h"
#include "core/env.h"
#include "flow/flow.h"

enum http_mode {
	HTTP_REGULAR,                    /* the client knows that we are a proxy */
	HTTP_UPSTREAM,                   /* the same; server's record only says which proxy is behind us (via) */
	HTTP_TRANSPARENT,                /* the destination is server's address */
	HTTP_REVERSE,                    /* the same, and the client thinks that we are it */
};

/* server: the connection that the layers above already know; NULL in regular mode. NULL: out of memory. */
struct layer *http_new(struct layer *parent, enum http_mode mode, struct conn *client,
		       struct conn *server) __must_check;

/* --- between http.c, http_stream.c and the codecs -------------------------------------------------------------- */

enum http_error_code {
	HTTP_ERROR_CLIENT,               /* 400 */
	HTTP_ERROR_TOO_LARGE,            /* 413 */
	HTTP_ERROR_HEADERS_TOO_LARGE,    /* 431 */
	HTTP_ERROR_SERVER,               /* 502 */
	HTTP_ERROR_METHOD,               /* 405 */
	HTTP_ERROR_DISCONNECTED,         /* no page */
	HTTP_ERROR_CANCELLED,            /* no page: the peer of one stream wants no more of it */
	HTTP_ERROR_BROKEN,               /* no page: a client's stream or connection of HTTP/2 broke */
	HTTP_ERROR_HTTP11_REQUIRED,      /* no page: the origin, or a client, wants this request over HTTP/1.1 */
	HTTP_ERROR_KILLED,               /* no page: a hook's or a person's will */
};

enum http_event_type {
	HTTP_HEADERS,                    /* in flow->http.request or .response */
	HTTP_INFORMATIONAL,              /* a 1xx response other than 101, in .response */
	HTTP_DATA,
	HTTP_TRAILERS,                   /* in the message of the flow */
	HTTP_END,
	HTTP_ERROR,
};

struct http_event {
	enum http_event_type type;
	struct flow *flow;
	struct chain *data;              /* HTTP_DATA; taken over */
	struct flow *head;               /* fields that are not in the flow yet; taken over; NULL: they are */
	bool end_stream;                 /* HTTP_HEADERS: no body follows; HTTP_END comes anyway */
	enum http_error_code code;       /* HTTP_ERROR */
	const char *message;             /* HTTP_ERROR; a sentence */
	bool retriable;                  /* HTTP_ERROR of an upstream that died before it answered anything */
	bool refused;                    /* HTTP_ERROR: the origin says that it has not looked at the request */
};

/* A field value of RFC 9218 is not longer, with its terminator; what is, is not passed on. */
#define HTTP_PRIORITY_MAX 64

struct http_codec;
struct http_stream;

struct http_codec_ops {
	/* Writes one event of a stream. True: the connection is over its high-water mark. */
	bool (*send)(struct http_codec *c, struct http_stream *s, const struct http_event *ev);
	/* Whether bodies of that stream may be delivered. */
	void (*pause)(struct http_codec *c, struct http_stream *s, bool paused);
	/* Everything that the peer sends from now on is the child's, what was read ahead first. */
	void (*tunnel)(struct http_codec *c, struct layer *child);
	/* s->priority has changed since the request left; NULL: the version knows no such message. */
	void (*prioritize)(struct http_codec *c, struct http_stream *s);
	/* The stream is over, from both sides. */
	void (*done)(struct http_codec *c, struct http_stream *s);
	/* Sends what send() only collected; NULL: send() sends. Follows http_mark(), before the event is over. */
	void (*flush)(struct http_codec *c);
	/* Something that ended in order is still on its way to the peer; NULL: what was sent is sent. */
	bool (*unsent)(const struct http_codec *c);
};

struct http_codec {
	struct layer base;
	const struct http_codec_ops *ops;
	struct http *http;
	struct conn *conn;
	struct http_upstream *upstream;  /* NULL: the client's */
	bool multiplex;                  /* many streams at a time: HTTP/2 */
	bool settled, extended;          /* of an origin's HTTP/2: its SETTINGS came, they allow RFC 8441 */
	bool marked;
	struct http_codec *next_marked;
};

enum upstream_state { UPSTREAM_OPENING, UPSTREAM_READY, UPSTREAM_DRAINING, UPSTREAM_DEAD };

/* A connection to an origin: a layer that opens it, then has the codec of the version that was agreed on below it. */
struct http_upstream {
	struct layer base;
	struct http *http;
	struct http_upstream *next;
	enum upstream_state state;
	struct conn *conn;
	struct conn *proxy;              /* through which conn is reached; NULL: none, or not this layer's */
	bool own;                        /* conn and stack were made for this layer alone */
	bool fresh;                      /* nothing was sent on it yet */
	bool http11;                     /* made for somebody who needs that version */
	uint32_t tunnels;                /* with streams of it at their ends */
	struct layer *stack;             /* top of its layers; base itself without TLS */
	struct http_codec *codec;        /* NULL until it is open */
	bool tls;                        /* its target besides: conn->record->address, as it is at the moment */
	struct list streams;             /* who uses it; HTTP/1: one at a time */
	struct list waiting;             /* for it to open, oldest first */
};

struct http {
	struct layer base;
	enum http_mode mode;
	struct conn *client, *server;
	struct http_codec *codec;
	struct http_upstream *upstreams;
	struct http_stream *streams, *dead;
	struct layer *tunnel;            /* after CONNECT or an upgrade, of a whole connection */
	struct http2_tunnel *tunnels;    /* of streams; they free themselves from this list */
	bool server_used;                /* server had its turn as an upstream connection */
	bool draining;
	bool lingering;                  /* the client's connection is to be closed; see http_linger.c */
	struct chain preface;            /* of a client that may begin with HTTP/2's (RFC 9113 3.4) */
	bool begun;                      /* the client's version is known */
	struct chain early;              /* what server, of HTTP/2, says before there is a request for it */
	uint32_t depth;                  /* of http_enter() */
	struct http_codec *marked;       /* have something to flush */
	uint32_t stream_count;
};

/* From codecs. */
struct http_stream *http_request_headers(struct http *h, struct flow *flow, bool end_stream);
void http_request_event(struct http_stream *s, const struct http_event *ev);
void http_response_event(struct http_stream *s, const struct http_event *ev);
/* The client wishes this priority from now on (RFC 9218). */
void http_request_priority(struct http_stream *s, struct str value);
/*
 * Around whatever may make a codec send. Codecs that collect are flushed when the outermost is left, so that what one
 * event brings about leaves in one piece.
 */
void http_enter(struct http *h);
void http_leave(struct http *h);
/* The codec has something to flush. */
void http_mark(struct http_codec *c);
/* Of the layer: what is to be done to connections. After each event: whether what was waited for is done. */
bool http_linger_command(struct layer *l, struct command *cmd);
void http_linger(struct http *h);
/* What was over the high-water mark has drained. */
void http_client_writable(struct http *h);

/* From streams. */
void http_stream_retire(struct http *h, struct http_stream *s);

/* --- http_upstream.c --- */
enum upstream_answer { UPSTREAM_NOW, UPSTREAM_LATER, UPSTREAM_NEVER };
/* NOW: s->upstream is ready; LATER: http_stream_upstream() follows; NEVER: *why says it. */
enum upstream_answer http_upstream_for(struct http *h, struct http_stream *s, bool fresh, const char **why);
/*
 * The server that the layers above have reached may wait for its client's preface, and not for long (RFC 9113 3.4):
 * when HTTP/2 was agreed on with it, it is told at once, whenever the first request comes.
 */
void http_upstream_greet(struct http *h);
/* An unopened connection for a CONNECT; the caller's to free, through the sink. NULL: out of memory. */
struct conn *http_upstream_conn_new(struct http *h, struct str host, uint16_t port);
/* Its stream is over, and it may have the next one. */
void http_upstream_release(struct http_upstream *up);
/* The stream has no upstream any more; one that nobody else waits for is not opened any further. */
void http_upstream_leave(struct http_stream *s);

/* From codecs. The connection is of no more use; its streams know it no more, and are told by the codec. */
void http_upstream_dead(struct http_upstream *up);
/* It takes no new streams (GOAWAY); those that it has go on. */
void http_upstream_draining(struct http_upstream *up);
/* Its SETTINGS have come: who waited for them goes on. */
void http_upstream_settled(struct http_upstream *up);
/* So does who waits for something that will not come any more. */
void http_upstream_gone(struct http_upstream *up, const char *why);
/* What was over its high-water mark has drained. */
void http_upstream_writable(struct http_upstream *up);

/* From http.c. With its layers and what was opened for it alone; it is in no list any more, and has no streams. */
void http_upstream_free(struct http_upstream *up);

/* --- http_stream.c --- */
struct http_stream {
	struct layer base;
	struct http_stream *next, **at;  /* in the list that it is in, and what points to it there */
	struct http *http;
	struct http_upstream *upstream;
	struct list upstream_link;       /* in its streams or waiting */
	void *at_client, *at_upstream;   /* the codecs' own */
	struct flow *flow;               /* NULL once it was handed over */
	enum { MESSAGE_HEAD, MESSAGE_STREAMING, MESSAGE_BUFFERING, MESSAGE_DONE, MESSAGE_FAILED } request, response;
	void (*resume)(struct http_stream *s);   /* what to do after the completion awaited; NULL: awaiting none */
	const char *error;               /* what the completion said */
	enum hook_id asked;              /* the last hook */
	enum http_error_code failed;     /* while `error` is asked: what the client is told then */
	bool lent;                       /* it is being answered: the flow is not ours */
	bool stop;                       /* killed meanwhile */
	void (*then)(struct http_stream *s);     /* what to do when it was answered */
	bool lost[2];                    /* no memory for an event; what follows is dropped. [1]: of the request */
	bool response_seen;              /* a response of the origin's is in the flow, or waits */
	bool switching;                  /* it is a 101 */
	struct str length, coding;       /* its framing, as it came */
	struct queued_http *queue, **queue_tail;
	struct chain request_body, response_body;        /* buffered */
	bool request_headers_sent, response_headers_sent;
	bool request_paused, response_paused;            /* as the codecs know it */
	bool upstream_over, client_over;                 /* over the high-water mark */
	bool request_behind, response_behind;            /* what was captured waits to be written to a file */
	uint32_t queued_request, queued_response;        /* body events in the queue */
	bool retried, ended;
	bool answered;                   /* the response is ours and in the flow: nobody else is asked */
	bool refused;                    /* retried because the origin had not looked at it */
	bool alone;                      /* the origin speaks HTTP/1: waiting for another's connection is of no use */
	bool upgrade;                    /* asks for another protocol, and the origin's HTTP/2 can be asked, too */
	bool http11;                     /* it cannot: this has to go over HTTP/1.1 */
	struct conn *connect;            /* CONNECT: the destination */
	char priority[HTTP_PRIORITY_MAX];        /* as the client changed it beside its request; empty: it did not */
};

/* Where a codec that reads many streams puts a head: the flow, or beside it in *staged, for an event's head. NULL: no
 * memory. */
struct flow *http_stream_staging(struct http_stream *s, struct flow **staged);
void http_streams_order(struct http *h, const struct order *order);
struct http_stream *http_stream_new(struct http *h, struct flow *flow);
void http_stream_start(struct http_stream *s, bool end_stream);
void http_stream_upstream(struct http_stream *s, const char *error);
void http_stream_writable(struct http_stream *s, bool client);

/* --- http1_server.c, http1_client.c --- */
struct http_codec *http1_server_new(struct http *h, struct conn *client) __must_check;
struct http_codec *http1_client_new(struct http_upstream *up) __must_check;

/* --- http2_server.c, http2_client.c --- */
struct http_codec *http2_server_new(struct http *h, struct conn *client) __must_check;
struct http_codec *http2_client_new(struct http_upstream *up) __must_check;

/* --- http1_adapt.c: messages that came over HTTP/2, for HTTP/1 --- */
/* body: one follows. Texts are the message's or of a. */
int http1_adapt_request(struct http_request *out, const struct http_request *r, bool body,
			struct arena *a) __must_check;
int http1_adapt_response(struct http_response *out, const struct http_response *r, const struct http_request *to,
			 bool body, struct arena *a) __must_check;

/* --- http1_write.c: heads and bodies as HTTP/1 bytes --- */
int http1_write_request(struct chain *out, struct env *env, const struct http_request *r) __must_check;
int http1_write_response(struct chain *out, struct env *env, const struct http_response *r) __must_check;
/* Moves data to out, as a chunk when chunked. */
int http1_write_data(struct chain *out, struct env *env, struct chain *data, bool chunked) __must_check;
int http1_write_end(struct chain *out, struct env *env, const struct http_message *m, bool chunked) __must_check;
/* The HTML of the proxy's own page (spec/layers 8.2). */
struct strbuf;
void http1_error_html(struct strbuf *out, uint16_t status, const char *message);
/* The whole response with it. */
int http1_write_error(struct chain *out, struct env *env, uint16_t status, const char *message) __must_check;
