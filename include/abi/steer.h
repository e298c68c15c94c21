/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What bpf/ and user/steer/ share: structs, limits, reasons. Fixed-width members only; every padding byte is a member,
 * because these are map keys. Addresses and ports are in network order everywhere; an IPv4 address is in the first
 * four bytes of a 16-byte field and the rest is zero.
 */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

#define STEER_NAMES_MAX 64           /* distinct name patterns of one policy */
#define STEER_NAME_BYTES_MAX 511     /* their lengths together: one automaton state each, and the root */
#define STEER_PIDS_MAX 4096          /* distinct pids of one policy */
#define STEER_FACTS_MAX 1024         /* distinct users, cgroups, trees and whole names of one policy, each */
#define STEER_EXES_MAX 64            /* distinct executables of one policy */
#define STEER_CGROUP_LEVELS 64       /* a cgroup deeper than that is in the one of this level */
#define STEER_STATES 512
#define STEER_COMM_SIZE 16           /* TASK_COMM_LEN, with its terminator */
#define STEER_PATH_SIZE 256          /* a longer path keeps its tail; terminated */
#define STEER_OWN_PORTS_MAX 32       /* loopback ports of the proxy itself */

#define STEER_CONN_MAX 65536
#define STEER_PROC_MAX 16384
#define STEER_LAST_MAX 4096
#define STEER_TREE_MAX 65536
#define STEER_ROUTE_MAX 65536        /* of all network namespaces */
#define STEER_ROUTE_EACH_MAX 4096    /* of one */
#define STEER_ENDPOINT_MAX 1024      /* network namespaces that are steered in */
#define STEER_EVENT_BYTES 65536      /* of mb_ev */
#define STEER_ASK_NS 250000000       /* an endpoint in one namespace is asked for that often */
#define STEER_BYPASS_MAX 4096
#define STEER_SPARED_MAX 16384

/*
 * UDP flows: a socket and one destination of it have a tag, which is never 0. Its low bits are the place in mb_vrev;
 * the others tell those that were there one after the other apart. Datagrams go to STEER_VIRTUAL4 | tag, or to
 * STEER_VIRTUAL6_0:STEER_VIRTUAL6_1:0:tag (fd6d:6974:6d62::/64 + tag).
 */
#define STEER_VIRTUAL_MAX 65536u
#define STEER_VIRTUAL_TAGS 0x400000u
#define STEER_VIRTUAL4 0x7f400000u           /* 127.64.0.0/10 */
#define STEER_VIRTUAL6_0 0xfd6d6974u
#define STEER_VIRTUAL6_1 0x6d620000u
#define STEER_VIRTUAL6_BITS 64
#define STEER_VIRTUAL_TRIES 8
#define STEER_VIRTUAL_IDLE_NS 300000000000ull    /* a place whose flow was silent for so long is given to another */
#define STEER_VIRTUAL_CHAIN 64               /* destinations of one socket that are released when it is closed */

/*
 * A rank is an action's place in the spec and what it says: (1 + index) * 2, plus 1 for an include; 0 = none. Folding
 * the actions in order ends with what the last one that matches says, so the greatest rank is the verdict.
 */
#define STEER_RANK(index, include) ((((__u32)(index) + 1) << 1) | ((include) ? 1 : 0))
#define STEER_RANK_INCLUDES(rank) ((rank) & 1)

/* What an action can ask about a process by a number or a whole name; kinds of keys of mb_fact. */
enum steer_fact {
	STEER_FACT_PID,                      /* the process itself; its children have it from there, see steer_tree */
	STEER_FACT_TREE,                     /* the process, or one of its ancestors */
	STEER_FACT_UID,
	STEER_FACT_CGROUP,                   /* its v2 cgroup, or one of those that hold that */
	STEER_FACT_COMM,                     /* the whole name of its first thread, or of the calling one */
	STEER_FACT_NETNS,                    /* inode number of the calling thread's network namespace */
	STEER_FACTS
};

/* One bank of mb_policy. A new policy is written to the bank that is not in use, then policy_gen is increased. */
struct steer_policy {
	__u32 selects_by_default;            /* the first action is an exclusion */
	__u32 actions;                       /* 0: nothing is ever selected */
	__u32 facts[STEER_FACTS];            /* entries of mb_fact with this generation, by kind */
	__u32 exes;                          /* entries of mb_exe with this generation */
	__u32 states;
	__u32 accept[STEER_STATES];          /* greatest rank of the names that end here */
	__u32 cut[STEER_STATES];             /* the same for longer names, at their 15th byte: a comm is cut there */
	__u16 next[STEER_STATES][256];
};

/* id: a number in native order in the first 4 (cgroups: 8) bytes, or a name; the rest is zero. */
#define STEER_FACT_ID_SIZE 16

struct steer_fact_key {
	__u32 gen;
	__u32 kind;
	__u8 id[STEER_FACT_ID_SIZE];
};

