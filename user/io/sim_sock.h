/* SPDX-License-Identifier: MIT */
/* Sockets in the simulated network, for sim.c. Handles are the ids of connections that wait to be accepted. */
#pragma once

#include "io/sim_net.h"

/* For struct io_ops. */
struct sock *sim_sock_adopt(struct io *io, int handle, const struct sock_events *ev, void *owner) __must_check;
void sim_sock_refuse(struct io *io, int handle);
int sim_sock_addresses(struct io *io, int handle, struct addr *peer, struct addr *local);
struct sock *sim_sock_dial(struct io *io, const struct io_dial *dial, const struct sock_events *ev, void *owner);
int sim_sock_local(struct sock *base, struct addr *local);
void sim_sock_send(struct sock *base, struct chain *data);
void sim_sock_shutdown(struct sock *base);
void sim_sock_close(struct sock *base, bool reset);
void sim_sock_pause(struct sock *base, bool paused);

/* Part of a turn: what was sent since the last one goes out. */
void sim_socks_flush(struct sim *sim);
/* All of them, by a reset. */
void sim_socks_kill(struct sim *sim);
/* Frees those that are over; not from inside their events. */
void sim_socks_reap(struct sim *sim);
