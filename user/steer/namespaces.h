/* SPDX-License-Identifier: MIT */
/*
 * The other network namespaces that selected processes are in: made known by the programs' events, given an endpoint
 * and routes, and let go when the last process has left, because sockets keep a namespace alive. One thread of its own
 * enters them, and no other ever does; what needs a socket there asks that thread.
 *
 * Thread: the steering's owner, unless said otherwise.
 */
#pragma once

#include "abi/steer.h"
#include "base/err.h"

struct namespaces;

/* What is done with an endpoint's sockets. sockets: whatever open() made; it is moved from call to call. */
struct steer_netns_ops {
	void *owner;
	/*
	 * The helper thread, inside the namespace: opens what listens there and is missing in ep (ports in network
	 * order), fills ep, and *sockets if it opened some. It is called again when the namespace has changed.
	 * Returns 0, also when there is no loopback interface yet; -errno with a sentence.
	 */
	int (*open)(void *owner, struct steer_endpoint *ep, void **sockets, struct err *e);
	/* From steer_poll(): they are to be served. On failure the namespace is let go; -ESHUTDOWN: without a word. */
	int (*opened)(void *owner, uint64_t netns, void *sockets, struct err *e);
	/* From steer_poll(): what was served there is to be closed. */
	void (*closed)(void *owner, uint64_t netns);
	/* Any thread: opened() will not be called for these. */
	void (*drop)(void *owner, void *sockets);
	/* The helper thread, when it begins: it may drop privileges. NULL: nothing. */
	void (*enter)(void);
};

struct namespaces_config {
	const struct steer_netns_ops *ops;   /* outlives the namespaces */
	int ep_map, route_map, asked_map, events_map;
	uint32_t mark;                       /* SO_MARK of upstream sockets */
	int groups_fd;                       /* a timer that is set off soon when there is a new cgroup */
	bool private_pids;                   /* /proc does not show the pids that the events tell */
};

/* Starts the thread. Returns 0 or -errno with a sentence. config is copied. */
int namespaces_new(struct namespaces **out, const struct namespaces_config *config, struct err *e) __must_check;
/* Ends the thread and lets go of everything. NULL is fine. Nobody may be in namespaces_socket() any more. */
void namespaces_free(struct namespaces *n);

/* A process that is selected: its namespace will need an endpoint. */
void namespaces_want(struct namespaces *n, uint32_t pid);

/* A descriptor that becomes readable when namespaces_poll() has something to do: tell the ops. */
int namespaces_fd(const struct namespaces *n);
void namespaces_poll(struct namespaces *n);

/*
 * A TCP or UDP socket in a namespace that has an endpoint, unconnected, blocking, close-on-exec, with the mark. From a
 * small stock; when that is empty, the helper thread is waited for. family: 4 or 6. Returns it; -ENETDOWN: the
 * namespace is not known (any more); another -errno. Thread: any.
 */
int namespaces_socket(struct namespaces *n, uint64_t netns, uint8_t family, bool dgram) __must_check;

/*
 * Calls visit on the helper thread inside each namespace that is known, those wanted before included, and returns when
 * it is done. ep: what listens there.
 */
void namespaces_visit(struct namespaces *n, void (*visit)(void *owner, const struct steer_endpoint *ep), void *owner);

/* One namespace as it is now. */
struct namespace_state {
	uint64_t cookie;             /* 0: it was never entered */
	uint32_t inode;
	uint16_t tcp4, tcp6;         /* where connections are taken to; host order; 0: they are not */
	uint32_t routes;
	char why[128];               /* "", or why it has no endpoint */
};

/* False: nothing is known of it. Thread: any. */
bool namespaces_state(struct namespaces *n, uint32_t inode, struct namespace_state *out);

/* How many have an endpoint, or wait for their loopback interface. Thread: any. */
uint32_t namespaces_count(struct namespaces *n);
