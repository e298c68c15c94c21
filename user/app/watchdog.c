/* SPDX-License-Identifier: MIT */
/* A thread, because the master may wait for whoever reads its output. */
#include "app/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "app/servers.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/offload.h"
#include "worker/worker.h"

#define MS INT64_C(1000000)

struct watchdog {
	struct servers *servers;
	struct worker *const *workers;
	const char *otherwise;           /* what becomes of new connections while one of them is not well */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;                       /* under lock */
	uint32_t count;
	struct watchdog_view views[];
};

bool watchdog_see(struct watchdog_view *view, uint32_t beats, uint32_t accepted, bool starved, bool full)
{
	bool accepts = !starved || accepted != view->accepted;
	enum watchdog_verdict before = view->verdict;

	view->still = beats == view->beats ? view->still + 1 : 0;
	view->crowded = accepts ? 0 : view->crowded + 1;
	view->beats = beats;
	view->accepted = accepted;
	if (view->still > WATCHDOG_STILL_MAX)
		view->verdict = WATCHDOG_STILL;
	else if (full || view->crowded > WATCHDOG_STILL_MAX)
		view->verdict = WATCHDOG_CROWDED;
	else if (accepts || before != WATCHDOG_CROWDED)
		view->verdict = WATCHDOG_WELL;
	return view->verdict != before;
}

static void say(const struct watchdog *w, uint32_t worker, enum watchdog_verdict verdict)
{
	switch (verdict) {
	case WATCHDOG_WELL:
		log_line(LOG_WARN, "watchdog", "worker %u moves again", worker);
		return;
	case WATCHDOG_STILL:
		log_line(LOG_WARN, "watchdog", "worker %u has not moved for %d seconds: new connections of selected "
			 "processes %s until it does", worker, WATCHDOG_TICK_MS * WATCHDOG_STILL_MAX / 1000,
			 w->otherwise);
		return;
	case WATCHDOG_CROWDED:
		log_line(LOG_WARN, "watchdog", "worker %u can take no more connections: new ones of selected processes "
			 "%s until some close", worker, w->otherwise);
		return;
	}
}

static bool all_well(struct watchdog *w)
{
	bool well = true;

	for (uint32_t i = 0; i < w->count; i++) {
		enum worker_pulse pulse = worker_pulse(w->workers[i]);

		if (watchdog_see(&w->views[i], worker_beats(w->workers[i]), worker_accepted(w->workers[i]),
				 pulse != WORKER_ACCEPTS, pulse == WORKER_FULL))
			say(w, i, w->views[i].verdict);
		well &= w->views[i].verdict == WATCHDOG_WELL;
	}
	return well;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 * MS + ts.tv_nsec;
}

static void renew(struct watchdog *w)
{
	servers_lease(w->servers, all_well(w) ? (uint64_t)(now_ns() + WATCHDOG_LEASE_MS * MS) : 0);
}

static void *watch(void *arg)
{
	struct watchdog *w = arg;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_setname_np(pthread_self(), "watchdog");
	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		int64_t until = now_ns() + WATCHDOG_TICK_MS * MS;
		struct timespec at = { .tv_sec = until / (1000 * MS), .tv_nsec = until % (1000 * MS) };

		while (!w->stop && pthread_cond_timedwait(&w->wake, &w->lock, &at) == 0)
			;
		if (!w->stop)
			renew(w);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void free_watchdog(struct watchdog *w)
{
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	mem_free(w);
}

int watchdog_start(struct watchdog **out, struct servers *servers, struct worker *const *workers, uint32_t count,
		   bool fail_closed, struct err *e)
{
	struct watchdog *w = mem_zalloc(sizeof(*w) + count * sizeof(w->views[0]));
	pthread_condattr_t attr;
	int ret;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->servers = servers;
	w->workers = workers;
	w->count = count;
	w->otherwise = fail_closed ? "are refused" : "go direct";
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &attr);
	pthread_condattr_destroy(&attr);
	renew(w);
	ret = offload_thread(&w->thread, NULL, watch, w);
	if (ret < 0) {
		free_watchdog(w);
		return err_set(e, ret, "cannot start a thread: %s", strerror(-ret));
	}
	*out = w;
	return 0;
}

void watchdog_stop(struct watchdog **at)
{
	struct watchdog *w = *at;

	*at = NULL;
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	free_watchdog(w);
}
