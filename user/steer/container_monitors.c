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

	m->id = m->name = NULL;
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
static bool is_monitor(int proc, const char *pid)
{
	char path[64], exe[PATH_MAX], *name;
	ssize_t len;

	snprintf(path, sizeof(path), "%.20s/exe", pid);
	len = readlinkat(proc, path, exe, sizeof(exe) - 1);
	if (len <= 0)
		return false;
	exe[len] = 0;
	name = strrchr(exe, '/');
	return name && (strcmp(name, "/conmon") == 0 || strcmp(name, "/conmon (deleted)") == 0);
}

/* The file's owner is root's when a process is not dumpable: only the text says whose it is. */
static bool parse_owner(struct container_monitor *m, const char *status)
{
	const char *line = strstr(status, "\nUid:");

	return line && sscanf(line, "\nUid: %u", &m->uid) == 1;
}

int container_monitors_read(const char *root, int (*each)(void *owner, const struct container_monitor *monitor),
			    void *owner)
{
	char path[PATH_MAX], comm[32], status[4096], *command = mem_alloc(COMMAND_BYTES);
	struct dirent *entry;
	int ret = 0;
	DIR *proc;

	if (!command)
		return -ENOMEM;
	snprintf(path, sizeof(path), "%s/proc", root);
	proc = opendir(path);
	while (proc && ret == 0 && (entry = readdir(proc))) {
		struct container_monitor m;
		size_t len;

		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    !read_file(dirfd(proc), entry->d_name, "comm", comm, sizeof(comm)) ||
		    strcmp(comm, "conmon\n") != 0 || !is_monitor(dirfd(proc), entry->d_name))
			continue;
		len = read_file(dirfd(proc), entry->d_name, "cmdline", command, COMMAND_BYTES);
		if (container_monitor_parse(&m, command, len) &&
		    read_file(dirfd(proc), entry->d_name, "status", status, sizeof(status)) && parse_owner(&m, status))
			ret = each(owner, &m);
	}
	if (proc)
		closedir(proc);
	mem_free(command);
	return ret;
}
