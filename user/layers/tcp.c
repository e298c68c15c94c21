/* SPDX-License-Identifier: MIT */
/* A relay with a record of what passed. Bytes are shared with the flow, not copied; the slow side pauses the fast
 * one. */
#include "layers/tcp.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/env.h"
#include "core/order.h"
#include "flow/flow_edit.h"
#include "layers/message_log.h"
#include "layers/next_hosts.h"
#include "layers/starttls.h"
#include "layers/tls.h"

struct tcp {
	struct layer base;
	struct conn *client, *server;
	struct flow *flow;               /* NULL once handed over */
	enum { TCP_STARTING, TCP_UPGRADING, TCP_OPENING, TCP_RELAYING, TCP_MESSAGE, TCP_OVER } state;
	enum hook_id last;
	bool client_ended, server_ended; /* as events have told: a connection's state may be ahead of the queue */
	bool opaque;                     /* what passes is nobody's to see or change */
	bool unkept;                     /* the message is in the flow only for its hook */
	struct message_log log;
	/* while a hook has the message */
	struct conn *to;
	struct chain held;
	struct starttls *starttls;       /* NULL: nothing of the kind will come */
	bool agreed;                     /* both sides go on with TLS, once what is held is out */
	struct conn *rest_from;
	struct chain rest;               /* what has come of that already */
	struct layer *child;             /* TLS and, inside it, a relay that goes on with the flow */
};

static struct conn *other(const struct tcp *t, const struct conn *c)
{
	return c == t->client ? t->server : t->client;
}

static void hand_over(struct tcp *t)
{
	struct flow *f = t->flow;

	t->flow = NULL;
	t->state = TCP_OVER;
	if (!f)
		return;
	conn_record_put(f->server);
	f->server = conn_record_get(t->server->record);
	conn_record_put(f->client);
	f->client = conn_record_get(t->client->record);
	layer_flow(&t->base, t->last, f);
}

static void over(struct tcp *t, enum hook_id last)
{
	if (t->state == TCP_OVER)
		return;
	t->last = last;
	t->state = TCP_OVER;
	if (layer_hook(&t->base, last, t->flow))
		hand_over(t);
}

static void set_error(struct tcp *t, const char *text)
{
	struct str copy = arena_copy(&t->flow->arena, str_of(text));

	if (t->flow->killed)
		return;
	t->flow->error = arena_copy_failed(copy) ? STR("out of memory") : copy;
	t->flow->error_at = env_stamp(t->base.env);
}

static void failed(struct tcp *t, const char *why)
{
	if (t->state == TCP_OVER)
		return;
	set_error(t, why);
	if (t->server->state != CONN_CLOSED)
		layer_reset(&t->base, t->server);
	layer_reset(&t->base, t->client);
	over(t, HOOK_TCP_ERROR);
}

static void forward(struct tcp *t, struct conn *to, struct chain *data)
{
	if (layer_send(&t->base, to, data))
		layer_pause(&t->base, other(t, to), PAUSE_PEER);
}

static struct tcp *tcp_alloc(struct layer *parent, struct conn *client, struct conn *server);

/* What both sides say from now on is inside TLS. The flow goes on with what that holds. */
static void begin_tls(struct tcp *t)
{
	struct layer *outer = tls_server_new(&t->base, t->server, t->client), *tls = NULL;
	struct tcp *inner = NULL;

	t->agreed = false;
	if (outer)
		tls = tls_client_new(outer, t->client, t->server);
	if (tls) {
		tls_set_child(outer, tls);
		inner = tcp_alloc(tls, t->client, t->server);
	}
	if (!inner) {
		layer_free(outer);
		failed(t, "out of memory");
		return;
	}
	tls_set_child(tls, &inner->base);
	/* Handshakes are read whatever the disk does; then the inner relay looks after that. */
	message_log_wait(&t->log, &t->base, t->client, t->server, NULL);
	layer_wakeup(&t->base, 0);
	inner->flow = t->flow;
	inner->log = t->log;
	inner->state = TCP_UPGRADING;
	t->flow = NULL;
	t->child = outer;
	layer_resume(&t->base, t->client, PAUSE_PEER);
	layer_resume(&t->base, t->server, PAUSE_PEER);
	layer_event(outer, &(struct event){ .type = EV_START });
	if (t->rest.len)
		layer_event(outer, &(struct event){ .type = EV_DATA, .conn = t->rest_from, .data = &t->rest });
}

static void look_behind(struct tcp *t)
{
	message_log_wait(&t->log, &t->base, t->client, t->server, t->flow ? &t->flow->tcp.rest : NULL);
}

/*
 * There is TLS with the client; with the server there may be none yet (connection_strategy), or it has failed. Another
 * connection would not be at this point of the dialogue.
 */
static void upgraded(struct tcp *t)
{
	if (t->server->record->tls_setup.kind != STAMP_NONE) {
		t->state = TCP_RELAYING;
		look_behind(t);
	} else if (conn_is_open(t->server)) {
		t->state = TCP_OPENING;
		layer_open(&t->base, t->server);
	} else {
		failed(t, "the server agreed to TLS, and it failed");
	}
}

