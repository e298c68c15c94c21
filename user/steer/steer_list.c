/* SPDX-License-Identifier: MIT */
/* Answers "why do I see it, or not?" from /proc, the compiled policy and the kernel's table of what is inherited. */
#include "steer/processes.h"
#include "steer/steer_list.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "steer/cgroup.h"
#include "steer/cgroup_list.h"
#include "steer/containers.h"
#include "steer/netns.h"
#include "steer/steer_state.h"

#define SHORT_ID 12

struct steer_list {
	const struct intercept_spec *spec;
	const struct automaton *policy;
	struct automaton *own;               /* of a preview */
	struct steer *s;                     /* NULL: a preview */
	struct process_list processes;
	struct cgroup_list cgroups;
	struct container_list containers;
	uint64_t attached;                   /* id of the cgroup that steering is attached to */
	uint32_t home;                       /* inode number of the proxy's network namespace */
	/* of the process at hand */
	uint64_t ids[STEER_CGROUP_LEVELS];
	uint32_t id_count;
	char cgroup[PATH_MAX];
	char container[64];
	uint32_t netns;                      /* 0: not known */
	char netns_name[64];
};

/* The line of /proc/PID/FILE that begins with key, without that and its newline. */
static bool read_line(uint32_t pid, const char *file, const char *key, char *line, int size)
{
	char path[64];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, file);
	f = fopen(path, "re");
	while (f && !found && fgets(line, size, f))
		found = strncmp(line, key, strlen(key)) == 0;
	if (f)
		fclose(f);
	if (found) {
		line[strcspn(line, "\n")] = 0;
		memmove(line, line + strlen(key), strlen(line + strlen(key)) + 1);
	}
	return found;
}

static bool holds(const char *group, const char *path)
{
	size_t len = strlen(group);

	return strncmp(group, path, len) == 0 && (path[len] == '/' || path[len] == 0);
}

/* Ids of the process's group and of all that hold it. */
static void find_groups(struct steer_list *l, uint32_t pid)
{
	l->id_count = 0;
	l->container[0] = 0;
	if (!read_line(pid, "cgroup", "0::", l->cgroup, sizeof(l->cgroup)) || strcmp(l->cgroup, "/") == 0)
		l->cgroup[0] = 0;
	for (uint32_t i = 0; i < l->cgroups.count && l->id_count < STEER_CGROUP_LEVELS; i++)
		if (holds(l->cgroups.entries[i].path, l->cgroup))
			l->ids[l->id_count++] = l->cgroups.entries[i].id;
}

static void find_container(struct steer_list *l)
{
	for (uint32_t i = 0; i < l->containers.count; i++) {
		const struct container *c = &l->containers.containers[i];

		for (char *end = l->cgroup + strlen(l->cgroup); end > l->cgroup; end--) {
			char kept = *end;
			bool is;

			if (kept && kept != '/')
				continue;
			*end = 0;
			is = container_is_cgroup(c->id, l->cgroup);
			*end = kept;
			if (!is)
				continue;
			if (c->name)
				snprintf(l->container, sizeof(l->container), "%s", c->name);
			else
				snprintf(l->container, sizeof(l->container), "%.*s", SHORT_ID, c->id);
			return;
		}
	}
}

/* Neighbours in a list are often in the same one. */
static void find_netns(struct steer_list *l, uint32_t pid)
{
	uint32_t inode = netns_inode_of(pid, 0);

	if (inode == l->netns)
		return;
	l->netns = inode;
	if (!inode || inode == l->home || !netns_name_of(inode, l->netns_name, sizeof(l->netns_name)))
		l->netns_name[0] = 0;
}

static struct steer_tree tree_of(const struct steer_list *l, uint32_t pid)
{
	const struct steer_heritage heritage = { .list = &l->processes, .policy = l->policy };
	struct steer_tree tree;

	if (!l->s)
		return steer_policy_passed_on(&heritage, pid);
	if (bpf_map_lookup_elem(steer_map(l->s->skel->maps.mb_tree), &pid, &tree) < 0 ||
	    (tree.gen != l->s->skel->bss->policy_gen && !(tree.flags & STEER_TREE_PROXY)))
		tree = (struct steer_tree){ 0 };
	return tree;
}

/* As selected() in bpf/policy.bpf.h, for the process's first thread, or one of another name. */
static void judge(struct steer_list *l, struct steer_seen *seen, const char *thread_comm)
{
	const struct process *p = seen->process;
	const struct intercept_process facts = {
		.pid = p->pid, .exe = str_of(p->exe), .comm = str_of(p->comm), .uid = seen->uid, .cgroups = l->ids,
		.cgroup_count = l->id_count, .netns = l->netns, .thread_comm = str_of(thread_comm),
	};
	struct steer_tree tree = tree_of(l, p->pid);
	struct automaton_ranks ranks;
	uint32_t own, above, rank;

	automaton_ranks(&ranks, l->policy, &facts);
	own = MAX(ranks.named, ranks.member);
	own = MAX(own, ranks.tree);
	above = ranks.named ? tree.branch : MAX(tree.branch, tree.rank);
	rank = MAX(own, above);
	seen->verdict = STEER_VERDICT_NOT;
	seen->inherited = above > own;
	seen->by = rank ? &l->spec->actions[(rank >> 1) - 1] : NULL;
	if (rank ? STEER_RANK_INCLUDES(rank) : l->policy->policy.selects_by_default)
		seen->verdict = STEER_VERDICT_SELECTED;
	if (tree.flags & STEER_TREE_PROXY || (l->s && p->pid == l->s->self_tgid))
		seen->verdict = STEER_VERDICT_OWN;
}

