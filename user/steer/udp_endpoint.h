/* SPDX-License-Identifier: MIT */
/*
 * Where the UDP flows of one network namespace arrive: sockets on one port for all addresses that stand for flows, and
 * a route that makes those of IPv6 local (IPv4's are in 127.0.0.0/8 anyway). Everything happens in the network
 * namespace of the calling thread, so a thread that is in another one makes that one's.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct udp_endpoint {
	uint16_t port4, port6;           /* host order; 0: there is nothing of this family here */
};

/*
 * Finds free ports and sets the route, for the families that have none yet in *at; routes that killed predecessors left
 * are removed. Without IPv6, or where the route is refused (which is logged), port6 stays 0. The interface "lo" has to
 * be up. Returns 0 or -errno with a sentence.
 */
int udp_endpoint_open(struct udp_endpoint *at, struct err *e) __must_check;

/*
 * One socket for IPv4 (family 4) or IPv6, one per worker: they share the port, and the kernel gives all datagrams of a
 * flow to the same one. Non-blocking; tells the address that a datagram came to, joins segments (UDP_GRO). Take only
 * what came by the interface "lo". Returns the descriptor, or -errno with a sentence. CAP_NET_RAW or CAP_NET_ADMIN.
 */
int udp_endpoint_socket(const struct udp_endpoint *at, int family, struct err *e) __must_check;

/* Removes the route. */
void udp_endpoint_close(const struct udp_endpoint *at);
