/* SPDX-License-Identifier: MIT */
/* Finding the v2 cgroup tree, on unified and hybrid hosts, and opening a group in it. Thread: any. */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "base/err.h"

/**
 * cgroup_mount() - where the v2 tree is mounted, from /proc/self/mountinfo.
 * @path: out, "/sys/fs/cgroup" or "/sys/fs/cgroup/unified" or elsewhere
 *
 * Returns 0; -ENOENT when it is mounted nowhere, or under other mounts.
 */
int cgroup_mount(char path[PATH_MAX], struct err *e) __must_check;

/**
 * cgroup_open() - a descriptor of a group's directory.
 * @group: NULL or "" = the root of the v2 tree; an absolute path under the mount; a path relative to the mount, with or
 *         without a leading slash; or a line of /proc/PID/cgroup ("0::/user.slice/x.scope")
 *
 * Where v2 is mounted nowhere, it is mounted detached, visible to nobody else. Returns the descriptor (the caller
 * closes it); -ENOENT and others with a sentence.
 */
int cgroup_open(const char *group, struct err *e) __must_check;

/* The calling process's own group as an absolute path under the mount. Returns 0 or -errno. */
int cgroup_own(char path[PATH_MAX], struct err *e) __must_check;
