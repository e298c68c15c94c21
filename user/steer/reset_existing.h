/* SPDX-License-Identifier: MIT */
/*
 * Connections that were there before us: the selected processes' are broken, so that they are made anew, through us
 * (spec/steering 4.7). Thread: the steering's owner.
 */
#pragma once

#include "steer/steer.h"

/**
 * steer_reset_existing() - ends established TCP connections of the processes that the policy in force selects.
 * @loopback: those to this machine's own addresses, too, as steer_options.loopback
 * @count: how many
 *
 * In the calling thread's network namespace, and in others that they are in, if those are served. Their owners see
 * ECONNABORTED. Returns 0; -EOPNOTSUPP when the kernel was built without INET_DIAG_DESTROY; other -errno; with a
 * sentence.
 */
int steer_reset_existing(struct steer *s, bool loopback, uint32_t *count, struct err *e) __must_check;
