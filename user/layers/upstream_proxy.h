/* SPDX-License-Identifier: MIT */
/*
 * A way to a server through an HTTP proxy (spec/layers 2.4, 15): connections to the server are asked for as always,
 * this layer opens one to the proxy of the server's record (via) instead, and asks that for a tunnel with CONNECT.
 */
#pragma once

#include "core/conn.h"

/* [TLS to the proxy ] and the tunnel through it; the child is to be set before EV_START. */
struct upstream_proxy_stack {
	struct layer *top, *bottom;      /* top owns bottom; they may be the same */
	struct conn *proxy;              /* the connection to it: the sink's, to be freed after the layers, if at all */
};

/* connect false: only for absolute-form requests, which the proxy reads itself. Returns 0 or -ENOMEM. */
int upstream_proxy_new(struct upstream_proxy_stack *out, struct layer *parent, struct conn *client,
		       struct conn *server, bool connect) __must_check;
/* bottom's; once. It is freed with it. */
void upstream_proxy_set_child(struct layer *bottom, struct layer *child);
