/* SPDX-License-Identifier: MIT */
/* A namespace is an inode of nsfs: of links in /proc, and of files that such a link is mounted on. */
#include "steer/netns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NAMES "/run/netns"           /* where ip-netns(8) keeps them; /var/run is a link to /run */

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71           /* Linux 5.14 */
#endif

int netns_cookie(uint64_t *cookie, struct err *e)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*cookie);
	int ret = 0;

	if (fd < 0)
		return err_set(e, -errno, "cannot create a socket: %m");
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len) < 0)
		ret = err_set(e, -errno, "the kernel does not tell its network namespace: %m; Linux 5.15 is needed");
	close(fd);
	return ret;
}

static void write_path(char path[64], uint32_t tgid, uint32_t tid)
{
	if (tid)
		snprintf(path, 64, "/proc/%u/task/%u/ns/net", tgid, tid);
	else
		snprintf(path, 64, "/proc/%u/ns/net", tgid);
}

int netns_open(uint32_t tgid, uint32_t tid)
{
	char path[64];
	int fd;

	write_path(path, tgid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

uint32_t netns_inode(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (uint32_t)st.st_ino;
}

uint32_t netns_inode_of(uint32_t tgid, uint32_t tid)
{
	struct stat st;
	char path[64];

	write_path(path, tgid, tid);
	return stat(path, &st) < 0 ? 0 : (uint32_t)st.st_ino;
}

static uint32_t inode_at(const char *path)
{
	struct statfs fs;
	struct stat st;
	int fd = open(path, O_PATH | O_CLOEXEC);
	uint32_t inode = 0;

	if (fd < 0)
		return 0;
	if (fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC && fstat(fd, &st) == 0)
		inode = (uint32_t)st.st_ino;
	close(fd);
	return inode;
}

/* A name before a number, as users are taken. */
uint32_t netns_named(struct str name)
{
	char path[PATH_MAX];
	uint32_t inode = 0;
	uint64_t number;

	if (name.len == 0 || name.len >= sizeof(path) - sizeof(NAMES) - 1)
		return 0;
	if (name.ptr[0] == '/') {
		snprintf(path, sizeof(path), "%.*s", (int)name.len, name.ptr);
		return inode_at(path);
	}
	if (!memchr(name.ptr, '/', name.len)) {
		snprintf(path, sizeof(path), NAMES "/%.*s", (int)name.len, name.ptr);
		inode = inode_at(path);
	}
	if (inode)
		return inode;
	if (str_starts(name, STR("net:")))
		name = (struct str){ name.ptr + 4, name.len - 4 };
	if (name.len > 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']')
		name = (struct str){ name.ptr + 1, name.len - 2 };
	return str_to_u64(name, UINT32_MAX - 1, &number) ? (uint32_t)number : 0;
}

/* True: see wants no more. */
static bool each_name(bool (*see)(void *owner, const char *name, uint32_t inode), void *owner)
{
	DIR *dir = opendir(NAMES);
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)) != NULL) {
		char path[PATH_MAX];
		uint32_t inode;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), NAMES "/%s", entry->d_name);
		inode = inode_at(path);
		found = inode && see(owner, entry->d_name, inode);
	}
	if (dir)
		closedir(dir);
	return found;
}

struct sought {
	uint32_t inode;
	char *name;
	size_t size;
};

static bool is_sought(void *owner, const char *name, uint32_t inode)
{
	struct sought *s = owner;

	if (inode != s->inode)
		return false;
	snprintf(s->name, s->size, "%s", name);
	return true;
}

bool netns_name_of(uint32_t inode, char *name, size_t size)
{
	return each_name(is_sought, &(struct sought){ inode, name, size });
}

static bool write_name(void *owner, const char *name, uint32_t inode __unused)
{
	struct strbuf *out = owner;

	strbuf_addf(out, "%s%s", out->len ? ", " : "", name);
	return false;
}

void netns_write_names(struct strbuf *out)
{
	struct strbuf names = { 0 };

	each_name(write_name, &names);
	strbuf_addf(out, "%s", names.ptr ? names.ptr : "none");
	strbuf_fini(&names);
}
