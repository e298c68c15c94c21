/* SPDX-License-Identifier: MIT */
/* Made in the memory of /run where there is one. */
#include "app/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"

#define PREFIX "mitm-bpf-run."
#define WALK_FDS 16

static const char *parent_folder(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR"), *temporary = getenv("TMPDIR");

	if (geteuid() == 0 && access("/run", W_OK) == 0)
		return "/run";
	if (geteuid() != 0 && runtime && access(runtime, W_OK) == 0)
		return runtime;
	return temporary && access(temporary, W_OK) == 0 ? temporary : "/tmp";
}

static bool names(const char *file, const char *path)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	struct strbuf text = { 0 };
	char part[16384];
	ssize_t got;
	bool found;

	while (fd >= 0 && (got = read(fd, part, sizeof(part))) > 0)
		strbuf_add(&text, part, (size_t)got);
	if (fd >= 0)
		close(fd);
	found = text.len && memmem(text.ptr, text.len, path, strlen(path));
	strbuf_fini(&text);
	return found;
}

/* Some process that we may look at was started with this path in its environment. */
static bool in_use(const char *path)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	bool found = false;

	while (proc && !found && (entry = readdir(proc))) {
		char file[300];

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(file, sizeof(file), "/proc/%s/environ", entry->d_name);
		found = names(file, path);
	}
	if (proc)
		closedir(proc);
	return found;
}

static int remove_one(const char *path, const struct stat *st __unused, int kind __unused, struct FTW *at __unused)
{
	remove(path);
	return 0;
}

static void remove_all(const char *path)
{
	nftw(path, remove_one, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Ours, locked by nobody, and named by nobody. */
static void remove_left(const char *parent, const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", parent, name) >= (int)sizeof(path))
		return;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0 && !in_use(path))
		remove_all(path);
	close(fd);
}

static void remove_all_left(const char *parent)
{
	DIR *dir = opendir(parent);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (str_starts(str_of(entry->d_name), STR(PREFIX)))
			remove_left(parent, entry->d_name);
	if (dir)
		closedir(dir);
}

/* Another run may find the new folder before it is locked; then that one removes it, and we try again. */
static bool try_lock(struct run_folder *f)
{
	struct stat held, named;

	f->lock_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->lock_fd < 0)
		return false;
	if (flock(f->lock_fd, LOCK_EX) == 0 && fstat(f->lock_fd, &held) == 0 && stat(f->path, &named) == 0 &&
	    held.st_ino == named.st_ino)
		return true;
	close(f->lock_fd);
	return false;
}

int run_folder_make(struct run_folder *f, struct err *e)
{
	const char *parent = parent_folder();

	*f = (struct run_folder){ .lock_fd = -1 };
	remove_all_left(parent);
	for (int i = 0; i < 10; i++) {
		if (snprintf(f->path, sizeof(f->path), "%s/" PREFIX "XXXXXX", parent) >= (int)sizeof(f->path))
			return err_set(e, -ENAMETOOLONG, "the name of the folder %s is too long", parent);
		if (!mkdtemp(f->path))
			return err_set(e, -errno, "cannot make a folder in %s: %m", parent);
		if (!try_lock(f))
			continue;
		if (geteuid() == 0 && fchmod(f->lock_fd, 0755) < 0)
			return err_set(e, -errno, "cannot open %s to the command: %m", f->path);
		return 0;
	}
	return err_set(e, -EAGAIN, "cannot lock a folder in %s", parent);
}

void run_folder_remove(struct run_folder *f)
{
	if (f->lock_fd < 0)
		return;
	if (!in_use(f->path))
		remove_all(f->path);
	close(f->lock_fd);
	f->lock_fd = -1;
}
