/* SPDX-License-Identifier: MIT */
/*
 * What a user sees of traffic (spec: mitmproxy 12 flow.py, http.py, tcp.py; flow format 21). A flow is owned by one
 * thread at a time: the worker builds it, hands it to the master when it has ended, and gets it back to free it.
 * Its texts live in its arena, its bodies are references to the very buffers that were forwarded.
 */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "flow/conn.h"
#include "flow/spill.h"
#include "wire/headers.h"

enum flow_type { FLOW_HTTP, FLOW_TCP, FLOW_UDP, FLOW_DNS };

/* A captured body. total counts what passed; data holds its beginning, rest what follows, up to the capture limit. */
struct body {
	struct chain data;
	struct rest rest;
	uint64_t total;
	uint32_t spare;                  /* flow_capture()'s: room behind the last copied piece */
	bool missing;                    /* not kept at all (mitmproxy's content none) */
	bool changed;                    /* a hook's to set: data is sent instead of what came */
};

/* As far as is known: a write to its file may fail later. rest_wait(&b->rest) before this makes it certain. */
static inline uint64_t body_kept(const struct body *b)
{
	return b->data.len + rest_len(&b->rest);
}

static inline bool body_truncated(const struct body *b)
{
	return !b->missing && b->total > body_kept(b);
}

struct http_message {
	struct str version;              /* "HTTP/1.1" */
	struct headers headers;
	struct headers trailers;
	bool has_trailers;
	struct body body;
	struct stamp start, end;         /* headers received; last byte received */
	bool stream;                     /* the body is not waited for: a hook's to set, while it has the head */
};

struct http_request {
	struct http_message base;
	struct str host;                 /* the target */
	uint16_t port;
	struct str method, scheme, authority, path;
};

struct http_response {
	struct http_message base;
	uint16_t status;
	struct str reason;
};

struct websocket_message {
	bool text, from_client, injected;
	bool dropped;                    /* a hook's to set: it is not forwarded */
	bool changed;                    /* a hook's to set: data is sent instead of what came */
	struct chain data;               /* its beginning, up to the capture limit */
	uint64_t total;
	struct stamp at;
};

struct websocket_flow {
	struct websocket_message *messages;      /* in the arena */
	uint32_t count, cap;
	uint32_t slices;                 /* of the messages' data */
	struct rest rest;                /* the messages after those, as a flow file has them */
	uint64_t lost;                   /* bytes that passed and are not kept */
	struct websocket_message *current;       /* in a websocket_message hook: the one it is about */
	struct websocket_message unkept; /* current, when there was no room to keep it */
	bool closed, closed_by_client;
	uint16_t close_code;
	struct str close_reason;         /* none: the connection was lost */
	struct stamp end;
};

struct http_flow {
	struct http_request request;
	struct http_response response;
	bool has_response;
	bool replaced;                   /* a hook's to set: the response is its own */
	struct websocket_flow *messages; /* in the arena; NULL: no WebSocket, or one of a file */
	struct str websocket;            /* of a file: kept as the tnetstring it was; none: no WebSocket */
};

static inline bool http_flow_is_websocket(const struct http_flow *h)
{
	return h->messages || h->websocket.ptr;
}

struct tcp_message {
	bool from_client;
	struct chain data;
	struct stamp at;
	bool changed;                    /* a hook's to set: data is sent instead of what came */
};

/* TCP and UDP. */
struct tcp_flow {
	struct tcp_message *messages;    /* in the arena */
	uint32_t count, cap;
	uint32_t slices;                 /* of the messages' data */
	struct rest rest;                /* the messages after those, as a flow file has them */
	uint64_t dropped;                /* bytes that passed after the capture limit and are not kept */
};

/* Of a file: both messages as the tnetstrings they were; none: no such message. */
struct dns_flow {
	struct str request, response;
};

struct metadata {
	struct str key;
	enum { METADATA_TEXT, METADATA_INT, METADATA_BOOL, METADATA_OPAQUE } kind;
	struct str text;                 /* METADATA_OPAQUE: key and value as the two tnetstrings they were */
	int64_t number;
};

/*
 * What a flow that has ended needs to be counted and freed comes first: nobody has touched its memory for long then.
 */
