/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Is this process to be steered? Decided from the process itself: the names of its leader and of the calling thread,
 * the path of its executable, its pid, and what it has from its ancestors. user/steer/intercept_spec.c says the same
 * in plain C, and the tests compare.
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

/* What the children of a process will have from it, when a rule names it. */
static __always_inline void tree_remember(__u32 tgid, __u32 gen, __u32 flags)
{
	struct steer_tree tree = { .gen = gen, .flags = flags };

	if (!flags)
		bpf_map_delete_elem(&mb_tree, &tgid);
	else if (bpf_map_update_elem(&mb_tree, &tgid, &tree, BPF_ANY))
		count(STEER_TREE_FULL);
}

static __always_inline __u32 tree_flags(__u32 tgid, __u32 gen)
{
	struct steer_tree *tree = bpf_map_lookup_elem(&mb_tree, &tgid);

	if (!tree)
		return 0;
	return tree->gen == gen ? tree->flags : tree->flags & STEER_TREE_PROXY;
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

/*
 * Matches the current process against generation gen and remembers the result in mb_proc and mb_tree. Returns its rank
 * without the calling thread's name, or -1.
 */
__noinline int mb_evaluate(__u32 tgid, __u32 gen)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct steer_pid_key pid_key = { .gen = gen, .pid = tgid };
	__u32 bank = gen & 1, slot = scratch_take(), *by_pid, pid_rank = 0;
	struct steer_policy *policy = bpf_map_lookup_elem(&mb_policy, &bank);
	struct steer_scratch *scratch = bpf_map_lookup_elem(&mb_scratch, &slot);
	__u64 comm[2] = { 0 }, rank;

	if (!policy || !scratch) {
		count(STEER_EVALUATE_BUSY);
		return -1;
	}
	count(STEER_EVALUATED);
	scratch->proc.start = start_of(leader_of(task));
	scratch->proc.exec_id = task->self_exec_id;
	scratch->proc.gen = gen;
	bpf_probe_read_kernel(comm, sizeof(comm), &leader_of(task)->comm);
	__builtin_memcpy(scratch->proc.comm, comm, sizeof(comm));
	path_of_exe(scratch, slot, task);
	by_pid = policy->pids ? bpf_map_lookup_elem(&mb_pid, &pid_key) : NULL;
	if (by_pid)
		pid_rank = *by_pid;
	rank = max_rank(mb_comm_rank(bank, comm[0], comm[1]), path_rank(bank, slot, scratch->at));
	rank = max_rank(rank, pid_rank);
	scratch->proc.rank = rank;
	keep_path(scratch);
	bpf_map_update_elem(&mb_proc, &tgid, &scratch->proc, BPF_ANY);
	scratch_put(scratch);

	if (STEER_RANK_INCLUDES(rank))
		tree_remember(tgid, gen, STEER_TREE_INCLUDED);
	else if (rank)
		tree_remember(tgid, gen, rank == pid_rank ? STEER_TREE_EXCLUDED : 0);
	return (int)rank;
}

/* The rank of the current process without its thread's name, from mb_proc while that is still true. */
static __always_inline int process_rank(struct task_struct *task, __u32 tgid, __u32 gen)
{
	struct steer_proc *proc = bpf_map_lookup_elem(&mb_proc, &tgid);
	struct task_struct *leader = leader_of(task);
	__u64 comm[STEER_COMM_SIZE / 8] = { 0 };
	__u64 known[STEER_COMM_SIZE / 8];

	if (proc && proc->gen == gen && proc->exec_id == task->self_exec_id &&
	    proc->start == start_of(leader)) {
		bpf_probe_read_kernel(comm, sizeof(comm), &leader->comm);
		__builtin_memcpy(known, proc->comm, sizeof(known));
		if (comm[0] == known[0] && comm[1] == known[1])
			return proc->rank;
	}
	return mb_evaluate(tgid, gen);
}

/* Of the calling thread's own name; the leader's is in process_rank() already. */
static __always_inline int thread_rank(struct task_struct *task, __u32 gen)
{
	__u64 comm[2] = { 0 };

	if (task->pid == task->tgid)
		return 0;
	bpf_get_current_comm(comm, sizeof(comm));
	return mb_comm_rank(gen & 1, comm[0], comm[1]);
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
	int rank, by_thread;
	__u32 gen, flags;

	policy = policy_now(&gen);
	if (!policy)
		return false;
	rank = process_rank(task, tgid, gen);
	if (rank < 0)
		return false;
	by_thread = thread_rank(task, gen);
	if (by_thread > rank)
		rank = by_thread;
	if (rank)
		return STEER_RANK_INCLUDES(rank);
	flags = tree_flags(tgid, gen);
	if (flags & (STEER_TREE_INCLUDED | STEER_TREE_EXCLUDED))
		return flags & STEER_TREE_INCLUDED;
	return policy->selects_by_default;
}
