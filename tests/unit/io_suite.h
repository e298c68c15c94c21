/* SPDX-License-Identifier: MIT */
/*
 * The one suite that all I/O backends pass. A world is a backend plus the far ends that it talks to: real sockets, or
 * the simulator's peers. Far ends never block: -EAGAIN means "run the backend a little".
 */
#pragma once

#include <sys/types.h>

#include "core/io.h"

struct peer;

struct io_world {
	const char *name;
	bool real;                       /* threads, descriptors, the system's resolver */
	struct io *(*start)(void);
	/* A handle for io->ops->listen(), bound to a fresh port that is filled in. */
	int (*listen)(struct io *io, struct addr *at);
	/* The same for io->ops->dgram_open(); joins segments where it can. */
	int (*dgram)(struct io *io, struct addr *at);
	struct peer *(*connect)(struct io *io, const struct addr *to);
	struct peer *(*listen_peer)(struct io *io, struct addr *at);
	struct peer *(*accept)(struct peer *listener);           /* NULL: nobody yet */
	ssize_t (*send)(struct peer *p, const void *bytes, size_t len);
	ssize_t (*recv)(struct peer *p, void *bytes, size_t len); /* 0: FIN */
	void (*shutdown)(struct peer *p);
	void (*close)(struct peer *p, bool reset);               /* frees p */
	/* No connection can be accepted any more, for want of descriptors; and again. */
	void (*starve)(struct io *io, bool on);
};

/* Far ends on the loopback interface; start is missing. Call io_world_real_init() first: it limits descriptors. */
extern const struct io_world io_world_real;
void io_world_real_init(void);

/* Far ends in the simulated network; start is missing. */
extern const struct io_world io_world_sim;

/* Runs everything; returns the number of failures. */
int io_suite_run(const struct io_world *world);
