/* SPDX-License-Identifier: MIT */
/* The kernel's list of sockets of one network namespace, and an end of some of them (sock_diag(7)). Thread: any. */
#pragma once

#include "base/addr.h"
#include "base/err.h"

#define SOCKETS_ESTABLISHED (1u << 1)        /* 1 << TCP_ESTABLISHED; connected, for UDP */
#define SOCKETS_LISTENING   (1u << 10)

struct socket_seen {
	uint64_t inode;              /* as in "socket:[inode]" */
	uint64_t cgroup_id;          /* the group that its maker was in; 0: not told (before Linux 5.9) */
	uint32_t state;              /* one SOCKETS_* bit */
	uint32_t mark;               /* SO_MARK; told to those who have CAP_NET_ADMIN, 0 to others */
	struct addr local, peer;
};

/**
 * sockets_open() - a descriptor to ask in a network namespace.
 * @netns_fd: the namespace; -1: the calling thread's. It is entered for the moment
 *
 * Returns the descriptor, which the caller closes, or -errno.
 */
int sockets_open(int netns_fd);

/* Calls see for all of a protocol (IPPROTO_TCP, IPPROTO_UDP), IPv4 and IPv6. Returns 0 or -errno. */
int sockets_list(int fd, uint8_t protocol, uint32_t states, void (*see)(void *owner, const struct socket_seen *s),
		 void *owner) __must_check;

/**
 * sockets_end() - ends the TCP connections that wanted chooses.
 * @states: SOCKETS_* bits; only sockets in one of them are looked at
 *
 * Their owners see ECONNABORTED. Those that end by themselves meanwhile are not counted. Returns how many, or -errno:
 * -EOPNOTSUPP where the kernel was built without INET_DIAG_DESTROY, -EPERM without CAP_NET_ADMIN.
 */
int sockets_end(int fd, uint32_t states, bool (*wanted)(void *owner, const struct socket_seen *s), void *owner)
	__must_check;

/* The cookie of the namespace in which fd was opened. Returns 0 or -errno. */
int sockets_netns_cookie(int fd, uint64_t *cookie) __must_check;
