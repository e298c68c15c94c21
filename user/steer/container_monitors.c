/* SPDX-License-Identifier: MIT */
/* One pass over /proc that opens a command line only where the name is right. */
#include "steer/container_monitors.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

#define COMMAND_BYTES 32768          /* what is looked for comes first; the rest tells it what to run at the end */

/* Cut to size - 1 bytes, and ended; 0: not there, or empty. */
static size_t read_file(int proc, const char *pid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "%.20s/%s", pid, name);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	len = read(fd, text, size - 1);
	close(fd);
	text[len > 0 ? len : 0] = 0;
	return len > 0 ? (size_t)len : 0;
}

/* conmon(8): -c, --cid and -n, --name; the first ones, since the words of --exit-command-arg may be anything. */
bool container_monitor_parse(struct container_monitor *m, const char *text, size_t len)
{
	const char *end = text + len;

	*m = (struct container_monitor){ 0 };
	for (const char *word = text; word < end && !(m->id && m->name);) {
		const char *value = word + strlen(word) + 1;

		if (value >= end || strncmp(word, "--exit-command", 14) == 0)
			break;
		if (!m->id && (strcmp(word, "-c") == 0 || strcmp(word, "--cid") == 0))
			m->id = value;
		else if (!m->name && (strcmp(word, "-n") == 0 || strcmp(word, "--name") == 0))
			m->name = value;
		else {
			word = value;
			continue;
		}
		word = value + strlen(value) + 1;
	}
	return m->id && m->name && *m->id && *m->name;
}

/*
 * A name is anybody's choice, also of a program that runs with root's rights for whoever calls it (through a link that
 * is called so, as sudo or su): the file that runs is not.
 */
static bool runs(int proc, const char *pid, struct str program)
{
	char path[64], exe[PATH_MAX], *name;
	ssize_t len;

	snprintf(path, sizeof(path), "%.20s/exe", pid);
	len = readlinkat(proc, path, exe, sizeof(exe) - 1);
	if (len <= 0)
		return false;
	exe[len] = 0;
	name = strrchr(exe, '/');
	return name && str_starts(str_of(name + 1), program);
}

/* The file's owner is root's when a process is not dumpable: only the text says whose it is. */
static bool parse_owner(struct container_monitor *m, const char *status)
{
	const char *line = strstr(status, "\nUid:");

	return line && sscanf(line, "\nUid: %u", &m->uid) == 1;
}

struct reader {
	int proc;                    /* an open folder, whose path is path */
	char path[PATH_MAX], folder[PATH_MAX + 32];
	char *command;
};

/* Is this process one? What it is shown as is valid until the next one is read. Names are as the kernel cuts them. */
static bool read_monitor(struct reader *r, const char *pid, struct container_monitor *m)
{
	char comm[32], status[4096];

	*m = (struct container_monitor){ 0 };
	if (!isdigit((unsigned char)*pid) || !read_file(r->proc, pid, "comm", comm, sizeof(comm)))
		return false;
	if (strcmp(comm, "containerd-shim\n") == 0 && runs(r->proc, pid, STR("containerd-shim"))) {
		snprintf(r->folder, sizeof(r->folder), "%s/%.20s/cwd/..", r->path, pid);
		m->folder = r->folder;
	} else if (strcmp(comm, "conmon\n") != 0 || !runs(r->proc, pid, STR("conmon")) ||
		   !container_monitor_parse(m, r->command,
					    read_file(r->proc, pid, "cmdline", r->command, COMMAND_BYTES))) {
		return false;
	}
	return read_file(r->proc, pid, "status", status, sizeof(status)) && parse_owner(m, status);
}

int container_monitors_read(const char *root, int (*each)(void *owner, const struct container_monitor *monitor),
			    void *owner)
{
	struct reader r = { .command = mem_alloc(COMMAND_BYTES) };
	struct container_monitor m;
	struct dirent *entry;
	int ret = 0;
	DIR *proc;

	if (!r.command)
		return -ENOMEM;
	snprintf(r.path, sizeof(r.path), "%s/proc", root);
	proc = opendir(r.path);
	while (proc && ret == 0 && (entry = readdir(proc))) {
		r.proc = dirfd(proc);
		if (read_monitor(&r, entry->d_name, &m))
			ret = each(owner, &m);
	}
	if (proc)
		closedir(proc);
	mem_free(r.command);
	return ret;
}
