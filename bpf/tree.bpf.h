/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Children follow their parent. mb_tree holds a process only if it has something to pass on: the entry is written when
 * a rule names the process, copied at fork, kept over exec (unless a rule names the new program), dropped at exit.
 */
#pragma once

#include "netns.bpf.h"
#include "policy.bpf.h"

#include <bpf/bpf_tracing.h>

SEC("tp_btf/sched_process_fork")
int BPF_PROG(mb_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u32 child_tgid = child->tgid, gen, by_thread;
	struct steer_tree tree = { .flags = STEER_TREE_PROXY };
	struct steer_policy *policy;
	__u64 ranks;

	if (child->pid != child->tgid)
		return 0;
	if (tgid == self_tgid || is_proxys(tgid)) {
		tree_remember(child_tgid, &tree);
		return 0;
	}
	policy = policy_now(&gen);
	if (!policy) {
		tree.flags = 0;
		tree_remember(child_tgid, &tree);
		return 0;
	}
	ranks = process_ranks(policy, task, tgid, gen);  /* writes mb_tree when a rule names the parent */
	tree = tree_of(tgid, gen);
	by_thread = thread_rank(task, gen);
	if (ranks != RANKS_UNKNOWN && by_thread > RANKS_NAMED(ranks))
		tree.rank = STEER_RANK_INCLUDES(by_thread) ? by_thread : 0;
	tree_remember(child_tgid, &tree);
	foresee(child);
	return 0;
}

/* Matches each new program at once: should it replace itself by another, its own name will not be there to be asked. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(mb_exec, struct task_struct *task)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, gen;
	struct steer_policy *policy = policy_now(&gen);

	if (!policy || tgid == self_tgid || is_proxys(tgid))
		return 0;
	process_ranks(policy, bpf_get_current_task_btf(), tgid, gen);
	foresee(bpf_get_current_task_btf());
	return 0;
}

/* Fires for each thread, and the leader may be gone before the others. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(mb_exit, struct task_struct *task)
{
	__u32 tgid = task->tgid;

	if (task->signal->live.counter == 0)
		bpf_map_delete_elem(&mb_tree, &tgid);
	/* The proxy dies: nothing is sent to its listeners any more, and who has its number next is not the proxy. */
	if (task->signal->live.counter == 0 && tgid == self_tgid) {
		self_tgid = 0;
		lease_until_ns = 0;
	}
	return 0;
}
