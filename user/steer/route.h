/* SPDX-License-Identifier: MIT */
/*
 * What the calling thread's network namespace can reach, and from which address. Steering must not make reachable what
 * is not: clients choose between IPv4 and IPv6 by whether connect(2) fails.
 */
#pragma once

#include "base/err.h"

struct route {
	uint8_t family;              /* AF_INET or AF_INET6 */
	uint8_t prefix;              /* 0..32 or 0..128 */
	bool local;                  /* addresses of this machine */
	bool reachable;              /* asked of the kernel, with all its rules and tables; see route_dump() */
	uint8_t ip[16];              /* network order; IPv4 in the first four */
	uint8_t src[16];             /* the source it would choose; zero when unknown */
};

/**
 * route_dump() - all destinations of all tables, shortest prefix first, each once.
 * @out: the caller frees it with mem_free()
 *
 * Only the first STEER_ROUTE_EACH_MAX are asked about; whether others are reachable is what the tables say.
 *
 * Returns 0 or -errno.
 */
int route_dump(struct route **out, uint32_t *count, struct err *e) __must_check;

/* The order of that list; 0: the same destination. */
int route_compare(const struct route *x, const struct route *y);

/* A non-blocking descriptor that becomes readable when routes, addresses or links change; the caller closes it. */
int route_monitor_open(struct err *e) __must_check;

/* Reads away what is there; true: something changed. */
bool route_monitor_drain(int fd);
