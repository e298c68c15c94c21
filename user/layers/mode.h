/* SPDX-License-Identifier: MIT */
/* The first layer of a session, by how the client came to us (spec/layers 4). */
#pragma once

#include "core/conn.h"
#include "core/proxy_mode.h"

/* An explicit HTTP proxy. */
struct layer *mode_regular_new(struct sink *sink, struct env *env, struct conn *client) __must_check;

/* An explicit HTTP proxy with a proxy behind it; m is a MODE_UPSTREAM. */
struct layer *mode_upstream_new(struct sink *sink, struct env *env, struct conn *client,
				const struct proxy_mode *m) __must_check;

/* A client that takes us for the server of m, a MODE_REVERSE of http, https, tcp or tls. */
struct layer *mode_reverse_new(struct sink *sink, struct env *env, struct conn *client,
			       const struct proxy_mode *m) __must_check;

/* arg of HOOK_SOCKS5_AUTH; texts are terminated. valid: what proxyauth says, and a hook may say otherwise. */
struct socks5_login {
	const char *user, *password;
	bool valid;
};

/* A client that tells its destination with SOCKS 5. */
struct layer *mode_socks5_new(struct sink *sink, struct env *env, struct conn *client) __must_check;

/*
 * A client that was steered to us; server->record->address and server->origin say where it wanted to go. Eager:
 * connects first, and resets the client when that fails, as the kernel would have refused it.
 */
struct layer *mode_transparent_new(struct sink *sink, struct env *env, struct conn *client,
				   struct conn *server) __must_check;

/* --- for mode*.c only ------------------------------------------------------------------------------------------ */

/* A connection that never came about is still something that the client tried: it is shown as a failed flow. */
void mode_report_refused(struct layer *l, struct conn *client, struct conn *server, const char *error);
