/* SPDX-License-Identifier: MIT */
/*
 * What whoever is asked decides, and what is ordered while nobody was: drawn from the seed, apart from all else. What
 * was decided is noted in the script, so that both far ends know what to expect.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/flow_edit.h"
#include "universe.h"

#define ORDER_WITHIN_NS UINT64_C(400000000)

/* HTTP/1 and what is relayed end with the connection; of HTTP/2 it is one stream. */
static void note_kill(struct universe *u, struct universe_flow *known, enum hook_id at)
{
	struct exchange *x = known->x;

	if (x) {
		x->killed = true;
		x->killed_at = at;
	}
	if (known->talk && !(x && x->client_h2))
		u->script->talks[known->talk - u->script->talks].harmed = true;
}

void decide_flow_over(struct universe *u, const struct universe_flow *known, const struct flow *f)
{
	if (known->killed && !f->killed)
		universe_violate(u, "a flow was killed, and is not");
	if (!f->killed)
		return;
	if (!str_eq(f->error, STR("Connection killed.")))
		universe_violate(u, "a flow was killed, and its error is: %.*s", (int)f->error.len, f->error.ptr);
	u->script->decided.kills++;
}

static bool may_kill(enum hook_id hook)
{
	static const uint64_t hooks =
		UINT64_C(1) << HOOK_HTTP_CONNECT | UINT64_C(1) << HOOK_REQUESTHEADERS | UINT64_C(1) << HOOK_REQUEST |
		UINT64_C(1) << HOOK_RESPONSEHEADERS | UINT64_C(1) << HOOK_RESPONSE | UINT64_C(1) << HOOK_TCP_START |
		UINT64_C(1) << HOOK_TCP_MESSAGE | UINT64_C(1) << HOOK_WEBSOCKET_START |
		UINT64_C(1) << HOOK_WEBSOCKET_MESSAGE;

	return hooks & hook_bit(hook);
}

static void kill_flow(struct universe *u, struct universe_flow *known, const struct hook_question *q)
{
	if (flow_kill(q->event.flow, (struct stamp){ 0 }) < 0)
		return;
	known->killed = true;
	note_kill(u, known, q->event.hook);
}

/* Not once the origin has begun to answer; of a request that streams nobody knows whether it has. */
static void answer(struct universe *u, struct universe_flow *known, struct flow *f, enum hook_id hook)
{
	struct exchange *x = known->x;
	uint8_t body[512];
	char id[16];
	struct header fields[1] = { { STR("X-Ours"), { id, 0 } } };

	if (known->talk->kind != SCRIPT_HTTP || (known->hooks & hook_bit(HOOK_RESPONSEHEADERS)))
		return;
	fields[0].value.len = (size_t)snprintf(id, sizeof(id), "%u", x->id);
	x->answer_late = hook == HOOK_REQUEST && x->up_framing != READER_NONE &&
			 (u->script->stream_large || !(u->script->whole_hooks & hook_bit(HOOK_REQUEST)));
	x->answer = flow_respond(f, SCRIPT_ANSWER, fields, 1, body, script_answer(x, body)) == 0;
}

/* bytes of data behind what is put before them; the caller frees it. */
static uint8_t *prefixed(const char *before, size_t before_len, const struct chain *data)
{
	uint8_t *out = malloc(before_len + data->len + 1);
	size_t at = before_len;

	BUG_ON(!out);
	memcpy(out, before, before_len);
	for (uint32_t i = 0; i < data->count; i++) {
		const struct slice *s = chain_see(data, i);

		memcpy(out + at, s->ptr, s->len);
		at += s->len;
	}
	return out;
}

static const char marks[SCRIPT_MARK_LEN] = "\377\377\377\377\377\377\377\377";