/* Leaves of ev's data what is plain text. */
static int watch(struct tcp *t, const struct event *ev)
{
	size_t plain = starttls_watch(t->starttls, ev->conn == t->client, ev->data, &t->agreed);
	int ret = 0;

	if (t->agreed) {
		struct chain first = { 0 };

		ret = chain_move(&first, ev->data, plain);
		t->rest = chain_take(ev->data);
		t->rest_from = ev->conn;
		*ev->data = first;
	}
	if (t->starttls->off) {
		mem_free(t->starttls);
		t->starttls = NULL;
	}
	return ret;
}

/* What a hook made of a message is sent from a copy: it may be on its way for longer than the flow exists. */
static int take_message(struct tcp *t)
{
	struct tcp_message *m = t->flow->tcp.count ? &t->flow->tcp.messages[t->flow->tcp.count - 1] : NULL;
	int ret = 0;

	if (!m || !m->changed)
		return 0;
	m->changed = false;
	chain_clear(&t->held);
	for (uint32_t i = 0; i < m->data.count && ret == 0; i++)
		ret = chain_write(&t->held, t->base.env->slabs, chain_see(&m->data, i)->ptr,
				  chain_see(&m->data, i)->len);
	return ret;
}

static void drop_message(struct tcp *t)
{
	struct tcp_message *m = &t->flow->tcp.messages[--t->flow->tcp.count];

	t->flow->tcp.dropped += m->data.len;
	chain_clear(&m->data);
}

/* Nobody looks at the message any more. */
static void let_go(struct tcp *t)
{
	if (t->unkept)
		drop_message(t);
	t->unkept = false;
	if (t->log.leaves) {
		capture_tcp_message(t->base.env->capture, t->flow);
		look_behind(t);
	}
	t->log.leaves = false;
	if (t->flow->tcp.dropped && !t->opaque)
		message_log_say_cut(&t->log, &t->base, "connection");
}

static void forward_held(struct tcp *t)
{
	int ret = t->flow->killed ? -EPERM : take_message(t);

	let_go(t);
	t->state = TCP_RELAYING;
	if (ret < 0) {
		failed(t, "out of memory");
		return;
	}
	if (t->held.len)
		forward(t, t->to, &t->held);
	if (t->agreed)
		begin_tls(t);
}

static void message(struct tcp *t, bool from_client, struct chain *data)
{
	const struct rest *rest = &t->flow->tcp.rest;
	bool asked = t->base.env->block_hooks & hook_bit(HOOK_TCP_MESSAGE);
	size_t len = data->len, room = 0;
	int ret;

	if (!t->opaque)
		room = message_log_room(&t->log, t->base.env, rest, len, sizeof(struct tcp_message));
	/* who may change it must find it in the flow, though it is not kept */
	t->unkept = asked && !t->opaque && !t->log.leaves && len > room;
	if (t->log.leaves || t->unkept)
		ret = flow_tcp_show(t->flow, from_client, data, env_stamp(t->base.env));
	else
		ret = flow_tcp_add(t->flow, from_client, data, env_stamp(t->base.env), room);
	if (ret < 0) {
		t->log.leaves = t->unkept = false;
		failed(t, "out of memory");
		return;
	}
	t->state = TCP_MESSAGE;
	t->to = from_client ? t->server : t->client;
	t->held = chain_take(data);
	if (t->opaque || layer_hook(&t->base, HOOK_TCP_MESSAGE, t->flow))
		forward_held(t);
}

static void on_data(struct tcp *t, const struct event *ev)
{
	if (t->starttls && watch(t, ev) < 0)
		failed(t, "out of memory");
	else
		message(t, ev->conn == t->client, ev->data);
}

static void on_order(struct tcp *t, const struct order *o)
{
	struct chain data = { 0 };
	int ret;

	if (!t->flow || t->state == TCP_OVER || memcmp(t->flow->id, o->flow, sizeof(o->flow)) != 0)
		return;
	if (o->kind == ORDER_KILL) {
		if (flow_kill(t->flow, env_stamp(t->base.env)) == 0)
			failed(t, "");
		return;
	}
	if (t->state != TCP_RELAYING || t->agreed || t->opaque)
		return;
	ret = chain_write(&data, t->base.env->slabs, o->bytes.ptr, o->bytes.len);
	if (ret < 0)
		failed(t, "out of memory");
	else
		message(t, !o->to_client, &data);
	chain_clear(&data);
}

static void on_closed(struct tcp *t, const struct event *ev)
{
	struct conn *to = other(t, ev->conn);
	bool *ended = ev->conn == t->client ? &t->client_ended : &t->server_ended;

	*ended = true;
	if (ev->reset) {
		if (to->state != CONN_CLOSED)
			layer_reset(&t->base, to);
		over(t, HOOK_TCP_END);
		return;
	}
	if (!t->client_ended || !t->server_ended) {
		layer_close_half(&t->base, to);
		return;
	}
	layer_close(&t->base, to);
	layer_close(&t->base, ev->conn);
	over(t, HOOK_TCP_END);
}

