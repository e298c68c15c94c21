/* SPDX-License-Identifier: MIT */
/*
 * What this machine can do for steering, each capability tried for real. Nothing is attached to anybody's processes:
 * programs go to a temporary child cgroup, connections to a network namespace of their own. Prints nothing.
 */
#pragma once

#include "base/err.h"

#define PROBES_MAX 72
#define PROBE_DETAIL_MAX 256

enum probe_state { PROBE_OK, PROBE_DEGRADED, PROBE_MISSING };

struct probe_result {
	const char *name;            /* static */
	enum probe_state state;
	bool needed;                 /* PROBE_MISSING here means that nothing can be intercepted */
	char detail[PROBE_DETAIL_MAX];   /* what was found */
	const char *lost;            /* static: what does not work without it; NULL when ok */
	const char *fix;             /* static: what to do; NULL when ok */
};

struct probe_list {
	struct probe_result results[PROBES_MAX];
	uint32_t count;
};

/**
 * steer_probe() - fills list, in the order in which it should be read.
 * @cgroup: as in struct steer_options; NULL = the v2 root
 *
 * Takes less than a second. Returns 0; -ENOTSUP when something needed is missing.
 * Thread: of a process that has only one: it forks, and children that fail are reaped.
 */
int steer_probe(struct probe_list *list, const char *cgroup);

/* "ok", "degraded", "missing" */
const char *probe_state_name(enum probe_state state);
