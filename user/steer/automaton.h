/* SPDX-License-Identifier: MIT */
/*
 * A spec as the table that the kernel steps through: one Aho-Corasick automaton over all names, whose states carry the
 * rank (abi/steer.h) of what ends there. Pure.
 */
#pragma once

#include "abi/steer.h"
#include "base/err.h"
#include "steer/intercept_spec.h"

struct automaton_pid {
	uint32_t pid;
	uint32_t rank;
};

/* About 270 KiB: on the heap. */
struct automaton {
	struct steer_policy policy;
	uint32_t pid_count;
	struct automaton_pid pids[STEER_PIDS_MAX];   /* in rising order of pid */
};

/**
 * automaton_compile() - fills out from spec.
 *
 * Returns 0; -E2BIG over STEER_NAMES_MAX distinct names, STEER_NAME_BYTES_MAX bytes or STEER_PIDS_MAX distinct pids.
 */
int automaton_compile(struct automaton *out, const struct intercept_spec *spec, struct err *e) __must_check;

/* What the kernel computes for a process by itself: a rank, 0 = no action matches. */
uint32_t automaton_rank(const struct automaton *a, const struct intercept_process *p);
