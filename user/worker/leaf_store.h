/* SPDX-License-Identifier: MIT */
/*
 * The leaves of all workers: the user's own first, then minted ones, each minted once however many connections wait for
 * it. The lock is taken per new TLS connection, not per request, and never held while something is signed.
 */
#pragma once

#include "crypto/leaf.h"
#include "crypto/leaf_table.h"

struct leaf_store;

/* ca: borrowed; outlives the store. */
int leaf_store_new(struct leaf_store **out, const struct ca *ca, struct err *e) __must_check;

/* After the last worker is gone. Leaves that somebody holds stay. */
void leaf_store_free(struct leaf_store *store);

/* Takes over table (NULL: none) and forgets what was minted. Thread: any. */
void leaf_store_set_table(struct leaf_store *store, struct leaf_table *table);

/* What a TLS layer is lent. Thread: any may call leaf_source_get() on it, at once. */
struct leaf_source *leaf_store_source(struct leaf_store *store);

/* How many certificates were signed so far. Thread: any. */
uint64_t leaf_store_minted(struct leaf_store *store);
