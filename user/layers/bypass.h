/* SPDX-License-Identifier: MIT */
/* Passes bytes between client and server, and nothing else: no flow, no hooks. For what must not be intercepted. */
#pragma once

#include "core/conn.h"

/* Opens server on EV_START when it is not open. NULL: out of memory. */
struct layer *bypass_new(struct layer *parent, struct conn *client, struct conn *server) __must_check;
