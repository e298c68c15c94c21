/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Takes the TCP connections and UDP flows (udp.bpf.h) of selected processes to the proxy's sockets in their own network
 * namespace, and keeps the application from noticing. Whatever fails lets the connection go where it wanted to, and
 * counts why.
 */
#include "vmlinux.h"

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.bpf.h"
#include "netns.bpf.h"
#include "policy.bpf.h"
#include "tree.bpf.h"
#include "guard.bpf.h"

#define AF_INET 2
#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_BINDTODEVICE 25
#define SO_BINDTOIFINDEX 62
#define IPPROTO_MPTCP_NUMBER 262
#define MAPPED_PREFIX bpf_htonl(0x0000ffff)
#define LOOPBACK4 bpf_htonl(0x7f000001)

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum scope { SCOPE_GLOBAL, SCOPE_LOOPBACK, SCOPE_ANY, SCOPE_LOCAL };

static __always_inline enum scope scope4(__u32 be)
{
	__u32 ip = bpf_ntohl(be);

	if (ip >> 24 == 127)
		return SCOPE_LOOPBACK;
	if (ip == 0)
		return SCOPE_ANY;
	if (ip >> 24 == 0 || ip >> 16 == 0xa9fe || ip >> 28 >= 14)
		return SCOPE_LOCAL;
	return SCOPE_GLOBAL;
}

static __always_inline enum scope scope6(const __u32 *ip)
{
	__u32 first = bpf_ntohl(ip[0]);

	if (!ip[0] && !ip[1] && !ip[2]) {
		if (!ip[3])
			return SCOPE_ANY;
		if (ip[3] == bpf_htonl(1))
			return SCOPE_LOOPBACK;
	}
	if (first >> 22 == 0xfe80 >> 6 || first >> 24 == 0xff)
		return SCOPE_LOCAL;
	return SCOPE_GLOBAL;
}

static __always_inline bool is_own_port(const struct steer_endpoint *ep, __u64 netns, __u16 port)
{
	if (port == ep->tcp4 || port == ep->tcp6 || port == ep->udp4 || port == ep->udp6)
		return true;
	if (netns != home_netns)
		return false;
	for (__u32 i = 0; i < STEER_OWN_PORTS_MAX; i++)
		if (i < own_ports_count && own_ports[i] == port)
			return true;
	return false;
}

/* Not inlined: a hook's stack has to leave room for the evaluation of a policy. */
static __noinline struct steer_route *find_route(__u64 netns, __u16 family, const __u8 *ip)
{
	struct steer_route_key key = { .family = family };

	key.prefix_len = STEER_ROUTE_PREFIX(family == AF_INET ? 32 : 128);
	__builtin_memcpy(key.netns, &netns, sizeof(key.netns));
	__builtin_memcpy(key.ip, ip, sizeof(key.ip));
	return bpf_map_lookup_elem(&mb_route, &key);
}

/*
 * A socket may be bound to an address of another machine (IP_TRANSPARENT): the answers of our listener would not come
 * back. And from a loopback address nobody reaches the world: the kernel shall say so.
 */
static __always_inline bool source_fits(struct bpf_sock *sk, __u64 netns, __u16 family)
{
	/* volatile, and all of them: the verifier wants each word read at a constant offset */
	__u32 ip4 = *(volatile __u32 *)&sk->src_ip4;
	volatile __u32 *ip6 = sk->src_ip6;
	__u32 ip[4] = { ip6[0], ip6[1], ip6[2], ip6[3] };
	struct steer_route *route;

	if (family == AF_INET) {
		ip[0] = ip4;
		ip[1] = ip[2] = ip[3] = 0;
	}
	if (!ip[0] && !ip[1] && !ip[2] && !ip[3])
		return true;
	if ((family == AF_INET ? scope4(ip[0]) : scope6(ip)) == SCOPE_LOOPBACK)
		return false;
	route = find_route(netns, family, (const __u8 *)ip);
	return route && route->local;
}

/* Nobody may reach through us what the kernel alone would call unreachable: clients choose families by that. */
static __always_inline __u32 decide_route(struct bpf_sock *sk, struct steer_orig *orig, __u64 netns,
					  const struct steer_endpoint *ep)
{
	struct steer_route *route = find_route(netns, orig->family, orig->dst);

	if (!route || !route->reachable)
		return STEER_DIRECT_NO_ROUTE;
	if (route->local && is_own_port(ep, netns, orig->port))
		return STEER_DIRECT_OWN_PORT;
	if (!(orig->flags & STEER_ORIG_LOOPED) && !source_fits(sk, netns, orig->family))
		return STEER_DIRECT_FOREIGN;
	__builtin_memcpy(orig->src, route->src, sizeof(orig->src));
	return STEER_STEERED;
}

