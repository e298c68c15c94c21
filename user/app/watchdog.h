/* SPDX-License-Identifier: MIT */
/*
 * Sees to it that nobody waits for a proxy that stands still. Steering takes connections on a lease, which a thread of
 * its own renews while every worker moves and accepts. A worker that hangs, a queue that is full, a whole process that
 * is stopped: then new connections go direct, or are refused with fail_closed, until all is well again.
 */
#pragma once

#include "base/err.h"

struct servers;
struct watchdog;
struct worker;

/* Starts the thread. servers and workers outlive it. 0 or -errno with a sentence. */
int watchdog_start(struct watchdog **out, struct servers *servers, struct worker *const *workers, uint32_t count,
		   bool fail_closed, struct err *e) __must_check;

/* Before the workers are told to stop, for then they stand still. Sets *w to NULL; NULL is fine. */
void watchdog_stop(struct watchdog **w);

/* --- what it judges by; here for tests --- */

#define WATCHDOG_TICK_MS   500
#define WATCHDOG_STILL_MAX 6             /* ticks without a beat, or without accepting, that are in order */
#define WATCHDOG_LEASE_MS  5000

enum watchdog_verdict { WATCHDOG_WELL, WATCHDOG_STILL, WATCHDOG_CROWDED };

/* One worker, from tick to tick. Zeroed at first. */
struct watchdog_view {
	uint32_t beats, accepted;        /* as last seen */
	uint32_t still, crowded;         /* ticks in a row */
	enum watchdog_verdict verdict;
};

/*
 * One tick: beats and accepted connections as they are now; starved: something keeps it from accepting; full: nobody
 * can even queue. Returns whether the verdict is another than before. Counts ticks and not time, so that a process that
 * was stopped for an hour does not find, when it goes on, that its workers slept.
 */
bool watchdog_see(struct watchdog_view *view, uint32_t beats, uint32_t accepted, bool starved, bool full);
