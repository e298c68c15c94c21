/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Is this process to be steered? Decided from the process itself: the names of its leader and of the calling thread,
 * the path of its executable, its pid, its user, cgroup and network namespace, and what it has from its ancestors.
 * user/steer/intercept_spec.c says the same in plain C, and the tests compare.
 *
 * Names and pids go down to children, until one is named itself. User, cgroup, namespace and tree are facts that each
 * process has of its own: they neither replace what a name says nor are replaced; of the two, the later action decides.
 */
#pragma once

#include "maps.bpf.h"
#include "path.bpf.h"

#define PATH_PIECE 32
#define COMM_BYTE(first8, last8, i) ((i) < 8 ? (first8) >> 8 * (i) & 0xff : (last8) >> 8 * ((i) - 8) & 0xff)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "COMM_BYTE takes the first character from the lowest byte"
#endif

/* Without a branch: the verifier would follow both sides of each of 512 steps. */
static __always_inline __u64 max_rank(__u64 a, __u64 b)
{
	__s64 more = (__s64)(b - a);

	return a + (more & ~(more >> 63));
}

/* The greatest rank of the names that a comm contains, or that were cut to it. */
__noinline __u32 mb_comm_rank(__u32 bank, __u64 first8, __u64 last8)
{
	const struct steer_policy *policy = bpf_map_lookup_elem(&mb_policy, &bank);
	__u64 state = 0, rank = 0;

	if (!policy)
		return 0;
	for (int i = 0; i < STEER_COMM_SIZE - 1; i++) {
		__u64 byte = COMM_BYTE(first8, last8, i);

		if (!byte)
			return rank;
		state = policy->next[state][byte];
		BOUND(state, STEER_STATES - 1);
		rank = max_rank(rank, policy->accept[state]);
	}
	return max_rank(rank, policy->cut[state]);
}

/* The rank of the action about one fact; 0: there is none. */
static __always_inline __u32 fact_rank(const struct steer_fact_key *key)
{
	__u32 *rank = bpf_map_lookup_elem(&mb_fact, key);

	return rank ? *rank : 0;
}

/* With zeros from the first zero byte on: not every kernel clears what is behind a name. */
static __always_inline __u64 cut_at_zero(__u64 bytes, bool *cut)
{
	__u64 zeros = (bytes - 0x0101010101010101) & ~bytes & 0x8080808080808080;

	*cut = zeros != 0;
	return zeros ? bytes & (((zeros & -zeros) >> 7) - 1) : bytes;
}

/* The rank of a whole comm. */
__noinline __u32 mb_comm_fact(__u32 gen, __u64 first8, __u64 last8)
{
	struct steer_fact_key key = { .gen = gen, .kind = STEER_FACT_COMM };
	struct steer_policy *policy;
	__u32 bank = gen & 1;
	bool cut;

	policy = bpf_map_lookup_elem(&mb_policy, &bank);
	if (!policy || !policy->facts[STEER_FACT_COMM])
		return 0;
	first8 = cut_at_zero(first8, &cut);
	last8 = cut ? 0 : cut_at_zero(last8, &cut);
	__builtin_memcpy(key.id, &first8, sizeof(first8));
	__builtin_memcpy(key.id + 8, &last8, sizeof(last8));
	return fact_rank(&key);
}

static __always_inline __u32 number_rank(const struct steer_policy *policy, __u32 gen, __u32 kind, __u64 number)
{
	struct steer_fact_key key = { .gen = gen, .kind = kind };

	if (!policy->facts[kind])
		return 0;
	__builtin_memcpy(key.id, &number, sizeof(number));
	return fact_rank(&key);
}