static __always_inline bool takes_loopback(const struct steer_orig *orig)
{
	return steer_loopback ||
	       (steer_loopback_dns && (orig->flags & STEER_ORIG_UDP) && orig->port == bpf_htons(53));
}

static __always_inline __u16 endpoint_port(const struct steer_endpoint *ep, const struct steer_orig *orig)
{
	if (orig->flags & STEER_ORIG_UDP)
		return orig->family == AF_INET ? ep->udp4 : ep->udp6;
	return orig->family == AF_INET ? ep->tcp4 : ep->tcp6;
}

/* Why this connection stays alone, or STEER_STEERED. Cheap questions first. ep_port: where to take it. */
static __always_inline __u32 decide(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct steer_orig *orig,
				    enum scope scope, __u16 *ep_port)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct steer_endpoint *ep;
	__u32 reason;

	orig->tgid = bpf_get_current_pid_tgid() >> 32;
	if (orig->tgid == self_tgid)
		return STEER_DIRECT_SELF;
	if (scope == SCOPE_LOCAL || (scope != SCOPE_GLOBAL && !takes_loopback(orig)))
		return STEER_DIRECT_LOCAL;
	if (is_proxys(orig->tgid))
		return STEER_DIRECT_CHILD;
	if (sk->mark == steer_own_mark)
		return STEER_DIRECT_MARK;
	ep = bpf_map_lookup_elem(&mb_ep, &netns);
	*ep_port = ep ? endpoint_port(ep, orig) : 0;
	if (ep && !*ep_port && !steer_fail_closed)
		return STEER_DIRECT_NO_ENDPOINT;
	if (scope != SCOPE_GLOBAL) {
		orig->flags |= STEER_ORIG_LOOPBACK;
		if (ep && is_own_port(ep, netns, orig->port))
			return STEER_DIRECT_OWN_PORT;
	}
	if (!(orig->flags & STEER_ORIG_LOOPED) && !selected(task, orig->tgid))
		return STEER_DIRECT_UNSELECTED;
	if (scope != SCOPE_GLOBAL && guard_is_taken(ctx, orig))
		return STEER_DIRECT_OWN_PORT;
	reason = guard_decide(orig, task);
	if (reason != STEER_STEERED && (reason == STEER_DIRECT_STALLED || !(orig->flags & STEER_ORIG_LOOPED)))
		return reason;
	if (!ep)
		ask_endpoint(netns, orig->tgid, task->pid);
	if (!ep || !*ep_port)
		return STEER_DIRECT_NO_ENDPOINT;
	if (scope == SCOPE_GLOBAL) {
		reason = decide_route(sk, orig, netns, ep);
		if (reason != STEER_STEERED)
			return reason;
	}
	orig->uid = bpf_get_current_uid_gid();
	orig->cookie = bpf_get_socket_cookie(ctx);
	orig->cgroup_id = bpf_get_current_cgroup_id();
	orig->time_ns = bpf_ktime_get_ns();
	orig->start = start_of(leader_of(task));
	orig->exec_id = task->self_exec_id;
	bpf_get_current_comm(orig->comm, sizeof(orig->comm));
	return STEER_STEERED;
}

/*
 * A socket bound to a device could not reach the loopback interface: the binding is lifted here and carried over to the
 * upstream connection. before: what an earlier connect of the same socket left.
 */
static __always_inline bool lift_binding(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct steer_orig *orig,
					 const struct steer_orig *before)
{
	char none[4] = { 0 };

	orig->bound_if = sk->bound_dev_if;
	if (orig->bound_if) {
		orig->flags |= STEER_ORIG_BOUND;
		return bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, none, 1) == 0;
	}
	if (before && (before->flags & STEER_ORIG_BOUND)) {
		orig->flags |= STEER_ORIG_BOUND;
		orig->bound_if = before->bound_if;
	}
	return true;
}

/* A socket can be connected again after AF_UNSPEC: what was noted the first time must not be told then. */
static __always_inline void forget(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct steer_orig *before)
{
	int ifindex;

	if (!before)
		return;
	ifindex = before->bound_if;
	if ((before->flags & STEER_ORIG_BOUND) && !sk->bound_dev_if)
		bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &ifindex, sizeof(ifindex));
	bpf_sk_storage_delete(&mb_skorig, sk);
}

