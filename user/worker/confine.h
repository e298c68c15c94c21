/* SPDX-License-Identifier: MIT */
/*
 * What a thread may still do that handles the bytes of strangers: capabilities it cannot get back, and a list of system
 * calls (seccomp). Neither other programs nor files, namespaces, processes: what workers need of these the thread of
 * io/offload.h does for them. Thread: each for itself; what it starts later inherits both.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

enum confine_answer {
	CONFINE_OFF,
	CONFINE_REFUSE,                  /* a forbidden call fails with EPERM, and is told by confine_report() */
	CONFINE_KILL,                    /* it ends the program: for tests, which must not overlook one */
};

/* Why there can be no filter in this build; NULL: there can. */
const char *confine_unavailable(void);

/* Keeps of the calling thread's capabilities (1 << CAP_*) those of the set, for good. Returns 0 or -errno. */
int confine_capabilities(uint64_t keep) __must_check;

/* As confine_capabilities(), but only for the moment: those that are left away can be taken up again by it. */
int confine_try_capabilities(uint64_t keep) __must_check;

/*
 * From here on the calling thread makes only the calls of a worker. Sets no_new_privs for it. Returns 0; -ENOTSUP where
 * confine_unavailable(); other -errno (a kernel without seccomp); with a sentence.
 */
int confine_calls(enum confine_answer answer, struct err *e) __must_check;

/* Calls say for each system call that was refused since, once for each; any thread. */
void confine_report(void (*say)(void *owner, const char *text), void *owner);
