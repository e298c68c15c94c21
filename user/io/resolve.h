/* SPDX-License-Identifier: MIT */
/*
 * Names to addresses with the system's resolver, so that /etc/hosts, nsswitch and search domains work as users expect.
 * getaddrinfo() blocks, so a few threads shared by all workers call it; each io has a client, used by its thread only.
 */
#pragma once

#include "core/io.h"

struct resolve_client;

/* wake(io) is called from a resolver thread when an answer is ready. NULL: out of memory. */
struct resolve_client *resolve_client_new(struct io *io, void (*wake)(struct io *io)) __must_check;

/* Forgets all questions. Does not wait for a thread that is still asking. */
void resolve_client_free(struct resolve_client *c);

/*
 * As io_ops.resolve. An IP needs no thread, nor does a name that was answered a moment ago (io/name_cache.h); their
 * answers come from the next resolve_deliver() too.
 * Returns 0; -ENOMEM; -EAGAIN when too many questions wait.
 */
int resolve_ask(struct resolve_client *c, struct str host, uint16_t port, io_resolved_fn fn, void *owner);
void resolve_cancel(struct resolve_client *c, void *owner);

/* True when resolve_deliver() has something to do. Cheap. */
bool resolve_ready(const struct resolve_client *c);

/* Calls back for each answer that is there. */
void resolve_deliver(struct resolve_client *c);
