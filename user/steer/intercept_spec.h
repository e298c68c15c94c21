/* SPDX-License-Identifier: MIT */
/*
 * The language of `local:SPEC` and `--intercept SPEC`: `firefox,!1234`. Parsing, describing, and the verdict on one
 * process; no I/O. Source: mitmproxy 12, mitmproxy_rs intercept_conf (parsing, description, folding).
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct intercept_action {
	bool exclude;
	bool is_pid;
	uint32_t pid;                /* is_pid */
	struct str name;             /* !is_pid: never empty; points into the spec's own copy */
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
};

/**
 * intercept_spec_parse() - text to a spec.
 * @text: UTF-8; may hold any byte
 *
 * Returns 0; -EINVAL with "invalid intercept spec: TEXT"; -ENOMEM.
 * Ownership: the caller frees *out with intercept_spec_free(); it does not refer to text.
 */
int intercept_spec_parse(struct intercept_spec **out, struct str text, struct err *e) __must_check;
void intercept_spec_free(struct intercept_spec *spec);

/* `Include PID 1. Exclude processes matching "curl".` or `Intercept nothing.` */
void intercept_spec_describe(const struct intercept_spec *spec, struct strbuf *out);

/* The canonical form of one action: `7`, `!7`, `curl`, `!curl`. */
void intercept_action_write(const struct intercept_action *action, struct strbuf *out);

/* The verdict on a process that no action matches: the first action is an exclusion. */
bool intercept_spec_default(const struct intercept_spec *spec);

/* The action that decides about a process (the last that matches); NULL: none matches. */
const struct intercept_action *intercept_spec_decider(const struct intercept_spec *spec,
						      const struct intercept_process *p);

/* The verdict on a process by itself, without what it has from its ancestors. */
bool intercept_spec_selects(const struct intercept_spec *spec, const struct intercept_process *p);
