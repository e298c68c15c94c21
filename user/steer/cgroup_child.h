/* SPDX-License-Identifier: MIT */
/*
 * A cgroup v2 of our own, below the one that we are in, for a command whose whole tree is to be steered: hooks on it
 * run for nobody else. Thread: any.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "base/err.h"

/**
 * cgroup_child_make() - a new, empty group.
 * @path:   out, absolute
 * @parent: as in cgroup_open(); NULL: the calling process's own
 *
 * Empty groups that killed programs left there are removed first. Returns 0 or -errno with a sentence; -EROFS and
 * -EACCES are usual in containers, -ENOENT: no v2 tree is mounted.
 */
int cgroup_child_make(char path[PATH_MAX], const char *parent, struct err *e) __must_check;

/* Moves a process there, and thereby all that it will start. 0 or -errno with a sentence. */
int cgroup_child_enter(const char *path, pid_t pid, struct err *e) __must_check;

/* False: processes live there on, and it stays until the next cgroup_child_make() beside it. */
bool cgroup_child_remove(const char *path);
