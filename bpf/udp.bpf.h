/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * UDP of local sockets. A socket and one destination of it are a flow, and have a number, the tag; the datagrams go to
 * an address made of the tag, on which the proxy's socket in that namespace listens. Replies come from that address,
 * and the application is shown the destination that it knows. Nothing else is needed to tell flows apart: one
 * unconnected socket may talk to many.
 */
#pragma once

#define ECONNREFUSED 111
#define QUIC_PORT bpf_htons(443)

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STEER_VIRTUAL_MAX);
	__type(key, struct steer_virtual_key);
	__type(value, __u32);
} mb_vfwd SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEER_VIRTUAL_MAX);
	__type(key, __u32);
	__type(value, struct steer_virtual);
} mb_vrev SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct steer_udp_socket);
} mb_sktag SEC(".maps");

/* Set before load. */
const volatile __u32 udp_ports[65536 / 32];
const volatile bool steer_block_quic;
const volatile bool steer_has_retval;

__u32 virtual_next;

static __always_inline bool is_udp_port(__u16 be)
{
	__u32 port = bpf_ntohs(be), word = port / 32;

	BOUND(word, 2047);
	return udp_ports[word] & 1u << port % 32;
}

static __always_inline struct steer_virtual *virtual_at(__u32 tag)
{
	__u32 slot = tag % STEER_VIRTUAL_MAX;

	return bpf_map_lookup_elem(&mb_vrev, &slot);
}

static __always_inline struct steer_virtual *virtual_find(__u32 tag, __u64 cookie)
{
	struct steer_virtual *v = virtual_at(tag);

	return v && tag && v->tag == tag && v->orig.cookie == cookie ? v : NULL;
}

static __always_inline bool virtual_is_free(const struct steer_virtual *v, __u64 now)
{
	if (!v->tag || v->released)
		return true;
	return !v->connected && now - v->used_ns > STEER_VIRTUAL_IDLE_NS;
}

/*
 * A number for a new flow; 0: none is free. One that is released is not given out at once: others come first, and the
 * worker may still have datagrams of it to read.
 */
static __always_inline __u32 virtual_take(void)
{
	__u64 now = bpf_ktime_get_ns();

	for (__u32 i = 0; i < STEER_VIRTUAL_TRIES; i++) {
		__u32 tag = __sync_fetch_and_add(&virtual_next, 1) % STEER_VIRTUAL_TAGS;
		struct steer_virtual *v = virtual_at(tag);

		if (v && tag && virtual_is_free(v, now))
			return tag;
	}
	return 0;
}

static __always_inline const struct steer_virtual_key *virtual_key(const struct steer_orig *orig)
{
	return (const struct steer_virtual_key *)orig;
}