static void started(struct tcp *t)
{
	if (t->flow->killed) {
		failed(t, "");
		return;
	}
	if (t->server->failed) {         /* TLS with it, before anything could be relayed */
		failed(t, t->server->record->error.ptr ? t->server->record->error.ptr : "connection failed");
		return;
	}
	if (t->server->state == CONN_CLOSED) {
		t->state = TCP_OPENING;
		layer_open(&t->base, t->server);
		return;
	}
	t->state = TCP_RELAYING;
}

static void hook_done(struct tcp *t)
{
	switch (t->state) {
	case TCP_STARTING:
		started(t);
		return;
	case TCP_MESSAGE:
		forward_held(t);
		return;
	case TCP_OVER:
		hand_over(t);
		return;
	case TCP_UPGRADING:
	case TCP_OPENING:
	case TCP_RELAYING:
		return;
	}
	abort();
}

static void tcp_handle(struct layer *l, const struct event *ev)
{
	struct tcp *t = container_of(l, struct tcp, base);

	if (t->child) {
		layer_event(t->child, ev);
		return;
	}
	switch (ev->type) {
	case EV_START:
		if (t->state == TCP_UPGRADING)
			upgraded(t);
		else if (t->state == TCP_STARTING && layer_hook(l, HOOK_TCP_START, t->flow))
			started(t);
		return;
	case EV_OPENED:
		/* it may have been killed meanwhile */
		if (t->state != TCP_OPENING)
			return;
		if (ev->error) {
			failed(t, ev->error);
			return;
		}
		t->state = TCP_RELAYING;
		look_behind(t);
		return;
	case EV_DATA:
		if (t->state == TCP_RELAYING)
			on_data(t, ev);
		return;
	case EV_CLOSED:
		if (t->state != TCP_OVER)
			on_closed(t, ev);
		return;
	case EV_WRITABLE:
		layer_resume(l, other(t, ev->conn), PAUSE_PEER);
		return;
	case EV_HOOK_DONE:
		hook_done(t);
		return;
	case EV_ORDER:
		on_order(t, ev->order);
		return;
	case EV_WAKEUP:
		look_behind(t);
		return;
	case EV_DRAIN:
		return;
	}
	abort();
}

static void tcp_free(struct layer *l)
{
	struct tcp *t = container_of(l, struct tcp, base);

	if (t->flow) {
		t->last = HOOK_TCP_END;
		hand_over(t);
	}
	layer_free(t->child);
	mem_free(t->starttls);
	chain_clear(&t->held);
	chain_clear(&t->rest);
	layer_fini(l);
	mem_free(t);
}

static int tcp_host(const struct layer *l, char host[static LAYER_HOST_MAX])
{
	return next_hosts_queued(l, container_of(l, const struct tcp, base)->client, host);
}

static const struct layer_ops tcp_ops = { .name = "tcp", .handle = tcp_handle, .host = tcp_host, .free = tcp_free };

static struct tcp *tcp_alloc(struct layer *parent, struct conn *client, struct conn *server)
{
	struct tcp *t = mem_zalloc(sizeof(*t));

	if (!t)
		return NULL;
	layer_init(&t->base, &tcp_ops, parent, NULL, NULL);
	t->client = client;
	t->server = server;
	return t;
}

struct layer *tcp_new(struct layer *parent, struct conn *client, struct conn *server)
{
	struct tcp *t = tcp_alloc(parent, client, server);
	uint8_t id[16];

	if (!t)
		return NULL;
	env_uuid(t->base.env, id);
	t->flow = flow_new_in(t->base.env->flows, FLOW_TCP, id, client->record, server->record);
	if (!t->flow) {
		tcp_free(&t->base);
		return NULL;
	}
	t->flow->worker = t->base.env->worker;
	t->flow->created = env_stamp(t->base.env);
	return &t->base;
}

static struct layer *undo(struct layer *l)
{
	struct tcp *t = container_of(l, struct tcp, base);

	flow_free(t->flow);
	t->flow = NULL;
	tcp_free(l);
	return NULL;
}

struct layer *tcp_new_passed(struct layer *parent, struct conn *client, struct conn *server, struct str why)
{
	struct layer *l = tcp_new(parent, client, server);
	struct tcp *t = l ? container_of(l, struct tcp, base) : NULL;

	if (!l)
		return NULL;
	t->opaque = !l->env->options->show_ignored_hosts;
	return flow_metadata_text(t->flow, "mitm_bpf.passed_through", why) < 0 ? undo(l) : l;
}

struct layer *tcp_new_starttls(struct layer *parent, struct conn *client, struct conn *server)
{
	struct layer *l = tcp_new(parent, client, server);
	struct tcp *t = l ? container_of(l, struct tcp, base) : NULL;

	if (!l || !l->env->tls)
		return l;
	t->starttls = mem_zalloc(sizeof(*t->starttls));
	return t->starttls ? l : undo(l);
}