/* Only what is here whole, and was not let go yet. */
static void change_body(struct universe *u, struct universe_flow *known, struct flow *f, bool up)
{
	struct http_message *m = up ? &f->http.request.base : &f->http.response.base;
	struct exchange *x = known->x;
	uint64_t whole = up ? x->up : x->down;
	uint8_t *bytes;

	if (known->talk->kind != SCRIPT_HTTP || x->answer || u->script->stream_large || whole == 0 ||
	    !(u->script->whole_hooks & hook_bit(up ? HOOK_REQUEST : HOOK_RESPONSE)) || m->body.total != whole ||
	    m->body.data.len != whole || (!up && f->http.response.status != x->status))
		return;
	bytes = prefixed(marks, sizeof(marks), &m->body.data);
	x->changed[up] = flow_set_body(f, m, bytes, sizeof(marks) + (size_t)whole) == 0;
	free(bytes);
}

static void change_tcp(struct universe *u, struct universe_flow *known, struct flow *f)
{
	const struct tcp_message *m = &f->tcp.messages[f->tcp.count - 1];
	size_t len = 1 + (size_t)script_decide_below(u->script, sizeof(marks));
	uint8_t *bytes;

	if (!known->plain)
		return;
	bytes = prefixed(marks, len, &m->data);
	known->x->put[m->from_client] += len;
	if (flow_set_message(f, bytes, len + m->data.len) < 0)
		known->x->put[m->from_client] -= len;
	else
		u->script->decided.messages++;
	free(bytes);
}

static void change_websocket(struct universe_flow *known, struct flow *f)
{
	struct websocket_message *m = f->http.messages->current;
	struct exchange *x = known->x;
	uint64_t n = x->noted[m->from_client] - 1;
	size_t len = strlen(SCRIPT_ALTERED);
	uint8_t *bytes;

	if (m->injected || m->dropped || n >= 64 || m->data.len != m->total)
		return;
	bytes = prefixed(SCRIPT_ALTERED, len, &m->data);
	if (flow_set_message(f, bytes, len + m->data.len) == 0)
		x->altered[m->from_client] |= UINT64_C(1) << n;
	free(bytes);
}

static void change(struct universe *u, struct universe_flow *known, enum hook_id hook, struct flow *f)
{
	if (hook == HOOK_REQUEST)
		change_body(u, known, f, true);
	else if (hook == HOOK_RESPONSE)
		change_body(u, known, f, false);
	else if (hook == HOOK_TCP_MESSAGE)
		change_tcp(u, known, f);
	else if (hook == HOOK_WEBSOCKET_MESSAGE)
		change_websocket(known, f);
}

static void decide_flow(struct universe *u, struct hook_question *q)
{
	const struct script_decisions *d = &u->script->decisions;
	struct universe_flow *known = universe_flow(u, q->event.flow);
	enum hook_id hook = q->event.hook;
	bool head = hook == HOOK_REQUESTHEADERS || hook == HOOK_REQUEST;

	if (may_kill(hook) && script_decides(u->script, d->kill))
		kill_flow(u, known, q);
	else if (known->x && !known->over && head && script_decides(u->script, d->answer))
		answer(u, known, q->event.flow, hook);
	else if (known->x && !known->over && script_decides(u->script, d->change))
		change(u, known, hook, q->event.flow);
}

/* To another origin of the same kind; where TLS is spoken it would be taken for an impostor. */
static void move(struct universe *u, struct talk *t, struct hook_event *ev)
{
	uint32_t host = (uint32_t)script_decide_below(u->script, SCRIPT_HOSTS);

	if (t->tls || t->starttls || t->via == VIA_UPSTREAM || t->via == VIA_UPSTREAM_CONNECT)
		return;
	for (uint32_t i = 0; i < u->script->talk_count && t->trunk; i++) {
		const struct talk *other = &u->script->talks[i];

		/* The flows of one trunk's talks are known by their host. */
		if (other != t && other->trunk == t->trunk && (other->host == host || other->moved >> host & 1))
			return;
	}
	if (hook_set_text(&ev->host, script_hosts[host].name) < 0)
		return;
	ev->port = script_port(u->script, t);
	t->moved |= 1u << host;
	u->script->decided.moved++;
}

