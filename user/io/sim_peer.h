/* SPDX-License-Identifier: MIT */
/*
 * Far ends in the simulated network: virtual clients and origins. They are the test's, not the proxy's: their memory
 * does not count in mem_live() and does not fail. Callbacks come from inside io_run(); everything may be called there.
 * What is left goes with the io, without callbacks.
 */
#pragma once

#include "core/io.h"

struct sim_peer;
struct sim_peer_listener;

/* Any of these may be NULL. None comes after sim_peer_close() or sim_peer_reset(). */
struct sim_peer_events {
	void (*connected)(void *owner, int err);         /* 0; -ECONNREFUSED, -ETIMEDOUT: the last event */
	void (*received)(void *owner, const uint8_t *bytes, size_t len);
	void (*ended)(void *owner, int err);             /* 0: FIN; -ECONNRESET, may follow a FIN: the last */
	void (*drained)(void *owner);                    /* all that was given to sim_peer_send() is on its way */
};

/* from may be NULL: an address of the test net 192.0.2.0/24. */
struct sim_peer *sim_peer_connect(struct io *io, const struct addr *from, const struct addr *to,
				  const struct sim_peer_events *ev, void *owner);

/* In accepted(), or later, give it events with sim_peer_handle(); what arrives before waits. Port 0: one is chosen. */
struct sim_peer_listener *sim_peer_listen(struct io *io, struct addr *at,
					  void (*accepted)(void *owner, struct sim_peer *peer), void *owner);
/* Those who wait to be accepted are reset. */
void sim_peer_listener_close(struct sim_peer_listener *l);

void sim_peer_handle(struct sim_peer *p, const struct sim_peer_events *ev, void *owner);
void sim_peer_addresses(const struct sim_peer *p, struct addr *own, struct addr *other);

/* Copies; goes out as the window allows. */
void sim_peer_send(struct sim_peer *p, const void *bytes, size_t len);
size_t sim_peer_queued(const struct sim_peer *p);
/* Bytes that have left, all in all; with fault peer_fin fewer than were given. */
uint64_t sim_peer_sent(const struct sim_peer *p);

/* Received bytes wait, and fill the window. */
void sim_peer_pause(struct sim_peer *p, bool paused);

/* FIN once everything queued is out. */
void sim_peer_shutdown(struct sim_peer *p);
/* What is queued still goes out, then FIN; what arrives afterwards is answered by a reset. p is gone. */
void sim_peer_close(struct sim_peer *p);
/* What there is room for on the way goes out, as send() would have sent it; the rest is lost. p is gone. */
void sim_peer_reset(struct sim_peer *p);
