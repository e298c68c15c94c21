/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * No broken application: which destinations are left alone, whether the proxy can take connections now, and what
 * becomes of those that it cannot take.
 */
#pragma once

#include "policy.bpf.h"

#include <bpf/bpf_endian.h>

#define GUARD_ECONNREFUSED 111

/*
 * With steer_loopback, what another mitm-bpf has taken looks like any connection to loopback. Listeners for such
 * connections have our mark, whoever's they are.
 */
static __always_inline bool guard_is_taken(struct bpf_sock_addr *ctx, const struct steer_orig *orig)
{
	struct bpf_sock_tuple tuple = { 0 };
	struct bpf_sock *sk;
	__u32 size = sizeof(tuple.ipv4);
	bool taken;

	if (orig->family == 2) {
		__builtin_memcpy(&tuple.ipv4.daddr, orig->dst, sizeof(tuple.ipv4.daddr));
		tuple.ipv4.dport = orig->port;
	} else {
		__builtin_memcpy(tuple.ipv6.daddr, orig->dst, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.dport = orig->port;
		size = sizeof(tuple.ipv6);
	}
	sk = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	taken = sk->mark == steer_own_mark;
	bpf_sk_release(sk);
	return taken;
}

/* By mb_bypass: for this port, or for any. */
static __always_inline bool guard_bypassed(const struct steer_orig *orig)
{
	struct steer_bypass_key key = { .family = orig->family, .port = orig->port };

	if (!bypass_count)
		return false;
	key.prefix_len = STEER_BYPASS_PREFIX(orig->family == 2 ? 32 : 128);
	__builtin_memcpy(key.ip, orig->dst, sizeof(key.ip));
	if (bpf_map_lookup_elem(&mb_bypass, &key))
		return true;
	key.port = 0;
	return bpf_map_lookup_elem(&mb_bypass, &key);
}

static __always_inline bool guard_spared(const struct steer_orig *orig, struct task_struct *task)
{
	struct steer_spared_key key = { .tgid = orig->tgid, .family = orig->family, .port = orig->port };
	struct steer_spared *spared;

	if (!spared_count)
		return false;
	__builtin_memcpy(key.ip, orig->dst, sizeof(key.ip));
	spared = bpf_map_lookup_elem(&mb_spared, &key);
	return spared && spared->until_ns > bpf_ktime_get_ns() && spared->start == start_of(leader_of(task));
}

/* Asked of a connection of a selected process; STEER_STEERED: nothing stands against taking it. */
static __always_inline __u32 guard_decide(const struct steer_orig *orig, struct task_struct *task)
{
	if (guard_bypassed(orig))
		return STEER_DIRECT_BYPASS;
	if (guard_spared(orig, task))
		return STEER_DIRECT_SPARED;
	if (bpf_ktime_get_ns() >= *(volatile __u64 *)&lease_until_ns)
		return STEER_DIRECT_STALLED;
	return STEER_STEERED;
}

/* Whether a connection of a selected process is to fail rather than to go direct for this reason. */
static __always_inline bool guard_refuses(__u32 reason)
{
	if (!steer_fail_closed)
		return false;
	switch (reason) {
	case STEER_DIRECT_NO_ENDPOINT:
	case STEER_DIRECT_FOREIGN:
	case STEER_DIRECT_NO_MEMORY:
	case STEER_DIRECT_BOUND:
	case STEER_DIRECT_STALLED:
	case STEER_DIRECT_UDP_BOUND:
	case STEER_UDP_FULL:
		bpf_set_retval(-GUARD_ECONNREFUSED);
		return true;
	}
	return false;
}
