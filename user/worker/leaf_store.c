/* SPDX-License-Identifier: MIT */
/*
 * Looks a request up twice: by a digest of the request itself, which costs no parsing and hits nearly always, then by
 * what its certificate would say. Who finds neither mints; who wants the same meanwhile waits for that one.
 */
#include "worker/leaf_store.h"

#include <errno.h>
#include <pthread.h>

#include "base/list.h"
#include "base/mem.h"
#include "crypto/leaf_cache.h"
#include "crypto/leaf_mint.h"

/* On the minting thread's stack, in the store's list while its certificate is being signed. */
struct minting {
	struct list node;
	uint8_t key[LEAF_KEY_SIZE];
};

struct leaf_store {
	struct leaf_source source;
	struct leaf_mint mint;
	pthread_mutex_t rsa_lock;    /* held while the RSA key is made; taken before lock, never inside */
	pthread_mutex_t lock;        /* guards all below */
	pthread_cond_t minted;
	struct list minting;
	struct leaf_cache *cache;
	struct leaf_table *table;    /* NULL = none */
	uint64_t generation;         /* of the table: a leaf that was chosen under an older one is not kept */
	uint64_t minted_count;
};

static bool is_minting(const struct leaf_store *store, const uint8_t key[LEAF_KEY_SIZE])
{
	list_for_each(&store->minting, node)
		if (memcmp(list_entry(node, struct minting, node)->key, key, LEAF_KEY_SIZE) == 0)
			return true;
	return false;
}

/* Signs without the lock. Locked on entry and on return. */
static int mint_one(struct leaf_store *store, const struct leaf_spec *spec, const uint8_t key[LEAF_KEY_SIZE],
		    int64_t now_s, struct leaf **out)
{
	uint64_t generation = store->generation;
	struct minting self;
	int ret;

	memcpy(self.key, key, LEAF_KEY_SIZE);
	list_init(&self.node);
	list_add_tail(&store->minting, &self.node);
	pthread_mutex_unlock(&store->lock);
	ret = leaf_mint(out, &store->mint, spec, now_s);
	pthread_mutex_lock(&store->lock);
	list_del(&self.node);
	if (ret == 0) {
		store->minted_count++;
		if (generation == store->generation)
			leaf_cache_put(store->cache, key, *out);
	}
	pthread_cond_broadcast(&store->minted);
	return ret;
}

/* One reference in *out. Locked on entry and on return. */
static int choose(struct leaf_store *store, const struct leaf_spec *spec, int64_t now_s, struct leaf **out)
{
	uint8_t key[LEAF_KEY_SIZE];
	struct leaf *found;

	if (leaf_spec_key(spec, store->mint.sha256, key) < 0)
		return -ENOMEM;
	for (;;) {
		found = store->table ? leaf_table_find(store->table, spec->names) : NULL;
		if (!found)
			found = leaf_cache_find(store->cache, key, now_s);
		if (found) {
			*out = leaf_get(found);
			return 0;
		}
		if (!is_minting(store, key))
			return mint_one(store, spec, key, now_s, out);
		pthread_cond_wait(&store->minted, &store->lock);
	}
}

static int get_slow(struct leaf_store *store, const struct leaf_request *request,
		    const uint8_t request_key[LEAF_KEY_SIZE], int64_t now_s, struct leaf **out)
{
	struct leaf_spec spec;
	uint64_t generation;
	int ret = leaf_spec_init(&spec, request, store->mint.ca->crl_path);

	if (ret < 0)
		return ret;
	if (request->rsa) {
		pthread_mutex_lock(&store->rsa_lock);
		ret = leaf_mint_need_rsa(&store->mint);
		pthread_mutex_unlock(&store->rsa_lock);
	}
	if (ret == 0) {
		pthread_mutex_lock(&store->lock);
		generation = store->generation;
		ret = choose(store, &spec, now_s, out);
		if (ret == 0 && generation == store->generation)
			leaf_cache_put(store->cache, request_key, *out);
		pthread_mutex_unlock(&store->lock);
	}
	leaf_spec_fini(&spec);
	return ret;
}

static int store_get(struct leaf_source *source, const struct leaf_request *request, int64_t now_s,
		     struct leaf **out)
{
	struct leaf_store *store = container_of(source, struct leaf_store, source);
	uint8_t key[LEAF_KEY_SIZE];
	struct leaf *found;

	if (leaf_spec_request_key(request, store->mint.sha256, key) < 0)
		return -ENOMEM;
	pthread_mutex_lock(&store->lock);
	found = leaf_cache_find(store->cache, key, now_s);
	if (found)
		*out = leaf_get(found);
	pthread_mutex_unlock(&store->lock);
	return found ? 0 : get_slow(store, request, key, now_s, out);
}

int leaf_store_new(struct leaf_store **out, const struct ca *ca, struct err *e)
{
	struct leaf_store *store = mem_zalloc(sizeof(*store));
	int ret;

	if (!store)
		return err_set(e, -ENOMEM, "out of memory");
	ret = leaf_mint_init(&store->mint, ca, e);
	if (ret < 0) {
		mem_free(store);
		return ret;
	}
	store->source.get = store_get;
	list_init(&store->minting);
	pthread_mutex_init(&store->rsa_lock, NULL);
	pthread_mutex_init(&store->lock, NULL);
	pthread_cond_init(&store->minted, NULL);
	store->cache = leaf_cache_new(LEAF_CACHE_ENTRIES);
	if (!store->cache) {
		leaf_store_free(store);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*out = store;
	return 0;
}

void leaf_store_free(struct leaf_store *store)
{
	if (!store)
		return;
	BUG_ON(!list_empty(&store->minting));
	leaf_cache_free(store->cache);
	leaf_table_free(store->table);
	leaf_mint_fini(&store->mint);
	pthread_mutex_destroy(&store->rsa_lock);
	pthread_mutex_destroy(&store->lock);
	pthread_cond_destroy(&store->minted);
	mem_free(store);
}

void leaf_store_set_table(struct leaf_store *store, struct leaf_table *table)
{
	struct leaf_table *old;

	pthread_mutex_lock(&store->lock);
	old = store->table;
	store->table = table;
	store->generation++;
	leaf_cache_clear(store->cache);
	pthread_mutex_unlock(&store->lock);
	leaf_table_free(old);
}

struct leaf_source *leaf_store_source(struct leaf_store *store)
{
	return &store->source;
}

uint64_t leaf_store_minted(struct leaf_store *store)
{
	uint64_t count;

	pthread_mutex_lock(&store->lock);
	count = store->minted_count;
	pthread_mutex_unlock(&store->lock);
	return count;
}
