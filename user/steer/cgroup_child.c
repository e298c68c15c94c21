/* SPDX-License-Identifier: MIT */
/* Names are "mitm-bpf-run-PID"; the kernel refuses to remove a group that is not empty, so trying is safe. */
#include "steer/cgroup_child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "steer/cgroup.h"

#define PREFIX "mitm-bpf-run-"

/* A process that still starts its command has an empty group, too: its pid is alive. */
static bool is_left(const char *name)
{
	uint64_t pid;
	char proc[32];

	if (!str_starts(str_of(name), STR(PREFIX)) ||
	    !str_to_u64(str_of(name + strlen(PREFIX)), INT32_MAX, &pid))
		return false;
	snprintf(proc, sizeof(proc), "/proc/%d", (int)pid);
	return access(proc, F_OK) < 0;
}

static void remove_left(int parent)
{
	int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (is_left(entry->d_name))
			unlinkat(parent, entry->d_name, AT_REMOVEDIR);
	closedir(dir);
}

/* The absolute path of an open group. */
static int path_of(int fd, char path[PATH_MAX])
{
	char link[32];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, PATH_MAX - 1);
	if (len < 0)
		return -errno;
	path[len] = 0;
	return 0;
}

int cgroup_child_make(char path[PATH_MAX], const char *parent, struct err *e)
{
	char own[PATH_MAX], mount[PATH_MAX], name[32];
	int fd, ret;

	/* A group has no path in a tree that is mounted for us alone. */
	ret = parent && *parent ? cgroup_mount(mount, e) : cgroup_own(own, e);
	if (ret < 0)
		return ret;
	fd = cgroup_open(parent && *parent ? parent : own, e);
	if (fd < 0)
		return fd;
	remove_left(fd);
	snprintf(name, sizeof(name), PREFIX "%d", (int)getpid());
	ret = path_of(fd, path);
	if (ret < 0 || strlen(path) + strlen(name) + 2 > PATH_MAX)
		ret = err_set(e, ret < 0 ? ret : -ENAMETOOLONG, "cannot name a cgroup of our own");
	else if (mkdirat(fd, name, 0755) < 0 && errno != EEXIST)
		ret = err_set(e, -errno, "cannot make a cgroup in %s: %m", path);
	else
		snprintf(path + strlen(path), PATH_MAX - strlen(path), "/%s", name);
	close(fd);
	return ret;
}

int cgroup_child_enter(const char *path, pid_t pid, struct err *e)
{
	char file[PATH_MAX + 16], text[16];
	int fd, ret = 0;

	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	snprintf(text, sizeof(text), "%d", (int)pid);
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		ret = err_set(e, -errno, "cannot move process %d to the cgroup %s: %m", (int)pid, path);
	if (fd >= 0)
		close(fd);
	return ret;
}

bool cgroup_child_remove(const char *path)
{
	return rmdir(path) == 0 || errno == ENOENT;
}
