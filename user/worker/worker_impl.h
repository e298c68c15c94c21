/* SPDX-License-Identifier: MIT */
/* What worker.c and session.c share. */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/blocks.h"
#include "core/driver.h"
#include "crypto/verify.h"
#include "flow/capture.h"
#include "worker/spill_store.h"
#include "worker/trim.h"
#include "worker/worker.h"

enum worker_order { WORKER_RUN, WORKER_DRAIN, WORKER_STOP };

struct worker_accept {
	struct list link;                /* the worker's list */
	struct worker *worker;
	struct worker_listener at;
	struct listener *handle;         /* NULL: closed */
};

/* What the master asks for while the worker runs; on the master's stack, which waits. */
struct worker_request {
	const struct worker_listener *add;
	uint32_t add_count;
	const struct proxy_mode *remove; /* NULL: nothing */
	uint64_t remove_netns;           /* 0: nothing */
	const struct proxy_mode *rename; /* what was remove's is to go on as this one's; NULL: it is closed */
	int result;
	struct err *error;
	sem_t done;
};

#define CGROUP_NAMES 64

struct udp_flows;

struct worker {
	struct worker_config config;
	pthread_t thread;
	sem_t started;
	int start_result;
	struct err error;
	_Atomic enum worker_order order;
	bool draining, stopping;

	struct io *io;
	struct io_netns netns;           /* the steering's */
	struct env env;
	struct driver_world world;
	struct verify *verify;
	struct capture capture;
	struct blocks flows;
	struct spill_client *spills;     /* NULL: none */
	struct list listeners;           /* struct worker_accept */
	struct list udp_sockets;         /* udp_flows.c */
	struct udp_flows *udp;           /* NULL: no UDP yet */
	_Atomic(struct worker_request *) request;
	struct list sessions, over;      /* struct driver */
	bool starved;
	struct timer starved_timer;
	int64_t starved_said_ns;
	struct timer last_call;          /* until then a draining worker takes what is in the listeners' queues */
	bool closed;                     /* the listeners are */

	struct worker_link link;
	struct report *waiting, **waiting_tail;  /* for room in the ring */
	uint64_t outstanding;            /* reports that have not come back */
	uint32_t pushed;                 /* reports that the master was not woken for yet */
	bool urgent;                     /* one of them is a question */
	int64_t told_ns;

	struct trim trim;
	struct worker_stats stats;       /* the thread's own */
	_Atomic uint32_t beats, accepted;
	_Atomic enum worker_pulse pulse;
	_Atomic bool public_done;        /* closed, and no session is left */
	pthread_mutex_t stats_lock;
	struct worker_stats public_stats;
	bool exited;                     /* under stats_lock, as is the end of io */

	struct cgroup_name {
		uint64_t id;
		char path[256];
	} cgroup_names[CGROUP_NAMES];    /* by id, direct mapped */
};

/* session.c */
/* Takes over the descriptors, also when it fails. */
int worker_listen(struct worker *w, const struct worker_listener *at, uint32_t count, struct err *e) __must_check;
/* Those of a mode in our own network namespace, those of another namespace, or all. */
void worker_unlisten(struct worker *w, const struct proxy_mode *mode);
void worker_unlisten_netns(struct worker *w, uint64_t netns);
void worker_unlisten_all(struct worker *w);
void worker_accept_resume(struct worker *w);
/* While it is starved: whether steered connections find no room in a listener's queue any more. */
bool worker_queues_full(const struct worker *w);
/* worker_confine.c */
/* The calling thread, which is w's. Says what could not be done. */
void worker_confine(struct worker *w);
/* To the log: system calls that were refused since. */
void worker_tell_refused(struct worker *w);
/* worker.c */
void worker_log(struct worker *w, enum log_level level, const char *text);
