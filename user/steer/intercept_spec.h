/* SPDX-License-Identifier: MIT */
/*
 * The language of `local:SPEC` and `--intercept SPEC`: `firefox,!1234,user:alice`. Parsing, describing, and the verdict
 * on one process; no I/O. Source: mitmproxy 12, mitmproxy_rs intercept_conf (parsing, description, folding).
 *
 * Beyond mitmproxy's language, an action may begin with one of the words below and a colon. There, such a text is part
 * of a name. Who means that leaves the first letter out: `ser:x` finds "user:x" in a name as well.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

/* In the order of the words in intercept_spec.c. */
enum intercept_kind {
	INTERCEPT_NAME,              /* a part of a name or path */
	INTERCEPT_PID,
	INTERCEPT_CGROUP,            /* cgroup:PATH, with all that is below it */
	INTERCEPT_UNIT,              /* unit:NAME */
	INTERCEPT_CONTAINER,         /* container:NAME or container:ID */
	INTERCEPT_USER,              /* user:NAME or user:UID */
	INTERCEPT_EXE,               /* exe:/whole/path */
	INTERCEPT_COMM,              /* comm:whole-name */
	INTERCEPT_TREE,              /* tree:PID, with all that descends from it */
	INTERCEPT_NETNS,             /* netns:NAME, a path or an inode number */
};

#define INTERCEPT_UNKNOWN UINT32_MAX /* no uid is this */

struct intercept_action {
	enum intercept_kind kind;
	bool exclude;
	uint32_t number;             /* PID, TREE: the pid. USER: the uid, NETNS: the inode, or INTERCEPT_UNKNOWN */
	struct str name;             /* not PID, TREE: never empty; points into the spec's own copy */
	uint64_t *cgroups;           /* CGROUP, UNIT, CONTAINER: their ids, once resolved; of the spec */
	uint32_t cgroup_count;
};

/* Actions in the order written; none: nothing is intercepted. */
struct intercept_spec {
	uint32_t count;
	struct intercept_action *actions;
	char *text;                  /* what name points into */
};

/* A process as the policy sees it. .ptr NULL: not known, matches no name. comms: at most 15 bytes each. */
struct intercept_process {
	uint32_t pid;                /* thread group id in the initial pid namespace */
	struct str exe;              /* absolute path of the executable */
	struct str comm;             /* name of the process (its first thread) */
	struct str thread_comm;      /* name of the calling thread */
	uint32_t uid;                /* INTERCEPT_UNKNOWN: not known */
	uint32_t netns;              /* inode number of its network namespace; 0: not known */
	const uint64_t *cgroups;     /* ids of its v2 cgroup and of all that hold that, in any order */
	uint32_t cgroup_count;
	const uint32_t *ancestors;   /* pids of its parent, that one's parent, ... */
	uint32_t ancestor_count;
};

/**
 * intercept_spec_parse() - text to a spec.
 * @text: UTF-8; may hold any byte
 *
 * Returns 0; -EINVAL with "invalid intercept spec: TEXT", and for the words what they want; -ENOMEM.
 * Ownership: the caller frees *out with intercept_spec_free(); it does not refer to text.
 */
int intercept_spec_parse(struct intercept_spec **out, struct str text, struct err *e) __must_check;
void intercept_spec_free(struct intercept_spec *spec);

/* Another one that says the same, with nothing resolved. Returns 0 or -ENOMEM. */
int intercept_spec_copy(struct intercept_spec **out, const struct intercept_spec *spec, struct err *e) __must_check;

/* `Include PID 1. Exclude processes matching "curl".` or `Intercept nothing.` */
void intercept_spec_describe(const struct intercept_spec *spec, struct strbuf *out);

/* The canonical form of one action: `7`, `!7`, `curl`, `!curl`, `user:alice`. */
void intercept_action_write(const struct intercept_action *action, struct strbuf *out);

/* The verdict on a process that no action matches: the first action is an exclusion. */
bool intercept_spec_default(const struct intercept_spec *spec);

/* The action that decides about a process (the last that matches); NULL: none matches. */
const struct intercept_action *intercept_spec_decider(const struct intercept_spec *spec,
						      const struct intercept_process *p);

/* The verdict on a process by itself, without what it has from its ancestors. */
bool intercept_spec_selects(const struct intercept_spec *spec, const struct intercept_process *p);