/* Of the calling thread's cgroup and all that hold it, so that groups made later count with them. */
__noinline __u32 mb_cgroup_rank(__u32 gen)
{
	struct steer_policy *policy;
	__u32 bank = gen & 1;
	__u64 rank = 0;

	policy = bpf_map_lookup_elem(&mb_policy, &bank);
	if (!policy || !policy->facts[STEER_FACT_CGROUP])
		return 0;
	for (int level = 0; level < STEER_CGROUP_LEVELS; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);

		if (!id)
			break;
		rank = max_rank(rank, number_rank(policy, gen, STEER_FACT_CGROUP, id));
	}
	return rank;
}

/* Reads one piece of the path in scratch space; so_far and the result: the state above 32 bits, the rank below. */
__noinline __u64 mb_path_piece(__u32 bank, __u32 slot, __u32 at, __u64 so_far)
{
	const struct steer_scratch *scratch = bpf_map_lookup_elem(&mb_scratch, &slot);
	const struct steer_policy *policy = bpf_map_lookup_elem(&mb_policy, &bank);
	__u64 state = so_far >> 32, rank = so_far & 0xffffffff;

	if (!scratch || !policy)
		return so_far;
	BOUND(state, STEER_STATES - 1);
	for (int i = 0; i < PATH_PIECE; i++) {
		__u64 where = at + i, byte;

		if (where >= SCRATCH_PATH)
			break;
		BOUND(where, SCRATCH_PATH - 1);
		byte = (__u8)scratch->path[where];
		BOUND(byte, 255);
		state = policy->next[state][byte];
		BOUND(state, STEER_STATES - 1);
		rank = max_rank(rank, policy->accept[state]);
	}
	return state << 32 | rank;
}

static __always_inline __u32 path_rank(__u32 bank, __u32 slot, __u32 at)
{
	__u64 so_far = 0;

	for (int i = 0; i < SCRATCH_PATH / PATH_PIECE && at < SCRATCH_PATH; i++, at += PATH_PIECE)
		so_far = mb_path_piece(bank, slot, at, so_far);
	return so_far;
}

/* By helper: for each pointer that is followed directly, the verifier searches all names of the kernel's types. */
static __always_inline struct task_struct *leader_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader);
}

static __always_inline __u64 start_of(struct task_struct *leader)
{
	return BPF_CORE_READ(leader, start_boottime);
}

/* 0 for a thread that is on its way out. */
static __always_inline __u32 netns_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

/* What the children of a process will have from it. */
static __always_inline void tree_remember(__u32 tgid, const struct steer_tree *tree)
{
	if (!tree->flags && !tree->rank && !tree->branch)
		bpf_map_delete_elem(&mb_tree, &tgid);
	else if (bpf_map_update_elem(&mb_tree, &tgid, tree, BPF_ANY))
		count(STEER_TREE_FULL);
}

static __always_inline bool is_proxys(__u32 tgid)
{
	struct steer_tree *tree = bpf_map_lookup_elem(&mb_tree, &tgid);

	return tree && (tree->flags & STEER_TREE_PROXY);
}

/* What a process has, and passes on, under generation gen. */
static __always_inline struct steer_tree tree_of(__u32 tgid, __u32 gen)
{
	struct steer_tree *known = bpf_map_lookup_elem(&mb_tree, &tgid), tree = { .gen = gen };

	if (known && known->gen == gen) {
		tree.rank = known->rank;
		tree.branch = known->branch;
	}
	return tree;
}

/* What an action that names a process, or the tree that begins with it, leaves to its children. */
static __always_inline void tree_update(__u32 tgid, __u32 gen, __u32 named, __u32 pid_rank, __u32 own_tree)
{
	struct steer_tree tree = tree_of(tgid, gen);

	if (!named && !own_tree)
		return;
	if (named)
		tree.rank = STEER_RANK_INCLUDES(named) || named == pid_rank ? named : 0;
	tree.branch = max_rank(tree.branch, own_tree);
	tree_remember(tgid, &tree);
}

