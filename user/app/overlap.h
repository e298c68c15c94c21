/* SPDX-License-Identifier: MIT */
/*
 * Two mitm-bpf at once, each with its own selection: where both mean the same connections, one of them gets them all.
 * Says which. Thread: master.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct intercept_spec;
struct steer;

/* Logs for each other mitm-bpf on our cgroups whether it selects somebody whom spec, which is in force, selects too. */
void overlap_tell(struct steer *s, const struct intercept_spec *spec);

/* The request "spec" of such a neighbour: appends who is selected; "": everybody. spec NULL: nobody. */
int overlap_serve(const struct intercept_spec *spec, struct strbuf *reply, struct err *e);

/*
 * Appends what two specs both select, as far as their words say: "everybody", an action. False: nothing. That two
 * different words can mean one process is for the list of processes to find.
 */
bool overlap_of_specs(const struct intercept_spec *a, const struct intercept_spec *b, struct strbuf *out);
