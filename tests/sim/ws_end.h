/* SPDX-License-Identifier: MIT */
/*
 * One end of a WebSocket after its handshake, client's or origin's; written apart from the proxy's codecs. It sends the
 * script's messages in frames of all sizes with pings between them, checks every message that comes, and how it ends.
 */
#pragma once

#include <zlib.h>

#include "script.h"

struct universe;

struct ws_end {
	struct universe *u;
	struct exchange *x;
	bool client;                     /* we are */
	void *owner;
	/* False: the script leaves here. */
	bool (*put)(void *owner, const void *bytes, size_t len);
	bool begun;
	uint32_t turn;                   /* of the exchange's: when the proxy asks again, this one has lost its peer */
	z_stream deflater, inflater;
	uint64_t next;                   /* message to come */
	bool close_sent;
	bool over;                       /* a close has come, or was sent and nothing more counts */
	bool abort;                      /* the script breaks the connection now */
	/* what comes */
	uint8_t head[14];
	size_t head_len;
	uint64_t left;                   /* of the frame's payload */
	uint8_t key[4];
	uint64_t masked_at;
	uint8_t control[125];
	size_t control_len;
	uint8_t *message;
	size_t message_len;
	bool in_message, text, compressed;
};

void ws_end_open(struct ws_end *w);
void ws_end_fini(struct ws_end *w);
/* Sends one message more, or what ends it all; the next one when that has drained. False: it has left. */
bool ws_end_go_on(struct ws_end *w);
/* False: it has left. */
bool ws_end_received(struct ws_end *w, const uint8_t *bytes, size_t len);