/* The whole path of an executable; zero behind it. */
struct steer_exe_key {
	__u32 gen;
	char path[STEER_PATH_SIZE];
};

/*
 * Facts of a process, valid while start, exec_id, gen and comm are those of the running one, and where the policy asks
 * for them, uid, cgroup and network namespace.
 */
struct steer_proc {
	__u64 start;                         /* nanoseconds since boot at which the process began */
	__u64 exec_id;                       /* grows with every execve() */
	__u32 gen;
	__u32 rank;                          /* of path, leader's comm and pid, without the thread's comm */
	__u64 cgroup_id;
	__u32 uid;
	__u32 member;                        /* rank of uid, cgroup, netns, and of a tree that begins with it */
	char comm[STEER_COMM_SIZE];          /* the leader's */
	__u32 path_len;
	__u32 netns;                         /* inode number */
	char path[STEER_PATH_SIZE];
};

#define STEER_TREE_PROXY 4           /* the proxy's own; at any generation */

/* What a process has from its ancestors, and its children from it. The ranks count only while gen is current. */
struct steer_tree {
	__u32 gen;
	__u32 flags;
	__u32 rank;                          /* of the nearest that is selected, or excluded by pid */
	__u32 branch;                        /* greatest of the trees that it belongs to */
};

/* Where connections of one network namespace go. Key: its cookie. */
struct steer_endpoint {
	__u16 tcp4;                          /* 0: this family is not steered here */
	__u16 tcp6;
	__u16 udp4;
	__u16 udp6;
};

/* What mb_ev tells user space: a selected process is in a network namespace without an endpoint; all 0: there is a new
 * cgroup. */
struct steer_event {
	__u64 netns;                         /* cookie */
	__u32 tgid, tid;                     /* of a thread that is in it */
};

/* A destination that can be reached without us; longest prefix wins. prefix_len counts the bits after itself. */
#define STEER_ROUTE_PREFIX(family_bits) (72u + (family_bits))

struct steer_route_key {
	__u32 prefix_len;
	__u8 netns[8];
	__u8 family;
	__u8 ip[16];
	__u8 pad[3];
};

struct steer_route {
	__u32 reachable;                     /* 0 or 1 */
	__u32 local;                         /* 0 or 1: an address of this machine */
	__u8 src[16];                        /* the source address the kernel would choose; zero: unknown */
};

/* Destinations that are left alone whoever asks for them. port 0: any; prefix_len counts the bits after itself. */
#define STEER_BYPASS_PREFIX(address_bits) (32u + (address_bits))

struct steer_bypass_key {
	__u32 prefix_len;
	__u16 family;
	__u16 port;
	__u8 ip[16];
};

/* One destination of one process that is left alone for a while, because of what was learned about it. */
struct steer_spared_key {
	__u32 tgid;
	__u16 family;
	__u16 port;
	__u8 ip[16];
};

struct steer_spared {
	__u64 start;                         /* of the process, as in steer_proc */
	__u64 until_ns;                      /* CLOCK_MONOTONIC */
};

#define STEER_ORIG_BOUND 1           /* bound_if was cleared on the socket */
#define STEER_ORIG_LOOPBACK 2        /* the destination is a loopback address */
#define STEER_ORIG_UDP 4
#define STEER_ORIG_LOOPED 16         /* UDP: the socket's own address is loopback, because it is connected to us */
#define STEER_ORIG_ANY_SOURCE 8      /* the socket was bound to no address: getsockname says src, whatever it has now */

/* The original destination of one connection and who made it. It begins with a steer_virtual_key. */
struct steer_orig {
	__u64 cookie;                        /* the socket's */
	__u16 family;                        /* AF_INET also for ::ffff:a.b.c.d */
	__u16 port;
	__u32 pad;
	__u8 dst[16];
	__u32 tgid;
	__u32 uid;
	__u32 bound_if;                      /* SO_BINDTODEVICE at connect, 0 = none */
	__u32 flags;
	__u64 cgroup_id;
	__u64 time_ns;                       /* CLOCK_MONOTONIC of the connect */
	__u64 start;                         /* with tgid, the key to steer_proc */
	__u64 exec_id;
	__u8 src[16];                        /* what getsockname should say instead of loopback; zero: leave it */
	char comm[STEER_COMM_SIZE];          /* the calling thread's */
};

/* What became of the connections of one process, but for those that the policy left out. start tells it from others of
 * its number. */
struct steer_last {
	__u64 start;
	__u64 time_ns;                       /* CLOCK_MONOTONIC of the last connect */
	__u64 netns;                         /* cookie of where that was made */
	__u32 steered;
	__u32 direct;
	__u32 reason;                        /* enum steer_reason of the last one */
	__u16 family;                        /* and where it wanted to go */
	__u16 port;
	__u8 dst[16];
};

/* The client's end of a steered connection as the worker sees it. */
struct steer_tuple {
	__u64 netns;
	__u16 family;
	__u16 port;
	__u32 pad;
	__u8 ip[16];
};

