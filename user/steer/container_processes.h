/* SPDX-License-Identifier: MIT */
/* Who runs in a container now. Thread: any. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

struct container_processes {
	char *id;                    /* of the container */
	pid_t *pids;                 /* in rising order, as our /proc knows them */
	uint32_t count, cap;
};

/**
 * container_processes_read() - of the one container that a person means, with those that it has put into groups below
 * its own.
 * @wanted: its name, or at least 4 digits of the beginning of its id
 *
 * Returns 0; -ENOENT: there is no such container, or -ESRCH: it does not run; -EEXIST: several are meant; all with a
 * sentence. The caller calls container_processes_fini().
 */
int container_processes_read(struct container_processes *list, struct str wanted, struct err *e) __must_check;
void container_processes_fini(struct container_processes *list);
