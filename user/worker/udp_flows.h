/* SPDX-License-Identifier: MIT */
/* UDP sockets of a worker, and which session a datagram belongs to. Thread: the worker's. */
#pragma once

#include "worker/worker_impl.h"

/*
 * Most flows of one worker at a time; the one that was silent longest makes room. Who has more than half of them, one
 * process or one client, makes room himself: others do not lose theirs because of him.
 */
#define UDP_FLOWS_MAX 4096u

/* Takes over the descriptor, also when it fails. */
int udp_flows_listen(struct worker *w, const struct worker_listener *at, struct err *e) __must_check;
/* No new flows come that way; those that there are go on. As worker_unlisten() and its kin; NULL and 0: all. */
void udp_flows_unlisten(struct worker *w, const struct proxy_mode *mode, uint64_t netns);
void udp_flows_rename(struct worker *w, const struct proxy_mode *from, const struct proxy_mode *to);
/* A session is over. */
void udp_flows_finished(struct worker *w, struct driver *d);
/* No session is left. */
void udp_flows_fini(struct worker *w);
