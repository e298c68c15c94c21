/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Takes TCP connections and UDP that are routed through this machine to transparent sockets on it: traffic without a
 * local socket, of containers, pods, bridges and other machines. At the ingress of an interface, a packet of a
 * connection that was taken is given to that socket, a SYN or a datagram to a listener; the mark then routes it to the
 * local stack.
 * Whatever fails lets the packet go where it wanted to, and counts why.
 */
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/tc.h"

#define FRAGMENT 0x3fff              /* more fragments, or an offset */
#define PACKET_HOST 0
#define AF_INET6 10
#define STATE_LISTEN BPF_TCP_LISTEN
#define QUIC_PORT 443

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set before load. */
const volatile __u32 tc_mark;
const volatile bool tc_block_quic;

/* Written by user space at any time: CLOCK_MONOTONIC; after it the proxy is taken to stand still. */
__u64 tc_lease_ns = ~0ull;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TC_INTERFACES_MAX);
	__type(key, __u32);
	__type(value, struct tc_interface);
} mb_tc_if SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TC_OWN_MAX);
	__type(key, struct tc_own_key);
	__type(value, __u32);                    /* of the listing that saw it */
} mb_tc_own SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TC_CLIENTS_MAX);
	__type(key, struct tc_client_key);
	__type(value, __u32);                    /* 1: taken; 0: left alone */
} mb_tc_client SEC(".maps");

/* Destination ports of UDP: port p is bit p % 32 of word p / 32; host order. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TC_PORT_WORDS);
	__type(key, __u32);
	__type(value, __u32);
} mb_tc_port SEC(".maps");

/* A socket leaves by itself when it is closed, however its process ends. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, TC_LISTENERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} mb_tc_lsn SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TC_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} mb_tc_stat SEC(".maps");

struct packet {
	struct bpf_sock_tuple tuple;
	__u32 at;                                /* TCP or UDP, from the network header */
	__u16 sport, dport;                      /* network order */
	bool v6, udp;
	__u8 src[16], dst[16];
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} ip;
	struct tcphdr tcp;                       /* of UDP: not read */
};

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&mb_tc_stat, &reason);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* From the network header on, so that it does not matter whether there is Ethernet, or a VLAN's tag, before it. */
static __always_inline bool load(struct __sk_buff *skb, __u32 at, void *to, __u32 size)
{
	return bpf_skb_load_bytes_relative(skb, at, to, size, BPF_HDR_START_NET) == 0;
}

static __always_inline void map4(__u8 *ip, __u32 be)
{
	__u32 words[4] = { 0, 0, bpf_htonl(0xffff), be };

	__builtin_memcpy(ip, words, sizeof(words));
}

static __always_inline bool is_global4(__u32 be)
{
	__u32 ip = bpf_ntohl(be);

	return ip >> 24 != 0 && ip >> 24 != 127 && ip >> 16 != 0xa9fe && ip >> 28 < 14;
}

static __always_inline bool is_global6(const __u8 *ip)
{
	__u32 w[4];

	__builtin_memcpy(w, ip, sizeof(w));
	if (!w[0] && !w[1] && (!w[2] || w[2] == bpf_htonl(0xffff)))
		return false;                    /* unspecified, loopback, mapped */
	return ip[0] != 0xff && !(ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80);
}

static __always_inline bool parse_ports(struct __sk_buff *skb, struct packet *p, __u8 protocol)
{
	struct udphdr udp;

	p->udp = protocol == IPPROTO_UDP;
	if (p->udp) {
		if (!load(skb, p->at, &udp, sizeof(udp)))
			return false;
		p->sport = udp.source;
		p->dport = udp.dest;
		return true;
	}
	if (!load(skb, p->at, &p->tcp, sizeof(p->tcp)))
		return false;
	p->sport = p->tcp.source;
	p->dport = p->tcp.dest;
	return true;
}

/* TC_TAKEN: it can be looked at further. */
static __always_inline __u32 parse4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr *ip = &p->ip.v4;

	if (!load(skb, 0, ip, sizeof(*ip)) || ip->version != 4 || ip->ihl < 5)
		return TC_PASS_MALFORMED;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return TC_PASS_PROTOCOL;
	if (ip->frag_off & bpf_htons(FRAGMENT))
		return TC_PASS_FRAGMENT;
	p->at = ip->ihl * 4;
	if (!parse_ports(skb, p, ip->protocol))
		return TC_PASS_MALFORMED;
	if (!is_global4(ip->daddr) || !is_global4(ip->saddr))
		return TC_PASS_SCOPE;
	p->tuple.ipv4.saddr = ip->saddr;
	p->tuple.ipv4.daddr = ip->daddr;
	p->tuple.ipv4.sport = p->sport;
	p->tuple.ipv4.dport = p->dport;
	map4(p->src, ip->saddr);
	map4(p->dst, ip->daddr);
	return TC_TAKEN;
}

