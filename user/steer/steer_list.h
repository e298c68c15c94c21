/* SPDX-License-Identifier: MIT */
/*
 * The processes alive now as the policy in force sees them: selected or not, and by which action. The same tables and
 * the same rule as in bpf/policy.bpf.h, for all of a process but its threads' names. Thread: the steering's owner.
 */
#pragma once

#include "steer/steer.h"

struct process;                      /* steer/processes.h */

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
	/* steer_list_one() alone: the first thread whose name decides otherwise; odd_tid 0: there is none */
	uint32_t odd_tid;
	char odd_comm[STEER_COMM_SIZE];
};

/* The processes alive when it was opened. */
struct steer_list;

/* As the policy in force sees them; s has to stay. Returns 0 or -errno with a sentence. */
int steer_list_open(struct steer_list **out, struct steer *s, struct err *e) __must_check;

/**
 * steer_list_preview() - as a spec would see them, if it were in force.
 * @spec: resolved (selectors.h); has to stay
 * @cgroup: what steering would be attached to, as in struct steer_options
 *
 * Returns 0 or -errno with a sentence.
 */
int steer_list_preview(struct steer_list **out, const struct intercept_spec *spec, const char *cgroup,
		       struct err *e) __must_check;
void steer_list_close(struct steer_list *l);

/* Calls see, until it returns false, for processes that have an executable, in rising order of pid, above after. */
void steer_list_each(struct steer_list *l, uint32_t after, bool (*see)(void *owner, const struct steer_seen *seen),
		     void *owner);

/* Only one of them, whether it has an executable or not, and its threads' names. False: it is not there. */
bool steer_list_one(struct steer_list *l, uint32_t pid, bool (*see)(void *owner, const struct steer_seen *seen),
		    void *owner);

/* All in one: opens, calls see for each above after, closes. */
int steer_list(struct steer *s, uint32_t after, bool (*see)(void *owner, const struct steer_seen *seen), void *owner,
	       struct err *e) __must_check;
