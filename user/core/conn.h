/* SPDX-License-Identifier: MIT */
/* One connection of a session, client's or server's: its record for flows, and what works on it. */
#pragma once

#include "core/layer.h"
#include "flow/conn.h"

struct dgram;
struct sock;

enum conn_state { CONN_CLOSED = 0, CONN_CAN_READ = 1, CONN_CAN_WRITE = 2, CONN_OPEN = 3 };

struct conn {
	struct conn_record *record;      /* one reference; conn_record_edit() before writing */
	bool is_client;
	uint8_t state;                   /* enum conn_state bits */
	bool failed;                     /* record->error is set: further attempts make no sense */
	bool refused;                    /* a hook forbids it; record->error says why */
	bool bytes_arrived;              /* the peer has sent something */
	bool hop;                        /* a proxy behind us: leads to the server that is meant, and is not it */
	bool authenticated;              /* a client that has logged in, once for the whole connection */
	uint32_t paused;                 /* PAUSE_* bits */
	struct sock *sock;               /* the driver's; NULL: none (closed, or a playbook) */
	void *driver;                    /* the driver's own part */
	struct conn *next;               /* the session's list */
	void *opener;                    /* the driver's: the layer that waits for EV_OPENED */
	struct addr origin;              /* a server's address when it is an IP; family 0: a name in the record */
	bool promised;                   /* the client was told that it is connected to origin before anybody tried */
	struct addr peer;                /* the connected peer */
	struct dgram *dgram;             /* UDP: the driver's, instead of sock */
	struct addr local;               /* UDP: our end, which the peer is answered from; family 0: the socket's own */
	uint32_t bound_if;               /* upstream must use this interface; 0: any */
	uint64_t netns;                  /* the network namespace that upstream connections are made in; 0: ours */
};

static inline bool conn_is_open(const struct conn *c)
{
	return c->state == CONN_OPEN;
}