static __always_inline __u32 parse6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr *ip = &p->ip.v6;

	if (!load(skb, 0, ip, sizeof(*ip)) || ip->version != 6)
		return TC_PASS_MALFORMED;
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return TC_PASS_FRAGMENT;
	if (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP)
		return TC_PASS_PROTOCOL;
	p->at = sizeof(*ip);
	if (!parse_ports(skb, p, ip->nexthdr))
		return TC_PASS_MALFORMED;
	__builtin_memcpy(p->src, &ip->saddr, sizeof(p->src));
	__builtin_memcpy(p->dst, &ip->daddr, sizeof(p->dst));
	if (!is_global6(p->dst) || !is_global6(p->src))
		return TC_PASS_SCOPE;
	__builtin_memcpy(p->tuple.ipv6.saddr, p->src, sizeof(p->src));
	__builtin_memcpy(p->tuple.ipv6.daddr, p->dst, sizeof(p->dst));
	p->tuple.ipv6.sport = p->sport;
	p->tuple.ipv6.dport = p->dport;
	p->v6 = true;
	return TC_TAKEN;
}

static __always_inline __u32 parse(struct __sk_buff *skb, struct packet *p)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse4(skb, p);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse6(skb, p);
	return TC_PASS_PROTOCOL;
}

static __always_inline bool is_own(const __u8 *ip)
{
	struct tc_own_key key = { .prefix_len = 128 };

	__builtin_memcpy(key.ip, ip, sizeof(key.ip));
	return bpf_map_lookup_elem(&mb_tc_own, &key);
}

static __always_inline bool is_meant(const __u8 *src, const struct tc_interface *in)
{
	struct tc_client_key key = { .prefix_len = TC_CLIENT_PREFIX(128), .slot = in->slot };
	__u32 *taken;

	__builtin_memcpy(key.ip, src, sizeof(key.ip));
	taken = bpf_map_lookup_elem(&mb_tc_client, &key);
	return taken ? *taken : in->others;
}

/* Always the same worker for the same connection. Ports in network order. */
static __always_inline __u32 worker_of(const __u8 *src, __u16 sport, __u16 dport, __u32 workers)
{
	__u32 w[4], hash;

	__builtin_memcpy(w, src, sizeof(w));
	hash = w[0] ^ w[1] ^ w[2] ^ w[3] ^ ((__u32)sport << 16 | dport);
	hash = (hash ^ hash >> 16) * 0x85ebca6b;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35;
	hash ^= hash >> 16;
	return (__u64)hash * workers >> 32;
}

