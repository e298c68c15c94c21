/* SPDX-License-Identifier: MIT */
/*
 * Two ways, each from one peer to the other, each with its own frame reader, its own message in the making and its own
 * codecs. pump() moves both as far as they go: until bytes are missing, a hook is waited for, or the receiver is full.
 */
#include "layers/websocket.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "core/env.h"
#include "core/order.h"
#include "flow/flow_edit.h"
#include "layers/message_log.h"
#include "layers/websocket_send.h"
#include "wire/message_deflate.h"
#include "wire/websocket.h"

/* What a message may hold back, when nobody wants it whole. */
#define HELD_BYTES_MAX  (1u << 20)
#define HELD_FRAMES_MAX 4096
/* Each frame's payload when the sender's own frames are of no use any more (mitmproxy's Fragmentizer). */
#define FRAGMENT_BYTES  4000
#define INJECTED_MAX    64

struct injected {
	struct injected *next;
	bool to_client, text;
	struct chain data;
};

struct way {
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
	struct websocket_message cut_as; /* its place in the flow */

	bool blocked;                    /* the receiver is over its high-water mark */
	bool ended;                      /* the sender is gone */
};

struct websocket {
	struct layer base;
	struct conn *client, *server;
	struct flow *flow;               /* NULL once handed over */
	struct way ways[2];              /* from the client, from the server */
	enum { WS_STARTING, WS_RELAYING, WS_ASKING, WS_ENDING, WS_OVER } state;
	bool deflate;
	struct message_deflate_params params;
	struct injected *injected, **injected_tail;
	uint32_t injected_count;
	struct message_log log;
	/* while a hook has a message */
	struct way *asked;
	struct chain content;
	bool asked_injected;
	bool pumping;
};

static struct websocket_flow *record_of(struct websocket *ws)
{
	return ws->flow->http.messages;
}

/* --- the end --------------------------------------------------------------------------------------------------- */

static void hand_over(struct websocket *ws)
{
	struct flow *f = ws->flow;

	ws->flow = NULL;
	ws->state = WS_OVER;
	if (!f)
		return;
	if (f->http.messages->end.kind == STAMP_NONE)
		f->http.messages->end = env_stamp(ws->base.env);
	conn_record_put(f->server);
	f->server = conn_record_get(ws->server->record);
	layer_flow(&ws->base, HOOK_WEBSOCKET_END, f);
}

static void finish(struct websocket *ws)
{
	ws->state = WS_ENDING;
	for (int i = 0; i < 2; i++) {
		chain_clear(&ws->ways[i].in);
		chain_clear(&ws->ways[i].raw);
		chain_clear(&ws->ways[i].held);
	}
	layer_close(&ws->base, ws->server);
	layer_close(&ws->base, ws->client);
	if (layer_hook(&ws->base, HOOK_WEBSOCKET_END, ws->flow))
		hand_over(ws);
}

/* Memory is out, or we are killed: no words, both sides closed. */
static void give_up(struct websocket *ws, const char *why)
{
	struct str copy = arena_copy(&ws->flow->arena, str_of(why));

	if (ws->state >= WS_ENDING)
		return;
	if (!ws->flow->error.ptr) {
		ws->flow->error = arena_copy_failed(copy) ? STR("out of memory") : copy;
		ws->flow->error_at = env_stamp(ws->base.env);
	}
	finish(ws);
}

/* Both sides hear of it, but for who is gone. reason none: the connection was lost. */
static void closing(struct websocket *ws, const struct way *w, uint16_t code, struct str reason)
{
	struct websocket_flow *record = record_of(ws);
	struct str copy = arena_copy(&ws->flow->arena, reason);

	record->closed = true;
	record->closed_by_client = w->from_client;
	record->close_code = code;
	record->close_reason = arena_copy_failed(copy) ? STR("") : copy;
	record->end = env_stamp(ws->base.env);
	for (int i = 0; i < 2; i++) {
		struct way *to = &ws->ways[i];

		if (!(code == WEBSOCKET_ABNORMAL && to->to == w->from) &&
		    websocket_send_close(&to->out, code, reason) < 0)
			chain_clear(&to->out.out);
		websocket_send_flush(&to->out);
	}
	finish(ws);
}

