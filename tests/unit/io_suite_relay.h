/* SPDX-License-Identifier: MIT */
/* The smallest proxy: accepts, dials an origin, copies both ways with backpressure. Shows whether io.h is enough. */
#pragma once

#include "core/io.h"

struct io_relay;

/* handle: as for io->ops->listen(). NULL: out of memory (the handle is closed). */
struct io_relay *io_relay_new(struct io *io, int handle, const struct addr *origin);
/* Connections that are open or opening. */
int io_relay_open(const struct io_relay *r);
/* The most bytes that were queued towards any one end. */
size_t io_relay_queued_max(const struct io_relay *r);
/* Resets what is open. */
void io_relay_free(struct io_relay *r);
