/* SPDX-License-Identifier: MIT */
/* One pass over the directories of the cgroup v2 tree. */
#include "steer/cgroup_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "steer/cgroup.h"

#define DEPTH_MAX 64                 /* descriptors are open all the way down */

static int add(struct cgroup_list *list, uint64_t id, const char *path)
{
	struct cgroup_entry *entry;

	if (list->count == list->cap) {
		uint32_t cap = list->cap ? list->cap * 2 : 64;
		struct cgroup_entry *grown = mem_realloc(list->entries, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->entries = grown;
		list->cap = cap;
	}
	entry = &list->entries[list->count];
	*entry = (struct cgroup_entry){ .id = id, .path = mem_strndup(path, strlen(path)) };
	if (!entry->path)
		return -ENOMEM;
	list->count++;
	return 0;
}

/* Takes over fd. path: a buffer of PATH_MAX bytes with the group's path, which is as before afterwards. */
static int walk(struct cgroup_list *list, int fd, char *path, int depth)
{
	size_t len = strlen(path);
	struct dirent *entry;
	struct stat st;
	int ret = 0;
	DIR *dir;

	dir = fdopendir(fd);
	if (!dir || fstat(fd, &st) < 0) {
		ret = -errno;
		if (!dir)
			close(fd);
		else
			closedir(dir);
		return ret;
	}
	ret = add(list, st.st_ino, path);
	while (ret == 0 && depth < DEPTH_MAX && (entry = readdir(dir)) != NULL) {
		int child;

		if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    len + strlen(entry->d_name) + 2 > PATH_MAX)
			continue;
		child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (child < 0)
			continue;               /* removed meanwhile */
		snprintf(path + len, PATH_MAX - len, "/%s", entry->d_name);
		ret = walk(list, child, path, depth + 1);
		path[len] = 0;
	}
	closedir(dir);
	return ret;
}

int cgroup_list_read(struct cgroup_list *list, struct err *e)
{
	char path[PATH_MAX] = "";
	int fd = cgroup_open(NULL, e), ret;

	*list = (struct cgroup_list){ 0 };
	if (fd < 0)
		return fd;
	ret = walk(list, fd, path, 0);
	if (ret == 0)
		return 0;
	cgroup_list_fini(list);
	return err_set(e, ret, "cannot read the cgroup v2 tree: %s", strerror(-ret));
}

void cgroup_list_fini(struct cgroup_list *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		mem_free(list->entries[i].path);
	mem_free(list->entries);
	*list = (struct cgroup_list){ 0 };
}
