/* SPDX-License-Identifier: MIT */
/* Reading a flow file from disk or a pipe, one flow after the other. */
#pragma once

#include "base/err.h"
#include "flow/flow.h"

struct flow_input;

/* path: "-" is standard input, ~ is expanded. Returns 0 or -errno with a sentence. */
int flow_input_open(struct flow_input **out, const char *path, struct err *e) __must_check;
void flow_input_close(struct flow_input *in);

/* 1 with a flow, which is the caller's; 0 at the end; -errno with a sentence, after which nothing more can be read. */
int flow_input_next(struct flow_input *in, struct flow **out, struct err *e) __must_check;

/* "~" and "~/x" as the home directory; "~name" stays. A copy to mem_free(); NULL when memory is out. */
char *path_expand(const char *path) __must_check;
