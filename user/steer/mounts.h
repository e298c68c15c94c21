/* SPDX-License-Identifier: MIT */
/*
 * A mount namespace of the calling process's own, in which files stand over others. Nobody else sees them, and they are
 * gone with the last process that lives there. Thread: of a process that has only one.
 */
#pragma once

#include "base/err.h"

/* What others mount goes on appearing here; what is mounted here stays here. 0 or -errno with a sentence. */
int mounts_private(struct err *e) __must_check;

/* A file system in memory over a folder, open to read for everybody. 0 or -errno with a sentence. */
int mounts_memory(const char *folder, struct err *e) __must_check;

/* from, a file or a folder with all that is mounted in it, is seen at onto, too. 0 or -errno with a sentence. */
int mounts_show(const char *from, const char *onto, struct err *e) __must_check;
