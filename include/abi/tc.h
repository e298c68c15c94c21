/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What bpf/tc.bpf.c and user/steer/tc.c share. Fixed-width members only; every padding byte is a member, because these
 * are map keys. Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d.
 */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

#define TC_PROGRAM "mb_tc"           /* by this name leftovers are known for ours */

#define TC_SLOTS_MAX 16              /* sets of listeners: one for each mode */
#define TC_WORKERS_MAX 256
#define TC_INTERFACES_MAX 4096
#define TC_PORT_WORDS 2048
#define TC_OWN_MAX 16384             /* addresses of this machine */
#define TC_CLIENTS_MAX 4096          /* prefixes of clients, all modes together */

/* Index of a listener in mb_lsn. */
enum tc_listener { TC_TCP4, TC_TCP6, TC_UDP4, TC_UDP6, TC_LISTENERS };

#define TC_LISTENER_INDEX(slot, worker, which) (((slot) * TC_WORKERS_MAX + (worker)) * TC_LISTENERS + (which))
#define TC_LISTENERS_MAX (TC_SLOTS_MAX * TC_WORKERS_MAX * TC_LISTENERS)

/* One interface that the program is attached to. Key: its index. */
struct tc_interface {
	__u32 slot;
	__u32 workers;                       /* 0: nobody new is taken; who is connected goes on */
	__u32 others;                        /* clients that no prefix names are taken */
};

/* A longest-prefix key for mb_client; prefix_len counts the bits after itself. */
#define TC_CLIENT_PREFIX(bits) (32u + (bits))

struct tc_client_key {
	__u32 prefix_len;
	__u32 slot;
	__u8 ip[16];
};

struct tc_own_key {
	__u32 prefix_len;
	__u8 ip[16];
};

/* Indexes of mb_tc_stat, in the order of tc_reason_name(). Packets, not connections, unless said otherwise. */
enum tc_reason {
	TC_TAKEN,                            /* a connection that begins: its SYN */
	TC_ESTABLISHED,                      /* of a connection that was taken */
	TC_DATAGRAM,                         /* UDP that was taken */
	TC_QUIC_REFUSED,                     /* UDP to port 443 that was dropped, as asked */
	TC_PASS_PROTOCOL,                    /* neither TCP nor UDP over IPv4 or IPv6, or behind extension headers */
	TC_PASS_FRAGMENT,
	TC_PASS_MALFORMED,                   /* shorter than its headers */
	TC_PASS_SCOPE,                       /* multicast, broadcast, link-local, loopback, unspecified */
	TC_PASS_OTHER_HOST,                  /* switched, not routed: for another machine's link-layer address */
	TC_PASS_OWN,                         /* to an address of this machine */
	TC_PASS_CLIENT,                      /* its client is not meant */
	TC_PASS_PORT,                        /* UDP to a port that is not meant */
	TC_PASS_OLDER,                       /* of a connection that was there before us, or is not ours any more */
	TC_PASS_NO_LISTENER,                 /* a SYN or a datagram, but nobody to take it */
	TC_PASS_REFUSED,                     /* the kernel did not assign the socket */
	TC_REASONS
};

_Static_assert(sizeof(struct tc_interface) == 12, "tc_interface is kernel/user ABI");
_Static_assert(sizeof(struct tc_client_key) == 24, "tc_client_key is kernel/user ABI");
_Static_assert(sizeof(struct tc_own_key) == 20, "tc_own_key is kernel/user ABI");
