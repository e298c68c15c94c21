/* SPDX-License-Identifier: MIT */
/* Listening sockets: one per worker and address, sharing ports with SO_REUSEPORT. */
#pragma once

#include "base/addr.h"
#include "base/err.h"

#define LISTEN_ADDRESSES_MAX 8

/* Addresses that one mode listens on; their port is set once it is known. */
struct listen_plan {
	struct addr at[LISTEN_ADDRESSES_MAX];
	uint32_t count;
	bool udp;                        /* set before listen_plan(): datagrams, not connections */
};

/*
 * Where host (a name, an IP, or empty for every interface) and port are. Port 0 becomes a free one, the same for all
 * addresses. Fails when somebody else has the port, which sockets that share ports would not notice by themselves.
 * A missing IPv6 is not a failure of the empty host. Returns 0 or -errno with mitmproxy's sentence.
 */
int listen_plan(struct listen_plan *plan, const char *description, struct str host, uint16_t port, struct err *e)
	__must_check;

/* 127.0.0.1 and, where there is IPv6, ::1, on one free port: where steered connections arrive. */
int listen_plan_loopback(struct listen_plan *plan, struct err *e) __must_check;
