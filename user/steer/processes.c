/* SPDX-License-Identifier: MIT */
/* One pass over /proc. */
#include "steer/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* "PID (COMM) STATE PPID ...": the name may hold anything, so the last parenthesis counts (proc(5)). */
static bool parse_stat(struct process *p, char *text)
{
	char *name = strchr(text, '('), *end = strrchr(text, ')');

	if (!name || !end || end < name || sscanf(end + 1, " %*c %u", &p->ppid) != 1)
		return false;
	*end = 0;
	snprintf(p->comm, sizeof(p->comm), "%s", name + 1);
	return true;
}

/* Keeps the tail, as the kernel program does. */
static void keep_exe(struct process *p, const char *path, size_t len)
{
	static const char deleted[] = " (deleted)";
	size_t mark = sizeof(deleted) - 1;

	if (len > mark && memcmp(path + len - mark, deleted, mark) == 0)
		len -= mark;
	if (len >= sizeof(p->exe)) {
		path += len - sizeof(p->exe) + 1;
		len = sizeof(p->exe) - 1;
	}
	memcpy(p->exe, path, len);              /* the rest is zero */
}

static bool read_process(struct process *p, int proc_fd, const char *pid)
{
	char path[64], text[PATH_MAX];
	ssize_t len;
	int fd;

	*p = (struct process){ .pid = (uint32_t)strtoul(pid, NULL, 10) };
	snprintf(path, sizeof(path), "%.20s/stat", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return false;
	text[len] = 0;
	if (!parse_stat(p, text))
		return false;
	snprintf(path, sizeof(path), "%.20s/exe", pid);
	len = readlinkat(proc_fd, path, text, sizeof(text));
	if (len <= 0)
		return true;                    /* a kernel thread, or not ours to see */
	keep_exe(p, text, (size_t)len);
	return true;
}

static int compare(const void *a, const void *b)
{
	const struct process *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static int grow(struct process_list *list)
{
	uint32_t cap = list->cap ? list->cap * 2 : 256;
	struct process *grown = mem_realloc(list->processes, cap * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	list->processes = grown;
	list->cap = cap;
	return 0;
}

int processes_read(struct process_list *list, struct err *e)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int ret = 0;

	*list = (struct process_list){ 0 };
	if (!dir)
		return err_set(e, -errno, "cannot read /proc: %m; children of running processes need it");
	while (ret == 0 && (entry = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (list->count == list->cap)
			ret = grow(list);
		if (ret == 0 && read_process(&list->processes[list->count], dirfd(dir), entry->d_name))
			list->count++;
	}
	closedir(dir);
	if (ret < 0) {
		processes_fini(list);
		return err_set(e, ret, "no memory for the list of processes");
	}
	if (list->count)
		qsort(list->processes, list->count, sizeof(*list->processes), compare);
	return 0;
}

void processes_fini(struct process_list *list)
{
	mem_free(list->processes);
	*list = (struct process_list){ 0 };
}

const struct process *processes_find(const struct process_list *list, uint32_t pid)
{
	struct process key = { .pid = pid };

	return list->count ? bsearch(&key, list->processes, list->count, sizeof(key), compare) : NULL;
}
