/* SPDX-License-Identifier: MIT */
/*
 * A spec as the tables that the kernel reads: one Aho-Corasick automaton over all parts of names, whose states carry
 * the rank (abi/steer.h) of what ends there; numbers and whole names with their ranks. Pure.
 */
#pragma once

#include "abi/steer.h"
#include "base/err.h"
#include "steer/intercept_spec.h"

struct automaton_fact {
	struct steer_fact_key key;   /* gen 0 */
	uint32_t rank;
};

struct automaton_exe {
	struct steer_exe_key key;    /* gen 0 */
	uint32_t rank;
};

#define AUTOMATON_FACTS_MAX (STEER_PIDS_MAX + (STEER_FACTS - 1) * STEER_FACTS_MAX)

/* About 500 KiB: on the heap. */
struct automaton {
	struct steer_policy policy;
	uint32_t fact_count;
	struct automaton_fact facts[AUTOMATON_FACTS_MAX];    /* in rising order of key */
	struct automaton_exe exes[STEER_EXES_MAX];           /* policy.exes of them */
};

/* What a process is to a policy: ranks, 0 = no action matches. */
struct automaton_ranks {
	uint32_t named;              /* of its names, path and pid: goes down to children that have none */
	uint32_t pid;                /* of its pid alone */
	uint32_t member;             /* of its user, cgroups and network namespace */
	uint32_t tree;               /* of the tree that begins with it */
	uint32_t above;              /* greatest of the trees that begin with its ancestors */
};

/**
 * automaton_compile() - fills out from spec.
 * @spec: resolved, where it has something to resolve (selectors.h)
 *
 * Returns 0; -E2BIG over STEER_NAMES_MAX distinct names, STEER_NAME_BYTES_MAX bytes, STEER_PIDS_MAX distinct pids,
 * STEER_EXES_MAX executables or STEER_FACTS_MAX of another kind.
 */
int automaton_compile(struct automaton *out, const struct intercept_spec *spec, struct err *e) __must_check;

void automaton_ranks(struct automaton_ranks *out, const struct automaton *a, const struct intercept_process *p);

/* What the kernel computes for a process without inherited names: the greatest of all ranks. */
uint32_t automaton_rank(const struct automaton *a, const struct intercept_process *p);
