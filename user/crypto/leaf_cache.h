/* SPDX-License-Identifier: MIT */
/*
 * Leaves that were minted, found by 32-byte digests, the least recently used dropped first. It does not care what a
 * digest is of: worker/leaf_store puts each leaf under that of its spec and under those of the requests that led there.
 */
#pragma once

#include "crypto/leaf_spec.h"

#define LEAF_CACHE_ENTRIES 2048u

struct leaf_cache;

/* NULL when memory is out. Thread: the owner's only. */
struct leaf_cache *leaf_cache_new(uint32_t entries_max) __must_check;
void leaf_cache_free(struct leaf_cache *cache);
void leaf_cache_clear(struct leaf_cache *cache);

/* Borrowed until the next call; NULL: not there, or it expires within a day. */
struct leaf *leaf_cache_find(struct leaf_cache *cache, const uint8_t key[LEAF_KEY_SIZE], int64_t now_s);

/* Takes a reference of its own. Without memory nothing is kept, which costs a mint later. */
void leaf_cache_put(struct leaf_cache *cache, const uint8_t key[LEAF_KEY_SIZE], struct leaf *leaf);

uint32_t leaf_cache_count(const struct leaf_cache *cache);