/* A UDP flow: a socket and one destination. */
struct steer_virtual_key {
	__u64 cookie;
	__u16 family;
	__u16 port;
	__u32 pad;
	__u8 ip[16];
};

/* One UDP flow. It is whose the tag is, as long as the tag is the one that was asked for. */
struct steer_virtual {
	struct steer_orig orig;
	__u64 used_ns;
	__u32 tag;                           /* 0: never used, or changing hands now */
	__u32 next;                          /* the tag that the same socket had before; 0: none */
	__u32 gen;                           /* of the policy that decided */
	__u16 port;                          /* the worker's */
	__u8 released;                       /* the socket is closed */
	__u8 connected;                      /* the socket is, to this: however silent it is, it may go on */
};

/* The flows of one socket. */
struct steer_udp_socket {
	__u32 newest;                        /* the others follow by steer_virtual.next */
	__u32 connected;                     /* 0: it is not */
};

/* Indexes of mb_stat, in the order of steer_reason_name(). */
enum steer_reason {
	STEER_STEERED,
	STEER_DIRECT_SELF,                   /* the proxy's own connections */
	STEER_DIRECT_CHILD,                  /* of a process that the proxy started */
	STEER_DIRECT_MARK,                   /* a socket with the proxy's mark */
	STEER_DIRECT_LOCAL,                  /* loopback, link-local, multicast, broadcast, unspecified */
	STEER_DIRECT_OWN_PORT,               /* one of the proxy's listeners */
	STEER_DIRECT_UNSELECTED,             /* by the policy */
	STEER_DIRECT_NO_ENDPOINT,            /* no listener in this network namespace, or not for this family */
	STEER_DIRECT_NO_ROUTE,               /* the kernel alone shall say that it is unreachable */
	STEER_DIRECT_FOREIGN,                /* bound to a source that could not talk to loopback */
	STEER_DIRECT_NO_MEMORY,              /* no socket storage */
	STEER_DIRECT_BOUND,                  /* a device binding that could not be lifted */
	STEER_EVALUATED,                     /* a process was matched against the policy */
	STEER_EVALUATE_BUSY,                 /* and could not be: no scratch space */
	STEER_TREE_FULL,                     /* a child will not follow its parent */
	STEER_CONN_LOST,                     /* a steered connection that the worker will not recognise */
	STEER_DIRECT_BYPASS,                 /* a destination that is to be left alone */
	STEER_DIRECT_SPARED,                 /* by what was learned of this process and destination */
	STEER_DIRECT_STALLED,                /* the proxy stands still */
	STEER_REFUSED,                       /* what would have gone direct, had it not been asked to fail closed */
	STEER_EVENT_LOST,                    /* user space was not told: it does not read */
	STEER_UDP_STEERED,                   /* a connected socket, or the first datagram to a destination */
	STEER_UDP_FULL,                      /* more flows than there are places: direct */
	STEER_DIRECT_UDP_PORT,               /* a destination port that was not asked for */
	STEER_DIRECT_UDP_BOUND,              /* bound to a device */
	STEER_QUIC_BLOCKED,                  /* refused, so that TCP is tried instead */
	STEER_REASONS
};

_Static_assert(sizeof(struct steer_proc) == 320, "steer_proc is kernel/user ABI");
_Static_assert(sizeof(struct steer_fact_key) == 24, "steer_fact_key is kernel/user ABI");
_Static_assert(sizeof(struct steer_exe_key) == 260, "steer_exe_key is kernel/user ABI");
_Static_assert(sizeof(struct steer_orig) == 112, "steer_orig is kernel/user ABI");
_Static_assert(sizeof(struct steer_last) == 56, "steer_last is kernel/user ABI");
_Static_assert(sizeof(struct steer_endpoint) == 8, "steer_endpoint is kernel/user ABI");
_Static_assert(sizeof(struct steer_virtual_key) == 32, "steer_virtual_key is kernel/user ABI");
_Static_assert(__builtin_offsetof(struct steer_virtual_key, ip) == __builtin_offsetof(struct steer_orig, dst),
	       "a steer_virtual_key is what steer_orig begins with");
_Static_assert(sizeof(struct steer_virtual) == 136, "steer_virtual is kernel/user ABI");
_Static_assert(sizeof(struct steer_tuple) == 32, "steer_tuple is kernel/user ABI");
_Static_assert(sizeof(struct steer_route_key) == 32, "steer_route_key is kernel/user ABI");
_Static_assert(sizeof(struct steer_bypass_key) == 24, "steer_bypass_key is kernel/user ABI");
_Static_assert(sizeof(struct steer_spared_key) == 24, "steer_spared_key is kernel/user ABI");
_Static_assert(sizeof(struct steer_event) == 16, "steer_event is kernel/user ABI");
_Static_assert(sizeof(struct steer_route) == 24, "steer_route is kernel/user ABI");
