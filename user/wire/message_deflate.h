/* SPDX-License-Identifier: MIT */
/*
 * permessage-deflate (RFC 7692): the parameters that were negotiated, and the two codecs of one direction. Memory comes
 * from base/mem; both codecs work in bounded steps, so that a small message which inflates to a huge one can be
 * stopped in between.
 */
#pragma once

#include "base/buf.h"

struct message_deflate_params {
	bool client_no_takeover, server_no_takeover;     /* that side begins each message with an empty window */
	uint8_t client_bits, server_bits;                /* of the window, 8 to 15 */
};

/*
 * Looks for it in a Sec-WebSocket-Extensions value of a response. Returns 1 when it is there, 0 when not, -EPROTO when
 * its parameters make no sense. *other becomes the first extension of another name (none: there is none).
 */
int message_deflate_parse(struct message_deflate_params *p, struct str header, struct str *other) __must_check;

struct message_inflater;
struct message_inflater *message_inflater_new(bool no_takeover) __must_check;
void message_inflater_free(struct message_inflater *z);

/*
 * Takes bytes from in and adds at most a slab's worth to out. end: in is the message's last. Returns 1 when there is
 * more to be got (call again, also with an empty in), 0 when in is used up; -EPROTO: it is not deflated; -ENOMEM.
 */
int message_inflate(struct message_inflater *z, struct chain *in, bool end, struct slab_pool *pool,
		    struct chain *out) __must_check;

struct message_deflater;
/* NULL with *unable: zlib has no such window (8 bits); the sender then leaves its messages as they are. */
struct message_deflater *message_deflater_new(uint8_t bits, bool no_takeover, bool *unable) __must_check;
void message_deflater_free(struct message_deflater *z);

/* What comes after a frame: the message's next at once, so that zlib may keep what it has; its next some time; none. */
enum message_rest { MESSAGE_GOES_ON, MESSAGE_WAITS, MESSAGE_ENDS };

/* All of in becomes one frame's payload in out. Returns 0 or -ENOMEM. */
int message_deflate(struct message_deflater *z, struct chain *in, enum message_rest rest, struct slab_pool *pool,
		    struct chain *out) __must_check;
