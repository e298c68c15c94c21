/* SPDX-License-Identifier: MIT */
/* Timers of one thread: a binary heap over the context's monotonic clock. */
#pragma once

#include "base/util.h"

struct timer {
	int64_t due_ns;
	uint32_t slot;                   /* heap index + 1; 0 = not armed */
	void (*fire)(struct timer *t);   /* the timer is disarmed before this is called; it may arm itself again */
};

struct timers {
	struct timer **heap;
	uint32_t count, cap;
};                                       /* {0} is ready */

/* Arms or re-arms. Returns 0 or -ENOMEM, then it is as before. */
int timer_arm(struct timers *ts, struct timer *t, int64_t due_ns) __must_check;
void timer_cancel(struct timers *ts, struct timer *t);

static inline bool timer_armed(const struct timer *t)
{
	return t->slot != 0;
}

/* Fires everything due. Returns when the next one is due, or INT64_MAX. */
int64_t timers_run(struct timers *ts, int64_t now_ns);
int64_t timers_next(const struct timers *ts);
void timers_fini(struct timers *ts);