static void violation(struct websocket *ws, const struct way *w, uint16_t code, const char *why)
{
	closing(ws, w, code, str_of(why));
}

/* --- messages -------------------------------------------------------------------------------------------------- */

static void flush(struct websocket *ws, struct way *w)
{
	if (!websocket_send_flush(&w->out) || w->blocked)
		return;
	w->blocked = true;
	layer_pause(&ws->base, w->from, PAUSE_PEER);
}

static size_t held_max(const struct websocket *ws)
{
	const struct env *env = ws->base.env;
	uint64_t max = env->options->body_capture_max;
	bool whole = !env->options->body_streaming || (env->whole_hooks & hook_bit(HOOK_WEBSOCKET_MESSAGE));

	return (size_t)(whole ? max : MIN(max, (uint64_t)HELD_BYTES_MAX));
}

static void message_reset(struct way *w)
{
	w->open = w->cut = false;
	w->utf8 = (struct utf8_scan){ 0 };
	w->total = w->framed = 0;
	w->frame_count = 0;
	chain_clear(&w->held);
	chain_clear(&w->cut_as.data);
}

/* Puts content into the flow, as the message that hooks are asked about. */
static int record(struct websocket *ws, const struct websocket_message *m, const struct chain *content, uint64_t total)
{
	struct websocket_flow *r = record_of(ws);
	size_t room = message_log_room(&ws->log, ws->base.env, &r->rest, content->len, sizeof(*m));
	int ret = flow_websocket_add(ws->flow, m, content, room);

	ws->log.leaves &= ret == 0;
	r->lost += total - content->len;
	r->lost -= ws->log.leaves ? content->len : 0;
	r->current->total = total;
	return ret;
}

static void look_behind(struct websocket *ws)
{
	bool on = ws->flow && ws->state < WS_ENDING;

	message_log_wait(&ws->log, &ws->base, ws->client, ws->server, on ? &record_of(ws)->rest : NULL);
}

/* Nobody looks at the message any more. */
static void let_go(struct websocket *ws)
{
	if (ws->log.leaves) {
		capture_websocket_message(ws->base.env->capture, ws->flow);
		look_behind(ws);
	}
	ws->log.leaves = false;
	if (record_of(ws)->lost)
		message_log_say_cut(&ws->log, &ws->base, "WebSocket");
}

static int send_part(struct way *w, bool text, struct chain *content, size_t len, bool fin)
{
	struct chain part = { 0 };

	if (chain_move(&part, content, len) < 0) {
		chain_clear(&part);
		return -ENOMEM;
	}
	return websocket_send_data(&w->out, text, fin, &part);
}

/* With the sender's own frame sizes where the length is still theirs. */
static int forward(struct way *w, bool text, struct chain *content, const uint32_t *frames, uint32_t count)
{
	int ret = 0;

	for (uint32_t i = 0; i < count && ret == 0; i++)
		ret = send_part(w, text, content, frames[i], false);
	while (!frames && content->len > FRAGMENT_BYTES && ret == 0)
		ret = send_part(w, text, content, FRAGMENT_BYTES, false);
	return ret < 0 ? ret : send_part(w, text, content, content->len, true);
}

/* The hook has been answered. */
static void answered(struct websocket *ws)
{
	static const uint32_t none[1];
	struct websocket_message *m = record_of(ws)->current;
	struct way *w = ws->asked;
	bool own = !ws->asked_injected, sent = own && w->cut;
	const uint32_t *frames = own ? w->frames ? w->frames : none : NULL;
	int ret = 0;

	ws->state = WS_RELAYING;
	ws->asked = NULL;
	let_go(ws);
	if (ws->flow->error.ptr) {
		give_up(ws, "");
		return;
	}
	if (m->changed && !sent) {
		size_t before = ws->content.len;

		ret = websocket_take_content(&ws->content, m, ws->base.env->slabs);
		if (ws->content.len != before)
			frames = NULL;
		m->total = m->data.len;
	}
	if (ret == 0 && !m->dropped && !sent)
		ret = forward(w, m->text, &ws->content, frames, frames ? w->frame_count : 0);
	chain_clear(&ws->content);
	if (own)
		message_reset(w);
	if (ret < 0)
		give_up(ws, "out of memory");
}

