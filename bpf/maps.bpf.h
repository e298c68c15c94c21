/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Every map and setting on one page. Names begin with mb_, under 16 characters: they identify us in listings. */
#pragma once

#include "vmlinux.h"

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi/steer.h"

/* Set before load. */
const volatile bool steer_loopback;
const volatile bool steer_loopback_dns;  /* UDP to port 53 there, at least: local resolvers */
const volatile __u32 steer_own_mark;
const volatile bool steer_fail_closed;

/* Written by user space at any time; the low bit of policy_gen selects the bank of mb_policy. */
__u32 self_tgid;
__u64 self_root, self_root_mount;    /* dentry and struct mount that our paths begin at */
__u32 policy_gen;
__u16 own_ports[STEER_OWN_PORTS_MAX];
__u32 own_ports_count;
__u32 bypass_count;                     /* entries of mb_bypass */
__u32 spared_count;                     /* 0: mb_spared never had an entry */
__u64 lease_until_ns = ~0ull;           /* CLOCK_MONOTONIC; after it the proxy is taken to stand still */
__u64 home_netns;                    /* cookie of the proxy's network namespace, where own_ports are */
bool steering;                       /* connections are taken: endpoints may be asked for */
bool groups_matter;                  /* a cgroup that is made may be one that the spec means */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct steer_policy);
} mb_policy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * (STEER_PIDS_MAX + (STEER_FACTS - 1) * STEER_FACTS_MAX));
	__type(key, struct steer_fact_key);
	__type(value, __u32);
} mb_fact SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * STEER_EXES_MAX);
	__type(key, struct steer_exe_key);
	__type(value, __u32);
} mb_exe SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STEER_PROC_MAX);
	__type(key, __u32);
	__type(value, struct steer_proc);
} mb_proc SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_TREE_MAX);
	__type(key, __u32);
	__type(value, struct steer_tree);
} mb_tree SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_ENDPOINT_MAX);
	__type(key, __u64);
	__type(value, struct steer_endpoint);
} mb_ep SEC(".maps");

/* When an endpoint in a namespace was last asked for. User space deletes an entry to be asked again at once. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STEER_ENDPOINT_MAX);
	__type(key, __u64);
	__type(value, __u64);
} mb_asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, STEER_EVENT_BYTES);
} mb_ev SEC(".maps");

/* The cgroup that the programs are attached to. */
struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} mb_cgroup SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STEER_ROUTE_MAX);
	__type(key, struct steer_route_key);
	__type(value, struct steer_route);
} mb_route SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STEER_BYPASS_MAX);
	__type(key, struct steer_bypass_key);
	__type(value, __u8);
} mb_bypass SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STEER_SPARED_MAX);
	__type(key, struct steer_spared_key);
	__type(value, struct steer_spared);
} mb_spared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct steer_orig);
} mb_skorig SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STEER_CONN_MAX);
	__type(key, struct steer_tuple);
	__type(value, struct steer_orig);
} mb_conn SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STEER_LAST_MAX);
	__type(key, __u32);
	__type(value, struct steer_last);
} mb_last SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} mb_stat SEC(".maps");

/*
 * Working space for a path. Not per CPU: these programs can be preempted by others on the same CPU, so a slot is owned
 * by whoever set busy. Paths are built backwards and end at SCRATCH_PATH; what is behind only calms the verifier.
 */
#define SCRATCH_SLOTS 256
#define SCRATCH_TRIES 8
#define SCRATCH_PATH 256

struct steer_scratch {
	__u32 busy;
	__u32 at;                    /* where the path begins */
	__u64 mnt, dentry;           /* how far it has been walked */
	struct steer_proc proc;
	struct steer_exe_key exe;
	char path[SCRATCH_PATH + 256];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SCRATCH_SLOTS);
	__type(key, __u32);
	__type(value, struct steer_scratch);
} mb_scratch SEC(".maps");

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&mb_stat, &reason);

	if (n)
		__sync_fetch_and_add(n, 1);      /* another program may preempt this one here */
}
