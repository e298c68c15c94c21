/* SPDX-License-Identifier: MIT */
/* mount(2), open_tree(2) and move_mount(2) with sentences. */
#include "steer/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define SOURCE "mitm-bpf"         /* what mountinfo calls our memory */

int mounts_private(struct err *e)
{
	if (unshare(CLONE_NEWNS) < 0)
		return err_set(e, -errno, "no mount namespace: %m");
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_set(e, -errno, "cannot keep mounts from the rest of the system: %m");
	return 0;
}

int mounts_memory(const char *folder, struct err *e)
{
	if (mount(SOURCE, folder, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755") < 0)
		return err_set(e, -errno, "cannot mount a tmpfs on %s: %m", folder);
	return 0;
}

int mounts_take(const char *path, struct err *e)
{
	int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	return fd < 0 ? err_set(e, -errno, "cannot take %s as a mount: %m", path) : fd;
}

int mounts_place(int fd, const char *onto, struct err *e)
{
	/* onto may be a link of /proc/self/fd */
	if (move_mount(fd, "", AT_FDCWD, onto, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) < 0)
		return err_set(e, -errno, "cannot mount anything over %s: %m", onto);
	return 0;
}

void mounts_unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		/* what was cut off within one is left as it is */
		if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = 0;
}

bool mounts_parse(const char *line, char where[static PATH_MAX])
{
	char type[64], source[64], root[PATH_MAX];
	const char *dash = strstr(line, " - ");

	/* id parent device root where options ... - type source options; as a whole it covers nothing */
	if (!dash || sscanf(dash, " - %63s %63s", type, source) != 2 || strcmp(type, "tmpfs") != 0 ||
	    strcmp(source, SOURCE) != 0 || sscanf(line, "%*s %*s %*s %4095s %4095s", root, where) != 2 ||
	    strcmp(root, "/") == 0)
		return false;
	mounts_unescape(where);
	return true;
}

int mounts_find(pid_t pid, void (*each)(void *owner, const char *path), void *owner, struct err *e)
{
	char name[64], line[2 * PATH_MAX + 512], where[PATH_MAX];
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/mountinfo", (int)pid);
	f = fopen(name, "re");
	if (!f)
		return err_set(e, -errno, "cannot read %s: %m", name);
	while (fgets(line, sizeof(line), f))
		if (mounts_parse(line, where))
			each(owner, where);
	fclose(f);
	return 0;
}
