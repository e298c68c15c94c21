/* SPDX-License-Identifier: MIT */
/*
 * A table by key whose entries know the order of their use, for caches with a limit. Entries are the caller's: struct
 * lru_entry is a member of theirs, and lru only links them. Thread: the owner's only.
 */
#pragma once

#include "base/list.h"
#include "base/str.h"

struct lru_entry {
	struct list used;            /* the least recently used first */
	struct lru_entry *next;      /* same bucket */
	struct str key;              /* borrowed: stays what it is while the entry is in the table */
	uint32_t hash;
};

struct lru {
	struct list used;
	uint32_t count, mask;        /* entries; buckets less one */
	struct lru_entry **buckets;
};

/* entries_max: about how many there will be; more make it slower. Returns 0 or -ENOMEM, then lru_fini() is fine. */
int lru_init(struct lru *l, uint32_t entries_max) __must_check;
/* Entries must be out. */
void lru_fini(struct lru *l);

/* The entry of the key, or NULL. That is no use yet. */
struct lru_entry *lru_find(const struct lru *l, struct str key);

/* e->key is set, and in the table there is none like it. It was used now. */
void lru_add(struct lru *l, struct lru_entry *e);
void lru_del(struct lru *l, struct lru_entry *e);

/* It was used now. */
void lru_touch(struct lru *l, struct lru_entry *e);

/* The least recently used entry, or NULL when there is none. */
struct lru_entry *lru_oldest(const struct lru *l);
