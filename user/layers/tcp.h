/* SPDX-License-Identifier: MIT */
/* A relay that records a TCP flow (spec/layers 13): half-closes stay halves, a reset stays a reset (DB-5). */
#pragma once

#include "core/conn.h"

/* Opens server on EV_START when it was never opened. NULL: out of memory. */
struct layer *tcp_new(struct layer *parent, struct conn *client, struct conn *server) __must_check;
/*
 * The same for TLS that is not intercepted; its bytes are counted, and kept only if show_ignored_hosts says so. why
 * goes into the flow's metadata.
 */
struct layer *tcp_new_passed(struct layer *parent, struct conn *client, struct conn *server,
			     struct str why) __must_check;
/* The same; when both sides agree on TLS in the midst of it, the flow goes on with what that holds (starttls.h). */
struct layer *tcp_new_starttls(struct layer *parent, struct conn *client, struct conn *server) __must_check;
