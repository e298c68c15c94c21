/* SPDX-License-Identifier: MIT */
/*
 * Sockets that outlive their connections: of foreign addresses, once nothing brings packets to them any more, they make
 * the kernel drop what a client sends from the same port to the same server (a packet that has a socket is not
 * forwarded), for up to a minute.
 */
#pragma once

#include "base/util.h"

/*
 * Ends the TCP sockets of this network namespace with that mark which no process has. Returns how many, or -errno;
 * -EOPNOTSUPP where the kernel cannot.
 */
int tc_ghosts_end(uint32_t mark);
