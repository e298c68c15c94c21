/* SPDX-License-Identifier: MIT */
/*
 * The few things that forwarding asks of rtnetlink, in the network namespace of the thread that opens it: links, own
 * addresses, rules, routes, and what is attached for traffic control. Functions return 0 or -errno, the kernel's.
 * Thread: one owner.
 */
#pragma once

#include <net/if.h>

#include "base/util.h"

struct mnl_socket;

struct rtnl {
	struct mnl_socket *nl;       /* NULL: not open */
	uint32_t seq;
};

int rtnl_open(struct rtnl *r) __must_check;
void rtnl_close(struct rtnl *r);

struct rtnl_link {
	uint32_t index;
	uint32_t master;             /* the bridge, bond or VRF that it belongs to; 0: none */
	char name[IFNAMSIZ];
	char kind[16];               /* "veth", "bridge"; "" for most hardware */
	bool loopback;
};

/* All of the namespace; freed with mem_free(). */
int rtnl_links(struct rtnl *r, struct rtnl_link **out, uint32_t *count) __must_check;

/* Every address and range that this machine takes for itself, broadcast included; ip: 4 or 16 bytes by family. */
typedef void (*rtnl_own_fn)(void *owner, int family, const uint8_t *ip, uint8_t prefix);
int rtnl_own_addresses(struct rtnl *r, rtnl_own_fn fn, void *owner) __must_check;

/*
 * The rule `pref PREF fwmark MARK lookup TABLE` and the route `local default dev lo table TABLE`. What is there already
 * gives -EEXIST, what is not -ENOENT or -ESRCH; lo that is down -ENETDOWN; a family that is switched off -EAFNOSUPPORT,
 * -EOPNOTSUPP or -EACCES. Both carry our number as their protocol, and only such ones are deleted.
 */
int rtnl_rule(struct rtnl *r, bool add, int family, uint32_t pref, uint32_t mark, uint32_t table) __must_check;
int rtnl_local_default(struct rtnl *r, bool add, int family, uint32_t table) __must_check;

/* Interfaces with a clsact; freed with mem_free(). */
int rtnl_clsacts(struct rtnl *r, uint32_t **out, uint32_t *count) __must_check;

/* What its clsact has in both directions; freed with mem_free(). */
struct rtnl_filter {
	uint32_t priority, handle;
	bool ingress;
	char program[64];            /* of BPF, as libbpf writes it: "name:[id]"; "" for others */
};

int rtnl_filters(struct rtnl *r, uint32_t ifindex, struct rtnl_filter **out, uint32_t *count) __must_check;
