/* SPDX-License-Identifier: MIT */
/* A container is its cgroup, with what is below: whoever is in there belongs to it, also when `exec` brought him in. */
#include "steer/container_processes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "steer/cgroup.h"
#include "steer/cgroup_list.h"
#include "steer/containers.h"

struct found {
	char id[PATH_MAX];                   /* of the last one */
	uint32_t count;                      /* different ids */
};

/* A container with several names is called for each. */
static void on_container(void *owner, const char *id)
{
	struct found *f = owner;

	if (f->count && strcmp(f->id, id) == 0)
		return;
	snprintf(f->id, sizeof(f->id), "%s", id);
	f->count++;
}

static int find(struct found *f, const struct cgroup_list *cgroups, struct str wanted, struct err *e)
{
	struct container_list list;
	struct strbuf known = { 0 };
	int len = (int)MIN(wanted.len, (size_t)128), ret = containers_read(&list, cgroups, "", e);

	if (ret < 0)
		return ret;
	containers_find(&list, wanted, on_container, f);
	containers_write(&list, &known);
	if (f->count > 1)
		ret = err_set(e, -EEXIST, "%u containers are called \"%.*s\", or have ids that begin so; give more of "
			      "the id", f->count, len, wanted.ptr);
	else if (!f->count)
		ret = err_set(e, -ENOENT, "no container is called \"%.*s\"; known are: %s", len, wanted.ptr,
			      known.ptr ? known.ptr : "none");
	strbuf_fini(&known);
	containers_fini(&list);
	return ret;
}

static int add(struct container_processes *list, pid_t pid)
{
	if (list->count == list->cap) {
		uint32_t cap = list->cap ? list->cap * 2 : 16;
		pid_t *grown = mem_realloc(list->pids, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->pids = grown;
		list->cap = cap;
	}
	list->pids[list->count++] = pid;
	return 0;
}

/* A group that has gone meanwhile, or whose threads are spread over groups below (cgroups(7)), has nobody. */
static int add_group(struct container_processes *list, const char *path)
{
	int folder = cgroup_open(path, NULL), fd = -1, ret = 0, pid;
	FILE *f = NULL;

	if (folder >= 0) {
		fd = openat(folder, "cgroup.procs", O_RDONLY | O_CLOEXEC);
		close(folder);
	}
	if (fd >= 0) {
		f = fdopen(fd, "r");
		if (!f)
			close(fd);
	}
	/* 0: somebody whom our pid namespace has no number for */
	while (f && ret == 0 && fscanf(f, "%d", &pid) == 1)
		if (pid > 0)
			ret = add(list, pid);
	if (f)
		fclose(f);
	return ret;
}

/* In the container's group, or below it. */
static bool is_inside(const char *id, const char *path)
{
	char part[PATH_MAX];

	for (const char *end = strchr(path, '/'); end; end = strchr(end + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(end - path), path);
		if (container_is_cgroup(id, part))
			return true;
	}
	return container_is_cgroup(id, path);
}

static int compare(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

int container_processes_read(struct container_processes *list, struct str wanted, struct err *e)
{
	struct cgroup_list cgroups;
	struct found found = { 0 };
	int ret = cgroup_list_read(&cgroups, e);

	*list = (struct container_processes){ 0 };
	if (ret < 0)
		return ret;
	ret = find(&found, &cgroups, wanted, e);
	for (uint32_t i = 0; i < cgroups.count && ret == 0; i++)
		if (is_inside(found.id, cgroups.entries[i].path) && add_group(list, cgroups.entries[i].path) < 0)
			ret = err_set(e, -ENOMEM, "out of memory");
	cgroup_list_fini(&cgroups);
	if (ret == 0 && !list->count)
		ret = err_set(e, -ESRCH, "the container \"%.*s\" does not run, or not as we can see it; start it first",
			      (int)MIN(wanted.len, (size_t)128), wanted.ptr);
	if (ret == 0) {
		qsort(list->pids, list->count, sizeof(*list->pids), compare);
		list->id = mem_strndup(found.id, strlen(found.id));
		if (!list->id)
			ret = err_set(e, -ENOMEM, "out of memory");
	}
	if (ret < 0)
		container_processes_fini(list);
	return ret;
}

void container_processes_fini(struct container_processes *list)
{
	mem_free(list->id);
	mem_free(list->pids);
	*list = (struct container_processes){ 0 };
}