/* The tag of a flow that was decided to be ours; a new one where there is none. 0: it goes direct. */
static __always_inline __u32 virtual_of(struct bpf_sock *sk, const struct steer_orig *orig, __u16 ep_port,
					bool connects)
{
	struct steer_udp_socket *mine = bpf_sk_storage_get(&mb_sktag, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct steer_virtual *v = NULL, *before;
	__u32 *known, tag;

	if (!mine)
		return 0;

	known = bpf_map_lookup_elem(&mb_vfwd, virtual_key(orig));
	tag = known ? *known : 0;
	if (tag)
		v = virtual_find(tag, orig->cookie);
	if (!v || v->released) {
		tag = virtual_take();
		v = virtual_at(tag);
		if (!tag || !v)
			return 0;
		v->tag = 0;
		v->connected = 0;
		v->next = mine->newest;
		mine->newest = tag;
	}
	if (connects) {
		before = virtual_find(mine->connected, orig->cookie);
		if (before)
			before->connected = 0;
		mine->connected = tag;
		v->connected = 1;
	}
	v->orig = *orig;
	v->port = ep_port;
	v->gen = *(volatile __u32 *)&policy_gen;
	v->used_ns = orig->time_ns;
	v->released = 0;
	v->tag = tag;
	return bpf_map_update_elem(&mb_vfwd, virtual_key(orig), &tag, BPF_ANY) ? 0 : tag;
}

/* A flow that goes on: as it was decided, for as long as nobody's mind has changed. */
static __always_inline __u32 virtual_again(const struct steer_orig *orig, __u16 *ep_port)
{
	__u32 *tag = bpf_map_lookup_elem(&mb_vfwd, virtual_key(orig));
	struct steer_virtual *v = tag ? virtual_find(*tag, orig->cookie) : NULL;

	__u64 now = bpf_ktime_get_ns();

	if (!v || v->gen != *(volatile __u32 *)&policy_gen || v->released || now >= *(volatile __u64 *)&lease_until_ns)
		return 0;
	v->used_ns = now;
	*ep_port = v->port;
	return *tag;
}

/*
 * A socket that was connected to one of our addresses got a loopback address of its own. Whatever else it sends, or
 * connects to next, the kernel would refuse to let leave from there: so all of it is ours.
 */
static __always_inline bool is_looped(struct bpf_sock *sk, __u16 family)
{
	__u32 ip4 = *(volatile __u32 *)&sk->src_ip4;
	volatile __u32 *ip6 = sk->src_ip6;
	__u32 ip[4] = { ip6[0], ip6[1], ip6[2], ip6[3] };

	if ((family == AF_INET ? scope4(ip4) : scope6(ip)) != SCOPE_LOOPBACK)
		return false;
	return bpf_sk_storage_get(&mb_skorig, sk, 0, 0) != NULL;
}

#define UDP_REFUSED (~0u)            /* as a closed port does */
#define UDP_FAILED (~0u - 1)         /* the error is set already */
#define IS_TAG(tag) ((tag) && (tag) < STEER_VIRTUAL_TAGS)

/* The tag of the flow that this datagram or socket is of; 0: it goes direct; UDP_REFUSED, UDP_FAILED. */
static __always_inline __u32 udp_steer(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct steer_orig *orig,
				       enum scope scope, bool connects, __u16 *ep_port)
{
	bool blocked = steer_block_quic && orig->port == QUIC_PORT;
	bool looped = is_looped(sk, orig->family);
	__u32 reason, tag;

	if (!is_udp_port(orig->port) && !blocked && !looped) {
		count(STEER_DIRECT_UDP_PORT);
		return 0;
	}
	orig->flags |= looped ? STEER_ORIG_UDP | STEER_ORIG_LOOPED : STEER_ORIG_UDP;
	orig->cookie = bpf_get_socket_cookie(ctx);
	if (!connects && !blocked && !sk->bound_dev_if) {
		tag = virtual_again(orig, ep_port);
		if (tag)
			return tag;
	}
	reason = decide(ctx, sk, orig, scope, ep_port);
	/* lifting the binding would survive us, and a datagram socket may serve others on that device */
	if (reason == STEER_STEERED && sk->bound_dev_if)
		reason = STEER_DIRECT_UDP_BOUND;
	if (reason == STEER_STEERED && blocked) {
		count(STEER_QUIC_BLOCKED);
		return UDP_REFUSED;
	}
	tag = reason == STEER_STEERED ? virtual_of(sk, orig, *ep_port, connects) : 0;
	if (reason == STEER_STEERED)
		reason = tag ? STEER_UDP_STEERED : STEER_UDP_FULL;
	count(reason);
	if (tag || !guard_refuses(reason))
		return tag;
	count(STEER_REFUSED);
	return UDP_FAILED;
}

/* With an error of its own where the kernel knows how: EPERM would be the answer else. */
static __always_inline int udp_refuse(void)
{
	if (steer_has_retval)
		bpf_set_retval(-ECONNREFUSED);
	return 0;
}

/* What getpeername and getsockname are to say of a socket that connects. Returns tag, or 0 when there is no memory. */
static __always_inline __u32 udp_remember(struct bpf_sock *sk, const struct steer_orig *orig, __u32 tag)
{
	struct steer_orig *mine;

	if (!IS_TAG(tag)) {
		bpf_sk_storage_delete(&mb_skorig, sk);
		return tag;
	}
	mine = bpf_sk_storage_get(&mb_skorig, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mine) {
		count(STEER_DIRECT_NO_MEMORY);
		return 0;
	}
	*mine = *orig;
	return tag;
}

static __always_inline bool is_virtual4(__u32 be)
{
	return (bpf_ntohl(be) & ~(STEER_VIRTUAL_TAGS - 1)) == STEER_VIRTUAL4;
}

static __always_inline bool is_virtual6(const __u32 *ip)
{
	return ip[0] == bpf_htonl(STEER_VIRTUAL6_0) && ip[1] == bpf_htonl(STEER_VIRTUAL6_1) && !ip[2];
}

/*
 * An address of ours that is there already: another mitm-bpf's, which took it before us and has a port of its own, or
 * written by hand. To our port, it can only be that of the socket's own flow: another's would be spoken for by whoever
 * guesses its number.
 */
static __always_inline int udp_virtual(struct bpf_sock_addr *ctx, __u32 tag, bool v4)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct steer_endpoint *ep = bpf_map_lookup_elem(&mb_ep, &netns);
	__u16 port = ctx->user_port;

	if (!ep || port != (v4 ? ep->udp4 : ep->udp6))
		return 1;
	if (virtual_find(tag % STEER_VIRTUAL_TAGS, bpf_get_socket_cookie(ctx)))
		return 1;
	count(STEER_REFUSED);
	return 0;
}

