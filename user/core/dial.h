/* SPDX-License-Identifier: MIT */
/*
 * Opening an upstream connection: the hooks around it, the name, and the race between its addresses (RFC 8305: families
 * alternate, the next attempt starts 250 ms after the last, the first that connects wins).
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
/* Gives up without calling done. */
void dial_cancel(struct dial *dial);
