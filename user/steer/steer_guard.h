/* SPDX-License-Identifier: MIT */
/*
 * So that no application is broken: what is left alone by its destination, and the lease without which nothing is
 * taken. Thread: any, between steer_open() and steer_free(), unless said otherwise.
 */
#pragma once

#include "steer/steer.h"

/**
 * steer_lease() - connections are taken until then.
 * @until_ns: CLOCK_MONOTONIC; 0 = from now on they are not
 *
 * Without a lease what is selected goes direct, or is refused with fail_closed. A proxy that renews it in time is
 * alive; one that is stopped, or whose threads hang, cannot. Before the first call it has no end.
 */
void steer_lease(struct steer *s, uint64_t until_ns);

/* Leaves count destinations alone, whoever connects. Once, before steer_attach(). 0 or -errno with a sentence. */
int steer_bypass(struct steer *s, const struct steer_bypass_key *keys, uint32_t count, struct err *e) __must_check;

/* Marks a listener that takes steered connections as such: no mitm-bpf steers connections to it. 0 or -errno. */
int steer_mark_listener(int fd) __must_check;

/* Leaves one destination of one process (as in steer_origin) alone until until_ns, CLOCK_MONOTONIC. False: it could not
 * be noted, or that process is not known any more. */
bool steer_spare(struct steer *s, uint32_t pid, const struct sockaddr *dst, uint64_t until_ns);
