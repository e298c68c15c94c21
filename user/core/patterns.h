/* SPDX-License-Identifier: MIT */
/*
 * A list of regular expressions (PCRE2, searched for anywhere, without case), compiled once by the master and matched
 * by workers. Immutable: matching takes memory of its own and no locks.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct patterns;

/* 0; -EINVAL with the place of the mistake in e; -ENOMEM. */
int patterns_new(struct patterns **out, const char *const *texts, size_t count, struct err *e) __must_check;
void patterns_free(struct patterns *p);

/* Whether any matches. NULL matches nothing; nor does what takes too many steps, or finds no memory. Thread: any. */
bool patterns_match(const struct patterns *p, struct str text);
