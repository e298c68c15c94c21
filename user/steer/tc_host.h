/* SPDX-License-Identifier: MIT */
/*
 * What forwarding asks of the network namespace beside its programs: a mark, and the rules and routes that bring
 * marked packets to the local stack. Several instances can be in one namespace, each with a number of its own that it
 * holds for as long as it lives; what bears the number of nobody was left by one that was killed, and is removed.
 * Thread: one owner.
 */
#pragma once

#include "base/err.h"
#include "steer/rtnl.h"

/* Nobody's in the lists of well-known marks, tables and preferences; they are documented. */
#define TC_HOST_INSTANCES 8
#define TC_HOST_MARK 0x6d627400u     /* "mbt" and the instance's number; also the number of its table */
#define TC_HOST_PREF 20u             /* of the rules: before all that could match marked packets */
#define TC_HOST_PRIORITY 0x6d62u     /* of clsact filters */

struct tc_host {
	int lock_fd;                 /* -1: not set up */
	uint32_t instance;
	bool v6;                     /* false: the namespace has IPv6 switched off */
};

/* Takes a number, removes what is left of others, adds rules and routes. Returns 0 or -errno with a sentence. */
int tc_host_up(struct tc_host *h, struct rtnl *r, struct err *e) __must_check;
void tc_host_down(struct tc_host *h, struct rtnl *r);

static inline uint32_t tc_host_mark(const struct tc_host *h)
{
	return TC_HOST_MARK + h->instance;
}

/* Of our sockets: they are known by it, and it leads nowhere. */
static inline uint32_t tc_host_socket_mark(const struct tc_host *h)
{
	return TC_HOST_MARK + 0x80 + h->instance;
}

static inline uint32_t tc_host_priority(const struct tc_host *h)
{
	return TC_HOST_PRIORITY + h->instance;
}
