/* SPDX-License-Identifier: MIT */
/*
 * Forwarded traffic: TCP connections and UDP that are routed through this machine, from clients without a socket here
 * (containers, pods, other machines), are brought to transparent sockets of ours, by the interface that they come in
 * at. An accepted socket is the client's destination by getsockname(), a datagram's is told by IP_RECVORIGDSTADDR. When
 * the process dies, however it dies, all goes direct.
 *
 * Needs CAP_NET_ADMIN and CAP_BPF. Everything is in the network namespace of the thread that calls tc_open().
 * Order, for each mode: tc_add(), tc_set_listener() for each worker and family, tc_start(). Thread: one owner, except
 * tc_stats() and tc_lease().
 */
#pragma once

#include "abi/tc.h"
#include "base/err.h"
#include "steer/tc_hook.h"
#include "steer/tc_spec.h"

struct tc;

struct tc_stat {
	const char *name;            /* static: "taken", "established", "pass-own", ... */
	uint64_t count;              /* packets; of "taken": connections, and repeated SYNs */
};

struct tc_options {
	enum tc_how how;
	bool block_quic;             /* UDP to port 443 is dropped */
	const uint32_t *udp_ports;   /* bit p % 32 of word p / 32: UDP to port p is taken; NULL: none */
};

/* Loads the program, sets up rules and routes, removes what killed runs have left. Returns 0 or -errno, a sentence. */
int tc_open(struct tc **out, const struct tc_options *options, struct err *e) __must_check;
/* Once all connections are closed: detaches everything and removes rules and routes. NULL is fine. */
void tc_free(struct tc *t);

/* False: IPv6 is switched off here; listeners for it are not needed. */
bool tc_has_v6(const struct tc *t);

/* SO_MARK for listeners: answers must not bear the mark of what they answer, as net.ipv4.tcp_fwmark_accept has it. */
uint32_t tc_socket_mark(const struct tc *t);

/*
 * A mode: which interfaces, and whose traffic. Takes over what spec has, also when it fails. Returns the mode's slot,
 * or -errno with a sentence: -ENODEV when there is no such interface (a pattern may fit none yet), -EEXIST when another
 * mode has it.
 */
int tc_add(struct tc *t, struct tc_spec *spec, struct err *e) __must_check;
/* fd: a transparent listener, or UDP socket, on a loopback address, alone on its port. It leaves when it is closed. */
int tc_set_listener(struct tc *t, int slot, uint32_t worker, enum tc_listener which, int fd, struct err *e)
	__must_check;
/* Attaches, with listeners of so many workers. On failure the slot is free again. */
int tc_start(struct tc *t, int slot, uint32_t workers, struct err *e) __must_check;
/* New connections go direct, open ones go on: the program stays for them until tc_free(). The slot is free again. */
void tc_stop(struct tc *t, int slot);
void tc_stop_all(struct tc *t);

/* Until then (CLOCK_MONOTONIC) new connections are taken; from the start for ever. Thread: any. */
void tc_lease(struct tc *t, uint64_t until_ns);

/* Readable when interfaces or addresses have changed: call tc_poll(), which attaches to what came (back). */
int tc_fd(const struct tc *t);
void tc_poll(struct tc *t);

/* Fills all TC_REASONS counters, summed over CPUs. Thread: any. */
void tc_stats(struct tc *t, struct tc_stat out[TC_REASONS]);
