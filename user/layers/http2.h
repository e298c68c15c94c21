/* SPDX-License-Identifier: MIT */
/*
 * What both ends of HTTP/2 share: an nghttp2 session whose bytes come from and go to chains, its streams, fields from
 * and to flows. nghttp2 keeps the protocol's state, HPACK and the peer's windows; ours are opened as the other side of
 * the proxy takes what came (RFC 9113 5.2). http2_server.c and http2_client.c give it its meaning.
 */
#pragma once

#include <nghttp2/nghttp2.h>

#include "layers/http.h"

/* Fields of one message, as RFC 9113 6.5.2 counts them. */
#define HTTP2_HEADER_LIST_MAX 65536u
/* What a peer may send ahead on one stream while the other side does not take it. */
#define HTTP2_STREAM_WINDOW (256 * 1024)
#define HTTP2_CONNECTION_WINDOW (16 * 1024 * 1024)
#define HTTP2_STREAMS_MAX 100u
/* Streams towards a peer whose SETTINGS have not come yet. */
#define HTTP2_STREAMS_UNKNOWN 10u
/* Bytes that wait for a stream's window before its source is paused, and below which it goes on. */
#define HTTP2_STREAM_HIGH (64 * 1024)
#define HTTP2_STREAM_LOW (16 * 1024)

struct http2;

struct http2_stream {
	struct list link;                /* http2.streams */
	struct list drained;             /* in http2.drained while it is to be told that there is room again */
	struct http2 *h2;
	int32_t id;
	struct http_stream *stream;      /* NULL: not begun, or done */
	struct flow *flow;               /* until the stream has it; a server's, or a head beside the flow */
	struct chain out;                /* what the peer's window has no room for yet */
	struct arena arena;
	struct headers trailers;         /* after out; in arena */
	bool out_end;                    /* nothing follows what is in out */
	bool deferred;                   /* nghttp2 waits for out */
	bool over;                       /* out was above HTTP2_STREAM_HIGH, and its source knows */
	bool paused;                     /* nobody takes what comes: its window stays as it is */
	bool head_seen;                  /* the request's or the final response's head */
	bool ended;                      /* the peer has sent END_STREAM */
	bool ended_out;                  /* we have */
	bool too_large;                  /* the fields that are being read */
	bool authority_seen;
	bool tunnel;                     /* its DATA is no message's body: of a CONNECT */
	bool unwanted;                   /* once we have ended it: nobody reads the rest */
	bool cut;                        /* a reset follows what is in out */
	uint32_t cut_code;
	struct str protocol;             /* of an extended CONNECT (RFC 8441); its message's text; none: no such */
	struct http2_pipe *pipe;         /* the end of a tunnel that it is; NULL: none, or not yet */
	struct chain early;              /* what came before there was one */
	uint32_t held;                   /* bytes that came while it was paused */
	bool bodiless;                   /* client: the request is HEAD */
	bool measured;                   /* the head of what comes has said its length */
	uint64_t missing;                /* bytes of that which have not come yet */
	uint32_t head_bytes, head_count;
};

struct http2_role {
	bool server;
	/* A header block is complete: a head, an interim response or trailers. */
	void (*head)(struct http2_stream *st, const nghttp2_frame *frame);
	/* Where its fields go; NULL: nowhere. */
	struct headers *(*fields)(struct http2_stream *st, struct arena **arena);
	/* One pseudo field (without its colon). -EPROTO: there is none of that name; -ENOMEM. */
	int (*pseudo)(struct http2_stream *st, struct str name, struct str value);
	/* A header block begins. NULL: memory is out. */
	struct http2_stream *(*begin)(struct http2 *h2, const nghttp2_frame *frame);
	/* To the stream: a part of the message, or its end. */
	void (*deliver)(struct http_stream *s, const struct http_event *ev);
	/* The stream closed before both messages were whole. */
	void (*cut)(struct http2_stream *st, uint32_t code);
	/* SETTINGS came; may be NULL. */
	void (*settings)(struct http2 *h2);
	/* GOAWAY came. */
	void (*goaway)(struct http2 *h2);
	/* The client wishes another priority (RFC 9218 7.1) for a stream that may not have begun; server only. */
	void (*priority)(struct http2 *h2, int32_t id, struct str value);
	/* The connection has ended; told once, from http2_flush(): never from within a stream that sends. */
	void (*dead)(struct http2 *h2, const char *why);
};

/* How many streams that were reset are remembered. */
#define HTTP2_RESETS_MAX 32u

/* What is known of streams that are over, for what still comes for them (RFC 9113 5.1). */
struct http2_past {
	int32_t last;                    /* server: the highest that the client has begun */
	int32_t gap_from, gap_to;        /* server: below that, and never begun; the latest of such gaps */
	int32_t reset[HTTP2_RESETS_MAX]; /* the latest ones, by us; negative: by the peer. 0: none yet */
	uint32_t next;                   /* in reset */
	int32_t forgotten;               /* of those up to here it is not known any more */
	bool goodbye;                    /* we have said GOAWAY: what is begun after it is not even looked at */
};

