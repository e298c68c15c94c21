/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Tells user space of network namespaces that selected processes are in and that have no endpoint yet: ahead of the
 * first connection, when a program starts there or a process is born into it, and at the latest at that connection.
 * Also of new cgroups, which may be those of a container or unit that a spec names, before somebody is in them.
 */
#pragma once

#include "policy.bpf.h"

#include <bpf/bpf_tracing.h>

static __always_inline void ask_endpoint(__u64 netns, __u32 tgid, __u32 tid)
{
	__u64 *last = bpf_map_lookup_elem(&mb_asked, &netns), now = bpf_ktime_get_ns();
	struct steer_event *event;

	if (!steering || (last && now - *last < STEER_ASK_NS))
		return;
	event = bpf_ringbuf_reserve(&mb_ev, sizeof(*event), 0);
	if (!event) {
		count(STEER_EVENT_LOST);
		return;
	}
	event->netns = netns;
	event->tgid = tgid;
	event->tid = tid;
	bpf_map_update_elem(&mb_asked, &netns, &now, BPF_ANY);
	bpf_ringbuf_submit(event, 0);
}

/* The calling process is to be judged; task, itself or its new child, is in the namespace that may lack an endpoint. */
static __always_inline void foresee(struct task_struct *task)
{
	__u64 netns = BPF_CORE_READ(task, nsproxy, net_ns, net_cookie);

	if (!netns || !steering || bpf_map_lookup_elem(&mb_ep, &netns))
		return;
	if (bpf_current_task_under_cgroup(&mb_cgroup, 0) != 1)
		return;
	if (selected(bpf_get_current_task_btf(), bpf_get_current_pid_tgid() >> 32))
		ask_endpoint(netns, BPF_CORE_READ(task, tgid), BPF_CORE_READ(task, pid));
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(mb_mkdir)
{
	struct steer_event *event;

	if (!steering || !groups_matter)
		return 0;
	event = bpf_ringbuf_reserve(&mb_ev, sizeof(*event), 0);
	if (!event)
		return 0;                       /* user space looks once a second anyway */
	event->netns = 0;
	event->tgid = event->tid = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}