static void ask(struct websocket *ws, struct way *w, bool injected)
{
	ws->state = WS_ASKING;
	ws->asked = w;
	ws->asked_injected = injected;
	/* who is asked may take long: what was sent before must not wait for that */
	if (ws->base.env->block_hooks & hook_bit(HOOK_WEBSOCKET_MESSAGE))
		flush(ws, w);
	if (layer_hook(&ws->base, HOOK_WEBSOCKET_MESSAGE, ws->flow))
		answered(ws);
}

static void message_end(struct websocket *ws, struct way *w)
{
	struct websocket_message m = {
		.text = w->text, .from_client = w->from_client, .at = env_stamp(ws->base.env),
	};
	int ret;

	if (w->text && w->utf8.missing) {
		violation(ws, w, WEBSOCKET_INVALID_PAYLOAD, "text message ends inside a UTF-8 character");
		return;
	}
	if (w->cut) {
		ret = send_part(w, w->text, &w->held, w->held.len, true);
		if (ret == 0)
			ret = record(ws, &m, &w->cut_as.data, w->total);
	} else {
		ret = record(ws, &m, &w->held, w->total);
		ws->content = chain_take(&w->held);
	}
	if (ret < 0)
		give_up(ws, "out of memory");
	else
		ask(ws, w, false);
}

/* --- reading --------------------------------------------------------------------------------------------------- */

/* From now on its bytes leave as they come; its beginning is kept for the flow. */
static int begin_cut(struct websocket *ws, struct way *w)
{
	w->cut = true;
	return chain_share(&w->cut_as.data, &w->held, MIN(w->held.len, held_max(ws)));
}

static int absorb(struct websocket *ws, struct way *w, struct chain *piece)
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
		ret = send_part(w, w->text, &w->held, w->held.len, false);
	return ret;
}