/*
 * For people who ask why they do not see a process; those that are not selected pay nothing for it. Its threads may
 * write here at once: only the counts are exact.
 */
static __always_inline void note_last(struct bpf_sock_addr *ctx, const struct steer_orig *orig, __u32 reason)
{
	struct steer_last *last, fresh = { 0 };
	__u32 tgid = orig->tgid;
	__u64 start;

	if (reason == STEER_DIRECT_UNSELECTED || reason == STEER_DIRECT_SELF || reason == STEER_DIRECT_CHILD)
		return;
	start = fresh.start = start_of(leader_of(bpf_get_current_task_btf()));
	last = bpf_map_lookup_elem(&mb_last, &tgid);
	if (!last || last->start != start) {
		bpf_map_update_elem(&mb_last, &tgid, &fresh, BPF_ANY);
		last = bpf_map_lookup_elem(&mb_last, &tgid);
	}
	if (!last)
		return;
	__sync_fetch_and_add(reason == STEER_STEERED ? &last->steered : &last->direct, 1);
	last->time_ns = bpf_ktime_get_ns();
	last->netns = bpf_get_netns_cookie(ctx);
	last->reason = reason;
	last->family = orig->family;
	last->port = orig->port;
	__builtin_memcpy(last->dst, orig->dst, sizeof(last->dst));
}

/* The listener's port in network order, when the connection is to go there; 0: it goes on; negative: it is refused. */
static __always_inline int steer(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct steer_orig *orig,
				 enum scope scope)
{
	struct steer_orig *before = bpf_sk_storage_get(&mb_skorig, sk, 0, 0);
	__u16 port = 0;
	__u32 reason = decide(ctx, sk, orig, scope, &port);