/* orig: port and family are set; a place on the stack, of which there is little. */
static __always_inline int udp4(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct steer_orig *orig, bool connects)
{
	__u32 ip = ctx->user_ip4, tag;
	enum scope scope = scope4(ip);
	__u16 port = 0;

	if (is_virtual4(ip))
		return udp_virtual(ctx, bpf_ntohl(ip), true);
	if (scope == SCOPE_ANY)
		ip = LOOPBACK4;
	__builtin_memcpy(orig->dst, &ip, sizeof(ip));
	tag = udp_steer(ctx, sk, orig, scope, connects, &port);
	if (connects)
		tag = udp_remember(sk, orig, tag);
	if (tag == UDP_REFUSED)
		return udp_refuse();
	if (tag == UDP_FAILED)
		return 0;
	if (tag) {
		ctx->user_ip4 = bpf_htonl(STEER_VIRTUAL4 | tag);
		ctx->user_port = port;
	}
	return 1;
}

static __always_inline bool has_any_source(struct bpf_sock *sk)
{
	volatile __u32 *ip6 = sk->src_ip6;
	__u32 ip[4] = { ip6[0], ip6[1], ip6[2], ip6[3] };

	return !ip[0] && !ip[1] && !ip[2] && !ip[3];
}

/* An IPv4 destination keeps its mapped form: the kernel does not let a datagram change families. */
static __always_inline int udp6(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct steer_orig *orig, __u32 *ip,
				bool connects)
{
	bool mapped = !ip[0] && !ip[1] && ip[2] == MAPPED_PREFIX;
	enum scope scope = mapped ? scope4(ip[3]) : scope6(ip);
	__u16 port = 0;
	__u32 tag;

	if (mapped ? is_virtual4(ip[3]) : is_virtual6(ip))
		return udp_virtual(ctx, bpf_ntohl(ip[3]), mapped);
	if (scope == SCOPE_ANY)
		ip[3] = mapped ? LOOPBACK4 : bpf_htonl(1);
	if (mapped) {
		orig->family = AF_INET;
		__builtin_memcpy(orig->dst, &ip[3], sizeof(ip[3]));
	} else {
		__builtin_memcpy(orig->dst, ip, sizeof(orig->dst));
	}
	if (connects && !mapped && has_any_source(sk))
		orig->flags |= STEER_ORIG_ANY_SOURCE;
	tag = udp_steer(ctx, sk, orig, scope, connects, &port);
	if (connects)
		tag = udp_remember(sk, orig, tag);
	if (tag == UDP_REFUSED)
		return udp_refuse();
	if (tag == UDP_FAILED)
		return 0;
	if (!tag)
		return 1;
	if (mapped) {
		ctx->user_ip6[3] = bpf_htonl(STEER_VIRTUAL4 | tag);
	} else {
		ctx->user_ip6[0] = bpf_htonl(STEER_VIRTUAL6_0);
		ctx->user_ip6[1] = bpf_htonl(STEER_VIRTUAL6_1);
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = bpf_htonl(tag);
	}
	ctx->user_port = port;
	return 1;
}

