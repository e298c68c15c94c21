/* SPDX-License-Identifier: MIT */
/*
 * A backend for tests: a network and a clock that exist in memory only. One thread, no system call, everything chosen
 * by one 64-bit seed, so that what a seed finds is found again by that seed. Time stands still while anything can
 * happen and jumps to the next event when nothing can. Far ends are in sim_peer.h.
 *
 * What is the proxy's is allocated by mem_*() and may fail there; what is the world's own is not, and aborts.
 */
#pragma once

#include "core/io.h"

/* Probabilities in 1/1000 of each occasion. All zero: a perfect network with 10 us latency and 256 KiB windows. */
struct sim_faults {
	uint16_t short_read, short_write;        /* 1 byte … all but one */
	uint16_t reset;                          /* of an arriving piece: both ends are reset instead */
	uint16_t peer_fin;                       /* of a far end's sending: it stops in the middle, with FIN */
	uint16_t refuse;                         /* of connects: refused although somebody listens */
	uint16_t connect_slow;                   /* of connects: up to 20 s */
	uint16_t connect_lost;                   /* of connects: -ETIMEDOUT after 127 s */
	uint16_t resolve_fail, resolve_slow;     /* of names; slow: up to 20 s */
	uint16_t starve;                         /* of accepts: -EMFILE first */
	uint16_t reorder;                        /* of notices: told before those of other sockets */
	uint16_t dgram_lost, dgram_twice;        /* of datagrams */
	int64_t latency_min_ns, latency_max_ns;  /* one way; max 0: as above */
	uint32_t window_min, window_max;         /* bytes under way and unread, per direction; max 0: as above */
};

/* A mixture that depends on seed: most seeds have a few faults, some none, some many. */
struct sim_faults sim_faults_of(uint64_t seed);

/* faults is copied; NULL: none. Returns 0 or -ENOMEM with e filled. */
int sim_new(struct io **out, uint64_t seed, const struct sim_faults *faults, struct err *e) __must_check;

/* For phases of a test. Connections keep their windows. */
void sim_set_faults(struct io *io, const struct sim_faults *faults);

/* A handle for io->ops->listen(). Port 0: one is chosen and filled in. Returns it, or -EADDRINUSE. */
int sim_listen(struct io *io, struct addr *at) __must_check;

/*
 * A handle for io->ops->dgram_open(); far ends are such sockets, too. An address of zeros hears all addresses. Port 0:
 * one is chosen and filled in. Returns it, or -EADDRINUSE.
 */
int sim_dgram_bind(struct io *io, struct addr *at) __must_check;

/* Makes a name known to io->ops->resolve(); "localhost" is. Ports in addrs are ignored. */
void sim_name(struct io *io, const char *name, const struct addr *addrs, uint32_t count);

/* Nothing can be accepted (-EMFILE) nor dialled (NULL) while on. */
void sim_starve(struct io *io, bool on);

/* True when nothing is under way: without the test doing something, only timers will ever fire. */
bool sim_idle(const struct io *io);

/* A digest of all that has happened; equal for equal seeds and equal behaviour of the code under test. */
uint64_t sim_digest(const struct io *io);
