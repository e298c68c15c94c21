/* SPDX-License-Identifier: MIT */
/*
 * What a person must act on: a code and one sentence that says what happened and what to do. A peer's mistake is never
 * one of these; it is data on the flow.
 */
#pragma once

#include "base/util.h"

#define ERR_TEXT_MAX 512

struct err {
	int code;                    /* 0 or -errno */
	char text[ERR_TEXT_MAX];     /* no trailing newline; cut with "..." when too long */
};

/* Fills e (may be NULL) and returns code, so that `return err_set(e, -EINVAL, "...")` reads well. %m is errno. */
int err_set(struct err *e, int code, const char *fmt, ...) __printf(3, 4);

/* Puts text and ": " before what e says; code stays. */
int err_prefix(struct err *e, const char *fmt, ...) __printf(2, 3);
