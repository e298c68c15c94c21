/* SPDX-License-Identifier: MIT */
/* Knows mountinfo and /proc/PID/cgroup; everybody else sees descriptors. */
#include "steer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "steer/mounts.h"

/* The usual places first, so that a container runtime's copy of the tree is not taken for the host's. */
static int preference(const char *path)
{
	if (strcmp(path, "/sys/fs/cgroup") == 0)
		return 3;
	if (strcmp(path, "/sys/fs/cgroup/unified") == 0)
		return 2;
	return 1;
}

/* mountinfo has mounts that others hide, too. */
static bool is_seen(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

int cgroup_mount(char path[PATH_MAX], struct err *e)
{
	char line[PATH_MAX + 512], where[PATH_MAX], type[64];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	int best = 0;

	if (!f)
		return err_set(e, -errno, "cannot read /proc/self/mountinfo: %m; is /proc mounted?");
	while (fgets(line, sizeof(line), f)) {
		const char *dash = strstr(line, " - ");

		if (!dash || sscanf(dash, " - %63s", type) != 1 || strcmp(type, "cgroup2") != 0)
			continue;
		if (sscanf(line, "%*s %*s %*s %*s %4095s", where) != 1)
			continue;
		mounts_unescape(where);
		if (preference(where) > best && is_seen(where)) {
			best = preference(where);
			snprintf(path, PATH_MAX, "%s", where);
		}
	}
	fclose(f);
	if (!best)
		return err_set(e, -ENOENT, "no cgroup v2 tree is mounted; run: mount -t cgroup2 none /sys/fs/cgroup");
	return 0;
}

/* The root of the v2 tree, mounted for us alone when nobody did. */
static int open_root(struct err *e)
{
	char path[PATH_MAX];
	int fs, place, root, ret;

	ret = cgroup_mount(path, NULL);
	if (ret == 0) {
		root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (root < 0)
			return err_set(e, -errno, "cannot open the cgroup v2 tree at %s: %m", path);
		return root;
	}
	fs = fsopen("cgroup2", FSOPEN_CLOEXEC);
	if (fs < 0)
		return err_set(e, -errno, "no cgroup v2 tree is mounted, and it cannot be mounted here: %m; "
			       "run as root: mount -t cgroup2 none /sys/fs/cgroup");
	ret = fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	place = ret < 0 ? -1 : fsmount(fs, FSMOUNT_CLOEXEC, 0);
	/* That one only names the place. */
	root = place < 0 ? -1 : openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		root = err_set(e, -errno, "no cgroup v2 tree is mounted, and mounting one failed: %m");
	if (place >= 0)
		close(place);
	close(fs);
	return root;
}

/* What is behind the mount point in an absolute path; else the path itself. Never begins with a slash. */
static const char *relative(const char *group)
{
	char mount[PATH_MAX];
	size_t len;

	if (strncmp(group, "0::", 3) == 0)
		group += 3;
	else if (cgroup_mount(mount, NULL) == 0) {
		len = strlen(mount);
		if (strncmp(group, mount, len) == 0 && (group[len] == '/' || group[len] == 0))
			group += len;
	}
	return group + strspn(group, "/");
}

int cgroup_open(const char *group, struct err *e)
{
	const char *rest;
	struct statfs fs;
	int root, fd;

	root = open_root(e);
	rest = relative(group ? group : "");
	if (root < 0 || !*rest)
		return root;
	fd = openat(root, rest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		err_set(e, fd = -errno, "cannot open the cgroup %s: %m; give a path as in /proc/PID/cgroup (0::/...) "
			"or a directory under the cgroup v2 mount", group);
	close(root);
	if (fd >= 0 && (fstatfs(fd, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)) {
		close(fd);
		return err_set(e, -EINVAL, "%s is not in the cgroup v2 tree; give a path as in "
			       "/proc/PID/cgroup (0::/...)", group);
	}
	return fd;
}

int cgroup_own(char path[PATH_MAX], struct err *e)
{
	char line[PATH_MAX], mount[PATH_MAX];
	int ret = cgroup_mount(mount, e);
	FILE *f;

	if (ret < 0)
		return ret;
	f = fopen("/proc/self/cgroup", "re");
	if (!f)
		return err_set(e, -errno, "cannot read /proc/self/cgroup: %m");
	ret = err_set(e, -ENOENT, "this process is in no cgroup of the v2 tree");
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = 0;
		if (snprintf(path, PATH_MAX, "%s%s", mount, strcmp(line + 3, "/") == 0 ? "" : line + 3) < PATH_MAX)
			ret = 0;
		break;
	}
	fclose(f);
	return ret;
}
