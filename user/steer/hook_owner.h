/* SPDX-License-Identifier: MIT */
/*
 * Who else has programs on a cgroup's hooks. The kernel answers EPERM both for a missing capability and for a hook that
 * somebody owns exclusively; only asking tells which.
 */
#pragma once

#include <bpf/libbpf.h>

#include "base/err.h"

struct hook_owner {
	uint32_t program_id;         /* of the first foreign program */
	char program_name[16];       /* "" when it cannot be asked */
	uint32_t count;
	bool exclusive;              /* attached so that nobody else can attach beside it */
	bool overridable;            /* but a group below may have its own instead */
};

/* Programs on one hook of one group. True: there is at least one. */
bool hook_owner_find(struct hook_owner *out, int cgroup_fd, enum bpf_attach_type type);

/* The first exclusive owner of a hook on a group or above it: nobody else can attach there. */
bool hook_owner_find_exclusive(struct hook_owner *out, int cgroup_fd, enum bpf_attach_type type);

/* Programs that are not mitm-bpf's on one hook of a group and of all that hold it; those that own it alone first.
 * True: there is at least one. */
bool hook_owner_find_foreign(struct hook_owner *out, int cgroup_fd, enum bpf_attach_type type);

/* Turns the failure ret of attaching program to a group into a sentence; returns -EBUSY for a hook that is taken. */
int hook_owner_explain(int cgroup_fd, const char *cgroup, const struct bpf_program *program, int ret, struct err *e);
