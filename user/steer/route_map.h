/* SPDX-License-Identifier: MIT */
/* The routes of one network namespace, in the map that the programs ask. Thread: one at a time for each. */
#pragma once

#include "steer/route.h"

struct route_map {
	uint64_t netns;              /* cookie; the owner sets it before the first update */
	struct route *routes;        /* what was written, shortest prefix first */
	uint32_t count;
	bool loopback4, loopback6;   /* 127.0.0.1 and ::1 are there: what listens on them can be reached */
	bool cut;                    /* the warning was given */
};

/*
 * Reads the routes of the calling thread's namespace, writes what is new, then drops what is gone: no destination is
 * without its route in between. map: mb_route. Returns 0 or -errno; what could not be written is unreachable to
 * steering, and goes direct.
 */
int route_map_update(struct route_map *m, int map, struct err *e) __must_check;

/* Takes them all out again, and frees what m holds. */
void route_map_fini(struct route_map *m, int map);