	if (reason == STEER_STEERED && !lift_binding(ctx, sk, orig, before))
		reason = STEER_DIRECT_BOUND;
	if (reason == STEER_STEERED) {
		if (!before)
			before = bpf_sk_storage_get(&mb_skorig, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (before)
			*before = *orig;
		else
			reason = STEER_DIRECT_NO_MEMORY;
	}
	count(reason);
	note_last(ctx, orig, reason);
	if (reason == STEER_STEERED)
		return port;
	forget(ctx, sk, before);
	if (!guard_refuses(reason))
		return 0;
	count(STEER_REFUSED);
	return -1;
}

#include "udp.bpf.h"

static __always_inline bool is_tcp(const struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_MPTCP_NUMBER;
}

SEC("cgroup/connect4")
int mb_connect4(struct bpf_sock_addr *ctx)
{
	struct steer_orig orig = { .family = AF_INET };
	struct bpf_sock *sk = ctx->sk;
	__u32 ip = ctx->user_ip4;
	enum scope scope = scope4(ip);
	int port;

	orig.port = ctx->user_port;
	if (sk && ctx->protocol == IPPROTO_UDP)
		return udp4(ctx, sk, &orig, true);
	if (!sk || !is_tcp(ctx))
		return 1;
	if (scope == SCOPE_ANY)
		ip = LOOPBACK4;                 /* as the kernel takes it, and getpeername says it */
	__builtin_memcpy(orig.dst, &ip, sizeof(ip));
	port = steer(ctx, sk, &orig, scope);
	if (port > 0) {
		ctx->user_ip4 = LOOPBACK4;
		ctx->user_port = port;
	}
	return port >= 0;
}

SEC("cgroup/connect6")
int mb_connect6(struct bpf_sock_addr *ctx)
{
	struct steer_orig orig = { .family = AF_INET6 };
	struct bpf_sock *sk = ctx->sk;
	__u32 ip[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	bool mapped = !ip[0] && !ip[1] && ip[2] == MAPPED_PREFIX;
	enum scope scope;
	int port;

	orig.port = ctx->user_port;
	if (sk && ctx->protocol == IPPROTO_UDP)
		return udp6(ctx, sk, &orig, ip, true);
	if (!sk || !is_tcp(ctx))
		return 1;
	scope = mapped ? scope4(ip[3]) : scope6(ip);
	if (scope == SCOPE_ANY)
		ip[3] = mapped ? LOOPBACK4 : bpf_htonl(1);
	if (mapped) {
		orig.family = AF_INET;
		__builtin_memcpy(orig.dst, &ip[3], sizeof(ip[3]));
	} else {
		__builtin_memcpy(orig.dst, ip, sizeof(ip));
	}
	port = steer(ctx, sk, &orig, scope);
	if (port <= 0)
		return port == 0;
	if (mapped) {
		ctx->user_ip6[3] = LOOPBACK4;
	} else {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = bpf_htonl(1);
	}
	ctx->user_port = port;
	return 1;
}

/* Source address and port are chosen, the SYN is not sent: the worker's accept cannot come before this entry. */
SEC("sockops")
int mb_sockops(struct bpf_sock_ops *ctx)
{
	struct steer_tuple tuple = { 0 };
	struct steer_orig *orig;
	struct bpf_sock *sk;
	__u32 ip;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	orig = bpf_sk_storage_get(&mb_skorig, sk, 0, 0);
	if (!orig)
		return 1;
	tuple.netns = bpf_get_netns_cookie(ctx);
	tuple.family = orig->family;            /* the listener's: a mapped address is accepted on the IPv4 one */
	tuple.port = bpf_htons(ctx->local_port);
	if (orig->family == AF_INET) {
		ip = ctx->local_ip4;
		__builtin_memcpy(tuple.ip, &ip, sizeof(ip));
	} else {
		volatile __u32 *ip6 = ctx->local_ip6;   /* volatile: the context may only be read word by word */
		__u32 copy[4] = { ip6[0], ip6[1], ip6[2], ip6[3] };

		__builtin_memcpy(tuple.ip, copy, sizeof(copy));
	}
	if (bpf_map_update_elem(&mb_conn, &tuple, orig, BPF_ANY))
		count(STEER_CONN_LOST);
	return 1;
}

static __always_inline void say4(struct bpf_sock_addr *ctx, const __u8 *ip)
{
	__u32 be;

	__builtin_memcpy(&be, ip, sizeof(be));
	ctx->user_ip4 = be;
}

/* On an IPv6 socket, where an IPv4 address has its mapped form. */
static __always_inline void say6(struct bpf_sock_addr *ctx, __u16 family, const __u8 *ip)
{
	__u32 be[4];

	__builtin_memcpy(be, ip, sizeof(be));
	if (family == AF_INET) {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = MAPPED_PREFIX;
		ctx->user_ip6[3] = be[0];
		return;
	}
	ctx->user_ip6[0] = be[0];
	ctx->user_ip6[1] = be[1];
	ctx->user_ip6[2] = be[2];
	ctx->user_ip6[3] = be[3];
}

SEC("cgroup/getpeername4")
int mb_peername4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct steer_orig *orig = sk ? bpf_sk_storage_get(&mb_skorig, sk, 0, 0) : NULL;

	if (orig) {
		say4(ctx, orig->dst);
		ctx->user_port = orig->port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int mb_peername6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct steer_orig *orig = sk ? bpf_sk_storage_get(&mb_skorig, sk, 0, 0) : NULL;

	if (orig) {
		say6(ctx, orig->family, orig->dst);
		ctx->user_port = orig->port;
	}
	return 1;
}

static __always_inline bool has_source(const struct steer_orig *orig)
{
	__u64 src[2];

	__builtin_memcpy(src, orig->src, sizeof(src));
	return src[0] || src[1];
}

/* A socket that bound itself to an address has that one already; only what loopback routing chose is replaced. */
SEC("cgroup/getsockname4")
int mb_sockname4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct steer_orig *orig = sk ? bpf_sk_storage_get(&mb_skorig, sk, 0, 0) : NULL;

	if (orig && has_source(orig) && scope4(ctx->user_ip4) == SCOPE_LOOPBACK)
		say4(ctx, orig->src);
	return 1;
}

SEC("cgroup/getsockname6")
int mb_sockname6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct steer_orig *orig = sk ? bpf_sk_storage_get(&mb_skorig, sk, 0, 0) : NULL;
	__u32 ip[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	bool loopback = ip[2] == MAPPED_PREFIX ? scope4(ip[3]) == SCOPE_LOOPBACK : scope6(ip) == SCOPE_LOOPBACK;
	bool ours = orig && (orig->flags & STEER_ORIG_ANY_SOURCE) && scope6(ip) != SCOPE_ANY;

	if (orig && has_source(orig) && (loopback || ours))
		say6(ctx, orig->family, orig->src);
	return 1;
}

/* Run once by user space: in a private pid namespace, getpid() is not the number that these programs see. */
SEC("syscall")
int mb_whoami(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	self_root = (__u64)BPF_CORE_READ(task, fs, root.dentry);
	self_root_mount = mount_of(BPF_CORE_READ(task, fs, root.mnt));
	self_tgid = bpf_get_current_pid_tgid() >> 32;
	return 0;
}
