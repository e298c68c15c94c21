/* SPDX-License-Identifier: MIT */
/* What the steering that runs knows about one process, beside the policy's verdict. Thread: the steering's owner. */
#pragma once

#include "base/addr.h"
#include "steer/steer.h"

struct steer_explained {
	bool attached;               /* new connections are taken at all */
	bool loopback;               /* also those to loopback addresses */
	uint64_t cgroup_id;          /* the group that steering is attached to */
	uint16_t tcp4, tcp6;         /* where connections of that network namespace are taken to; 0: they are not */
	bool known;                  /* it has connected since, and what follows is filled */
	uint32_t steered, direct;    /* how often */
	uint64_t ago_ns;             /* when it did last */
	enum steer_reason reason;    /* what became of that */
	uint64_t netns;              /* cookie of where that was */
	struct addr dst;             /* and where it wanted to go */
};

/* netns: cookie of the process's network namespace. start_ticks: when it began, as proc(5) counts (100 a second). */
void steer_explain(struct steer *s, uint32_t pid, uint64_t start_ticks, uint64_t netns, struct steer_explained *out);
