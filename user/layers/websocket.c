/* SPDX-License-Identifier: MIT */
/*
 * Two ways, each from one peer to the other, each with its own reader (websocket_receive.c) and writer
 * (websocket_send.c). pump() moves both as far as they go: until bytes are missing, a hook is waited for, or the
 * receiver is full. What is between the two is here: the flow, its hooks, what is injected, and the end.
 */
#include "layers/websocket.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/env.h"
#include "core/order.h"
#include "flow/flow_edit.h"
#include "layers/websocket_impl.h"
#include "wire/websocket.h"

#define INJECTED_MAX 64

struct injected {
	struct injected *next;
	bool to_client, text;
	struct chain data;
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

void websocket_give_up(struct websocket *ws, const char *why)
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

void websocket_closing(struct websocket *ws, const struct websocket_way *w, uint16_t code, struct str reason)
{
	struct websocket_flow *record = record_of(ws);
	struct str copy = arena_copy(&ws->flow->arena, reason);

	record->closed = true;
	record->closed_by_client = w->from_client;
	record->close_code = code;
	record->close_reason = arena_copy_failed(copy) ? STR("") : copy;
	record->end = env_stamp(ws->base.env);
	for (int i = 0; i < 2; i++) {
		struct websocket_way *to = &ws->ways[i];

		if (!(code == WEBSOCKET_ABNORMAL && to->to == w->from) &&
		    websocket_send_close(&to->out, code, reason) < 0)
			chain_clear(&to->out.out);
		websocket_send_flush(&to->out);
	}
	finish(ws);
}

/* --- messages -------------------------------------------------------------------------------------------------- */

void websocket_flush(struct websocket *ws, struct websocket_way *w)
{
	if (!websocket_send_flush(&w->out) || w->blocked)
		return;
	w->blocked = true;
	layer_pause(&ws->base, w->from, PAUSE_PEER);
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

/* The hook has been answered. */
static void answered(struct websocket *ws)
{
	static const uint32_t none[1];
	struct websocket_message *m = record_of(ws)->current;
	struct websocket_way *w = ws->asked;
	bool own = !ws->asked_injected, sent = own && w->cut;
	const uint32_t *frames = own ? w->frames ? w->frames : none : NULL;
	int ret = 0;

	ws->state = WS_RELAYING;
	ws->asked = NULL;
	let_go(ws);
	if (ws->flow->error.ptr) {
		websocket_give_up(ws, "");
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
		ret = websocket_send_message(&w->out, m->text, &ws->content, frames, frames ? w->frame_count : 0);
	chain_clear(&ws->content);
	if (own)
		websocket_receive_reset(w);
	if (ret < 0)
		websocket_give_up(ws, "out of memory");
}

static void ask(struct websocket *ws, struct websocket_way *w, bool injected)
{
	ws->state = WS_ASKING;
	ws->asked = w;
	ws->asked_injected = injected;
	/* who is asked may take long: what was sent before must not wait for that */
	if (ws->base.env->block_hooks & hook_bit(HOOK_WEBSOCKET_MESSAGE))
		websocket_flush(ws, w);
	if (layer_hook(&ws->base, HOOK_WEBSOCKET_MESSAGE, ws->flow))
		answered(ws);
}

void websocket_message_end(struct websocket *ws, struct websocket_way *w)
{
	struct websocket_message m = {
		.text = w->text, .from_client = w->from_client, .at = env_stamp(ws->base.env),
	};
	int ret;

	if (w->cut) {
		ret = websocket_send_part(&w->out, w->text, &w->held, w->held.len, true);
		if (ret == 0)
			ret = record(ws, &m, &w->cut_head, w->total);
	} else {
		ret = record(ws, &m, &w->held, w->total);
		ws->content = chain_take(&w->held);
	}
	if (ret < 0)
		websocket_give_up(ws, "out of memory");
	else
		ask(ws, w, false);
}

/* --- moving ---------------------------------------------------------------------------------------------------- */

/* One that waits goes between two messages, never into one that is on its way. */
static void move_injected(struct websocket *ws)
{
	struct injected *i = ws->injected;
	struct websocket_way *w = i ? &ws->ways[i->to_client] : NULL;
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
		websocket_give_up(ws, "out of memory");
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
			websocket_receive(ws, &ws->ways[i]);
	} while (ws->injected != before && ws->state == WS_RELAYING);
	ws->pumping = false;
	for (int i = 0; i < 2 && ws->state < WS_ENDING; i++)
		websocket_flush(ws, &ws->ways[i]);
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
		websocket_give_up(ws, "");
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

static struct websocket_way *way_from(struct websocket *ws, const struct conn *c)
{
	return &ws->ways[c == ws->client ? 0 : 1];
}

static void on_data(struct websocket *ws, const struct event *ev)
{
	if (ws->state >= WS_ENDING)
		return;
	if (chain_join(&way_from(ws, ev->conn)->in, ev->data) < 0)
		websocket_give_up(ws, "out of memory");
	else
		pump(ws);
}

static void on_writable(struct websocket *ws, const struct conn *conn)
{
	struct websocket_way *w = &ws->ways[conn == ws->client ? 1 : 0];

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
			websocket_give_up(ws, "");
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
		websocket_sender_fini(&ws->ways[i].out);
		websocket_receive_fini(&ws->ways[i]);
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
	ws->ways[0] = (struct websocket_way){ .from = client, .to = server, .from_client = true };
	ws->ways[1] = (struct websocket_way){ .from = server, .to = client };
	for (int i = 0; i < 2; i++) {
		ws->ways[i].out.layer = &ws->base;
		ws->ways[i].out.to = ws->ways[i].to;
		ws->ways[i].out.mask = i == 0;
	}
	return &ws->base;
}
