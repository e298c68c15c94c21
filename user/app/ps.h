/* SPDX-License-Identifier: MIT */
/* `mitm-bpf ps`: the processes that run, selected or not, and by which action of the mitm-bpf that runs. */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct steer;

/*
 * Control's request "ps AFTER": one line for each process with a greater pid than AFTER, as many as go into an answer;
 * fields are separated by tabs. steer: NULL when no mode intercepts. Thread: master.
 */
int ps_serve(struct steer *steer, const char *const *words, size_t count, struct strbuf *reply, struct err *e);

/* Asks the mitm-bpf pid (0: the only one) and prints a table; watch: again every second. Returns an exit status. */
int ps_run(long pid, bool watch);