struct http2 {
	struct http_codec codec;
	const struct http2_role *role;
	nghttp2_session *session;
	bool failed, deleting;           /* the session wanted more memory than there was; it is being freed */
	void *spared[8];                 /* once it has failed: what it freed, and we did not yet */
	struct list streams, drained;
	struct chain out;                /* of one flush */
	struct slice reading;            /* what nghttp2 is given at the moment */
	struct http2_stream *heading;    /* whose header block has begun; NULL: nobody's that is known */
	bool full;                       /* the connection is over its high-water mark */
	bool batched;                    /* out has enough for one send */
	bool leaving;                    /* its last frame was a good-bye, and wrong */
	bool closed;                     /* nothing is read or written any more */
	bool told;                       /* role->dead() was called */
	bool in_flush;
	const char *why;                 /* the connection ends because of it */
	char why_text[200];
	int64_t calm_at;                 /* when calm was counted last */
	int64_t active_ns;               /* client: when the peer was heard last */
	int64_t used_ns;                 /* when something of a stream last came; of the client's also when it left */
	bool resting;                    /* client: not pinged any more */
	struct {                         /* server: what was said of a stream before it began (RFC 9218 7.1) */
		int32_t id;
		char value[HTTP_PRIORITY_MAX];
	} early;
	int64_t calm;                    /* what a peer may still ask for nothing (floods), in thousandths */
	struct http2_past past;
};

static inline struct http2 *http2_of(struct http_codec *c)
{
	return container_of(c, struct http2, codec);
}

/* 0 or -ENOMEM; then nothing is to be undone. */
int http2_init(struct http2 *h2, const struct http2_role *role) __must_check;
void http2_fini(struct http2 *h2);

static inline struct http2_stream *http2_stream_of(const struct http2 *h2, int32_t id)
{
	return id ? nghttp2_session_get_stream_user_data(h2->session, id) : NULL;
}

struct http2_stream *http2_stream_new(struct http2 *h2) __must_check;
void http2_stream_free(struct http2_stream *st);

/* The connection is of no use any more; reset: memory is out. */
void http2_die(struct http2 *h2, const char *why, bool reset);
/* Says GOAWAY and ends the connection. */
void http2_terminate(struct http2 *h2, uint32_t code, const char *why);
/* The connection has drained. */
void http2_writable(struct http2 *h2);

/* As in struct http_codec_ops. */
void http2_flush(struct http_codec *c);
void http2_pause(struct http2_stream *st, bool paused);
/* RST_STREAM, before anything else of it. */
void http2_reset(struct http2_stream *st, uint32_t code);
/* RST_STREAM, once what waits for the peer's window is out: what came before a break is worth having. */
void http2_cut(struct http2_stream *st, uint32_t code);
/* Nobody is at our end of the stream any more: it is ended, or cut. */
void http2_leave(struct http2_stream *st, bool reset);
/* A piece of the body, and whether it is the last. True: the stream is over its high-water mark. */
bool http2_write(struct http2_stream *st, struct chain *data, bool end);
/* The end of m, with its trailers. */
void http2_write_end(struct http2_stream *st, const struct http_message *m);
extern const nghttp2_data_provider http2_body;

/* "CANCEL" and so on. */
const char *http2_error_name(uint32_t code);

/* Whether there is anything that a client could change its protocol to. */
static inline bool http2_upgrades(const struct options *o)
{
	return o->websocket || o->rawtcp;
}

/* --- http2_receive.c --- */
/* For http2_init(): the callbacks of what comes. */
void http2_receive_init(struct http2 *h2, nghttp2_session_callbacks *callbacks);
/* A stream was reset, by us or by the peer. */
void http2_past_reset(struct http2 *h2, int32_t id, bool by_us);
/* Bytes from the peer; taken. */
void http2_receive(struct http2 *h2, struct chain *data);
/*
 * A head that something follows has been read: what follows has the length that it says, or else the connection ends,
 * as it does by nghttp2 alone when that validates. bodiless: the length is of what is not sent, as for HEAD.
 */
void http2_measure(struct http2_stream *st, const struct headers *h, bool bodiless);

/* --- http2_fields.c --- */
/* Fields to be written: pseudo fields first, then those of a message that HTTP/2 knows, in order. */
struct http2_fields {
	nghttp2_nv few[48];
	nghttp2_nv *at;
	size_t count, cap;
	struct arena texts;              /* values that could not stay as they were */
	bool failed;                     /* memory */
	bool bad;                        /* a name or value that HTTP/2 cannot carry */
	bool odd;                        /* one that it does not allow, but may have brought */
};

void http2_fields_init(struct http2_fields *f);
void http2_fields_add(struct http2_fields *f, struct str name, struct str value);
/* name: a literal, which need not be copied. */
void http2_fields_pseudo(struct http2_fields *f, struct str name, struct str value);
/*
 * Without connection-specific fields and Host when the message came over HTTP/1. upgrade: and without what only asks
 * for another protocol, or agrees on it, over HTTP/1. They are to be sent on st.
 */
void http2_fields_message(struct http2_fields *f, struct http2_stream *st, const struct http_message *m, bool upgrade);
void http2_fields_fini(struct http2_fields *f);

/* Whether they may be sent: what nobody validates goes on as it came. */
static inline bool http2_fields_good(const struct http2_fields *f, const struct options *o)
{
	return !f->bad && !(f->odd && o->validate_inbound_headers);
}