/* The number of a slot that is now ours, or SCRATCH_SLOTS. */
static __always_inline __u32 scratch_take(void)
{
	__u32 first = bpf_get_smp_processor_id() * SCRATCH_TRIES;

	for (__u32 i = 0; i < SCRATCH_TRIES; i++) {
		__u32 slot = (first + i) % SCRATCH_SLOTS;
		struct steer_scratch *scratch = bpf_map_lookup_elem(&mb_scratch, &slot);

		if (scratch && __sync_val_compare_and_swap(&scratch->busy, 0, 1) == 0)
			return slot;
	}
	return SCRATCH_SLOTS;
}

static __always_inline void scratch_put(struct steer_scratch *scratch)
{
	__sync_lock_test_and_set(&scratch->busy, 0);
}

/* Keeps the tail of a path that is too long, as matching does. */
static __always_inline void keep_path(struct steer_scratch *scratch)
{
	__u64 at, len = SCRATCH_PATH - scratch->at;

	if (len > STEER_PATH_SIZE - 1)
		len = STEER_PATH_SIZE - 1;
	at = SCRATCH_PATH - len;
	BOUND(at, 2 * SCRATCH_PATH - 1);
	BOUND(len, STEER_PATH_SIZE - 1);
	scratch->proc.path_len = len;
	bpf_probe_read_kernel(scratch->proc.path, len, (const char *)scratch->path + at);
	scratch->proc.path[len] = 0;
}

/* The rank of the whole path, which keep_path() has put in place. */
static __always_inline __u32 exe_rank(struct steer_scratch *scratch, __u32 gen)
{
	__u64 len = scratch->proc.path_len;
	__u32 *rank;

	BOUND(len, STEER_PATH_SIZE - 1);
	__builtin_memset(&scratch->exe, 0, sizeof(scratch->exe));
	scratch->exe.gen = gen;
	bpf_probe_read_kernel(scratch->exe.path, len, scratch->proc.path);
	rank = bpf_map_lookup_elem(&mb_exe, &scratch->exe);
	return rank ? *rank : 0;
}

/* Two ranks at once: named below, member above. */
#define RANKS(named, member) ((__u64)(member) << 32 | (__u32)(named))
#define RANKS_NAMED(ranks) ((__u32)(ranks))
#define RANKS_MEMBER(ranks) ((__u32)((ranks) >> 32))
#define RANKS_UNKNOWN (~0ull)

/*
 * Matches the current process against generation gen and remembers the result in mb_proc and mb_tree. Returns its
 * ranks without the calling thread's name, or RANKS_UNKNOWN.
 */
__noinline __u64 mb_evaluate(__u32 tgid, __u32 gen)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 bank = gen & 1, slot = scratch_take(), uid = bpf_get_current_uid_gid(), pid_rank, own_tree;
	struct steer_policy *policy = bpf_map_lookup_elem(&mb_policy, &bank);
	struct steer_scratch *scratch = bpf_map_lookup_elem(&mb_scratch, &slot);
	__u64 comm[2] = { 0 }, rank, member;

	if (!policy || !scratch) {
		count(STEER_EVALUATE_BUSY);
		return RANKS_UNKNOWN;
	}
	count(STEER_EVALUATED);
	scratch->proc.start = start_of(leader_of(task));
	scratch->proc.exec_id = task->self_exec_id;
	scratch->proc.gen = gen;
	scratch->proc.uid = uid;
	scratch->proc.cgroup_id = bpf_get_current_cgroup_id();
	scratch->proc.netns = netns_of(task);
	bpf_probe_read_kernel(comm, sizeof(comm), &leader_of(task)->comm);
	__builtin_memcpy(scratch->proc.comm, comm, sizeof(comm));
	path_of_exe(scratch, slot, task);
	keep_path(scratch);
	pid_rank = number_rank(policy, gen, STEER_FACT_PID, tgid);
	rank = max_rank(mb_comm_rank(bank, comm[0], comm[1]), path_rank(bank, slot, scratch->at));
	rank = max_rank(rank, mb_comm_fact(gen, comm[0], comm[1]));
	rank = max_rank(rank, pid_rank);
	if (policy->exes)
		rank = max_rank(rank, exe_rank(scratch, gen));
	own_tree = number_rank(policy, gen, STEER_FACT_TREE, tgid);
	member = max_rank(own_tree, number_rank(policy, gen, STEER_FACT_UID, uid));
	member = max_rank(member, mb_cgroup_rank(gen));
	member = max_rank(member, number_rank(policy, gen, STEER_FACT_NETNS, scratch->proc.netns));
	scratch->proc.rank = rank;
	scratch->proc.member = member;
	bpf_map_update_elem(&mb_proc, &tgid, &scratch->proc, BPF_ANY);
	scratch_put(scratch);
	tree_update(tgid, gen, rank, pid_rank, own_tree);
	return RANKS(rank, member);
}

