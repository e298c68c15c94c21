/* SPDX-License-Identifier: MIT */
/*
 * The reading half of a WebSocket's way: bytes become frames, frames a message, as far as its receiver keeps up. What a
 * message holds back is bounded: one that is too long is sent on as it comes, and only its beginning is kept.
 */
#include <errno.h>

#include "base/mem.h"
#include "core/env.h"
#include "layers/websocket_impl.h"
#include "wire/websocket.h"

/* What a message may hold back, when nobody wants it whole. */
#define HELD_BYTES_MAX  (1u << 20)
#define HELD_FRAMES_MAX 4096

static void violation(struct websocket *ws, const struct websocket_way *w, uint16_t code, const char *why)
{
	websocket_closing(ws, w, code, str_of(why));
}

/* --- the message in the making ----------------------------------------------------------------------------------- */

static size_t held_max(const struct websocket *ws)
{
	const struct env *env = ws->base.env;
	uint64_t max = env->options->body_capture_max;
	bool whole = !env->options->body_streaming || (env->whole_hooks & hook_bit(HOOK_WEBSOCKET_MESSAGE));

	return (size_t)(whole ? max : MIN(max, (uint64_t)HELD_BYTES_MAX));
}

void websocket_receive_reset(struct websocket_way *w)
{
	w->open = w->cut = false;
	w->utf8 = (struct utf8_scan){ 0 };
	w->total = w->framed = 0;
	w->frame_count = 0;
	chain_clear(&w->held);
	chain_clear(&w->cut_head);
}

/* From now on its bytes leave as they come; its beginning is kept for the flow. */
static int begin_cut(struct websocket *ws, struct websocket_way *w)
{
	w->cut = true;
	return chain_share(&w->cut_head, &w->held, MIN(w->held.len, held_max(ws)));
}

static int absorb(struct websocket *ws, struct websocket_way *w, struct chain *piece)
{
	int ret = 0;

	for (uint32_t i = 0; w->text && i < piece->count; i++) {
		const struct slice *s = chain_see(piece, i);

		if (!utf8_scan(&w->utf8, (struct str){ (const char *)s->ptr, s->len })) {
			violation(ws, w, WEBSOCKET_INVALID_PAYLOAD, "text message is not UTF-8");
			return 0;
		}
	}
	w->total += piece->len;
	/* a slab for each few bytes would cost more than the copy */
	for (uint32_t i = 0; piece->len < 2048 && i < piece->count && ret == 0; i++)
		ret = chain_write(&w->held, ws->base.env->slabs, chain_see(piece, i)->ptr, chain_see(piece, i)->len);
	if (piece->len >= 2048)
		ret = chain_join(&w->held, piece);
	if (ret == 0 && !w->cut && w->held.len > held_max(ws))
		ret = begin_cut(ws, w);
	if (ret == 0 && w->cut && w->held.len)
		ret = websocket_send_part(&w->out, w->text, &w->held, w->held.len, false);
	return ret;
}

