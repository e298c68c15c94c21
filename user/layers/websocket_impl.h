/* SPDX-License-Identifier: MIT */
/*
 * What websocket.c (a WebSocket from its 101 to its end; messages and hooks) and websocket_receive.c (frames become
 * messages) share. Nobody else includes this.
 */
#pragma once

#include "base/utf8.h"
#include "layers/message_log.h"
#include "layers/websocket.h"
#include "layers/websocket_send.h"
#include "wire/message_deflate.h"

struct injected;

struct websocket_way {
	struct websocket_sender out;     /* towards the receiver */
	struct conn *from, *to;
	bool from_client;
	struct chain in;
	struct websocket_head head;      /* of the frame that is being read, when in_frame */
	bool in_frame;
	uint64_t frame_done;             /* payload bytes taken of it */
	struct message_inflater *inflater;
	struct chain raw;                /* payload to be inflated */
	bool inflating;                  /* raw, or what zlib holds back, is not at its end */

	/* the message in the making */
	bool open, text, compressed;
	struct utf8_scan utf8;
	struct chain held;               /* what was not sent yet */
	uint64_t total;
	uint32_t *frames, frame_count, frame_cap;        /* sizes of its frames, as long as it is held */
	uint64_t framed;
	bool cut;                        /* it is too long: what comes is sent at once */
	struct chain cut_head;           /* its beginning, for the flow */

	bool blocked;                    /* the receiver is over its high-water mark */
	bool ended;                      /* the sender is gone */
};

struct websocket {
	struct layer base;
	struct conn *client, *server;
	struct flow *flow;               /* NULL once handed over */
	struct websocket_way ways[2];    /* from the client, from the server */
	enum { WS_STARTING, WS_RELAYING, WS_ASKING, WS_ENDING, WS_OVER } state;
	bool deflate;
	struct message_deflate_params params;
	struct injected *injected, **injected_tail;
	uint32_t injected_count;
	struct message_log log;
	/* while a hook has a message */
	struct websocket_way *asked;
	struct chain content;
	bool asked_injected;
	bool pumping;
};

/* --- websocket_receive.c --- */
/* Takes what has come of w as far as it goes: until bytes are missing, a hook is asked, or the receiver is full. */
void websocket_receive(struct websocket *ws, struct websocket_way *w);
/* The message in the making is over, or given up: the next frame begins another. */
void websocket_receive_reset(struct websocket_way *w);
void websocket_receive_fini(struct websocket_way *w);

/* --- websocket.c --- */
/* w's message has come to its end: the flow gets it, and hooks are asked. */
void websocket_message_end(struct websocket *ws, struct websocket_way *w);
/* Both sides hear of it, but for who is gone. reason none: the connection was lost. */
void websocket_closing(struct websocket *ws, const struct websocket_way *w, uint16_t code, struct str reason);
/* Memory is out, or we are killed: no words, both sides closed. */
void websocket_give_up(struct websocket *ws, const char *why);
/* What was written for w's receiver goes out; w is read no further when that is over its high-water mark. */
void websocket_flush(struct websocket *ws, struct websocket_way *w);
