/* SPDX-License-Identifier: MIT */
/* Reports and the ring that carries them: one writer, one reader, no lock, no allocation after ring_new(). */
#include "core/report.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"

#define CACHE_LINE 64

/*
 * head and tail only grow (they wrap with the type); an index is taken modulo the size. Each side keeps its last view
 * of the other's index beside its own, so that the shared line moves only when a side runs out of what it knew of.
 */
struct ring {
	_Alignas(CACHE_LINE) _Atomic uint32_t head;     /* next to be read; the reader's */
	uint32_t tail_seen;
	_Alignas(CACHE_LINE) _Atomic uint32_t tail;     /* next to be written; the writer's */
	uint32_t head_seen;
	_Alignas(CACHE_LINE) uint32_t size;             /* read only */
	struct report *slots[];
};

struct ring *ring_new(uint32_t size)
{
	size_t bytes = sizeof(struct ring) + (size_t)size * sizeof(struct report *);
	struct ring *r;

	BUG_ON(size == 0 || (size & (size - 1)));
	/* Not mem_alloc(): that promises no more than 16-byte alignment. */
	r = aligned_alloc(CACHE_LINE, (bytes + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	if (!r)
		return NULL;
	memset(r, 0, bytes);
	r->size = size;
	return r;
}

void ring_free(struct ring *r)
{
	free(r);
}

bool ring_push(struct ring *r, struct report *item)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	if (tail - r->head_seen == r->size) {
		r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
		if (tail - r->head_seen == r->size)
			return false;
	}
	r->slots[tail & (r->size - 1)] = item;
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	return true;
}

struct report *ring_pop(struct ring *r)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
	struct report *item;

	if (head == r->tail_seen) {
		r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
		if (head == r->tail_seen)
			return NULL;
	}
	item = r->slots[head & (r->size - 1)];
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
	return item;
}

struct report *ring_peek(const struct ring *r, uint32_t ahead)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	return ahead < r->tail_seen - head ? r->slots[(head + ahead) & (r->size - 1)] : NULL;
}

struct report *report_flow(struct flow *f, enum hook_id hook)
{
	struct report *r = arena_zalloc(&f->arena, sizeof(*r));

	if (!r)
		return NULL;
	r->kind = REPORT_FLOW;
	r->hook = hook;
	r->flow = f;
	return r;
}

void report_free(struct report *r)
{
	if (!r)
		return;
	if (r->kind == REPORT_HOOK) {
		struct hook_question *q = report_question(r);

		conn_record_put(q->client);
		conn_record_put(q->server);
		hook_event_fini(&q->event);
		mem_free(q);
		return;
	}
	if (r->kind == REPORT_ORDER) {
		struct order_report *o = container_of(r, struct order_report, base);

		mem_free(o->order);
		mem_free(o);
		return;
	}
	if (r->flow) {
		flow_free(r->flow);
		return;
	}
	conn_record_put(r->client);
	conn_record_put(r->server);
	chain_clear(&r->message.data);
	mem_free(r->text);
	mem_free(r);
}
