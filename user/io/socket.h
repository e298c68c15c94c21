/* SPDX-License-Identifier: MIT */
/* What the real backends and the worker need of the kernel's sockets: addresses, options, namespaces. No event loop. */
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include "core/io.h"

/* Fills out; returns its length. An address of family 4 becomes AF_INET. */
socklen_t socket_addr_write(const struct addr *a, struct sockaddr_storage *out);

/* IPv4-mapped IPv6 becomes family 4; false (and family 0) for other kinds of sockets. */
bool socket_addr_parse(const struct sockaddr_storage *from, struct addr *out);

/* Both return 0 or -errno (-ENOTCONN: the peer has already gone). */
int socket_local(int fd, struct addr *out);
int socket_peer(int fd, struct addr *out);

/*
 * A listening TCP socket, non-blocking, close-on-exec. "::" takes no IPv4: that is 0.0.0.0's.
 * Accepted sockets inherit TCP_NODELAY.
 * reuseport: several workers share the address; it is then not noticed that another process of this user does so too,
 * unless the first of them was bound without it and closed. Returns the descriptor, or -errno with e filled.
 */
int socket_listen(const struct addr *at, bool reuseport, struct err *e) __must_check;

/*
 * The same for datagrams: a bound UDP socket that tells the address of ours that each came to, and joins segments.
 * Nobody else may have the port, unless reuseport.
 */
int socket_listen_dgram(const struct addr *at, bool reuseport, struct err *e) __must_check;

/*
 * A UDP socket, non-blocking, close-on-exec, bound to an address that need not be this machine's (needs CAP_NET_ADMIN).
 * shared: others may be bound there, too. Returns the descriptor or -errno.
 */
int socket_transparent_dgram(const struct addr *at, bool shared) __must_check;

/* Lets a listener take connections to addresses that are not this machine's (TPROXY). Returns 0 or -errno (-EPERM). */
int socket_set_transparent(int fd) __must_check;

/*
 * Where an accepted connection was going before a firewall rule sent it to the listener at `at`: REDIRECT keeps it in
 * conntrack, TPROXY leaves it as our own end. Returns 0; -ENOENT when it was made to the listener itself; -errno.
 */
int socket_original(int fd, const struct addr *at, struct addr *out) __must_check;

/*
 * A socket made as dial asks: namespace, mark, interface, own address, TCP_NODELAY; not yet connected. netns: where
 * those of other namespaces come from, or NULL. flags: 0 or SOCK_NONBLOCK. Returns the descriptor or -errno.
 */
int socket_for_dial(const struct io_dial *dial, int flags, const struct io_netns *netns) __must_check;

/* The same for a datagram socket (TCP's options aside), non-blocking; not yet connected. */
int socket_for_dgram_dial(const struct io_dial *dial, const struct io_netns *netns) __must_check;

/* Whether a listening socket's queue has no room: the kernel then drops further connections until they try again. */
bool socket_queue_full(int fd);

/* Closes so that the peer sees a reset. What was not sent yet is lost. */
void socket_reset(int fd);
/* Bytes of a TCP socket that the kernel has, and has never sent yet; 0 when that cannot be told. */
size_t socket_unsent(int fd);

/* True for errors that say "no more for now": descriptors or memory are out. */
bool socket_is_starved(int err);

/* The head of c as at most max pieces; *bytes is their sum. Returns how many. */
uint32_t socket_iovecs(const struct chain *c, struct iovec *iov, uint32_t max, size_t *bytes);
