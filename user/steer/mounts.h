/* SPDX-License-Identifier: MIT */
/*
 * A mount namespace of the calling process's own, in which files stand over others. Nobody else sees them, and they are
 * gone with the last process that lives there. Thread: of a process that has only one.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "base/err.h"

/* What others mount goes on appearing here; what is mounted here stays here. 0 or -errno with a sentence. */
int mounts_private(struct err *e) __must_check;

/* A file system in memory over a folder, open to read for everybody. 0 or -errno with a sentence. */
int mounts_memory(const char *folder, struct err *e) __must_check;

/* A file, or a folder with all that is mounted in it, as a mount that is nowhere yet: a descriptor for mounts_place(),
 * which the caller closes. -errno with a sentence. */
int mounts_take(const char *path, struct err *e) __must_check;
/* Lets it stand over what is at onto. Once only. 0 or -errno with a sentence. */
int mounts_place(int fd, const char *onto, struct err *e) __must_check;

/* What a process sees of the parts of such a memory that were placed over something, in the order of placing. path is
 * valid in the call. 0 or -errno with a sentence. */
int mounts_find(pid_t pid, void (*each)(void *owner, const char *path), void *owner, struct err *e) __must_check;

/* One line of mountinfo, of which whoever mounts chooses a lot: is it of such a part? Then where it is. */
bool mounts_parse(const char *line, char where[static PATH_MAX]);

/* mountinfo writes blanks and backslashes in octal (proc(5)): undoes that, in place. */
void mounts_unescape(char *text);
