/* SPDX-License-Identifier: MIT */
/* The first layer of a session, by how the client came to us (spec/layers 4). */
#pragma once

#include "core/conn.h"

/* An explicit HTTP proxy. */
struct layer *mode_regular_new(struct sink *sink, struct env *env, struct conn *client) __must_check;

/*
 * A client that was steered to us; server->record->address and server->origin say where it wanted to go. Eager:
 * connects first, and resets the client when that fails, as the kernel would have refused it.
 */
struct layer *mode_transparent_new(struct sink *sink, struct env *env, struct conn *client,
				   struct conn *server) __must_check;
