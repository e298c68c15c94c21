/* SPDX-License-Identifier: MIT */
/* Datagrams from one side to the other, as long as both are there. Nothing is waited for: a slow peer loses some. */
#include "layers/udp.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/order.h"
#include "flow/flow_edit.h"
#include "layers/message_log.h"

/* How long an answer that is on its way may take, once the proxy is stopping. */
#define DRAIN_NS INT64_C(500000000)

struct udp {
	struct layer base;
	struct conn *client, *server;
	struct flow *flow;               /* NULL: nobody is to see it, or it is handed over */
	enum { UDP_STARTING, UDP_OPENING, UDP_RELAYING, UDP_MESSAGE, UDP_OVER } state;
	enum hook_id last;
	bool draining;
	bool unkept;                     /* the message is in the flow only for its hook */
	struct message_log log;
	struct conn *to;                 /* while a hook has the message: where it goes */
	struct chain held;
};

static struct tcp_message *last_message(const struct udp *u)
{
	return u->flow->tcp.count ? &u->flow->tcp.messages[u->flow->tcp.count - 1] : NULL;
}

static void hand_over(struct udp *u)
{
	struct flow *f = u->flow;

	u->flow = NULL;
	u->state = UDP_OVER;
	if (!f)
		return;
	conn_record_put(f->server);
	f->server = conn_record_get(u->server->record);
	conn_record_put(f->client);
	f->client = conn_record_get(u->client->record);
	layer_flow(&u->base, u->last, f);
}

static void over(struct udp *u, enum hook_id last)
{
	u->last = last;
	u->state = UDP_OVER;
	layer_wakeup(&u->base, 0);
	layer_close(&u->base, u->server);
	layer_close(&u->base, u->client);
	if (!u->flow || layer_hook(&u->base, last, u->flow))
		hand_over(u);
}

static void failed(struct udp *u, const char *why)
{
	struct flow *f = u->flow;
	struct str copy;

	if (u->state == UDP_OVER)
		return;
	if (f && !f->killed) {
		copy = arena_copy(&f->arena, str_of(why));
		f->error = arena_copy_failed(copy) ? STR("out of memory") : copy;
		f->error_at = env_stamp(u->base.env);
	}
	over(u, HOOK_UDP_ERROR);
}

static void look_behind(struct udp *u)
{
	message_log_wait(&u->log, &u->base, u->client, u->server, u->flow ? &u->flow->tcp.rest : NULL);
}

/* What a hook made of a message is sent from a copy: it may be on its way for longer than the flow exists. */
static int take_message(struct udp *u, bool *drop)
{
	struct tcp_message *m = last_message(u);
	int ret = 0;

	*drop = m && m->changed && m->data.len == 0;
	if (!m || !m->changed)
		return 0;
	m->changed = false;
	chain_clear(&u->held);
	for (uint32_t i = 0; i < m->data.count && ret == 0; i++)
		ret = chain_write(&u->held, u->base.env->slabs, chain_see(&m->data, i)->ptr,
				  chain_see(&m->data, i)->len);
	return ret;
}

/* Nobody looks at the message any more. */
static void let_go(struct udp *u)
{
	struct tcp_message *m = last_message(u);

	if (u->unkept && m) {
		u->flow->tcp.dropped += m->data.len;
		chain_clear(&m->data);
		u->flow->tcp.count--;
	}
	u->unkept = false;
	if (u->log.leaves) {
		capture_tcp_message(u->base.env->capture, u->flow);
		look_behind(u);
	}
	u->log.leaves = false;
	if (u->flow->tcp.dropped)
		message_log_say_cut(&u->log, &u->base, "UDP flow");
}

static void forward_held(struct udp *u)
{
	bool drop = false;
	int ret = 0;

	if (u->flow) {
		ret = u->flow->killed ? -EPERM : take_message(u, &drop);
		let_go(u);
	}
	u->state = UDP_RELAYING;
	if (ret < 0) {
		failed(u, "out of memory");
		return;
	}
	if (!drop)
		layer_send(&u->base, u->to, &u->held);
	chain_clear(&u->held);
}

static int keep(struct udp *u, bool from_client, const struct chain *data)
{
	bool asked = u->base.env->block_hooks & hook_bit(HOOK_UDP_MESSAGE);
	struct stamp now = env_stamp(u->base.env);
	size_t room = message_log_room(&u->log, u->base.env, &u->flow->tcp.rest, data->len,
				       sizeof(struct tcp_message));

	/* who may change it must find it in the flow, though it is not kept */
	u->unkept = asked && !u->log.leaves && data->len > room;
	if (u->log.leaves || u->unkept)
		return flow_tcp_show(u->flow, from_client, data, now);
	return flow_tcp_add(u->flow, from_client, data, now, room);
}

