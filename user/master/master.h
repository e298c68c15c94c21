/* SPDX-License-Identifier: MIT */
/*
 * The master thread: takes what workers report, shows it to addons, keeps it in memory, gives it back to be freed, and
 * ends the program in order. It knows workers only by their rings; starting and stopping them is its caller's.
 */
#pragma once

#include "core/link.h"
#include "mitm/addon.h"

struct flow_input;
struct master;

/* What the master needs of whoever owns the workers. Called on the master thread. */
struct master_world {
	void *owner;
	void (*drain)(void *owner);      /* steer nobody new, accept nothing, finish what is in flight */
	bool (*drained)(void *owner);    /* true: nothing is in flight any more */
	void (*stop)(void *owner);       /* end what is in flight now */
	bool (*stopped)(void *owner);    /* true: every worker has its reports back and is gone */
	int poll_fd;                     /* when it is readable, poll() is called; -1: none */
	void (*poll)(void *owner);
};

struct master_config {
	const struct settings *settings;
	struct addon **addons;           /* in this order they see flows; configured here; freed by the caller */
	size_t addon_count;
	struct master_world world;
};

/* Keeps SIGINT and SIGTERM from the threads that are started afterwards, for master_run(). Call it before those. */
void master_hold_signals(void);

/* Configures the addons. Returns 0 or -errno with a sentence. */
int master_new(struct master **out, const struct master_config *config, struct err *e) __must_check;
void master_free(struct master *m);

/* Hooks whose reports somebody here wants: worker_config.notify_hooks. */
uint64_t master_notify_hooks(const struct master *m);
/* Hooks at which some addon is to be asked, and where it wants whole bodies: block_hooks, whole_hooks of a worker. */
uint64_t master_block_hooks(const struct master *m);
uint64_t master_whole_hooks(const struct master *m);

/* One more worker, before master_run(). Returns 0 or -errno. */
int master_add_link(struct master *m, struct worker_link *link, struct err *e) __must_check;

/*
 * Until a signal ends it, or an addon cannot go on: drains (10 s at most; a second signal cuts that short), stops, and
 * gives everything back. Returns the exit status: 0, or 1 when something could not be recorded.
 */
int master_run(struct master *m);

/* The same without waiting for a signal: stops the workers and takes leave of them. */
int master_end(struct master *m);

/* Shows all flows of a file to the addons, as if they had passed. Returns the exit status; what is wrong is logged. */
int master_read(struct master *m, struct flow_input *in);
