/* SPDX-License-Identifier: MIT */
/*
 * The processes alive now as the policy in force sees them: selected or not, and by which action. The same tables and
 * the same rule as in bpf/policy.bpf.h, for all of a process but its threads' names. Thread: the steering's owner.
 */
#pragma once

#include "steer/processes.h"
#include "steer/steer.h"

enum steer_verdict {
	STEER_VERDICT_SELECTED,
	STEER_VERDICT_NOT,
	STEER_VERDICT_OUTSIDE,               /* not in the cgroup that steering is attached to */
	STEER_VERDICT_OWN,                   /* the proxy or a process of its */
};

/* One process. Everything is valid during the call. */
struct steer_seen {
	const struct process *process;
	uint32_t uid;
	const char *cgroup;                  /* path in the v2 tree; "" = its root, or not known */
	const char *container;               /* name or short id; "" = in none */
	uint32_t netns;                      /* inode number of its network namespace; 0 = the proxy's own */
	const char *netns_name;              /* in /run/netns; "" = it has none */
	enum steer_verdict verdict;
	const struct intercept_action *by;   /* NULL: the spec's default, or none of its business */
	bool inherited;                      /* by is about an ancestor */
};

/**
 * steer_list() - calls see for processes that have an executable, in rising order of pid.
 * @after: only those with a greater pid
 * @see: returns false to end
 *
 * Returns 0 or -errno with a sentence.
 */
int steer_list(struct steer *s, uint32_t after, bool (*see)(void *owner, const struct steer_seen *seen), void *owner,
	       struct err *e) __must_check;
