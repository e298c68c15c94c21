/* SPDX-License-Identifier: MIT */
/* What the kernel and we tell each other about a datagram besides its bytes: cmsg(3). Pure. */
#pragma once

#include <sys/socket.h>

#include "core/dgram.h"

#define DGRAM_CONTROL_BYTES 192u         /* all that there is at once, either way */

/*
 * Fills in local (its port stays), original, ifindex, segment and ecn, as far as they are told. A message that is too
 * short for its kind, as one that had no room, tells nothing; whatever msg_control holds, only its msg_controllen bytes
 * are read.
 */
void dgram_control_read(struct datagram *d, struct msghdr *msg);

/* Adds messages to msg_control, which has DGRAM_CONTROL_BYTES and begins empty. segment 0: it leaves as it is. */
void dgram_control_write(struct msghdr *msg, const struct datagram *d, uint16_t segment);
