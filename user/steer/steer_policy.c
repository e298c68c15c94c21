/* SPDX-License-Identifier: MIT */
/*
 * Who is steered: writes a spec into the bank of kernel policy that is not in use, switches, and then gives the
 * children of processes that are older than the policy what the fork program would have given them.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "steer/processes.h"
#include "steer/steer_state.h"

#define WALKS_MAX 4

/* Entries of other generations are dead; LRU and exit would get rid of them late or never. */
static void drop_old(int map, size_t key_size, bool (*is_old)(int map, const void *key, uint32_t gen), uint32_t gen)
{
	char key[64], next[64];
	bool more = bpf_map_get_next_key(map, NULL, next) == 0;

	BUG_ON(key_size > sizeof(key));
	while (more) {
		memcpy(key, next, key_size);
		more = bpf_map_get_next_key(map, key, next) == 0;
		if (is_old(map, key, gen))
			bpf_map_delete_elem(map, key);
	}
}

static bool old_pid(int map, const void *key, uint32_t gen)
{
	(void)map;
	return ((const struct steer_pid_key *)key)->gen != gen;
}

static bool old_tree(int map, const void *key, uint32_t gen)
{
	struct steer_tree tree;

	return bpf_map_lookup_elem(map, key, &tree) == 0 && tree.gen != gen && !(tree.flags & STEER_TREE_PROXY);
}

/* What a process passes on, by the rules of bpf/policy.bpf.h; depth bounds a parent chain that changes under us. */
static uint32_t flags_of(const struct steer *s, const struct process_list *list, uint32_t pid, unsigned int depth)
{
	const struct process *p = processes_find(list, pid);
	struct intercept_process seen;
	uint32_t rank;

	if (!p || depth > 64)
		return 0;
	if (pid == s->self_tgid)
		return STEER_TREE_PROXY;
	seen = (struct intercept_process){ .pid = pid, .exe = str_of(p->exe), .comm = str_of(p->comm) };
	rank = s->policy ? automaton_rank(s->policy, &seen) : 0;
	if (STEER_RANK_INCLUDES(rank))
		return STEER_TREE_INCLUDED;
	if (rank) {
		seen.exe = seen.comm = (struct str){ 0 };
		return automaton_rank(s->policy, &seen) == rank ? STEER_TREE_EXCLUDED : 0;
	}
	return flags_of(s, list, p->ppid, depth + 1);
}

/* Returns how many entries were new. */
static int walk_once(struct steer *s, struct err *e)
{
	int map = steer_map(s->skel->maps.mb_tree), added = 0, ret;
	struct process_list list;

	ret = processes_read(&list, e);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < list.count; i++) {
		uint32_t pid = list.processes[i].pid;
		struct steer_tree tree, want = { .gen = s->skel->bss->policy_gen };

		if (pid == s->self_tgid)
			continue;
		want.flags = flags_of(s, &list, pid, 0);
		if (!want.flags)
			continue;
		if (bpf_map_lookup_elem(map, &pid, &tree) == 0 &&
		    (tree.gen == want.gen || (tree.flags & STEER_TREE_PROXY)))
			continue;               /* the programs were here already, and know better */
		if (bpf_map_update_elem(map, &pid, &want, BPF_ANY) == 0)
			added++;
	}
	processes_fini(&list);
	return added;
}

int steer_policy_walk(struct steer *s, struct err *e)
{
	int ret = 1;

	if (s->private_pids)
		return 0;
	/* Again, while somebody was born of a process whose entry was not written yet. */
	for (int i = 0; i < WALKS_MAX && ret > 0; i++)
		ret = walk_once(s, e);
	return MIN(ret, 0);
}

static int write_policy(struct steer *s, const struct automaton *policy, uint32_t gen, struct err *e)
{
	uint32_t bank = gen & 1;

	if (bpf_map_update_elem(steer_map(s->skel->maps.mb_policy), &bank, &policy->policy, BPF_ANY) < 0)
		return err_set(e, -errno, "cannot write the intercept policy to the kernel: %m");
	for (uint32_t i = 0; i < policy->pid_count; i++) {
		struct steer_pid_key key = { .gen = gen, .pid = policy->pids[i].pid };

		if (bpf_map_update_elem(steer_map(s->skel->maps.mb_pid), &key, &policy->pids[i].rank, BPF_ANY) < 0)
			return err_set(e, -errno, "cannot write pid %u of the intercept policy to the kernel: %m",
				       key.pid);
	}
	return 0;
}

int steer_set_spec(struct steer *s, const struct intercept_spec *spec, struct err *e)
{
	struct automaton *policy = mem_alloc(sizeof(*policy));
	uint32_t gen = s->skel->bss->policy_gen + 1;
	int ret;

	if (!policy)
		return err_set(e, -ENOMEM, "no memory for the intercept policy");
	ret = automaton_compile(policy, spec, e);
	if (ret == 0 && policy->pid_count && s->private_pids)
		ret = err_set(e, -EINVAL, "pids cannot be intercepted from a private pid namespace; run in the host's "
			      "(hostPID, --pid=host) or name programs");
	if (ret == 0)
		ret = write_policy(s, policy, gen, e);
	if (ret < 0) {
		drop_old(steer_map(s->skel->maps.mb_pid), sizeof(struct steer_pid_key), old_pid, gen - 1);
		mem_free(policy);
		return ret;
	}
	mem_free(s->policy);
	s->policy = policy;
	__atomic_store_n(&s->skel->bss->policy_gen, gen, __ATOMIC_RELEASE);
	drop_old(steer_map(s->skel->maps.mb_pid), sizeof(struct steer_pid_key), old_pid, gen);
	drop_old(steer_map(s->skel->maps.mb_tree), sizeof(uint32_t), old_tree, gen);
	if (s->following && steer_policy_walk(s, e) < 0)
		log_line(LOG_WARN, "steer", "running children of selected processes are not followed: %s",
			 e ? e->text : "/proc cannot be read");
	return 0;
}

static bool descends(const struct process_list *list, uint32_t pid, uint32_t ancestor)
{
	for (int depth = 0; depth < 64; depth++) {
		const struct process *p = processes_find(list, pid);

		if (pid == ancestor)
			return true;
		if (!p)
			return false;
		pid = p->ppid;
	}
	return false;
}

int steer_exclude_tree(struct steer *s, pid_t pid, struct err *e)
{
	struct steer_tree proxy = { .flags = STEER_TREE_PROXY };
	int map = steer_map(s->skel->maps.mb_tree), ret;
	uint32_t root = (uint32_t)pid;
	struct process_list list;

	if (s->private_pids)
		return err_set(e, -EINVAL, "process %d cannot be excluded from a private pid namespace; run in the "
			       "host's", pid);
	if (bpf_map_update_elem(map, &root, &proxy, BPF_ANY) < 0)
		return err_set(e, -errno, "cannot exclude process %d: %m", pid);
	ret = processes_read(&list, e);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < list.count; i++)
		if (descends(&list, list.processes[i].pid, root))
			bpf_map_update_elem(map, &list.processes[i].pid, &proxy, BPF_ANY);
	processes_fini(&list);
	return 0;
}
