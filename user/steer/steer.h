/* SPDX-License-Identifier: MIT */
/*
 * Steering of local TCP connections and UDP flows: loads the BPF programs, turns an intercept spec into kernel policy,
 * and tells for what arrives where it wanted to go. Everything hangs on file descriptors of this process: when it dies,
 * however it dies, new connections go direct; with fail_closed, those of whom is selected are refused.
 *
 * Order: steer_open(), create the listeners, steer_set_endpoint(), steer_serve_namespaces(), steer_set_spec(),
 * steer_attach().
 * Thread: one owner for everything, except steer_take_origin(), steer_find_flow(), steer_stats() and steer_netns_*(),
 * which any thread may call between steer_open() and steer_free().
 */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "abi/steer.h"
#include "base/err.h"
#include "steer/intercept_spec.h"
#include "steer/namespaces.h"

struct steer;
struct udp_ports;

struct steer_options {
	const char *cgroup;          /* whose sockets; NULL = all (the v2 root). See cgroup_open() for the forms */
	bool loopback;               /* steer connections to loopback destinations too */
	bool fail_closed;            /* what cannot be taken is refused, also when this process is killed: see pins.h */
	bool loopback_dns;           /* of these at least UDP to port 53: local resolvers */
	bool block_quic;             /* UDP to port 443 of who is selected is refused (ECONNREFUSED) */
	const struct udp_ports *udp; /* destination ports that are steered; NULL = no UDP */
};

/* Where an accepted connection wanted to go, and who made it. */
struct steer_origin {
	struct sockaddr_storage dst; /* AF_INET or AF_INET6; never a mapped address */
	uint32_t pid;                /* thread group id in the initial pid namespace */
	uint32_t uid;
	uint64_t cgroup_id;          /* inode number of the caller's v2 cgroup */
	uint64_t time_ns;            /* CLOCK_MONOTONIC of the connect(2) */
	unsigned int bound_if;       /* the client's SO_BINDTODEVICE: bind the upstream socket to it; 0 = none */
	bool loopback;               /* dst is a loopback address: of the client's network namespace */
	char comm[STEER_COMM_SIZE];  /* of the calling thread */
	char exe[STEER_PATH_SIZE];   /* "" when not known any more; a long path keeps its tail */
};

struct steer_stat {
	const char *name;            /* static: "steered", "direct-self", ... */
	uint64_t count;
};

/**
 * steer_open() - load the programs and maps; nothing is attached.
 * @options: copied; NULL = all defaults
 *
 * Returns 0; -EPERM without the privileges; -ENOENT for a cgroup that does not exist or a kernel without BTF; other
 * -errno; always with a sentence. Ownership: the caller calls steer_free().
 */
int steer_open(struct steer **out, const struct steer_options *options, struct err *e) __must_check;

/* Detaches everything at once. NULL is fine. */
void steer_free(struct steer *s);

/**
 * steer_set_endpoint() - where connections made in the calling thread's network namespace are to go.
 * @tcp4_port: host order; a listener on 127.0.0.1, may be one of several with SO_REUSEPORT; 0 = IPv4 is left alone
 * @tcp6_port: the same on ::1
 *
 * Also reads the routes there, because what is unreachable has to stay so. Returns 0 or -errno with a sentence.
 */
int steer_set_endpoint(struct steer *s, uint16_t tcp4_port, uint16_t tcp6_port, struct err *e) __must_check;

/**
 * steer_set_udp_endpoint() - where UDP flows begun in the calling thread's network namespace are to go.
 * @udp4_port, @udp6_port: of the sockets of udp_endpoint.h; host order; 0 = this family is left alone
 *
 * After steer_set_endpoint(). Returns 0 or -errno with a sentence.
 */
int steer_set_udp_endpoint(struct steer *s, uint16_t udp4_port, uint16_t udp6_port, struct err *e) __must_check;

/**
 * steer_serve_namespaces() - take connections made in other network namespaces, too; without it they go direct.
 * @ops: how endpoints there are opened, served and closed (namespaces.h); outlives s
 *
 * An endpoint is opened when a selected process is seen in a namespace, and closed when the last process has left.
 * Returns 0 or -errno with a sentence.
 */
