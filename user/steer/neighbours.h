/* SPDX-License-Identifier: MIT */
/*
 * Other mitm-bpf that steer the connections of the same cgroups: found by their programs, which cannot hide, also from
 * another network namespace. Thread: the steering's owner.
 */
#pragma once

#include <limits.h>

#include "steer/steer.h"

#define NEIGHBOURS_MAX 16

enum neighbour_place {
	NEIGHBOUR_SAME,              /* the same group: whoever attached first is asked first */
	NEIGHBOUR_ABOVE,             /* a group that holds ours: we are asked first */
	NEIGHBOUR_BELOW,             /* one within ours: they are asked first */
};

struct neighbour {
	pid_t pid;                   /* 0: it cannot be seen from here */
	enum neighbour_place place;
	char cgroup[PATH_MAX];       /* where it is attached, from the root of the v2 tree; "/" = the root */
};

/*
 * Those that are attached to our cgroup, to one above it or to one within it; call it after steer_attach(). Returns how
 * many, at most NEIGHBOURS_MAX, or -errno with a sentence.
 */
int neighbours_find(struct steer *s, struct neighbour out[static NEIGHBOURS_MAX], struct err *e) __must_check;
