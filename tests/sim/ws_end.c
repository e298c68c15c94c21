/* SPDX-License-Identifier: MIT */
/* Frames by hand, permessage-deflate by zlib; what a strict peer would refuse is a violation of the proxy's. */
#include "ws_end.h"

#include <stdlib.h>
#include <string.h>

#include "universe.h"

enum { OP_MORE = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

#define MESSAGE_ROOM (SCRIPT_MESSAGE_MAX + 4096)
/* Deflated in many small frames, each flushed on its own, a message may become longer. */
#define FRAMES_ROOM  (8 * SCRIPT_MESSAGE_MAX)

/* What it sends, and what it reads, as the exchange counts them. */
static uint64_t to_send(const struct ws_end *w)
{
	return w->client ? w->x->up : w->x->down;
}

static uint64_t to_come(const struct ws_end *w)
{
	return w->client ? w->x->down : w->x->up;
}

static uint64_t *sent(struct ws_end *w)
{
	return w->client ? &w->x->up_sent : &w->x->down_sent;
}

static uint64_t *got(struct ws_end *w)
{
	return w->client ? &w->x->down_got : &w->x->up_got;
}

/* What a hook has dropped will not come. */
static void skip_dropped(struct ws_end *w)
{
	while (*got(w) < 64 && w->x->dropped[!w->client] >> *got(w) & 1)
		++*got(w);
}

static const char *side(const struct ws_end *w)
{
	return w->client ? "client" : "origin";
}

void ws_end_open(struct ws_end *w)
{
	w->begun = true;
	w->turn = ++w->x->turns[w->client];
	*sent(w) = 0;
	w->message = malloc(FRAMES_ROOM);
	BUG_ON(!w->message);
	BUG_ON(deflateInit2(&w->deflater, 5, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK);
	BUG_ON(inflateInit2(&w->inflater, -15) != Z_OK);
}

void ws_end_fini(struct ws_end *w)
{
	if (!w->begun)
		return;
	w->begun = false;
	deflateEnd(&w->deflater);
	inflateEnd(&w->inflater);
	free(w->message);
	w->message = NULL;
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static bool put_frame(struct ws_end *w, int opcode, bool fin, bool rsv1, const uint8_t *bytes, size_t len)
{
	uint8_t *frame = malloc(14 + len + 1), key[4] = { 0 };
	size_t at = 2;
	bool here;

	BUG_ON(!frame);
	frame[0] = (uint8_t)(opcode | (fin ? 128 : 0) | (rsv1 ? 64 : 0));
	frame[1] = (uint8_t)(len < 126 ? len : len < 65536 ? 126 : 127);
	for (int shift = len < 126 ? -8 : len < 65536 ? 8 : 56; shift >= 0; shift -= 8)
		frame[at++] = (uint8_t)((uint64_t)len >> shift);
	if (w->client) {
		frame[1] |= 128;
		for (int i = 0; i < 4; i++)
			frame[at++] = key[i] = (uint8_t)script_below(w->u->script, 256);
	}
	for (size_t i = 0; i < len; i++)
		frame[at + i] = bytes[i] ^ key[i % 4];
	here = w->put(w->owner, frame, at + len);
	free(frame);
	return here;
}

static size_t deflate_message(struct ws_end *w, const uint8_t *in, size_t len, uint8_t *out, size_t room)
{
	size_t made;

	if (len == 0) {
		out[0] = 0;              /* RFC 7692 7.2.3.6; zlib would not flush twice */
		return 1;
	}
	w->deflater.next_in = (uint8_t *)in;
	w->deflater.avail_in = (uInt)len;
	w->deflater.next_out = out;
	w->deflater.avail_out = (uInt)room;
	BUG_ON(deflate(&w->deflater, Z_SYNC_FLUSH) != Z_OK || w->deflater.avail_out == 0);
	made = room - w->deflater.avail_out - 4; /* RFC 7692 7.2.1: without 00 00 ff ff */
	if (w->x->no_takeover)
		deflateReset(&w->deflater);
	return made;
}

static bool put_message(struct ws_end *w)
{
	static uint8_t plain[MESSAGE_ROOM], packed[2 * MESSAGE_ROOM];
	struct script *s = w->u->script;
	bool text, first = true, deflated = w->x->deflate && script_chance(s, 600);
	size_t len = script_message(w->x->id, w->client, *sent(w), &text, plain), at = 0;
	const uint8_t *bytes = plain;

	if (deflated) {
		len = deflate_message(w, plain, len, packed, sizeof(packed));
		bytes = packed;
	}
	do {
		size_t part = script_chance(s, 600) ? len - at : (size_t)script_below(s, len - at + 1);

		if (script_chance(s, 80) && !put_frame(w, OP_PING, true, false, (const uint8_t *)"ping?", 5))
			return false;
		*sent(w) += at + part == len;    /* it may leave just behind this */
		if (!put_frame(w, first ? text ? OP_TEXT : OP_BINARY : OP_MORE, at + part == len, first && deflated,
			       bytes + at, part))
			return false;
		first = false;
		at += part;
	} while (at < len);
	return true;
}

static bool put_close(struct ws_end *w, uint16_t code)
{
	uint8_t bytes[5] = { (uint8_t)(code >> 8), (uint8_t)code, 'e', 'n', 'd' };

	w->close_sent = true;
	return put_frame(w, OP_CLOSE, true, false, bytes, sizeof(bytes));
}

bool ws_end_go_on(struct ws_end *w)
{
	int end = w->client ? w->x->up_end : w->x->down_end;

	if (w->close_sent || w->over || w->turn != w->x->turns[w->client])
		return true;
	skip_dropped(w);
	if (end == END_RESET && *sent(w) >= to_send(w) / 2) {
		w->abort = true;
		return true;
	}
	if (*sent(w) < to_send(w))
		return put_message(w);
	if (end != END_FIN || *got(w) < to_come(w))
		return true;
	if (w->client)
		w->x->up_ended = true;
	else
		w->x->down_ended = true;
	return put_close(w, script_close_code(w->x->id, w->client));
}

/* --- what comes -------------------------------------------------------------------------------------------------- */

static void check_message(struct ws_end *w, const uint8_t *bytes, size_t len)
{
	static uint8_t want[MESSAGE_ROOM];
	bool text;
	size_t want_len, before = 0;

	if (len >= strlen(SCRIPT_INJECTED) && memcmp(bytes, SCRIPT_INJECTED, strlen(SCRIPT_INJECTED)) == 0) {
		if (w->x->added[!w->client]++ == w->x->put[!w->client])
			universe_violate(w->u, "%u: what was injected for the %s came again", w->x->id, side(w));
		w->u->script->decided.injected++;
		return;
	}
	skip_dropped(w);
	if (*got(w) >= (w->client ? w->x->down_sent : w->x->up_sent)) {
		universe_violate(w->u, "%u: the %s got a message that nobody sent", w->x->id, side(w));
		return;
	}
	if (*got(w) < 64 && w->x->altered[!w->client] >> *got(w) & 1) {
		before = strlen(SCRIPT_ALTERED);
		memcpy(want, SCRIPT_ALTERED, before);
		w->u->script->decided.messages++;
	}
	want_len = before + script_message(w->x->id, !w->client, *got(w), &text, want + before);
	if (text != w->text || want_len != len || memcmp(want, bytes, len) != 0)
		universe_violate(w->u, "%u: message %llu to the %s is not what was sent: %zu bytes of %zu%s", w->x->id,
				 (unsigned long long)*got(w), side(w), len, want_len,
				 text != w->text ? ", and its kind" : "");
	++*got(w);
}

static void message_over(struct ws_end *w)
{
	static const uint8_t tail[] = { 0, 0, 0xff, 0xff };
	static uint8_t plain[MESSAGE_ROOM];

	w->in_message = false;
	if (!w->compressed) {
		check_message(w, w->message, w->message_len);
		return;
	}
	memcpy(w->message + w->message_len, tail, sizeof(tail));
	w->inflater.next_in = w->message;
	w->inflater.avail_in = (uInt)(w->message_len + sizeof(tail));
	w->inflater.next_out = plain;
	w->inflater.avail_out = sizeof(plain);
	if (inflate(&w->inflater, Z_SYNC_FLUSH) != Z_OK || w->inflater.avail_in)
		universe_violate(w->u, "%u: message %llu to the %s is not deflated", w->x->id,
				 (unsigned long long)*got(w), side(w));
	else
		check_message(w, plain, sizeof(plain) - w->inflater.avail_out);
	if (w->x->no_takeover)
		inflateReset(&w->inflater);
}

static void close_came(struct ws_end *w)
{
	uint16_t code = w->control_len < 2 ? 0 : (uint16_t)(w->control[0] << 8 | w->control[1]);
	bool peer_ended = w->client ? w->x->down_ended : w->x->up_ended;
	uint64_t peer_sent = w->client ? w->x->down_sent : w->x->up_sent;

	w->over = true;
	skip_dropped(w);
	if (code == script_close_code(w->x->id, !w->client)) {
		if (!peer_ended || *got(w) != peer_sent)
			universe_violate(w->u, "%u: closed for the %s after %llu messages of %llu%s", w->x->id, side(w),
					 (unsigned long long)*got(w), (unsigned long long)peer_sent,
					 peer_ended ? "" : "; its peer has not closed");
		if (w->client)
			w->x->down_fin = true;
		else
			w->x->up_fin = true;
	} else if (code != script_close_code(w->x->id, w->client) && code != 0 && code != 1000 && code != 1001) {
		universe_violate(w->u, "%u: closed for the %s with %u: %.*s", w->x->id, side(w), code,
				 (int)(w->control_len - 2), (const char *)w->control + 2);
	}
}

/* False: it has left. */
static bool control_over(struct ws_end *w)
{
	switch (w->head[0] & 15) {
	case OP_CLOSE:
		close_came(w);
		return w->close_sent || put_close(w, 1000);
	case OP_PING:
		return put_frame(w, OP_PONG, true, false, w->control, w->control_len);
	case OP_PONG:
		if (w->control_len != 5 || memcmp(w->control, "ping?", 5) != 0)
			universe_violate(w->u, "%u: a pong without a ping for the %s", w->x->id, side(w));
		return true;
	default:
		universe_violate(w->u, "%u: the %s read a frame of kind %d", w->x->id, side(w), w->head[0] & 15);
		return true;
	}
}

static bool frame_over(struct ws_end *w)
{
	if (w->head[0] & 8)
		return control_over(w);
	if (w->head[0] & 128)
		message_over(w);
	return true;
}

static const char *head_fault(const struct ws_end *w)
{
	int opcode = w->head[0] & 15;
	bool rsv1 = w->head[0] & 64, masked = w->head[1] & 128, control = opcode & 8;

	if (masked == w->client)
		return "masked for the wrong side";
	if (w->head[0] & 48 || (rsv1 && (!w->x->deflate || control || opcode == OP_MORE)))
		return "reserved bits";
	if (control)
		return w->left > 125 || !(w->head[0] & 128) ? "a long control frame" : NULL;
	if ((opcode == OP_MORE) != w->in_message)
		return "its place in a message";
	return (w->in_message ? w->message_len : 0) + w->left > FRAMES_ROOM - 4 ? "too long" : NULL;
}

static void head_over(struct ws_end *w)
{
	size_t at = 2, wide = (w->head[1] & 127) == 127 ? 8 : (w->head[1] & 127) == 126 ? 2 : 0;
	const char *why;

	w->left = wide ? 0 : w->head[1] & 127;
	for (size_t i = 0; i < wide; i++)
		w->left = w->left << 8 | w->head[at++];
	memcpy(w->key, w->head + at, 4);
	w->masked_at = 0;
	why = head_fault(w);
	if (why) {
		universe_violate(w->u, "%u: the %s read a bad frame: %s", w->x->id, side(w), why);
		w->over = true;
		return;
	}
	if (w->head[0] & 8) {
		w->control_len = 0;
	} else if (!w->in_message) {
		w->in_message = true;
		w->text = (w->head[0] & 15) == OP_TEXT;
		w->compressed = w->head[0] & 64;
		w->message_len = 0;
	}
}

static void payload(struct ws_end *w, const uint8_t *bytes, size_t len)
{
	bool control = w->head[0] & 8, masked = w->head[1] & 128;
	uint8_t *out = control ? w->control + w->control_len : w->message + w->message_len;

	for (size_t i = 0; i < len; i++)
		out[i] = bytes[i] ^ (masked ? w->key[w->masked_at++ % 4] : 0);
	if (control)
		w->control_len += len;
	else
		w->message_len += len;
	w->left -= len;
}

static size_t head_needs(const struct ws_end *w)
{
	if (w->head_len < 2)
		return 2;
	return 2u + ((w->head[1] & 127) == 127 ? 8 : (w->head[1] & 127) == 126 ? 2 : 0) + (w->head[1] & 128 ? 4 : 0);
}

bool ws_end_received(struct ws_end *w, const uint8_t *bytes, size_t len)
{
	size_t at = 0, part;

	while (at < len && !w->over && w->turn == w->x->turns[w->client]) {
		if (w->head_len < head_needs(w)) {
			w->head[w->head_len++] = bytes[at++];
			if (w->head_len < head_needs(w))
				continue;
			head_over(w);
		}
		part = (size_t)MIN(w->left, (uint64_t)(len - at));
		if (!w->over)
			payload(w, bytes + at, part);
		at += part;
		if (w->left || w->over)
			continue;
		w->head_len = 0;
		if (!frame_over(w))
			return false;
	}
	return true;
}
