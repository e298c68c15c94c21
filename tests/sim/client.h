/* SPDX-License-Identifier: MIT */
/* A virtual client, shared by client*.c only. */
#pragma once

#include "h2_pipe.h"
#include "starttls_end.h"
#include "universe.h"
#include "ws_end.h"

#define CLIENT_STREAMS_MAX 8

/* The request of one exchange over HTTP/2. */
struct client_stream {
	struct exchange *x;              /* NULL: not begun */
	int32_t id;
	uint64_t sent;
	uint32_t trailer;
	bool again;                      /* it was refused, and is asked for once more */
	int status;
	bool ours;                       /* the answer names the exchange */
	bool page;                       /* it names the proxy */
	bool ended;                      /* all of it has come */
	bool cancelled;                  /* by the client */
	bool over;
	struct ws_end ws;                /* after an extended CONNECT */
	struct h2_pipe pipe;
};

struct client {
	struct universe *u;
	struct talk *t;
	struct far *far;
	enum { TO_CONNECT, TO_PROXY_TLS, TO_TUNNEL, TO_SOCKS, TO_UPGRADE, TO_TLS, TALKING, WAITING, DONE } state;
	struct reader reader;
	uint32_t count;                  /* exchanges: the talk's, but over HTTP/1 there is but one WebSocket */
	uint32_t sending, answering;     /* n-th exchange of the talk; HTTP/2: how many began, are over */
	bool head_sent, continued, thinking, banner;
	bool parting;                    /* WAITING: it has taken its leave, the proxy is to close */
	uint64_t body_sent, sent, read;
	struct timer start, send, resume, patience;
	uint8_t socks[12];               /* the answers to a SOCKS client */
	size_t socks_len;
	struct starttls_end starttls;
	struct h2_end h2;
	struct client_stream streams[CLIENT_STREAMS_MAX];
	struct ws_end ws;
};

struct exchange *client_exchange(const struct client *c, uint32_t n);
/* body: how many of these bytes are a body's. False: the script leaves here. */
bool client_put(struct client *c, const void *bytes, size_t len, size_t body);
void client_leave(struct client *c);
/* Nothing more is to be done: leaves, or waits for the proxy to. */
void client_finish(struct client *c);
void client_think(struct client *c);
/* "name:port" */
void client_target(const struct client *c, char *out, size_t size);

/* The body of the answer to x, whoever gave it. */
void client_check_body(struct client *c, struct exchange *x, const uint8_t *bytes, size_t len);
/* lossy: it could have no trailers */
void client_check_end(struct client *c, struct exchange *x, uint32_t trailer, bool lossy);
/* What a hook has answered has come, as it says for that exchange. */
void client_take_ours(struct client *c, struct exchange *x, uint32_t id, int status);

/* It is where it wanted to be. */
void client_begin_talk(struct client *c);

/* client_way.c */
void client_approach(struct client *c);
/* Returns how many bytes were said on the way. */
size_t client_way_received(struct client *c, const uint8_t *bytes, size_t len);

/* client_h2.c */
void client_h2_begin(struct client *c);
void client_h2_go_on(struct client *c);
void client_h2_fini(struct client *c);
void client_h2_received(struct client *c, const uint8_t *bytes, size_t len);
