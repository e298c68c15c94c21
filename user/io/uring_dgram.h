/* SPDX-License-Identifier: MIT */
/* Datagram sockets on the ring: it tells when they are ready, io/real_dgram.h reads and writes them. */
#pragma once

#include "io/real_dgram.h"
#include "io/uring_sock.h"

extern const struct real_dgram_ops udgram_ops;

/* Before the ring is entered: entries for which there was no room. */
void udgram_arm(struct uring *u);
void udgram_completed(struct real_dgram *s, enum uring_kind kind, int res, uint32_t flags);
