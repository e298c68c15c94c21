/* SPDX-License-Identifier: MIT */
/*
 * Modes tc:INTERFACE while they come and go: between servers.c, which knows modes, and steer/tc.h, which knows
 * interfaces. Nothing is asked of the kernel until there is such a mode. Thread: master.
 */
#pragma once

#include "core/proxy_mode.h"
#include "master/settings.h"
#include "worker/worker.h"

struct forward;

/* What one mode has. Starts as {0}. */
struct forward_set {
	int slot;                    /* of steer/tc.h, plus 1; 0: none */
	uint32_t workers;            /* listeners were made for so many */
};

/* Of the options, tc_attach, udp and block_quic are ours; fail_closed is not, which is said. Returns 0, or -errno with
 * a sentence. */
int forward_new(struct forward **out, const struct settings *settings, struct err *e) __must_check;
/* NULL is fine. */
void forward_free(struct forward *f);

/* Workers have given up what answering takes: modes that come later leave UDP alone, which is said. */
void forward_leave_udp(struct forward *f);

/* Can this be behind `tc:`? Returns 0, or -errno with a sentence. */
int forward_check(struct str data, struct err *e) __must_check;

/* The interface is looked for. Returns 0 or -errno with a sentence. */
int forward_add(struct forward *f, struct forward_set *set, const struct proxy_mode *mode, struct err *e) __must_check;
/* Listeners and UDP sockets of the next worker, one for each family. Returns how many, or -errno with a sentence; then
 * none is open. */
int forward_listen(struct forward *f, struct forward_set *set, const struct proxy_mode *mode,
		   struct worker_listener *out, struct err *e) __must_check;
/* All workers listen: takes connections. Returns 0 or -errno with a sentence. */
int forward_start(struct forward *f, struct forward_set *set, struct err *e) __must_check;
/* New connections go direct, open ones go on. Twice is fine. */
void forward_stop(struct forward *f, struct forward_set *set);
void forward_stop_all(struct forward *f);

/* See tc_lease(). Thread: any. */
void forward_lease(struct forward *f, uint64_t until_ns);

/* Readable when forward_poll() has something to do. */
int forward_fd(const struct forward *f);
void forward_poll(struct forward *f);