/* What all tunnels of a connection need was refused. */
static void harm_trunk(struct universe *u, uint32_t trunk)
{
	for (uint32_t i = 0; i < u->script->talk_count; i++)
		u->script->talks[i].harmed |= u->script->talks[i].trunk == trunk;
}

static void decide_connection(struct universe *u, struct hook_question *q)
{
	const struct script_decisions *d = &u->script->decisions;
	const struct talk *from = client_talk(u, &q->driver->client->peer);
	enum hook_id hook = q->event.hook;
	struct talk *t;

	if (!from || (hook != HOOK_CLIENT_CONNECTED && hook != HOOK_SERVER_CONNECT))
		return;
	t = universe_talk(u, q->driver, q->event.server ? &q->event.server->address : &(struct endpoint){ 0 });
	if (script_decides(u->script, d->refuse) && hook_set_text(&q->event.error, "not today") == 0) {
		if (t)
			t->harmed = true;
		else
			harm_trunk(u, from->trunk);
		u->script->decided.refused++;
	} else if (t && hook == HOOK_SERVER_CONNECT && script_decides(u->script, d->move)) {
		move(u, t, &q->event);
	}
}

void decide(struct universe *u, struct hook_question *q)
{
	if (q->event.flow)
		decide_flow(u, q);
	else
		decide_connection(u, q);
}

bool decide_intercepts(struct universe *u, const struct hook_question *q)
{
	if (!q->event.flow || !may_kill(q->event.hook) || !script_decides(u->script, u->script->decisions.intercept))
		return false;
	flow_intercept(q->event.flow);
	return true;
}

void decide_late(struct universe *u, struct hook_question *q)
{
	if (script_decides(u->script, 300))
		kill_flow(u, universe_flow(u, q->event.flow), q);
	else
		flow_resume(q->event.flow);
}

/* --- orders ------------------------------------------------------------------------------------------------------ */

static struct universe_flow *some_flow(struct universe *u)
{
	uint32_t at = u->flow_count ? (uint32_t)script_decide_below(u->script, u->flow_count) : 0;

	for (uint32_t i = 0; i < u->flow_count; i++) {
		struct universe_flow *known = &u->flows[(at + i) % u->flow_count];

		if (!known->over)
			return known;
	}
	return NULL;
}

static void give_order(struct universe *u, struct universe_flow *known)
{
	bool websocket = known->hooks & hook_bit(HOOK_WEBSOCKET_START);
	bool dies = script_decides(u->script, u->script->decisions.order_kill);
	struct order o = {
		.kind = dies ? ORDER_KILL : ORDER_INJECT, .to_client = script_decides(u->script, 500), .text = true,
		.bytes = websocket ? STR(SCRIPT_INJECTED) : (struct str){ marks, sizeof(marks) },
	};

	if (!dies && !known->plain && !websocket && known->x && known->talk->kind == SCRIPT_TCP)
		return;
	/* What is put between the question for TLS and TLS is nobody's to understand. */
	if (!dies && known->talk && known->talk->starttls && !known->talk->upgrade)
		return;
	memcpy(o.flow, known->id, sizeof(o.flow));
	if (dies)
		note_kill(u, known, HOOK_COUNT);
	else if (known->x)
		known->x->put[!o.to_client] += websocket ? 1 : sizeof(marks);
	list_for_each(&u->sessions, at)
		driver_order(list_entry(at, struct driver, link), &o);
}

static void on_order(struct timer *t)
{
	struct universe *u = container_of(t, struct universe, order);
	struct universe_flow *known = some_flow(u);

	if (known)
		give_order(u, known);
	if (--u->script->decisions.orders)
		BUG_ON(timer_arm(&u->io->timers, t, u->io->now_ns +
				 (int64_t)script_decide_below(u->script, ORDER_WITHIN_NS)) < 0);
}

void decide_start(struct universe *u)
{
	u->order.fire = on_order;
	if (u->script->decisions.orders)
		BUG_ON(timer_arm(&u->io->timers, &u->order,
				 (int64_t)script_decide_below(u->script, ORDER_WITHIN_NS)) < 0);
}
