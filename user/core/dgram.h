/* SPDX-License-Identifier: MIT */
/*
 * Datagrams, as struct io carries them. One kind of socket serves everybody: many peers on one (an endpoint of
 * steering, a listener, WireGuard), or one peer (an upstream flow, which is connected). What comes and goes is a struct
 * datagram: bytes with both ends. Nothing here is reliable: what has no room is dropped and counted, and nobody ever
 * waits.
 *
 * A socket that takes part is made elsewhere, with the options that its user wants: IP_PKTINFO for local, UDP_GRO for
 * segment, IP_RECVORIGDSTADDR for original, IP_RECVTOS for ecn (and their IPv6 kin). One that was assigned datagrams
 * of other addresses answers by a socket of its own for each flow, bound to the original address (IP_TRANSPARENT,
 * SO_REUSEADDR) and connected to the client.
 */
#pragma once

#include "base/addr.h"
#include "base/buf.h"

/* One dgram's datagrams that wait for the kernel to have room; more are dropped. */
#define DGRAM_QUEUE_BYTES (512u * 1024)
#define DGRAM_QUEUE_COUNT 1024u
#define DGRAM_BYTES_MAX   65535u     /* of one datagram; what is longer does not exist */

struct io;

/*
 * received: peer is who sent it, local the address of ours that it came to (with the socket's port), ifindex the
 * interface. original is set on sockets that ask for it (IP_RECVORIGDSTADDR): where it was going before it was assigned
 * to this socket.
 * sent: peer is where to, on a connected socket ignored; local's address becomes the source where it is set (family 0:
 * the kernel chooses).
 * segment: 0 = data is one datagram, which may be empty. Else data is several of this size, the last may be shorter:
 * what the kernel has joined (GRO), or is to cut (GSO).
 */
struct datagram {
	struct addr peer, local, original;
	uint32_t ifindex;
	uint16_t segment;
	uint8_t ecn;                     /* the two bits of RFC 3168; 0: not told, or the socket's default */
	struct chain data;
};

/* Called from io_run() only. */
struct dgram_events {
	/* d is valid during the call. Take data with chain_take(); what is left is put. */
	void (*received)(void *owner, struct datagram *d);
	/*
	 * A connected socket's peer could not be reached (-ECONNREFUSED, -EHOSTUNREACH, …), as far as ICMP tells; more
	 * may come. The socket stays usable.
	 */
	void (*failed)(void *owner, int err);
};

/* Allocated by the backend; its own fields follow. */
struct dgram {
	struct io *io;
	const struct dgram_events *events;
	void *owner;
	uint64_t dropped;                /* datagrams that were given to dgram_send() and never left */
};