/* The first thread that is taken when the others are not, or the other way. */
static void find_odd_thread(struct steer_list *l, struct steer_seen *seen)
{
	char folder[40], file[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(folder, sizeof(folder), "/proc/%u/task", seen->process->pid);
	dir = opendir(folder);
	while (dir && !seen->odd_tid && (entry = readdir(dir))) {
		struct steer_seen thread = *seen;
		char comm[STEER_COMM_SIZE + 1];

		snprintf(file, sizeof(file), "task/%.20s/comm", entry->d_name);
		if (entry->d_name[0] == '.' || !read_line(seen->process->pid, file, "", comm, sizeof(comm)))
			continue;
		judge(l, &thread, comm);
		if (thread.verdict == seen->verdict)
			continue;
		seen->odd_tid = (uint32_t)strtoul(entry->d_name, NULL, 10);
		memcpy(seen->odd_comm, comm, sizeof(seen->odd_comm));
	}
	if (dir)
		closedir(dir);
}

static bool in_attached(const struct steer_list *l)
{
	for (uint32_t i = 0; i < l->id_count; i++)
		if (l->ids[i] == l->attached)
			return true;
	return false;
}

static bool look_at(struct steer_list *l, const struct process *p, bool threads,
		    bool (*see)(void *, const struct steer_seen *), void *owner)
{
	struct steer_seen seen = { .process = p, .uid = INTERCEPT_UNKNOWN };
	char line[128];

	find_groups(l, p->pid);
	find_container(l);
	find_netns(l, p->pid);
	seen.netns = l->netns == l->home ? 0 : l->netns;
	seen.netns_name = l->netns_name;
	seen.cgroup = l->cgroup;
	seen.container = l->container;
	if (read_line(p->pid, "status", "Uid:", line, sizeof(line)) && sscanf(line, "%u", &seen.uid) != 1)
		seen.uid = INTERCEPT_UNKNOWN;
	judge(l, &seen, NULL);
	if (threads && seen.verdict != STEER_VERDICT_OWN)
		find_odd_thread(l, &seen);
	if (seen.verdict != STEER_VERDICT_OWN && !in_attached(l)) {
		seen.verdict = STEER_VERDICT_OUTSIDE;
		seen.by = NULL;
	}
	return see(owner, &seen);
}

/* What is there now: groups, containers, processes. */
static int fill(struct steer_list *l, int cgroup_fd, struct err *e)
{
	struct stat st;
	int ret = 0;

	if (fstat(cgroup_fd, &st) < 0)
		return err_set(e, -errno, "cannot read the cgroup: %m");
	l->attached = st.st_ino;
	l->home = netns_inode_of((uint32_t)getpid(), 0);
	ret = cgroup_list_read(&l->cgroups, e);
	if (ret == 0)
		ret = containers_read(&l->containers, &l->cgroups, "", e);
	return ret == 0 ? processes_read(&l->processes, e) : ret;
}

int steer_list_open(struct steer_list **out, struct steer *s, struct err *e)
{
	struct steer_list *l;
	int ret;

	if (!s->policy || s->private_pids)
		return err_set(e, -EINVAL, "processes can only be listed with a policy, in the host's pid namespace");
	l = mem_zalloc(sizeof(*l));
	if (!l)
		return err_set(e, -ENOMEM, "no memory for the list of processes");
	l->s = s;
	l->spec = s->spec;
	l->policy = s->policy;
	ret = fill(l, s->cgroup_fd, e);
	if (ret < 0)
		steer_list_close(l);
	else
		*out = l;
	return ret;
}

int steer_list_preview(struct steer_list **out, const struct intercept_spec *spec, const char *cgroup, struct err *e)
{
	struct steer_list *l = mem_zalloc(sizeof(*l));
	int ret, fd;

	if (l)
		l->own = mem_alloc(sizeof(*l->own));
	if (!l || !l->own) {
		mem_free(l);
		return err_set(e, -ENOMEM, "no memory for the list of processes");
	}
	l->spec = spec;
	l->policy = l->own;
	fd = ret = cgroup_open(cgroup, e);
	if (ret >= 0)
		ret = automaton_compile(l->own, spec, e);
	if (ret == 0)
		ret = fill(l, fd, e);
	if (fd >= 0)
		close(fd);
	if (ret < 0)
		steer_list_close(l);
	else
		*out = l;
	return ret;
}

void steer_list_close(struct steer_list *l)
{
	if (!l)
		return;
	processes_fini(&l->processes);
	containers_fini(&l->containers);
	cgroup_list_fini(&l->cgroups);
	mem_free(l->own);
	mem_free(l);
}

void steer_list_each(struct steer_list *l, uint32_t after, bool (*see)(void *owner, const struct steer_seen *seen),
		     void *owner)
{
	const struct process_list *list = &l->processes;
	bool more = true;

	for (uint32_t i = 0; i < list->count && more; i++)
		if (list->processes[i].pid > after && list->processes[i].exe[0])
			more = look_at(l, &list->processes[i], false, see, owner);
}

bool steer_list_one(struct steer_list *l, uint32_t pid, bool (*see)(void *owner, const struct steer_seen *seen),
		    void *owner)
{
	const struct process *p = processes_find(&l->processes, pid);

	if (p)
		look_at(l, p, true, see, owner);
	return p;
}

int steer_list(struct steer *s, uint32_t after, bool (*see)(void *owner, const struct steer_seen *seen), void *owner,
	       struct err *e)
{
	struct steer_list *l = NULL;
	int ret = steer_list_open(&l, s, e);

	if (ret == 0)
		steer_list_each(l, after, see, owner);
	steer_list_close(l);
	return ret;
}
