/* SPDX-License-Identifier: MIT */
/* The backend for where io_uring is refused: readiness by epoll, edge-triggered, calls made directly. */
#pragma once

#include "core/io.h"

/* Returns 0 or -errno with e filled. Thread: the one that will run it. */
int epoll_new(struct io **out, struct err *e) __must_check;
