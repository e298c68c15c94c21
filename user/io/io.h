/* SPDX-License-Identifier: MIT */
/* Which backend a thread gets, and what this kernel offers for the first choice. */
#pragma once

#include "core/io.h"

enum io_choice { IO_AUTO, IO_URING, IO_EPOLL };

/*
 * Thread: the one that will run it (io_uring's single issuer). auto takes io_uring and falls back to epoll, with one
 * log line per process that says why. Returns 0 or -errno with e filled.
 */
int io_new(struct io **out, enum io_choice choice, struct err *e) __must_check;

static inline void io_free(struct io *io)
{
	if (io)
		io->ops->free(io);
}
