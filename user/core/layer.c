/* SPDX-License-Identifier: MIT */
/* The engine's rules (spec/layers 2.3): one event at a time, a pause while a completion is awaited, a queue
 * meanwhile. */
#include "core/layer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "core/conn.h"
#include "core/env.h"
#include "core/order.h"

struct queued_event {
	struct queued_event *next;
	struct event ev;
	struct chain data;
	struct order *order;
};

void layer_init(struct layer *l, const struct layer_ops *ops, struct layer *parent, struct sink *sink,
		struct env *env)
{
	*l = (struct layer){
		.ops = ops,
		.parent = parent,
		.sink = parent ? parent->sink : sink,
		.env = parent ? parent->env : env,
		.waiting_for = EV_START,
	};
	l->queue_tail = &l->queue;
}

static void dequeued(struct layer *l, struct queued_event *q)
{
	if (q->ev.type == EV_DATA)
		layer_resume(l, q->ev.conn, PAUSE_BLOCKED);
	chain_clear(&q->data);
	mem_free(q->order);
	mem_free(q);
}

void layer_fini(struct layer *l)
{
	BUG_ON(l->handling);
	for (struct layer *up = l->parent; up; up = up->parent)
		if (up->ops->forget)
			up->ops->forget(up, l);
	l->sink->forget(l->sink, l);
	while (l->queue) {
		struct queued_event *q = l->queue;

		l->queue = q->next;
		dequeued(l, q);
	}
	l->queue_tail = &l->queue;
}

static bool completes(const struct layer *l, const struct event *ev)
{
	return l->waiting_for != EV_START && ev->type == l->waiting_for;
}

void layer_sink_lose(struct sink *s)
{
	for (; s; s = s->outer)
		s->lost = true;
}

static int enqueue(struct layer *l, const struct event *ev)
{
	/* What comes after something that was lost, as an end does, would say that all before it had come. */
	bool gap = l->sink->lost && !completes(l, ev);
	struct queued_event *q = gap ? NULL : mem_zalloc(sizeof(*q));

	if (q && ev->order) {
		q->order = order_copy(ev->order);
		if (!q->order) {
			mem_free(q);
			return -ENOMEM;
		}
	}
	if (!q) {
		layer_sink_lose(l->sink);
		if (ev->data)
			chain_clear(ev->data);
		return -ENOMEM;
	}
	q->ev = *ev;
	if (ev->data)
		q->data = chain_take(ev->data);
	q->ev.data = ev->data ? &q->data : NULL;
	q->ev.order = q->order;
	if (ev->type == EV_DATA)
		layer_pause(l, ev->conn, PAUSE_BLOCKED);
	if (completes(l, ev)) {
		q->next = l->queue;
		l->queue = q;
		if (!q->next)
			l->queue_tail = &q->next;
	} else {
		*l->queue_tail = q;
		l->queue_tail = &q->next;
	}
	return 0;
}

static void handle(struct layer *l, const struct event *ev)
{
	if (completes(l, ev))
		l->waiting_for = EV_START;
	l->handling = true;
	l->ops->handle(l, ev);
	l->handling = false;
	if (ev->data)
		chain_clear(ev->data);
}

int layer_event(struct layer *l, const struct event *ev)
{
	/* An order waits only for who has the flow. */
	if (ev->type == EV_ORDER && !l->handling && l->waiting_for == EV_OPENED) {
		handle(l, ev);
		return 0;
	}
	if (l->handling || (l->waiting_for != EV_START && !completes(l, ev)) || (l->queue && !completes(l, ev)))
		return enqueue(l, ev);
	handle(l, ev);
	while (l->queue && (l->waiting_for == EV_START || completes(l, &l->queue->ev))) {
		struct queued_event *q = l->queue;

		l->queue = q->next;
		if (!l->queue)
			l->queue_tail = &l->queue;
		handle(l, &q->ev);
		dequeued(l, q);
	}
	return 0;
}

size_t layer_queued(const struct layer *l, const struct conn *conn, uint8_t *out, size_t cap)
{
	size_t len = 0;

	for (const struct queued_event *q = l->queue; q && len < cap; q = q->next)
		if (q->ev.type == EV_DATA && q->ev.conn == conn)
			len += chain_peek(&q->data, 0, out + len, cap - len);
	return len;
}

bool layer_command(struct layer *l, struct command *cmd)
{
	for (struct layer *up = l->parent; up; up = up->parent)
		if (up->ops->command)
			return up->ops->command(up, cmd);
	return l->sink->command(l->sink, cmd);
}

bool layer_send(struct layer *l, struct conn *conn, struct chain *data)
{
	bool over = layer_command(l, &(struct command){ .type = CMD_SEND, .from = l, .conn = conn, .data = data });

	chain_clear(data);
	return over;
}

bool layer_send_bytes(struct layer *l, struct conn *conn, const void *bytes, size_t len)
{
	struct chain data = { 0 };

	if (chain_write(&data, l->env->slabs, bytes, len) < 0) {
		chain_clear(&data);
		layer_reset(l, conn);
		return false;
	}
	return layer_send(l, conn, &data);
}

void layer_open(struct layer *l, struct conn *conn)
{
	l->waiting_for = EV_OPENED;
	layer_command(l, &(struct command){ .type = CMD_OPEN, .from = l, .conn = conn });
}

bool layer_hook(struct layer *l, enum hook_id hook, void *arg)
{
	uint64_t bit = hook_bit(hook);

	if (likely(!((l->env->notify_hooks | l->env->block_hooks) & bit)))
		return true;
	l->waiting_for = EV_HOOK_DONE;
	if (!layer_command(l, &(struct command){ .type = CMD_HOOK, .from = l, .hook = hook, .arg = arg }))
		return false;
	l->waiting_for = EV_START;
	return true;
}

void layer_flow(struct layer *l, enum hook_id last, struct flow *flow)
{
	layer_command(l, &(struct command){ .type = CMD_FLOW, .from = l, .hook = last, .arg = flow });
}

void layer_close(struct layer *l, struct conn *conn)
{
	layer_command(l, &(struct command){ .type = CMD_CLOSE, .from = l, .conn = conn });
}

void layer_close_half(struct layer *l, struct conn *conn)
{
	layer_command(l, &(struct command){ .type = CMD_CLOSE, .from = l, .conn = conn, .half = true });
}

void layer_reset(struct layer *l, struct conn *conn)
{
	layer_command(l, &(struct command){ .type = CMD_CLOSE, .from = l, .conn = conn, .reset = true });
}

void layer_wakeup(struct layer *l, int64_t delay_ns)
{
	layer_command(l, &(struct command){ .type = CMD_WAKEUP, .from = l, .delay_ns = delay_ns });
}

void layer_pause(struct layer *l, struct conn *conn, uint32_t why)
{
	layer_command(l, &(struct command){ .type = CMD_PAUSE, .from = l, .conn = conn, .why = why });
}

void layer_resume(struct layer *l, struct conn *conn, uint32_t why)
{
	layer_command(l, &(struct command){ .type = CMD_RESUME, .from = l, .conn = conn, .why = why });
}

void layer_log(struct layer *l, enum log_level level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (level > log_level_max())
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	layer_command(l, &(struct command){ .type = CMD_LOG, .from = l, .level = level, .text = text });
}
