/* SPDX-License-Identifier: MIT */
/* Folders, locks and files in BPF file systems. What is in them is up to who calls. */
#include "steer/pins.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "steer/mounts.h"

#define OWN_FOLDER "/run/mitm-bpf"
#define OWN_MOUNT  OWN_FOLDER "/bpf"
#define SHARED     "mitm-bpf"
#define TRIES_MAX  64

struct pins {
	char mount[PATH_MAX];
	char path[PATH_MAX];
	int lock_fd;
};

/* --- file systems ----------------------------------------------------------------------------------------------- */

/*
 * A folder of a BPF file system that nobody but us can change. Such a file system may be everybody's to write, as /tmp
 * is, and what has our name there is whoever's: it may lead anywhere. The descriptor, or -1.
 */
static int open_own(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstatfs(fd, &fs) == 0 && fs.f_type == BPF_FS_MAGIC && fstat(fd, &st) == 0 && st.st_uid == geteuid() &&
	    !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return fd;
	close(fd);
	return -1;
}

static bool is_own(const char *path)
{
	int fd = open_own(path);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* What is ours there stays ours: its owner, and whoever may write where nothing is sticky, could exchange it. */
static bool is_safe(const char *mount)
{
	char shared[PATH_MAX + 16];
	struct statfs fs;
	struct stat st;

	if (statfs(mount, &fs) < 0 || fs.f_type != BPF_FS_MAGIC || stat(mount, &st) < 0 ||
	    (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    ((st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX)))
		return false;
	snprintf(shared, sizeof(shared), "%s/" SHARED, mount);
	return lstat(shared, &st) < 0 || is_own(shared);
}

/* Calls each with every mount point of a BPF file system that is safe, until it returns false. */
static void each_mount(bool (*each)(void *owner, const char *path), void *owner)
{
	char line[PATH_MAX + 512], where[PATH_MAX], type[64];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool more = f;

	while (more && fgets(line, sizeof(line), f)) {
		const char *dash = strstr(line, " - ");

		if (!dash || sscanf(dash, " - %63s", type) != 1 || strcmp(type, "bpf") != 0 ||
		    sscanf(line, "%*s %*s %*s %*s %4095s", where) != 1)
			continue;
		mounts_unescape(where);
		more = !is_safe(where) || each(owner, where);          /* another mount may be over it */
	}
	if (f)
		fclose(f);
}

static bool keep_first(void *owner, const char *path)
{
	snprintf(owner, PATH_MAX, "%s", path);
	return false;
}

static int find_mount(char at[PATH_MAX], struct err *e)
{
	at[0] = 0;
	if (is_safe("/sys/fs/bpf")) {
		snprintf(at, PATH_MAX, "/sys/fs/bpf");
		return 0;
	}
	each_mount(keep_first, at);
	if (at[0])
		return 0;
	if ((mkdir(OWN_FOLDER, 0700) < 0 && errno != EEXIST) || (mkdir(OWN_MOUNT, 0700) < 0 && errno != EEXIST))
		return err_set(e, -errno, "cannot make %s for a BPF file system: %m", OWN_MOUNT);
	if (mount("mitm-bpf", OWN_MOUNT, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return err_set(e, -errno, "--fail-closed needs a BPF file system, and none can be mounted on %s: %m; "
			       "as root: mount -t bpf none /sys/fs/bpf", OWN_MOUNT);
	snprintf(at, PATH_MAX, OWN_MOUNT);
	return 0;
}

/*
 * What is ours goes when it is empty; while somebody has a folder open there, it is busy. The mount point stays: to
 * remove it would also undo what others, in other mount namespaces, mounted on it.
 */
static void drop_mount(const char *at)
{
	char shared[PATH_MAX + 16];

	snprintf(shared, sizeof(shared), "%s/" SHARED, at);
	if (rmdir(shared) == 0 && strcmp(at, OWN_MOUNT) == 0)
		umount2(at, 0);
}

/* --- folders ---------------------------------------------------------------------------------------------------- */

/* The lock on a folder that is still there, or -1. What somebody else made looks as if its owner lived. */
static int lock_folder(const char *path)
{
	int fd = open_own(path);
	struct stat held, there;

	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &held) == 0 && lstat(path, &there) == 0 &&
	    held.st_ino == there.st_ino && held.st_dev == there.st_dev)
		return fd;
	close(fd);
	return -1;
}

/* The kernel lets go of what was unlinked some milliseconds later; detaching works at once, where it can be done. */
static void detach(const char *path)
{
	struct bpf_link *link = bpf_link__open(path);

	if (link)
		(void)!bpf_link__detach(link);
	bpf_link__destroy(link);
}

static void empty_folder(const char *path, bool detaching)
{
	DIR *dir = opendir(path);
	char file[PATH_MAX + 300];
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (detaching)
			detach(file);
		unlink(file);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

/* Somebody may take away what is empty between two steps: then all of them are done again. */
static bool make_folder(struct pins *p, uint64_t cgroup_id, int attempt)
{
	char shared[PATH_MAX + 16], path[PATH_MAX + 80];

	snprintf(shared, sizeof(shared), "%s/" SHARED, p->mount);
	if ((mkdir(shared, 0700) < 0 && errno != EEXIST) || !is_own(shared))
		return false;
	snprintf(path, sizeof(path), "%s/%llu-%d", shared, (unsigned long long)cgroup_id, (int)getpid());
	if (attempt)             /* a leftover of somebody who had our number */
		snprintf(path + strlen(path), 16, ".%d", attempt);
	if (strlen(path) >= sizeof(p->path) || mkdir(path, 0700) < 0)
		return false;
	memcpy(p->path, path, strlen(path) + 1);
	p->lock_fd = lock_folder(p->path);
	return p->lock_fd >= 0;
}

int pins_open(struct pins **out, uint64_t cgroup_id, struct err *e)
{
	struct pins *p = mem_zalloc(sizeof(*p));
	int ret = 0;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->lock_fd = -1;
	for (int i = 0; i < TRIES_MAX && ret == 0 && p->lock_fd < 0; i++) {
		ret = find_mount(p->mount, e);
		if (ret == 0 && !make_folder(p, cgroup_id, i) && i + 1 == TRIES_MAX)
			ret = err_set(e, -errno, "cannot make a folder in the BPF file system on %s: %m", p->mount);
	}
	if (ret < 0)
		pins_free(p);
	else
		*out = p;
	return ret;
}

void pins_free(struct pins *p)
{
	if (!p)
		return;
	if (p->lock_fd >= 0)
		close(p->lock_fd);
	mem_free(p);
}

/* --- links ------------------------------------------------------------------------------------------------------ */

int pins_add(struct pins *p, const char *name, const struct bpf_link *link, struct err *e)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", p->path, name);
	if (bpf_obj_pin(bpf_link__fd(link), path) < 0 && errno != EEXIST)
		return err_set(e, -errno, "cannot keep a program attached by %s: %m", path);
	return 0;
}

void pins_remove(struct pins *p, const char *name)
{
	char path[PATH_MAX + 32];

	if (!p)
		return;
	snprintf(path, sizeof(path), "%s/%s", p->path, name);
	unlink(path);
}

void pins_remove_all(struct pins *p)
{
	if (!p)
		return;
	empty_folder(p->path, true);
	if (p->lock_fd >= 0)
		close(p->lock_fd);
	p->lock_fd = -1;
	drop_mount(p->mount);
}

/* --- everybody's ------------------------------------------------------------------------------------------------ */

struct listing {
	void (*see)(void *owner, const struct pins_seen *seen);
	void *owner;
	uint32_t count;
};

static bool list_mount(void *owner, const char *at)
{
	struct listing *listing = owner;
	char path[PATH_MAX + 300];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/" SHARED, at);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) != NULL) {
		unsigned long long cgroup_id;
		struct pins_seen seen;
		int pid;

		if (sscanf(entry->d_name, "%llu-%d", &cgroup_id, &pid) != 2)
			continue;
		snprintf(path, sizeof(path), "%s/" SHARED "/%s", at, entry->d_name);
		seen = (struct pins_seen){ .path = path, .cgroup_id = cgroup_id, .pid = pid };
		seen.lock_fd = lock_folder(path);
		listing->count++;
		listing->see(listing->owner, &seen);
		if (seen.lock_fd >= 0)
			close(seen.lock_fd);
	}
	if (dir)
		closedir(dir);
	drop_mount(at);
	return true;
}

uint32_t pins_list(void (*see)(void *owner, const struct pins_seen *seen), void *owner)
{
	struct listing listing = { .see = see, .owner = owner };

	each_mount(list_mount, &listing);
	return listing.count;
}

struct bpf_link *pins_find(const struct pins_seen *seen, const char *name)
{
	char path[PATH_MAX + 300];

	snprintf(path, sizeof(path), "%s/%s", seen->path, name);
	return access(path, F_OK) == 0 ? bpf_link__open(path) : NULL;
}

void pins_release(const struct pins_seen *seen)
{
	empty_folder(seen->path, true);
}

void pins_drop(const struct pins_seen *seen)
{
	empty_folder(seen->path, false);
}
