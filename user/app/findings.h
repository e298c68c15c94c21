/* SPDX-License-Identifier: MIT */
/* From facts about one process to sentences: why its traffic is seen, or not, and what to do. Pure. */
#pragma once

#include "steer/hook_owner.h"
#include "steer/probe.h"
#include "steer/target.h"

struct explain_answer;

#define FINDINGS_MAX 24
#define FINDING_TEXT_MAX 512

struct finding {
	const char *id;              /* static, and stable: scripts know it */
	enum probe_state state;      /* missing: this alone keeps its traffic from us. degraded: some of it, or TLS */
	char text[FINDING_TEXT_MAX];
	char todo[FINDING_TEXT_MAX]; /* "" = nothing */
};

struct findings {
	struct finding at[FINDINGS_MAX];
	uint32_t count;
	bool taken;                  /* its new TCP connections come to us, or would */
};

struct findings_facts {
	const struct target *target;
	const struct explain_answer *answer; /* NULL: nobody could be asked */
	const struct err *nobody;    /* why not */
	const char *cgroup;          /* the target's, in the v2 tree; "" = its root */
	uint32_t trust_copies;       /* of trust stores with our CA that stand over its own */
	uint32_t hook_count;         /* programs of others on its connect hooks */
	struct hook_owner hook;      /* one of them */
};

void findings_make(struct findings *out, const struct findings_facts *facts);
