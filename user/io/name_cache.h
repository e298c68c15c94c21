/* SPDX-License-Identifier: MIT */
/*
 * What names were just found to mean. A program that opens many connections to a host at once asks its resolver once,
 * and then so do we; an answer is good for a second, for nobody here knows for how long it may be. Thread: the owner's.
 */
#pragma once

#include "core/io.h"

#define NAME_CACHE_MAX 256u
#define NAME_CACHE_NS  INT64_C(1000000000)

struct name_cache;

/* NULL: out of memory. */
struct name_cache *name_cache_new(void) __must_check;
void name_cache_free(struct name_cache *c);

/* Copies what is known of the host, with that port, and returns how many addresses; 0: nothing that is new enough. */
uint32_t name_cache_find(struct name_cache *c, struct str host, uint16_t port, int64_t now_ns,
			 struct addr addrs[static IO_RESOLVE_MAX]);

/* count: 1 to IO_RESOLVE_MAX. Without memory nothing is kept. */
void name_cache_put(struct name_cache *c, struct str host, int64_t now_ns, const struct addr *addrs, uint32_t count);
