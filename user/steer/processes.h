/* SPDX-License-Identifier: MIT */
/* The processes alive now, from /proc: for those that were there before the kernel programs watched. */
#pragma once

#include "abi/steer.h"
#include "base/err.h"

struct process {
	uint32_t pid, ppid;
	char comm[STEER_COMM_SIZE];
	char exe[STEER_PATH_SIZE];   /* "" when it cannot be read; a long path keeps its tail */
};

struct process_list {
	struct process *processes;   /* in rising order of pid */
	uint32_t count, cap;
};

/* Fills list, which the caller ends with processes_fini(). Who comes or goes meanwhile may be missing. */
int processes_read(struct process_list *list, struct err *e) __must_check;
void processes_fini(struct process_list *list);

/* NULL: not there. */
const struct process *processes_find(const struct process_list *list, uint32_t pid);
