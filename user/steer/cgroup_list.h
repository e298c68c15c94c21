/* SPDX-License-Identifier: MIT */
/* All groups of the v2 tree as they are now. Thread: any. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct cgroup_entry {
	uint64_t id;                 /* as bpf_get_current_cgroup_id() says it: the directory's inode number */
	char *path;                  /* from the root of the tree: "", "/system.slice", "/system.slice/nginx.service" */
};

struct cgroup_list {
	struct cgroup_entry *entries;
	uint32_t count, cap;
};

/* Fills list, which the caller ends with cgroup_list_fini(). Who comes or goes meanwhile may be missing. */
int cgroup_list_read(struct cgroup_list *list, struct err *e) __must_check;
void cgroup_list_fini(struct cgroup_list *list);