/* Who changed its user, its cgroup or its network namespace may be somebody else to the policy. */
static __always_inline bool same_member(const struct steer_policy *policy, struct task_struct *task,
					const struct steer_proc *proc)
{
	if (policy->facts[STEER_FACT_NETNS] && proc->netns != netns_of(task))
		return false;
	if (policy->facts[STEER_FACT_UID] && proc->uid != (__u32)bpf_get_current_uid_gid())
		return false;
	return !policy->facts[STEER_FACT_CGROUP] || proc->cgroup_id == bpf_get_current_cgroup_id();
}

/* The ranks of the current process without its thread's name, from mb_proc while they are still true. */
static __always_inline __u64 process_ranks(const struct steer_policy *policy, struct task_struct *task, __u32 tgid,
					   __u32 gen)
{
	struct steer_proc *proc = bpf_map_lookup_elem(&mb_proc, &tgid);
	struct task_struct *leader = leader_of(task);
	__u64 comm[STEER_COMM_SIZE / 8] = { 0 };
	__u64 known[STEER_COMM_SIZE / 8];

	if (proc && proc->gen == gen && proc->exec_id == task->self_exec_id &&
	    proc->start == start_of(leader) && same_member(policy, task, proc)) {
		bpf_probe_read_kernel(comm, sizeof(comm), &leader->comm);
		__builtin_memcpy(known, proc->comm, sizeof(known));
		if (comm[0] == known[0] && comm[1] == known[1])
			return RANKS(proc->rank, proc->member);
	}
	return mb_evaluate(tgid, gen);
}

/* Of the calling thread's own name; the leader's is in process_ranks() already. */
static __always_inline __u32 thread_rank(struct task_struct *task, __u32 gen)
{
	__u64 comm[2] = { 0 };

	if (task->pid == task->tgid)
		return 0;
	bpf_get_current_comm(comm, sizeof(comm));
	return max_rank(mb_comm_rank(gen & 1, comm[0], comm[1]), mb_comm_fact(gen, comm[0], comm[1]));
}

static __always_inline struct steer_policy *policy_now(__u32 *gen)
{
	struct steer_policy *policy;
	__u32 bank;

	*gen = *(volatile __u32 *)&policy_gen;
	bank = *gen & 1;
	policy = bpf_map_lookup_elem(&mb_policy, &bank);
	return policy && policy->actions ? policy : NULL;
}

static __always_inline bool selected(struct task_struct *task, __u32 tgid)
{
	struct steer_policy *policy;
	struct steer_tree tree;
	__u64 ranks, rank;
	__u32 gen;

	policy = policy_now(&gen);
	if (!policy)
		return false;
	ranks = process_ranks(policy, task, tgid, gen);
	if (ranks == RANKS_UNKNOWN)
		return false;
	tree = tree_of(tgid, gen);
	rank = max_rank(RANKS_NAMED(ranks), thread_rank(task, gen));
	if (!rank)
		rank = tree.rank;
	rank = max_rank(rank, max_rank(RANKS_MEMBER(ranks), tree.branch));
	return rank ? STEER_RANK_INCLUDES(rank) : policy->selects_by_default;
}
