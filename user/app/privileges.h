/* SPDX-License-Identifier: MIT */
/*
 * What the program needs privileges for, and which of them each of its threads keeps once it runs. docs/ARCHITECTURE.md
 * has the table with reasons.
 */
#pragma once

#include "base/err.h"
#include "master/settings.h"

/* Nothing that is started from here on can get more than its starter has (no_new_privs). Before the first thread. */
void privileges_freeze(void);

/* The calling thread, which is the master's, keeps what may be needed for what people ask while the program runs; for
 * good. steers: programs are attached, or may be again. Says when it fails. */
void privileges_drop(const struct settings *s, bool steers);

/* For offload_start(): who reads files of others; with steering, who finds out about others' programs, too; and those
 * that may do nothing of all that. */
void privileges_enter_offload(void);
void privileges_enter_offload_steering(void);
void privileges_enter_other(void);
/* The thread that enters network namespaces, the only one that does. */
void privileges_enter_namespaces(void);

/* Which of those that interception needs the caller has not: "CAP_BPF, CAP_PERFMON"; "" = it has them all. */
#define PRIVILEGES_TEXT_MAX 128
const char *privileges_lacking(char out[static PRIVILEGES_TEXT_MAX]);
