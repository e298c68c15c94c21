/* SPDX-License-Identifier: MIT */
/* A binary heap; each timer knows its place, so that cancelling is cheap. */
#include "core/timer.h"

#include <errno.h>

#include "base/mem.h"

static void place(struct timers *ts, uint32_t i, struct timer *t)
{
	ts->heap[i] = t;
	t->slot = i + 1;
}

static void sift_up(struct timers *ts, uint32_t i, struct timer *t)
{
	while (i && ts->heap[(i - 1) / 2]->due_ns > t->due_ns) {
		place(ts, i, ts->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(ts, i, t);
}

static void sift_down(struct timers *ts, uint32_t i, struct timer *t)
{
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= ts->count)
			break;
		if (child + 1 < ts->count && ts->heap[child + 1]->due_ns < ts->heap[child]->due_ns)
			child++;
		if (ts->heap[child]->due_ns >= t->due_ns)
			break;
		place(ts, i, ts->heap[child]);
		i = child;
	}
	place(ts, i, t);
}

int timer_arm(struct timers *ts, struct timer *t, int64_t due_ns)
{
	if (t->slot) {
		int64_t old = t->due_ns;

		t->due_ns = due_ns;
		if (due_ns < old)
			sift_up(ts, t->slot - 1, t);
		else
			sift_down(ts, t->slot - 1, t);
		return 0;
	}
	if (ts->count == ts->cap) {
		uint32_t cap = ts->cap ? ts->cap * 2 : 64;
		struct timer **grown = mem_realloc(ts->heap, cap * sizeof(struct timer *));

		if (!grown)
			return -ENOMEM;
		ts->heap = grown;
		ts->cap = cap;
	}
	t->due_ns = due_ns;
	sift_up(ts, ts->count++, t);
	return 0;
}

void timer_cancel(struct timers *ts, struct timer *t)
{
	uint32_t i = t->slot - 1;
	struct timer *last;

	if (!t->slot)
		return;
	t->slot = 0;
	last = ts->heap[--ts->count];
	if (last == t)
		return;
	if (i && ts->heap[(i - 1) / 2]->due_ns > last->due_ns)
		sift_up(ts, i, last);
	else
		sift_down(ts, i, last);
}

int64_t timers_next(const struct timers *ts)
{
	return ts->count ? ts->heap[0]->due_ns : INT64_MAX;
}

int64_t timers_run(struct timers *ts, int64_t now_ns)
{
	while (ts->count && ts->heap[0]->due_ns <= now_ns) {
		struct timer *t = ts->heap[0];

		timer_cancel(ts, t);
		t->fire(t);
	}
	return timers_next(ts);
}

void timers_fini(struct timers *ts)
{
	mem_free(ts->heap);
	*ts = (struct timers){ 0 };
}
