/* SPDX-License-Identifier: MIT */
/* A relay that records a UDP flow (spec/layers 13): each EV_DATA is a datagram and leaves as one; any end is both's. */
#pragma once

#include "core/conn.h"

/*
 * Opens server when the flow has begun. ignored: nobody is told of it and nothing is kept. The session ends it when it
 * is idle. NULL: out of memory.
 */
struct layer *udp_new(struct layer *parent, struct conn *client, struct conn *server, bool ignored) __must_check;
