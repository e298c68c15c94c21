/* SPDX-License-Identifier: MIT */
/* A hash table of fixed size with chains, and a list in the order of use through its entries. */
#include "crypto/leaf_cache.h"

#include "base/list.h"
#include "base/mem.h"

#define EXPIRY_MARGIN_S 86400

struct entry {
	struct list used;            /* the first is the least recently used */
	struct entry *next;          /* in its bucket */
	struct leaf *leaf;
	uint8_t key[LEAF_KEY_SIZE];
};

struct leaf_cache {
	struct list used;
	uint32_t count, max, mask;
	struct entry *buckets[];
};

struct leaf_cache *leaf_cache_new(uint32_t entries_max)
{
	struct leaf_cache *cache;
	uint32_t buckets = 1;

	while (buckets < entries_max)
		buckets *= 2;
	cache = mem_zalloc(sizeof(*cache) + buckets * sizeof(cache->buckets[0]));
	if (!cache)
		return NULL;
	list_init(&cache->used);
	cache->max = entries_max;
	cache->mask = buckets - 1;
	return cache;
}

/* Keys are digests: any of their bits are as good as a hash. */
static struct entry **place_of(struct leaf_cache *cache, const uint8_t key[LEAF_KEY_SIZE])
{
	struct entry **place;
	uint32_t hash;

	memcpy(&hash, key, sizeof(hash));
	for (place = &cache->buckets[hash & cache->mask]; *place; place = &(*place)->next)
		if (memcmp((*place)->key, key, LEAF_KEY_SIZE) == 0)
			break;
	return place;
}

static void drop(struct leaf_cache *cache, struct entry **place)
{
	struct entry *entry = *place;

	*place = entry->next;
	list_del(&entry->used);
	leaf_put(entry->leaf);
	mem_free(entry);
	cache->count--;
}

static void drop_oldest(struct leaf_cache *cache)
{
	struct list *node = list_first(&cache->used);

	drop(cache, place_of(cache, list_entry(node, struct entry, used)->key));
}

void leaf_cache_clear(struct leaf_cache *cache)
{
	while (cache->count)
		drop_oldest(cache);
}

void leaf_cache_free(struct leaf_cache *cache)
{
	if (!cache)
		return;
	leaf_cache_clear(cache);
	mem_free(cache);
}

struct leaf *leaf_cache_find(struct leaf_cache *cache, const uint8_t key[LEAF_KEY_SIZE], int64_t now_s)
{
	struct entry **place = place_of(cache, key);

	if (!*place)
		return NULL;
	if ((*place)->leaf->expires_s < now_s + EXPIRY_MARGIN_S) {
		drop(cache, place);
		return NULL;
	}
	list_del(&(*place)->used);
	list_add_tail(&cache->used, &(*place)->used);
	return (*place)->leaf;
}

void leaf_cache_put(struct leaf_cache *cache, const uint8_t key[LEAF_KEY_SIZE], struct leaf *leaf)
{
	struct entry **place = place_of(cache, key);
	struct entry *entry;

	if (*place)
		drop(cache, place);
	else if (cache->count == cache->max)
		drop_oldest(cache);
	entry = mem_zalloc(sizeof(*entry));
	if (!entry)
		return;
	memcpy(entry->key, key, LEAF_KEY_SIZE);
	entry->leaf = leaf_get(leaf);
	place = place_of(cache, key);
	entry->next = *place;
	*place = entry;
	list_add_tail(&cache->used, &entry->used);
	cache->count++;
}

uint32_t leaf_cache_count(const struct leaf_cache *cache)
{
	return cache->count;
}