struct flow {
	enum flow_type type;
	uint32_t worker;                 /* index of the worker that frees it */
	bool live;                       /* it is still going on */
	bool killed;                     /* by somebody, while it was; error says so */
	bool intercepted;                /* whoever was asked keeps it until it is resumed or killed */
	bool kept;                       /* the last answer came after that */
	bool lent, orphan;               /* the worker's: another thread has it; it is to be freed when it comes back */
	bool bare;                       /* flow_settle(): it holds nothing but its arena and its records */
	struct arena arena;              /* it is in there itself */
	struct conn_record *client, *server;
	size_t bytes_kept;               /* the owner's: what it counted for this flow */
	struct list link;                /* the owner's list */
	struct capture *capture;         /* what counts it as open; NULL: nothing does */
	size_t open_bytes;               /* what was counted there */
	uint8_t id[16];
	struct str odd_id;               /* from a file whose id is no UUID; none: id counts */
	struct str error;                /* none: no error */
	struct stamp error_at;
	struct str is_replay;            /* none, "request", "response" */
	struct str marked, comment;
	struct metadata *metadata;
	uint32_t metadata_count, metadata_cap;
	struct stamp created;
	struct flow_discarded *discarded;        /* bodies that were replaced, for the worker to put */
	struct str backup;               /* of a file: kept as the tnetstring it was */
	union {
		struct http_flow http;
		struct tcp_flow tcp;     /* FLOW_UDP too */
		struct dns_flow dns;
	};
};

/* In the arena. */
struct flow_discarded {
	struct flow_discarded *next;
	struct chain data;
	struct rest rest;
};

/* Adds a reference of its own to client and to server; the caller keeps its. NULL when memory is out. */
struct flow *flow_new(enum flow_type type, const uint8_t id[16], struct conn_record *client,
		      struct conn_record *server) __must_check;
/* The same, in memory of the worker's pool, which may be NULL. What others than the worker add is from the heap. */
struct flow *flow_new_in(struct blocks *pool, enum flow_type type, const uint8_t id[16], struct conn_record *client,
			 struct conn_record *server) __must_check;

/*
 * Thread: the worker that made it (it puts slices and connection records). One that is lent is freed when it comes
 * back: flow_lend() begins that time, flow_return() ends it.
 */
void flow_free(struct flow *f);
void flow_lend(struct flow *f);
void flow_return(struct flow *f);

/* Nothing is added to it any more; makes measuring and freeing it cheap. Thread: its worker. */
void flow_settle(struct flow *f);

/*
 * Bytes that the flow keeps alive: arena, captured bodies with their slabs' slack, its share of the records. The share
 * changes as flows come and go, so remember what was counted. Thread: any that owns the flow.
 */
size_t flow_bytes(const struct flow *f);

/* Bytes that the flow has in files. Thread: any that owns the flow. */
uint64_t flow_disk_bytes(const struct flow *f);

/*
 * The whole of what is kept of a body, terminated, for who cannot take it in pieces; mem_free() it. Returns 0; -EFBIG
 * when it is more than max; -ENOMEM; or why its file cannot be read. Thread: any that owns the flow.
 */
int body_load(const struct body *b, size_t max, char **out, size_t *len) __must_check;

/* Copies both texts into the flow's arena. */
int flow_header_add(struct flow *f, struct headers *h, struct str name, struct str value) __must_check;

/*
 * Keeps what just passed: adds up to room bytes of data to b and counts all of it, also when it fails (the body is then
 * truncated). data itself stays as it is. Pieces smaller than a quarter of a
 * slab are copied into the arena (keeping a slab for them would cost more), larger ones are shared.
 */
int flow_capture(struct flow *f, struct body *b, const struct chain *data, size_t room) __must_check;
/* One message of up to room bytes; what is beyond room is counted as dropped, and so is everything when it fails. */
int flow_tcp_add(struct flow *f, bool from_client, const struct chain *data, struct stamp at, size_t room) __must_check;
/* The whole message, shared rather than copied: it does not stay. */
int flow_tcp_show(struct flow *f, bool from_client, const struct chain *data, struct stamp at) __must_check;

/*
 * m's flags and time, and up to room bytes of data, become flow's messages->current: kept while there is room, else
 * only until the next one. -ENOMEM: as before, but for the bytes that count as lost.
 */
int flow_websocket_add(struct flow *f, const struct websocket_message *m, const struct chain *data,
		       size_t room) __must_check;

/* For showing what a flow that goes on is about: its HTTP messages without their bodies. NULL when memory is out. */
struct flow *flow_http_heads(const struct flow *f) __must_check;

int flow_metadata_text(struct flow *f, const char *key, struct str text) __must_check;
int flow_metadata_int(struct flow *f, const char *key, int64_t number) __must_check;

/* "http", "tcp", … */
const char *flow_type_name(enum flow_type type);