SEC("cgroup/sendmsg4")
int mb_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct steer_orig orig = { .family = AF_INET, .port = ctx->user_port };
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return 1;
	/* a source address on loopback, if it is not our doing, reaches nobody else: the kernel shall say so */
	if (scope4(ctx->msg_src_ip4) == SCOPE_LOOPBACK && scope4(ctx->user_ip4) == SCOPE_GLOBAL &&
	    !is_looped(sk, AF_INET))
		return 1;
	return udp4(ctx, sk, &orig, false);
}

SEC("cgroup/sendmsg6")
int mb_sendmsg6(struct bpf_sock_addr *ctx)
{
	__u32 ip[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	struct steer_orig orig = { .family = AF_INET6, .port = ctx->user_port };
	struct bpf_sock *sk = ctx->sk;

	return sk ? udp6(ctx, sk, &orig, ip, false) : 1;
}

/* What the application is to see as the sender, when that is one of ours; else NULL. */
static __always_inline struct steer_virtual *virtual_sender(struct bpf_sock_addr *ctx, __u32 tag, __u16 family)
{
	struct steer_virtual *v = virtual_find(tag % STEER_VIRTUAL_TAGS, bpf_get_socket_cookie(ctx));
	__u16 port = ctx->user_port;

	return v && v->port == port && v->orig.family == family ? v : NULL;
}

SEC("cgroup/recvmsg4")
int mb_recvmsg4(struct bpf_sock_addr *ctx)
{
	__u32 ip = ctx->user_ip4;
	struct steer_virtual *v = is_virtual4(ip) ? virtual_sender(ctx, bpf_ntohl(ip), AF_INET) : NULL;

	if (v) {
		__builtin_memcpy(&ip, v->orig.dst, sizeof(ip));
		ctx->user_ip4 = ip;
		ctx->user_port = v->orig.port;
	}
	return 1;
}

SEC("cgroup/recvmsg6")
int mb_recvmsg6(struct bpf_sock_addr *ctx)
{
	__u32 ip[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	bool mapped = !ip[0] && !ip[1] && ip[2] == MAPPED_PREFIX && is_virtual4(ip[3]);
	bool ours = mapped || is_virtual6(ip);
	struct steer_virtual *v = ours ? virtual_sender(ctx, bpf_ntohl(ip[3]), mapped ? AF_INET : AF_INET6) : NULL;

	if (!v)
		return 1;
	__builtin_memcpy(ip, v->orig.dst, sizeof(ip));
	if (mapped) {
		ctx->user_ip6[3] = ip[0];
	} else {
		ctx->user_ip6[0] = ip[0];
		ctx->user_ip6[1] = ip[1];
		ctx->user_ip6[2] = ip[2];
		ctx->user_ip6[3] = ip[3];
	}
	ctx->user_port = v->orig.port;
	return 1;
}

/* Its flows are over, as far as they can be found: others end by age. */
SEC("cgroup/sock_release")
int mb_release(struct bpf_sock *sk)
{
	struct steer_udp_socket *mine;
	struct steer_virtual *connected;
	__u64 cookie;
	__u32 tag;

	if (sk->protocol != IPPROTO_UDP)
		return 1;
	mine = bpf_sk_storage_get(&mb_sktag, sk, 0, 0);
	if (!mine)
		return 1;
	tag = mine->newest;
	cookie = bpf_get_socket_cookie(sk);
	connected = virtual_find(mine->connected, cookie);
	if (connected)
		connected->released = 1;
	for (__u32 i = 0; i < STEER_VIRTUAL_CHAIN; i++) {
		struct steer_virtual *v = virtual_find(tag, cookie);

		if (!v)
			break;
		v->released = 1;
		tag = v->next;
	}
	return 1;
}
