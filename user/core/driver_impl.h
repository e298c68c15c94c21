/* SPDX-License-Identifier: MIT */
/*
 * What driver.c (sessions), driver_conn.c (their connections) and driver_dgram.c (those that are datagrams) share.
 * Nobody else includes this.
 */
#pragma once

#include "core/driver.h"

struct dial;

struct driver_conn {
	struct conn base;
	struct driver *driver;
	struct driver_conn *next;
	struct dial *dial;
	struct layer *opener;            /* waits for EV_OPENED */
	uint32_t blocked;                /* queued events that hold reading back */
	bool told;                       /* server_connected was, so server_disconnected must be */
	bool held, ended;                /* a hook about it is asked; it ended meanwhile */
	int ended_err;
	char *open_error;                /* while server_connect_error is asked */
	/* datagrams */
	bool lent;                       /* base.dgram is somebody else's, and stays open */
	struct list waiting;             /* struct waiting: came while it was paused */
	uint32_t waiting_count;
	size_t waiting_bytes;
	struct timer wake;               /* they are due */
};

static inline struct driver_conn *conn_outer(struct conn *c)
{
	return container_of(c, struct driver_conn, base);
}

static inline struct io *io_of(const struct driver *d)
{
	return d->world->io;
}

/* --- driver.c --- */
/* A session without a socket; the client's record has both addresses. NULL: out of memory. */
struct driver *driver_alloc(struct driver_world *w, const struct addr *peer, const struct addr *local, bool udp)
	__must_check;
/* One that was never started. */
void driver_undo(struct driver *d);
void driver_deliver(struct driver *d, const struct event *ev);
/* After each event, or what stands for one: a session that is over comes to its end. */
void driver_settle(struct driver *d);
void driver_log(struct driver *d, enum log_level level, const char *text);
/* The peer is gone; err: 0 or why. */
void driver_ended(struct conn *c, int err);
/* Of sockets; the owner is the struct conn. */
extern const struct sock_events driver_sock_events;

/* --- driver_conn.c --- */
/* In the session's list, not open. NULL: out of memory. */
struct driver_conn *driver_conn_new(struct driver *d, bool is_client) __must_check;
/* Closes it. It is in no list any more. */
void driver_conn_free(struct driver_conn *c);
/* A hook that was asked may have ended it. */
bool driver_conn_is_there(const struct driver *d, const struct driver_conn *which);
/* opener gets EV_OPENED; later, but for want of memory. */
void driver_conn_open(struct driver_conn *c, struct layer *opener);
/* Nobody waits for it to open any more. */
void driver_conn_give_up(struct driver_conn *c);
void driver_conn_close(struct conn *c, bool reset);
/* why: PAUSE_*; a PAUSE_BLOCKED is lifted as often as it was set. */
void driver_conn_pause(struct conn *c, uint32_t why, bool pause);
/* While a hook about it is asked nothing is heard of a connection; what it says waits in the kernel. */
void driver_conn_hold(struct driver_conn *c);
void driver_conn_release(struct driver_conn *c);
/* Its end, which nobody could be told of. Who was told something else meanwhile may have done away with it. */
void driver_conn_tell_ended(struct driver *d, struct driver_conn *c);

/* --- driver_dgram.c --- */
void driver_dgram_init(struct driver_conn *c);
/* A connection that dial has made. */
extern const struct dgram_events driver_dgram_events;
void driver_dgram_send(struct driver_conn *c, struct chain *data);
void driver_dgram_pause(struct driver_conn *c, bool paused);
void driver_dgram_close(struct driver_conn *c);