/* Sizes have to be constants to the verifier; the barriers keep the compiler from making one call of the two. */
static __always_inline struct bpf_sock *find_socket(struct __sk_buff *skb, struct packet *p)
{
	struct bpf_sock *sk;

	if (p->v6) {
		sk = bpf_skc_lookup_tcp(skb, &p->tuple, sizeof(p->tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
		barrier();
	} else {
		sk = bpf_skc_lookup_tcp(skb, &p->tuple, sizeof(p->tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	return sk;
}

static __always_inline bool answers_cookie(struct bpf_sock *listener, struct packet *p)
{
	long ret;

	if (p->v6) {
		ret = bpf_tcp_check_syncookie(listener, &p->ip, sizeof(p->ip.v6), &p->tcp, sizeof(p->tcp));
		barrier();
	} else {
		ret = bpf_tcp_check_syncookie(listener, &p->ip, sizeof(p->ip.v4), &p->tcp, sizeof(p->tcp));
	}
	return ret == 0;
}

/*
 * A connection that begins. What is in the middle of one and has no socket was there before us and is left alone: a
 * listener would reset it. The exception is the ACK that answers a SYN cookie, which only the listener recognises.
 */
static __always_inline __u32 begin(struct __sk_buff *skb, struct packet *p, const struct tc_interface *in)
{
	bool syn = p->tcp.syn && !p->tcp.ack && !p->tcp.rst;
	struct bpf_sock *listener;
	__u32 index, workers = in->workers, reason = TC_TAKEN;

	if (!syn && (!p->tcp.ack || p->tcp.rst || p->tcp.syn))
		return TC_PASS_OLDER;
	if (!is_meant(p->src, in))
		return TC_PASS_CLIENT;
	if (!workers || bpf_ktime_get_ns() >= *(volatile __u64 *)&tc_lease_ns)
		return syn ? TC_PASS_NO_LISTENER : TC_PASS_OLDER;
	index = TC_LISTENER_INDEX(in->slot, worker_of(p->src, p->sport, p->dport, workers),
				  p->v6 ? TC_TCP6 : TC_TCP4);
	listener = bpf_map_lookup_elem(&mb_tc_lsn, &index);
	if (!listener)
		return syn ? TC_PASS_NO_LISTENER : TC_PASS_OLDER;
	if (!syn && !answers_cookie(listener, p))
		reason = TC_PASS_OLDER;
	else if (bpf_sk_assign(skb, listener, 0))
		reason = TC_PASS_REFUSED;
	bpf_sk_release(listener);
	return reason;
}

static __always_inline bool is_udp_port(__u16 be)
{
	__u32 port = bpf_ntohs(be), at = port / 32;
	__u32 *word = bpf_map_lookup_elem(&mb_tc_port, &at);

	return word && *word >> port % 32 & 1;
}

static __always_inline __u32 take_datagram(struct __sk_buff *skb, const struct packet *p, const struct tc_interface *in)
{
	struct bpf_sock *listener;
	__u32 index, workers = in->workers, reason;
	bool quic = tc_block_quic && p->dport == bpf_htons(QUIC_PORT);

	if (!quic && !is_udp_port(p->dport))
		return TC_PASS_PORT;
	if (!is_meant(p->src, in))
		return TC_PASS_CLIENT;
	if (!workers || bpf_ktime_get_ns() >= *(volatile __u64 *)&tc_lease_ns)
		return TC_PASS_NO_LISTENER;
	if (quic)
		return TC_QUIC_REFUSED;
	index = TC_LISTENER_INDEX(in->slot, worker_of(p->src, p->sport, p->dport, workers),
				  p->v6 ? TC_UDP6 : TC_UDP4);
	listener = bpf_map_lookup_elem(&mb_tc_lsn, &index);
	if (!listener)
		return TC_PASS_NO_LISTENER;
	reason = bpf_sk_assign(skb, listener, 0) ? TC_PASS_REFUSED : TC_DATAGRAM;
	bpf_sk_release(listener);
	return reason;
}

/* TC_TAKEN, TC_ESTABLISHED, TC_DATAGRAM, or why not. */
static __always_inline __u32 take(struct __sk_buff *skb, struct packet *p, const struct tc_interface *in)
{
	struct bpf_sock *sk;
	__u32 reason = parse(skb, p);

	if (reason != TC_TAKEN)
		return reason;
	if (skb->pkt_type != PACKET_HOST)
		return TC_PASS_OTHER_HOST;
	if (is_own(p->dst))
		return TC_PASS_OWN;
	if (p->udp)
		return take_datagram(skb, p, in);
	sk = find_socket(skb, p);
	if (!sk)
		return begin(skb, p, in);
	if (sk->state == STATE_LISTEN) {
		bpf_sk_release(sk);              /* of a server here on all addresses: not who was meant */
		return begin(skb, p, in);
	}
	reason = bpf_sk_assign(skb, sk, 0) ? TC_PASS_REFUSED : TC_ESTABLISHED;
	bpf_sk_release(sk);
	return reason;
}

SEC("tc")
int mb_tc(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, reason;
	struct tc_interface *in = bpf_map_lookup_elem(&mb_tc_if, &ifindex);
	struct packet p = { 0 };

	/* Taken at the interface below this one, of a bond or VLAN, it comes by once more. */
	if (!in || (skb->mark == tc_mark && skb->sk))
		return TC_ACT_UNSPEC;
	reason = take(skb, &p, in);
	count(reason);
	if (reason == TC_QUIC_REFUSED)
		return TC_ACT_SHOT;
	if (reason != TC_TAKEN && reason != TC_ESTABLISHED && reason != TC_DATAGRAM)
		return TC_ACT_UNSPEC;
	skb->mark = tc_mark;
	return TC_ACT_OK;
}

/*
 * A client may use its port again while the connection before still waits here for its last packets (TIME-WAIT). The
 * kernel takes the new one for a server that it finds by the destination, which we have none of: this says whom.
 */
SEC("sk_lookup")
int mb_tc_again(struct bpf_sk_lookup *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex, index;
	struct tc_interface *in = bpf_map_lookup_elem(&mb_tc_if, &ifindex);
	/* volatile, and all of them: the context may only be read word by word, at constant offsets */
	volatile __u32 *remote = ctx->remote_ip6, *local = ctx->local_ip6;
	__u32 from[4] = { remote[0], remote[1], remote[2], remote[3] };
	__u32 to[4] = { local[0], local[1], local[2], local[3] };
	__u32 from4 = *(volatile __u32 *)&ctx->remote_ip4, to4 = *(volatile __u32 *)&ctx->local_ip4;
	bool v6 = ctx->family == AF_INET6;
	struct bpf_sock *listener;
	__u8 src[16], dst[16];

	if (!in || !in->workers || ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (v6) {
		__builtin_memcpy(src, from, sizeof(src));
		__builtin_memcpy(dst, to, sizeof(dst));
	} else {
		map4(src, from4);
		map4(dst, to4);
	}
	if (is_own(dst) || !is_meant(src, in))
		return SK_PASS;
	index = TC_LISTENER_INDEX(in->slot, worker_of(src, ctx->remote_port, bpf_htons(ctx->local_port), in->workers),
				  v6 ? TC_TCP6 : TC_TCP4);
	listener = bpf_map_lookup_elem(&mb_tc_lsn, &index);
	if (!listener)
		return SK_PASS;
	bpf_sk_assign(ctx, listener, BPF_SK_LOOKUP_F_REPLACE);
	bpf_sk_release(listener);
	return SK_PASS;
}
