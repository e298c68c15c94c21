/* SPDX-License-Identifier: MIT */
/*
 * One process as it stands: who it is, in which namespaces, with which sockets. What can be known without steering;
 * what may not be read is marked so. Enters the process's network namespace for a moment. Thread: of a process that has
 * only one.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/err.h"
#include "steer/processes.h"

enum target_space { TARGET_NET, TARGET_MOUNT, TARGET_PIDS, TARGET_SPACES };

/* Whether a process is in the same namespace as another one. */
enum target_there { TARGET_UNKNOWN, TARGET_SAME, TARGET_OTHER };

struct target_sockets {
	bool unknown;                /* /proc/PID/fd may not be read, or the network namespace not be entered */
	uint32_t unixes, tcp, udp;   /* that the process has, in any state */
	uint32_t taken;              /* established ones that lead to us */
	uint32_t past;               /* established ones that it made, and that lead past us */
	uint32_t foreign;            /* of these: whose socket was made by somebody in another cgroup */
	struct addr past_peer, foreign_peer;     /* one of them each */
	uint32_t udp_taken;          /* UDP sockets that are connected, and lead to us */
	uint32_t quic;               /* those that lead past us, to port 443 */
	struct addr quic_peer;
};

struct target {
	struct process process;      /* exe "": a kernel thread, or not ours to see */
	uint64_t start_ticks;        /* field 22 of proc(5)'s stat */
	uint32_t threads;
	uint32_t inner_pid;          /* its number in its own pid namespace */
	bool kernel_thread, ended;
	enum target_there there[TARGET_SPACES];
	int netns_error;             /* why its network namespace cannot be entered; 0: it can */
	uint64_t netns;              /* its cookie; 0: not known */
	const char *tls_library;     /* static: one that it has loaded; NULL: none, or not known */
	bool is_static;              /* its executable needs no libraries, so that it has its own TLS if any */
	struct target_sockets sockets;
};

struct target_scope {
	uint16_t tcp4, tcp6;         /* ports that lead to us on loopback; host order; 0: none */
	bool loopback;               /* connections to loopback addresses count */
	const uint64_t *cgroups;     /* ids of the group that steering looks at, and of all below */
	uint32_t cgroup_count;
};

/* Returns 0; -ESRCH when there is no such process; other -errno; with a sentence. */
int target_read(struct target *t, uint32_t pid, struct err *e) __must_check;

/* Fills t->there. other: whose namespaces the target's are compared with; 0: the caller's. */
void target_compare(struct target *t, pid_t other);

/* Fills t->sockets; what cannot be known is no error. */
void target_read_sockets(struct target *t, const struct target_scope *scope);
