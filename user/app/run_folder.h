/* SPDX-License-Identifier: MIT */
/*
 * Where a run keeps what its command is to trust. A folder of a killed run is recognised by its lock being free and
 * nobody's environment naming it, and is removed by the next one. Thread: of a process that has only one.
 */
#pragma once

#include <limits.h>

#include "base/err.h"

struct run_folder {
	char path[PATH_MAX];
	int lock_fd;                 /* held as long as we live; closed on exec */
};

/* Root's may be read by whoever the command runs as, since nothing in it is secret; another user's is his alone.
 * Returns 0 or -errno with a sentence. */
int run_folder_make(struct run_folder *f, struct err *e) __must_check;

/* Left for the next run when processes live on that were told to look there. */
void run_folder_remove(struct run_folder *f);
