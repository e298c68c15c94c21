/* SPDX-License-Identifier: MIT */
/*
 * What workers tell the master and get back: the only place where the two meet. A report is made by a worker, read by
 * the master, and comes back through the other ring to be freed by the worker that made it. Between the two it and all
 * it refers to are the master's: read only, but for what a question asks about (struct hook_question).
 */
#pragma once

#include "core/order.h"
#include "flow/flow.h"
#include "mitm/hooks.h"

enum report_kind {
	REPORT_FLOW,                     /* a flow that ended at .hook: kept by the master until it drops it */
	REPORT_TCP_MESSAGE,              /* one message of a TCP flow that is still open */
	REPORT_WEBSOCKET_START,          /* the heads of an HTTP flow that goes on as a WebSocket; a copy */
	REPORT_WEBSOCKET_MESSAGE,        /* one message of it */
	REPORT_HOOK,                     /* a question: struct hook_question */
	REPORT_ORDER,                    /* the other way: struct order_report; the worker frees it */
	REPORT_LOG,
};

struct report {
	enum report_kind kind;
	struct report *next;             /* the holder's list */
	uint32_t worker;
	enum hook_id hook;
	struct flow *flow;               /* REPORT_FLOW, REPORT_WEBSOCKET_START */
	struct conn_record *client, *server;     /* of a message */
	struct tcp_message message;
	bool websocket_text;             /* REPORT_WEBSOCKET_MESSAGE: it is text */
	int level;                       /* REPORT_LOG: enum log_level */
	char *text;                      /* REPORT_LOG; REPORT_WEBSOCKET_MESSAGE: the path. mem_alloc'ed */
};

/*
 * What event is about is the master's until the report is back, which is the answer. Decisions in event are carried out
 * by the worker then. The references on the event's records are this struct's.
 */
struct driver;
struct hook_question {
	struct report base;
	struct hook_event event;
	struct conn_record *client, *server;
	struct driver *driver;           /* the worker's: who waits, and for what */
	uint64_t token;
	void *arg;
};

static inline struct hook_question *report_question(struct report *r)
{
	return container_of(r, struct hook_question, base);
}

struct order_report {
	struct report base;
	struct order *order;             /* mem_alloc'ed */
};

/*
 * Takes f over: the report is in its memory, and goes with it. NULL when memory is out; f is still the caller's.
 * Thread: the flow's worker.
 */
struct report *report_flow(struct flow *f, enum hook_id hook) __must_check;

/* Frees it and all it holds; NULL is fine. Thread: the worker that made it; of an order, any. */
void report_free(struct report *r);

/*
 * A bounded ring with one writer thread and one reader thread (C11 atomics). size must be a power of two.
 * ring_push() returns false when full and takes nothing then. ring_pop() returns NULL when empty.
 */
struct ring;
struct ring *ring_new(uint32_t size) __must_check;
void ring_free(struct ring *r);
bool ring_push(struct ring *r, struct report *item) __must_check;
struct report *ring_pop(struct ring *r);
/* What the reader will get after ahead others; NULL: nothing, as far as it has looked. */
struct report *ring_peek(const struct ring *r, uint32_t ahead);
