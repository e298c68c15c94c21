/* SPDX-License-Identifier: MIT */
/* The default backend: one io_uring per worker. */
#pragma once

#include "core/io.h"

/*
 * Thread: the one that will run it. Returns 0; -ENOSYS, -EPERM, -EINVAL (too old), -ENOMEM, … with e filled when this
 * kernel or container does not offer what is needed.
 */
int uring_new(struct io **out, struct err *e) __must_check;

/* The same with no more than a kernel of that age offers: tests cover the fallbacks with it. */
enum uring_age { URING_6_1, URING_6_0, URING_5_19 };
int uring_new_aged(struct io **out, enum uring_age age, struct err *e) __must_check;

/* One line for `doctor`: what the ring has of what it could have. Returns 0, or -errno when there is no io_uring. */
int uring_describe(char *out, size_t size);
