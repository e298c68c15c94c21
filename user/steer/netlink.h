/* SPDX-License-Identifier: MIT */
/*
 * The kernel's answers on a netlink socket, and nobody else's. Whoever has CAP_NET_ADMIN over a network namespace, as
 * the owner of a container, may send to every netlink socket there, under any number; libmnl does not look.
 * Thread: any.
 */
#pragma once

#include <libmnl/libmnl.h>

/**
 * netlink_answer() - one more part of an answer, as mnl_socket_recvfrom() and mnl_cb_run() together.
 * @fd: waits, or does not
 * @seq: what the request had; 0: any
 * @port: of the socket; 0: any
 *
 * Returns what mnl_cb_run() does: over MNL_CB_STOP as long as there is more; -1 with errno.
 */
int netlink_answer(int fd, void *buf, size_t size, uint32_t seq, uint32_t port, mnl_cb_t fn, void *owner);
