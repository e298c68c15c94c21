/* SPDX-License-Identifier: MIT */
/*
 * Opening an upstream connection: the hooks around it, the name, and the race between its addresses (RFC 8305: families
 * alternate, the next attempt starts 250 ms after the last, the first that connects wins).
 *
 * A destination that was promised (core/conn.h) is one address: its client believes to be connected, and will not try
 * the next one of a name, as it would have without us. So when that has not connected within 250 ms, or has failed, the
 * layer that waits is asked for the name. If that address is one of the name's, by our resolver, the others join the
 * race. Else the client, which may be in another network with names of its own, or was told an address by hand, has not
 * got it by that name, and may mean another host: a reverse proxy sends its own name to the servers behind it.
 */
#pragma once

#include "core/driver.h"

struct dial;

/*
 * error: NULL, then s is the connected socket (owner and events are the caller's to set), or, where the record says
 * UDP, conn->dgram is (and has both); else why not.
 */
typedef void (*dial_done_fn)(struct driver_conn *c, struct sock *s, const struct addr *peer, const char *error);

/* Starts; done is called later, never from inside. NULL: out of memory. The dial frees itself after done. */
struct dial *dial_start(struct driver *d, struct driver_conn *c, struct conn *conn, dial_done_fn done) __must_check;
/* Gives up without calling done. Who has heard of it by `server_connect` hears of `server_connect_error`. */
void dial_cancel(struct dial *dial);
/* The client has said more, and the layers have it: it may be what a dial of this session listens for. */
void dial_heard(struct driver *d);
