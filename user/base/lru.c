/* SPDX-License-Identifier: MIT */
/* Buckets with chains, their number fixed at the start. */
#include "base/lru.h"

#include <errno.h>

#include "base/mem.h"

/* FNV-1a. Who chooses keys to fill one bucket makes a look-up a walk through all entries, of which there is a limit. */
static uint32_t hash(struct str key)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < key.len; i++)
		h = (h ^ (uint8_t)key.ptr[i]) * 16777619u;
	return h;
}

int lru_init(struct lru *l, uint32_t entries_max)
{
	uint32_t buckets = 1;

	while (buckets < entries_max)
		buckets *= 2;
	list_init(&l->used);
	l->count = 0;
	l->mask = buckets - 1;
	l->buckets = mem_zalloc(buckets * sizeof(struct lru_entry *));
	return l->buckets ? 0 : -ENOMEM;
}

void lru_fini(struct lru *l)
{
	BUG_ON(l->count);
	mem_free(l->buckets);
	l->buckets = NULL;
}

struct lru_entry *lru_find(const struct lru *l, struct str key)
{
	uint32_t h = hash(key);
	struct lru_entry *e = l->buckets[h & l->mask];

	while (e && (e->hash != h || !str_eq(e->key, key)))
		e = e->next;
	return e;
}

void lru_add(struct lru *l, struct lru_entry *e)
{
	struct lru_entry **bucket;

	e->hash = hash(e->key);
	bucket = &l->buckets[e->hash & l->mask];
	e->next = *bucket;
	*bucket = e;
	list_add_tail(&l->used, &e->used);
	l->count++;
}

void lru_del(struct lru *l, struct lru_entry *e)
{
	struct lru_entry **at = &l->buckets[e->hash & l->mask];

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	list_del(&e->used);
	l->count--;
}

void lru_touch(struct lru *l, struct lru_entry *e)
{
	list_del(&e->used);
	list_add_tail(&l->used, &e->used);
}

struct lru_entry *lru_oldest(const struct lru *l)
{
	struct list *first = list_first(&l->used);

	return first ? list_entry(first, struct lru_entry, used) : NULL;
}