static int frame_end(struct websocket *ws, struct websocket_way *w)
{
	w->in_frame = false;
	if (w->head.fin) {
		if (w->text && w->utf8.missing)
			violation(ws, w, WEBSOCKET_INVALID_PAYLOAD, "text message ends inside a UTF-8 character");
		else
			websocket_message_end(ws, w);
		return 0;
	}
	if (w->cut)
		return 0;
	if (w->frame_count == HELD_FRAMES_MAX) {
		int ret = begin_cut(ws, w);

		return ret < 0 ? ret : websocket_send_part(&w->out, w->text, &w->held, w->held.len, false);
	}
	if (w->frame_count == w->frame_cap) {
		uint32_t cap = MAX(w->frame_cap * 2, 8u), *grown = mem_realloc(w->frames, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		w->frames = grown;
		w->frame_cap = cap;
	}
	w->frames[w->frame_count++] = (uint32_t)(w->total - w->framed);
	w->framed = w->total;
	return 0;
}

/* --- frames ------------------------------------------------------------------------------------------------------ */

/* A step of what was received compressed. */
static int inflate_step(struct websocket *ws, struct websocket_way *w)
{
	bool over = w->frame_done == w->head.len;
	struct chain piece = { 0 };
	int more, ret;

	more = message_inflate(w->inflater, &w->raw, over && w->head.fin, ws->base.env->slabs, &piece);
	w->inflating = more == 1;
	ret = more < 0 ? more : absorb(ws, w, &piece);
	chain_clear(&piece);
	if (ret < 0 || more == 1 || !over || ws->state != WS_RELAYING)
		return ret;
	return frame_end(ws, w);
}

static int take_payload(struct websocket *ws, struct websocket_way *w, struct chain *piece, size_t len)
{
	int ret = chain_move(piece, &w->in, len);
	uint64_t offset = w->frame_done;

	w->frame_done += len;
	if (ret == 0 && w->head.masked)
		ret = websocket_own_payload(piece, ws->base.env->slabs);
	for (uint32_t i = 0; ret == 0 && w->head.masked && i < piece->count; i++) {
		struct slice *s = chain_at(piece, i);

		websocket_mask((uint8_t *)s->ptr, s->len, w->head.key, offset);
		offset += s->len;
	}
	return ret;
}

/* As step(): 1 when there may be more to do, 0 when bytes are missing; -ENOMEM; -EPROTO: it does not inflate. */
static int read_payload(struct websocket *ws, struct websocket_way *w)
{
	size_t len = (size_t)MIN(w->head.len - w->frame_done, (uint64_t)w->in.len);
	struct chain piece = { 0 };
	int ret;

	if (w->inflating) {
		ret = inflate_step(ws, w);
		return ret < 0 ? ret : 1;
	}
	if (len == 0 && w->head.len != w->frame_done)
		return 0;
	ret = take_payload(ws, w, &piece, len);
	if (ret == 0 && w->compressed) {
		ret = chain_join(&w->raw, &piece);
		w->inflating = true;
	} else if (ret == 0) {
		ret = absorb(ws, w, &piece);
		if (ret == 0 && ws->state == WS_RELAYING && w->frame_done == w->head.len)
			ret = frame_end(ws, w);
	}
	chain_clear(&piece);
	return ret < 0 ? ret : 1;
}

/* Payloads of control frames are small: they are read when they are whole. */
static int read_control(struct websocket *ws, struct websocket_way *w)
{
	uint8_t bytes[WEBSOCKET_CONTROL_MAX];
	size_t len = (size_t)w->head.len;
	const char *why = NULL;
	struct str reason;
	uint16_t code;
	int bad;

	if (w->in.len < len)
		return 0;
	chain_peek(&w->in, 0, bytes, len);
	chain_drop(&w->in, len);
	w->in_frame = false;
	if (w->head.masked)
		websocket_mask(bytes, len, w->head.key, 0);
	if (w->head.opcode != WEBSOCKET_CLOSE) {
		layer_log(&ws->base, LOG_DEBUG, "Received WebSocket %s from %s (%zu bytes)",
			  w->head.opcode == WEBSOCKET_PING ? "ping" : "pong", w->from_client ? "client" : "server",
			  len);
		bad = websocket_send_control(&w->out, (enum websocket_opcode)w->head.opcode, bytes, len);
		return bad < 0 ? bad : 1;
	}
	bad = websocket_close_parse((struct str){ (const char *)bytes, len }, &code, &reason, &why);
	if (bad)
		violation(ws, w, (uint16_t)bad, why);
	else
		websocket_closing(ws, w, code, reason);
	return 1;
}

/* What is wrong with this frame coming now; NULL: nothing. */
static const char *check_frame(const struct websocket *ws, const struct websocket_way *w)
{
	const struct websocket_head *h = &w->head;

	if (h->masked && !w->from_client)
		return "client received unexpected masked frame";
	if (!h->masked && w->from_client)
		return "server received unexpected unmasked frame";
	if (h->rsv1 && !ws->deflate)
		return "Reserved bit set unexpectedly";
	if (h->rsv1 && (h->opcode == WEBSOCKET_CONTINUATION || websocket_is_control(h->opcode)))
		return "error in extension";
	if (websocket_is_control(h->opcode))
		return NULL;
	if (h->opcode == WEBSOCKET_CONTINUATION && !w->open)
		return "unexpected CONTINUATION";
	if (h->opcode == WEBSOCKET_CONTINUATION || !w->open)
		return NULL;
	return h->opcode == WEBSOCKET_TEXT ? "expected CONTINUATION, got <Opcode.TEXT: 1>"
					   : "expected CONTINUATION, got <Opcode.BINARY: 2>";
}

static int begin_message(struct websocket *ws, struct websocket_way *w)
{
	const struct message_deflate_params *p = &ws->params;

	w->open = true;
	w->text = w->head.opcode == WEBSOCKET_TEXT;
	w->compressed = w->head.rsv1;
	if (!w->compressed || w->inflater)
		return 0;
	w->inflater = message_inflater_new(w->from_client ? p->client_no_takeover : p->server_no_takeover);
	return w->inflater ? 0 : -ENOMEM;
}

static int read_head(struct websocket *ws, struct websocket_way *w)
{
	uint8_t bytes[WEBSOCKET_HEAD_MAX];
	const char *why = NULL;
	int len = websocket_head_parse(&w->head, bytes, chain_peek(&w->in, 0, bytes, sizeof(bytes)), &why);

	if (len == 0)
		return 0;
	if (len > 0)
		why = check_frame(ws, w);
	if (why) {
		violation(ws, w, WEBSOCKET_PROTOCOL_ERROR, why);
		return 1;
	}
	chain_drop(&w->in, (size_t)len);
	w->in_frame = true;
	w->frame_done = 0;
	if (websocket_is_control(w->head.opcode) || w->head.opcode == WEBSOCKET_CONTINUATION)
		return 1;
	return begin_message(ws, w) < 0 ? -ENOMEM : 1;
}

static int step(struct websocket *ws, struct websocket_way *w)
{
	if (!w->in_frame)
		return read_head(ws, w);
	return websocket_is_control(w->head.opcode) ? read_control(ws, w) : read_payload(ws, w);
}

void websocket_receive(struct websocket *ws, struct websocket_way *w)
{
	int ret = 1;

	while (ret > 0 && ws->state == WS_RELAYING && !w->blocked) {
		ret = step(ws, w);
		if (ret == -EPROTO && ws->state == WS_RELAYING)
			violation(ws, w, WEBSOCKET_INVALID_PAYLOAD, "error in extension");
		else if (ret < 0)
			websocket_give_up(ws, "out of memory");
		else if (w->out.out.len > BUF_SLAB_SIZE)
			websocket_flush(ws, w);
	}
	if (ws->state == WS_RELAYING && !w->blocked && w->ended)
		websocket_closing(ws, w, WEBSOCKET_ABNORMAL, (struct str){ 0 });
}

void websocket_receive_fini(struct websocket_way *w)
{
	message_inflater_free(w->inflater);
	chain_clear(&w->in);
	chain_clear(&w->raw);
	websocket_receive_reset(w);
	mem_free(w->frames);
}
