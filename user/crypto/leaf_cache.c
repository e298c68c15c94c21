/* SPDX-License-Identifier: MIT */
#include "crypto/leaf_cache.h"

#include "base/lru.h"
#include "base/mem.h"

#define EXPIRY_MARGIN_S 86400

struct entry {
	struct lru_entry base;
	struct leaf *leaf;
	uint8_t key[LEAF_KEY_SIZE];
};

struct leaf_cache {
	struct lru table;
	uint32_t max;
};

struct leaf_cache *leaf_cache_new(uint32_t entries_max)
{
	struct leaf_cache *cache = mem_zalloc(sizeof(*cache));

	if (!cache)
		return NULL;
	cache->max = entries_max;
	if (lru_init(&cache->table, entries_max) == 0)
		return cache;
	mem_free(cache);
	return NULL;
}

static struct str key_text(const uint8_t key[LEAF_KEY_SIZE])
{
	return (struct str){ (const char *)key, LEAF_KEY_SIZE };
}

static void drop(struct leaf_cache *cache, struct lru_entry *e)
{
	struct entry *entry = container_of(e, struct entry, base);

	lru_del(&cache->table, e);
	leaf_put(entry->leaf);
	mem_free(entry);
}

void leaf_cache_clear(struct leaf_cache *cache)
{
	struct lru_entry *oldest;

	while ((oldest = lru_oldest(&cache->table)))
		drop(cache, oldest);
}

void leaf_cache_free(struct leaf_cache *cache)
{
	if (!cache)
		return;
	leaf_cache_clear(cache);
	lru_fini(&cache->table);
	mem_free(cache);
}

struct leaf *leaf_cache_find(struct leaf_cache *cache, const uint8_t key[LEAF_KEY_SIZE], int64_t now_s)
{
	struct lru_entry *e = lru_find(&cache->table, key_text(key));
	struct leaf *leaf = e ? container_of(e, struct entry, base)->leaf : NULL;

	if (!leaf)
		return NULL;
	if (leaf->expires_s < now_s + EXPIRY_MARGIN_S) {
		drop(cache, e);
		return NULL;
	}
	lru_touch(&cache->table, e);
	return leaf;
}

void leaf_cache_put(struct leaf_cache *cache, const uint8_t key[LEAF_KEY_SIZE], struct leaf *leaf)
{
	struct lru_entry *older = lru_find(&cache->table, key_text(key));
	struct entry *entry;

	if (older)
		drop(cache, older);
	else if (cache->table.count == cache->max)
		drop(cache, lru_oldest(&cache->table));
	entry = mem_zalloc(sizeof(*entry));
	if (!entry)
		return;
	memcpy(entry->key, key, LEAF_KEY_SIZE);
	entry->leaf = leaf_get(leaf);
	entry->base.key = key_text(entry->key);
	lru_add(&cache->table, &entry->base);
}

uint32_t leaf_cache_count(const struct leaf_cache *cache)
{
	return cache->table.count;
}