static int frame_end(struct websocket *ws, struct way *w)
{
	w->in_frame = false;
	if (w->head.fin) {
		message_end(ws, w);
		return 0;
	}
	if (w->cut)
		return 0;
	if (w->frame_count == HELD_FRAMES_MAX) {
		int ret = begin_cut(ws, w);

		return ret < 0 ? ret : send_part(w, w->text, &w->held, w->held.len, false);
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

/* A step of what was received compressed. */
static int inflate_step(struct websocket *ws, struct way *w)
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

static int take_payload(struct websocket *ws, struct way *w, struct chain *piece, size_t len)
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

/* Returns whether there is more to do, or -ENOMEM. */
static int read_payload(struct websocket *ws, struct way *w)
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
static int read_control(struct websocket *ws, struct way *w)
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
		closing(ws, w, code, reason);
	return 1;
}

/* What is wrong with this frame coming now; NULL: nothing. */
static const char *check_frame(const struct websocket *ws, const struct way *w)
{
	const struct websocket_head *h = &w->head;

	if (h->masked && !w->from_client)
		return "client received unexpected masked frame";
	if (!h->masked && w->from_client)
		return "server received unexpected unmasked frame";
	if (h->rsv1 && (!ws->deflate || h->opcode == WEBSOCKET_CONTINUATION))
		return "Reserved bit set unexpectedly";
	if (websocket_is_control(h->opcode))
		return NULL;
	if (h->opcode == WEBSOCKET_CONTINUATION && !w->open)
		return "unexpected CONTINUATION";
	if (h->opcode == WEBSOCKET_CONTINUATION || !w->open)
		return NULL;
	return h->opcode == WEBSOCKET_TEXT ? "expected CONTINUATION, got <Opcode.TEXT: 1>"
					   : "expected CONTINUATION, got <Opcode.BINARY: 2>";
}

static int begin_message(struct websocket *ws, struct way *w)
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

static int read_head(struct websocket *ws, struct way *w)
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

static int step(struct websocket *ws, struct way *w)
{
	if (!w->in_frame)
		return read_head(ws, w);
	return websocket_is_control(w->head.opcode) ? read_control(ws, w) : read_payload(ws, w);
}

/* --- moving ---------------------------------------------------------------------------------------------------- */

static void move(struct websocket *ws, struct way *w)
{
	int ret = 1;

	while (ret > 0 && ws->state == WS_RELAYING && !w->blocked) {
		ret = step(ws, w);
		if (ret == -EPROTO && ws->state == WS_RELAYING)
			violation(ws, w, WEBSOCKET_INVALID_PAYLOAD, "error in extension");
		else if (ret < 0)
			give_up(ws, "out of memory");
		else if (w->out.out.len > BUF_SLAB_SIZE)
			flush(ws, w);
	}
	if (ws->state == WS_RELAYING && !w->blocked && w->ended)
		closing(ws, w, WEBSOCKET_ABNORMAL, (struct str){ 0 });
}

/* One that waits goes between two messages, never into one that is on its way. */
static void move_injected(struct websocket *ws)
{
	struct injected *i = ws->injected;
	struct way *w = i ? &ws->ways[i->to_client] : NULL;
	struct websocket_message m = {
		.text = i && i->text, .injected = true, .from_client = i && !i->to_client,
		.at = env_stamp(ws->base.env),
	};

	if (!i || ws->state != WS_RELAYING || w->blocked || w->out.inside)
		return;
	ws->injected = i->next;
	if (!ws->injected)
		ws->injected_tail = &ws->injected;
	ws->injected_count--;
	ws->content = chain_take(&i->data);
	mem_free(i);
	if (record(ws, &m, &ws->content, ws->content.len) < 0)
		give_up(ws, "out of memory");
	else
		ask(ws, w, true);
}

static void pump(struct websocket *ws)
{
	struct injected *before;

	if (ws->pumping)
		return;
	ws->pumping = true;
	do {
		before = ws->injected;
		move_injected(ws);
		for (int i = 0; i < 2; i++)
			move(ws, &ws->ways[i]);
	} while (ws->injected != before && ws->state == WS_RELAYING);
	ws->pumping = false;
	for (int i = 0; i < 2 && ws->state < WS_ENDING; i++)
		flush(ws, &ws->ways[i]);
}

int websocket_inject(struct layer *l, bool to_client, bool text, struct chain *data)
{
	struct websocket *ws = container_of(l, struct websocket, base);
	struct injected *i = NULL;
	int ret = ws->state >= WS_ENDING ? -EPIPE : ws->injected_count == INJECTED_MAX ? -EAGAIN : 0;

	if (ret == 0) {
		i = mem_zalloc(sizeof(*i));
		ret = i ? 0 : -ENOMEM;
	}
	if (ret < 0) {
		chain_clear(data);
		return ret;
	}
	i->to_client = to_client;
	i->text = text;
	i->data = chain_take(data);
	*ws->injected_tail = i;
	ws->injected_tail = &i->next;
	ws->injected_count++;
	pump(ws);
	return 0;
}

/* --- events ---------------------------------------------------------------------------------------------------- */

static void started(struct websocket *ws)
{
	ws->state = WS_RELAYING;
	if (ws->flow->error.ptr)
		give_up(ws, "");
	else
		pump(ws);
}

static void on_start(struct websocket *ws)
{
	struct str value = headers_find(&ws->flow->http.response.base.headers, STR("sec-websocket-extensions"));
	struct message_deflate_params *p = &ws->params;
	struct str other;
	int found = message_deflate_parse(p, value, &other);

	if (other.ptr)
		layer_log(&ws->base, LOG_INFO, "Ignoring unknown WebSocket extension \"%.*s\".",
			  (int)MIN(other.len, (size_t)100), other.ptr);
	if (found < 0)
		layer_log(&ws->base, LOG_WARN, "The server's parameters of permessage-deflate make no sense; "
			  "compressed messages will be refused.");
	ws->deflate = found > 0;
	for (int i = 0; i < 2; i++) {
		struct websocket_sender *out = &ws->ways[i].out;

		out->deflate = ws->deflate;
		out->bits = i == 0 ? p->client_bits : p->server_bits;
		out->no_takeover = i == 0 ? p->client_no_takeover : p->server_no_takeover;
	}
	if (layer_hook(&ws->base, HOOK_WEBSOCKET_START, ws->flow))
		started(ws);
}

static void hook_done(struct websocket *ws)
{
	switch (ws->state) {
	case WS_STARTING:
		started(ws);
		return;
	case WS_ASKING:
		answered(ws);
		pump(ws);
		return;
	case WS_ENDING:
		hand_over(ws);
		return;
	case WS_RELAYING:
	case WS_OVER:
		return;
	}
	abort();
}

static struct way *way_from(struct websocket *ws, const struct conn *c)
{
	return &ws->ways[c == ws->client ? 0 : 1];
}

static void on_data(struct websocket *ws, const struct event *ev)
{
	if (ws->state >= WS_ENDING)
		return;
	if (chain_join(&way_from(ws, ev->conn)->in, ev->data) < 0)
		give_up(ws, "out of memory");
	else
		pump(ws);
}

static void on_writable(struct websocket *ws, const struct conn *conn)
{
	struct way *w = &ws->ways[conn == ws->client ? 1 : 0];

	if (!w->blocked)
		return;
	w->blocked = false;
	pump(ws);
	/* What is here already comes first: a stream of HTTP/2 that is resumed gets a whole window more at once. */
	if (!w->blocked && w->from->state != CONN_CLOSED)
		layer_resume(&ws->base, w->from, PAUSE_PEER);
}

static void on_order(struct websocket *ws, const struct order *o)
{
	struct chain data = { 0 };

	if (!ws->flow || ws->state >= WS_ENDING || memcmp(ws->flow->id, o->flow, sizeof(o->flow)) != 0)
		return;
	if (o->kind == ORDER_KILL) {
		if (flow_kill(ws->flow, env_stamp(ws->base.env)) == 0)
			give_up(ws, "");
		return;
	}
	if (chain_write(&data, ws->base.env->slabs, o->bytes.ptr, o->bytes.len) < 0 ||
	    websocket_inject(&ws->base, o->to_client, o->text, &data) < 0)
		layer_log(&ws->base, LOG_WARN, "A message was not injected: too many wait.");
	chain_clear(&data);
}

static void websocket_handle(struct layer *l, const struct event *ev)
{
	struct websocket *ws = container_of(l, struct websocket, base);

	switch (ev->type) {
	case EV_START:
		on_start(ws);
		return;
	case EV_DATA:
		on_data(ws, ev);
		return;
	case EV_CLOSED:
		way_from(ws, ev->conn)->ended = true;
		if (ws->state < WS_ENDING)
			pump(ws);
		return;
	case EV_WRITABLE:
		on_writable(ws, ev->conn);
		return;
	case EV_HOOK_DONE:
		hook_done(ws);
		return;
	case EV_ORDER:
		on_order(ws, ev->order);
		return;
	case EV_WAKEUP:
		look_behind(ws);
		return;
	case EV_OPENED:
	case EV_DRAIN:
		return;
	}
	abort();
}

static void websocket_free(struct layer *l)
{
	struct websocket *ws = container_of(l, struct websocket, base);

	hand_over(ws);
	for (int i = 0; i < 2; i++) {
		struct way *w = &ws->ways[i];

		websocket_sender_fini(&w->out);
		message_inflater_free(w->inflater);
		chain_clear(&w->in);
		chain_clear(&w->raw);
		message_reset(w);
		mem_free(w->frames);
	}
	while (ws->injected) {
		struct injected *i = ws->injected;

		ws->injected = i->next;
		chain_clear(&i->data);
		mem_free(i);
	}
	chain_clear(&ws->content);
	layer_fini(l);
	mem_free(ws);
}

static const struct layer_ops websocket_ops = {
	.name = "websocket", .handle = websocket_handle, .free = websocket_free,
};

struct layer *websocket_new(struct layer *parent, struct conn *client, struct conn *server, struct flow *flow)
{
	struct websocket *ws = mem_zalloc(sizeof(*ws));

	BUG_ON(!flow->http.messages);
	if (!ws) {
		layer_flow(parent, HOOK_WEBSOCKET_END, flow);
		return NULL;
	}
	layer_init(&ws->base, &websocket_ops, parent, NULL, NULL);
	ws->client = client;
	ws->server = server;
	ws->flow = flow;
	ws->injected_tail = &ws->injected;
	ws->ways[0] = (struct way){ .from = client, .to = server, .from_client = true };
	ws->ways[1] = (struct way){ .from = server, .to = client };
	for (int i = 0; i < 2; i++) {
		ws->ways[i].out.layer = &ws->base;
		ws->ways[i].out.to = ws->ways[i].to;
		ws->ways[i].out.mask = i == 0;
	}
	return &ws->base;
}
