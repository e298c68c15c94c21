/* SPDX-License-Identifier: MIT */
/* Datagrams in the simulated network. Used by sim.c and sim_net.c; sim_dgram_bind() is in io/sim.h. */
#pragma once

#include "io/sim_net.h"

/* For struct io_ops. */
struct dgram *sim_dgram_open(struct io *io, int handle, const struct dgram_events *ev, void *owner);
int sim_dgram_dial(struct io *io, const struct io_dial *dial, const struct dgram_events *ev, void *owner,
		   struct dgram **out);
void sim_dgram_send(struct dgram *s, struct datagram *d);
void sim_dgram_pause(struct dgram *s, bool paused);
int sim_dgram_local(struct dgram *s, struct addr *local);
void sim_dgram_close(struct dgram *s);

/* A packet reaches its destination. */
void sim_dgrams_arrived(struct sim *s, size_t id);
/* Part of a turn: tells sockets what has come. */
void sim_dgrams_run(struct sim *s);
/* Something has come that can be told. */
bool sim_dgrams_busy(const struct sim *s);
void sim_dgrams_free(struct sim *s);
