/* SPDX-License-Identifier: MIT */
/* What driver.c (sessions) and driver_dgram.c (those of datagrams) share. Nobody else includes this. */
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

/* driver.c */
/* A session without a socket; the client's record has both addresses. NULL: out of memory. */
struct driver *driver_alloc(struct driver_world *w, const struct addr *peer, const struct addr *local, bool udp)
	__must_check;
/* One that was never started. */
void driver_undo(struct driver *d);
void driver_deliver(struct driver *d, const struct event *ev);
void driver_log(struct driver *d, enum log_level level, const char *text);
/* The peer is gone; err: 0 or why. */
void driver_ended(struct conn *c, int err);

/* driver_dgram.c */
void driver_dgram_init(struct driver_conn *c);
/* A connection that dial has made. */
extern const struct dgram_events driver_dgram_events;
void driver_dgram_send(struct driver_conn *c, struct chain *data);
void driver_dgram_pause(struct driver_conn *c, bool paused);
void driver_dgram_close(struct driver_conn *c);
