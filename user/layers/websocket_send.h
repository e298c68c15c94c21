/* SPDX-License-Identifier: MIT */
/* The writing half of a WebSocket's way: payloads become frames, deflated and masked as its receiver expects them. */
#pragma once

#include "core/conn.h"
#include "wire/websocket.h"

struct message_deflater;

struct websocket_sender {
	struct layer *layer;
	struct conn *to;
	bool mask;                       /* towards a server; fresh random keys */
	bool deflate;                    /* was negotiated; with these */
	uint8_t bits;
	bool no_takeover;
	struct message_deflater *deflater;
	bool unable;                     /* zlib cannot make such a window: messages go as they are */
	bool inside;                     /* a message has begun and is not over */
	bool whole;                      /* all of it is here: what is deflated of it may wait for the rest */
	struct chain out;                /* frames until the next flush */
};

/*
 * What a hook made of a message, in the place of what came; of text, what is not UTF-8 becomes U+FFFD. Copied: what is
 * sent may outlive the flow, whose arena holds what a hook wrote. 0 or -ENOMEM.
 */
struct websocket_message;
int websocket_take_content(struct chain *content, const struct websocket_message *m,
			   struct slab_pool *slabs) __must_check;
/* One data frame; payload is used up. fin: the message's last. Returns 0 or -ENOMEM. */
int websocket_send_data(struct websocket_sender *s, bool text, bool fin, struct chain *payload) __must_check;
/* As one data frame: the first len bytes of content, which are used up. */
int websocket_send_part(struct websocket_sender *s, bool text, struct chain *content, size_t len,
			bool fin) __must_check;
/*
 * The rest of a message. frames: the sizes of the sender's own but the last, where the length is still theirs; NULL:
 * content is cut anew.
 */
int websocket_send_message(struct websocket_sender *s, bool text, struct chain *content, const uint32_t *frames,
			   uint32_t count) __must_check;
int websocket_send_control(struct websocket_sender *s, enum websocket_opcode opcode, const void *bytes,
			   size_t len) __must_check;
/* A close of that code; one that stands for a lack of code becomes an empty close or 1000 (spec/layers 12). */
int websocket_send_close(struct websocket_sender *s, uint16_t code, struct str reason) __must_check;
/* True: the receiver is over its high-water mark. */
bool websocket_send_flush(struct websocket_sender *s);
void websocket_sender_fini(struct websocket_sender *s);
/* What was received for this connection alone, and seen by nobody yet, may be written to; literals become a copy. */
int websocket_own_payload(struct chain *piece, struct slab_pool *slabs) __must_check;
