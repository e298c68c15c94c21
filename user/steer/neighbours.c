/* SPDX-License-Identifier: MIT */
/* BPF links know their program and cgroup; /proc knows who holds a link. */
#include "steer/neighbours.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "steer/cgroup_list.h"
#include "steer/steer_state.h"

/* --- links ------------------------------------------------------------------------------------------------------ */

static bool link_info(int fd, struct bpf_link_info *info)
{
	uint32_t len = sizeof(*info);

	*info = (struct bpf_link_info){ 0 };
	return bpf_obj_get_info_by_fd(fd, info, &len) == 0;
}

static bool is_ours(uint32_t program_id, const char *name)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(program_id);
	bool is;

	if (fd < 0)
		return false;
	is = bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strcmp(info.name, name) == 0;
	close(fd);
	return is;
}

/* Another's link that decides about connections. */
static bool decides(uint32_t id, uint32_t own_id, const char *name, struct bpf_link_info *info)
{
	int fd = id == own_id ? -1 : bpf_link_get_fd_by_id(id);
	bool does;

	if (fd < 0)
		return false;
	does = link_info(fd, info) && info->type == BPF_LINK_TYPE_CGROUP &&
	       info->cgroup.attach_type == BPF_CGROUP_INET4_CONNECT && is_ours(info->prog_id, name);
	close(fd);
	return does;
}

/* --- groups ----------------------------------------------------------------------------------------------------- */

static const char *path_of(const struct cgroup_list *groups, uint64_t id)
{
	for (uint32_t i = 0; i < groups->count; i++)
		if (groups->entries[i].id == id)
			return groups->entries[i].path;
	return NULL;
}

static bool holds(const char *group, const char *path)
{
	size_t len = strlen(group);

	return strncmp(group, path, len) == 0 && (path[len] == 0 || path[len] == '/');
}

/* False: nothing in one of them is in the other. */
static bool place(struct neighbour *n, const char *ours, const char *theirs)
{
	if (!ours || !theirs)
		return false;
	if (strcmp(ours, theirs) == 0)
		n->place = NEIGHBOUR_SAME;
	else if (holds(theirs, ours))
		n->place = NEIGHBOUR_ABOVE;
	else if (holds(ours, theirs))
		n->place = NEIGHBOUR_BELOW;
	else
		return false;
	snprintf(n->cgroup, sizeof(n->cgroup), "%s", *theirs ? theirs : "/");
	return true;
}

/* --- processes -------------------------------------------------------------------------------------------------- */

static uint32_t link_of(const char *fdinfo)
{
	FILE *f = fopen(fdinfo, "re");
	char text[1024];
	const char *at;
	size_t len;

	if (!f)
		return 0;
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = 0;
	at = strstr(text, "link_id:");
	return at ? (uint32_t)strtoul(at + strlen("link_id:"), NULL, 10) : 0;
}

/* Which of the links a process holds, by their ids. */
static void look_into(const char *pid, struct neighbour *neighbours, const uint32_t *ids, uint32_t count)
{
	char path[320], what[32];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) != NULL) {
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, what, sizeof(what) - 1);
		uint32_t id;

		if (len < 14 || strncmp(what, "anon_inode:bpf", 14) != 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid, entry->d_name);
		id = link_of(path);
		for (uint32_t i = 0; i < count && id; i++)
			if (ids[i] == id && !neighbours[i].pid)
				neighbours[i].pid = atoi(pid);
	}
	if (dir)
		closedir(dir);
}

static void find_processes(struct neighbour *neighbours, const uint32_t *ids, uint32_t count)
{
	DIR *proc = count ? opendir("/proc") : NULL;
	struct dirent *entry;

	while (proc && (entry = readdir(proc)) != NULL)
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			look_into(entry->d_name, neighbours, ids, count);
	if (proc)
		closedir(proc);
}

int neighbours_find(struct steer *s, struct neighbour out[static NEIGHBOURS_MAX], struct err *e)
{
	const char *name = bpf_program__name(s->skel->progs.mb_connect4), *ours;
	uint32_t ids[NEIGHBOURS_MAX], id = 0, count = 0;
	struct cgroup_list groups = { 0 };
	struct bpf_link_info own, info;
	struct stat st;
	int ret;

	if (!s->links[LINK_CONNECT4] || !link_info(bpf_link__fd(s->links[LINK_CONNECT4]), &own) ||
	    fstat(s->cgroup_fd, &st) < 0)
		return err_set(e, -ENOENT, "steering is not attached");
	ret = cgroup_list_read(&groups, e);
	if (ret < 0)
		return ret;
	ours = path_of(&groups, st.st_ino);
	while (count < NEIGHBOURS_MAX && bpf_link_get_next_id(id, &id) == 0) {
		out[count] = (struct neighbour){ 0 };
		if (decides(id, own.id, name, &info) &&
		    place(&out[count], ours, path_of(&groups, info.cgroup.cgroup_id)))
			ids[count++] = id;
	}
	find_processes(out, ids, count);
	cgroup_list_fini(&groups);
	return (int)count;
}
