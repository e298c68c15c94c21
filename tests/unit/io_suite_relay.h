/* SPDX-License-Identifier: MIT */
/* The smallest proxy: accepts, dials an origin, copies both ways with backpressure. Shows whether io.h is enough. */
#pragma once

#include "core/io.h"

struct relay;

/* handle: as for io->ops->listen(). NULL: out of memory (the handle is closed). */
struct relay *relay_new(struct io *io, int handle, const struct addr *origin);
/* Connections that are open or opening. */
int relay_open(const struct relay *r);
/* The most bytes that were queued towards any one end. */
size_t relay_queued_max(const struct relay *r);
/* Resets what is open. */
void relay_free(struct relay *r);