int steer_serve_namespaces(struct steer *s, const struct steer_netns_ops *ops, struct err *e) __must_check;

/* As namespaces_socket() and namespaces_state(). */
int steer_netns_socket(struct steer *s, uint64_t netns, uint8_t family, bool dgram) __must_check;
bool steer_netns_state(struct steer *s, uint32_t inode, struct namespace_state *out);

/* Another port that the proxy listens on (host order): loopback connections to it, in its own network
 * namespace, are never steered. */
int steer_exclude_port(struct steer *s, uint16_t port, struct err *e) __must_check;

/* A process and all its descendants, now and later, are never steered. The proxy's own are excluded anyway. */
int steer_exclude_tree(struct steer *s, pid_t pid, struct err *e) __must_check;

/**
 * steer_set_spec() - who is steered, from the next connect(2) on. May be called at any time after steer_open().
 * @spec: borrowed for the call
 *
 * The nearest of a process and its ancestors that an action names (name, pid, exe, comm) decides; a process excluded by
 * name passes nothing on to its children. Actions about user, cgroup and tree are about the process itself, whoever its
 * ancestors are; of these and the one that names it, the last in the spec decides. Who has none of all gets the spec's
 * default.
 * Users, cgroups, units and containers are looked up (selectors.h); what matches nothing now is logged, and looked for
 * again every second by steer_poll().
 * Returns 0; -E2BIG over the limits of abi/steer.h; -EINVAL for pids in a private pid namespace; -ENOENT for a user or
 * container that is not known; other -errno. On failure the former spec stays.
 */
int steer_set_spec(struct steer *s, const struct intercept_spec *spec, struct err *e) __must_check;

/*
 * Attaches to the cgroup, connect last. What a killed process left there by fail_closed is taken over, with no
 * connection going direct in between. Returns 0; -EBUSY when another program owns a hook; other -errno; with a
 * sentence.
 */
int steer_attach(struct steer *s, struct err *e) __must_check;

/* New connections go direct from here on; what was steered keeps getpeername and friends until steer_free(). */
void steer_detach_new(struct steer *s);

/*
 * A descriptor that becomes readable when routes, the spec's meaning or the cgroup may have changed; then call
 * steer_poll(). A cgroup that is removed loses its programs: that is logged, and the next one of its name is taken.
 */
int steer_fd(const struct steer *s);
void steer_poll(struct steer *s);

/**
 * steer_take_origin() - the original destination of an accepted connection; can be asked once per connection.
 * @netns: the listener's namespace, as steer_netns_ops.opened() had it; 0: that of steer_set_endpoint()
 * @peer: what accept4() said: AF_INET, AF_INET6 (a mapped address is fine)
 *
 * Returns false when the connection was not steered (somebody connected to the port by hand): reset it.
 * Thread: any.
 */
bool steer_take_origin(struct steer *s, uint64_t netns, const struct sockaddr *peer, struct steer_origin *out);

/* The calling thread, with the capabilities that are effective now, can ask steer_take_origin(). Thread: any. */
bool steer_may_look(struct steer *s);

/**
 * steer_find_flow() - the original destination of a UDP flow; can be asked as often as is liked.
 * @local: the address that its datagrams come to, as packet info tells
 *
 * Returns false when it stands for no flow: drop the datagram. Thread: any.
 */
bool steer_find_flow(struct steer *s, const struct sockaddr *local, struct steer_origin *out);

/* This process is in a private pid namespace: pids in origins are not those of /proc, pids in specs are refused. */
bool steer_pids_are_private(const struct steer *s);

/* SO_MARK for upstream sockets: never steered, also when handed to another program. */
uint32_t steer_mark(void);

/* Fills all STEER_REASONS counters, summed over CPUs. Thread: any. */
void steer_stats(struct steer *s, struct steer_stat out[STEER_REASONS]);
const char *steer_reason_name(enum steer_reason reason);
