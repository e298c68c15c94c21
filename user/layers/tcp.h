/* SPDX-License-Identifier: MIT */
/* A relay that records a TCP flow (spec/layers 13): half-closes stay halves, a reset stays a reset (DB-5). */
#pragma once

#include "core/conn.h"

/* Opens server on EV_START when it was never opened. NULL: out of memory. */
struct layer *tcp_new(struct layer *parent, struct conn *client, struct conn *server) __must_check;
/* The same; when both sides agree on TLS in the midst of it, the flow goes on with what that holds (starttls.h). */
struct layer *tcp_new_starttls(struct layer *parent, struct conn *client, struct conn *server) __must_check;
