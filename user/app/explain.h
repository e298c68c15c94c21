/* SPDX-License-Identifier: MIT */
/*
 * Control's request "explain PID START NETNS": what the mitm-bpf that runs knows about one process. And the same
 * answer, as far as it can be known, about a spec that is not in force.
 */
#pragma once

#include "steer/intercept_spec.h"
#include "steer/steer_explain.h"
#include "steer/steer_list.h"
#include "worker/refusal_store.h"

#define EXPLAIN_REFUSALS_MAX 4

struct target;

struct explain_answer {
	long proxy;                      /* pid of who answered; 0: nobody runs, this is about a spec */
	bool local;                      /* it has a local mode */
	char modes[200];
	char group[200];                 /* what steering is attached to, as the user named it; "" = the whole tree */
	char spec[300];                  /* who is taken, in words */
	bool listed;                     /* the policy was asked, and what follows is filled; else why_not says why */
	char why_not[200];
	enum steer_verdict verdict;
	char rule[120];                  /* the action that decided; "" = none, the spec's default */
	bool inherited;                  /* it is about an ancestor */
	uint32_t odd_tid;                /* as in struct steer_seen */
	char odd_comm[STEER_COMM_SIZE];
	char container[64];
	char netns_why[128];             /* why nobody of ours listens in its network namespace; "" = not known */
	struct steer_explained steering; /* preview: only loopback and cgroup_id */
	bool passthrough;                /* tls_passthrough_failed: what was refused is relayed untouched */
	struct refusal_met refusals[EXPLAIN_REFUSALS_MAX];   /* at_ns: nanoseconds ago */
	uint32_t refusal_count;
};

struct explain_sources {
	struct steer *steer;             /* NULL: no mode intercepts */
	struct refusal_store *refusals;
	const struct settings *settings; /* as they are now */
};

/* The side that is asked; a control_fn in all but its owner. Thread: master. */
int explain_serve(const struct explain_sources *from, const char *const *words, size_t count, struct strbuf *reply,
		  struct err *e);

/* The side that asks the mitm-bpf with this pid (0: the only one). Returns 0; -ESRCH: none runs; other -errno; with a
 * sentence. */
int explain_ask(struct explain_answer *out, long proxy, const struct target *target, struct err *e) __must_check;

/* What would be with a spec (as in --intercept) and a cgroup (may be NULL). Returns 0 or -errno with a sentence. */
int explain_preview(struct explain_answer *out, struct str spec, const char *cgroup, bool loopback,
		    const struct target *target, struct err *e) __must_check;