static void message(struct udp *u, bool from_client, struct chain *data)
{
	if (u->flow && keep(u, from_client, data) < 0) {
		u->log.leaves = u->unkept = false;
		failed(u, "out of memory");
		return;
	}
	u->state = UDP_MESSAGE;
	u->to = from_client ? u->server : u->client;
	u->held = chain_take(data);
	if (!u->flow || layer_hook(&u->base, HOOK_UDP_MESSAGE, u->flow))
		forward_held(u);
}

static void on_order(struct udp *u, const struct order *o)
{
	struct chain data = { 0 };

	if (!u->flow || u->state == UDP_OVER || memcmp(u->flow->id, o->flow, sizeof(o->flow)) != 0)
		return;
	if (o->kind == ORDER_KILL) {
		if (flow_kill(u->flow, env_stamp(u->base.env)) == 0)
			failed(u, "");
		return;
	}
	if (u->state != UDP_RELAYING)
		return;
	if (chain_write(&data, u->base.env->slabs, o->bytes.ptr, o->bytes.len) < 0)
		failed(u, "out of memory");
	else
		message(u, !o->to_client, &data);
	chain_clear(&data);
}

static void on_closed(struct udp *u, const struct event *ev)
{
	if (ev->reset)
		failed(u, ev->error ? ev->error : "connection closed");
	else
		over(u, HOOK_UDP_END);
}

static void started(struct udp *u)
{
	if (u->flow && u->flow->killed) {
		failed(u, "");
	} else if (u->server->state == CONN_CLOSED) {
		u->state = UDP_OPENING;
		layer_open(&u->base, u->server);
	} else {
		u->state = UDP_RELAYING;
	}
}

static void hook_done(struct udp *u)
{
	switch (u->state) {
	case UDP_STARTING:
		started(u);
		return;
	case UDP_MESSAGE:
		forward_held(u);
		return;
	case UDP_OVER:
		hand_over(u);
		return;
	case UDP_OPENING:
	case UDP_RELAYING:
		return;
	}
	abort();
}

static void woken(struct udp *u)
{
	if (u->draining && u->state == UDP_RELAYING)
		over(u, HOOK_UDP_END);
	else
		look_behind(u);
}

static void udp_handle(struct layer *l, const struct event *ev)
{
	struct udp *u = container_of(l, struct udp, base);

	switch (ev->type) {
	case EV_START:
		if (!u->flow || layer_hook(l, HOOK_UDP_START, u->flow))
			started(u);
		return;
	case EV_OPENED:
		/* it may have been killed meanwhile */
		if (u->state != UDP_OPENING)
			return;
		if (ev->error)
			failed(u, ev->error);
		else
			u->state = UDP_RELAYING;
		return;
	case EV_DATA:
		if (u->state == UDP_RELAYING)
			message(u, ev->conn == u->client, ev->data);
		return;
	case EV_CLOSED:
		if (u->state != UDP_OVER)
			on_closed(u, ev);
		return;
	case EV_HOOK_DONE:
		hook_done(u);
		return;
	case EV_ORDER:
		on_order(u, ev->order);
		return;
	case EV_WAKEUP:
		woken(u);
		return;
	case EV_DRAIN:
		u->draining = true;
		layer_wakeup(l, DRAIN_NS);
		return;
	case EV_WRITABLE:
		return;
	}
	abort();
}

static void udp_free(struct layer *l)
{
	struct udp *u = container_of(l, struct udp, base);

	if (u->flow) {
		u->last = HOOK_UDP_END;
		hand_over(u);
	}
	chain_clear(&u->held);
	layer_fini(l);
	mem_free(u);
}

static const struct layer_ops udp_ops = { .name = "udp", .handle = udp_handle, .free = udp_free };

struct layer *udp_new(struct layer *parent, struct conn *client, struct conn *server, bool ignored)
{
	struct udp *u = mem_zalloc(sizeof(*u));
	uint8_t id[16];

	if (!u)
		return NULL;
	layer_init(&u->base, &udp_ops, parent, NULL, NULL);
	u->client = client;
	u->server = server;
	if (ignored)
		return &u->base;
	env_uuid(u->base.env, id);
	u->flow = flow_new(FLOW_UDP, id, client->record, server->record);
	if (!u->flow) {
		udp_free(&u->base);
		return NULL;
	}
	u->flow->worker = u->base.env->worker;
	u->flow->created = env_stamp(u->base.env);
	return &u->base;
}
