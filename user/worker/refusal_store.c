/* SPDX-License-Identifier: MIT */
/* The lock around the table. */
#include "worker/refusal_store.h"

#include <pthread.h>

#include "base/mem.h"

struct refusal_store {
	struct tls_refusal_source source;
	pthread_mutex_t lock;            /* guards the table */
	struct tls_refusals *table;
};

static struct refusal_store *locked(struct tls_refusal_source *s)
{
	struct refusal_store *store = container_of(s, struct refusal_store, source);

	pthread_mutex_lock(&store->lock);
	return store;
}

static void unlock(struct refusal_store *store)
{
	atomic_store_explicit(&store->source.count, tls_refusals_count(store->table), memory_order_relaxed);
	pthread_mutex_unlock(&store->lock);
}

static bool store_find(struct tls_refusal_source *s, struct str key, int64_t now_ns, char why[TLS_REFUSAL_WHY_MAX])
{
	struct refusal_store *store = locked(s);
	bool found = tls_refusals_find(store->table, key, now_ns, why);

	unlock(store);
	return found;
}

static void store_note(struct tls_refusal_source *s, struct str key, const char *why, int64_t until_ns)
{
	struct refusal_store *store = locked(s);

	tls_refusals_note(store->table, key, why, until_ns);
	unlock(store);
}

struct refusal_store *refusal_store_new(void)
{
	struct refusal_store *store = mem_zalloc(sizeof(*store));

	if (!store)
		return NULL;
	store->table = tls_refusals_new(TLS_REFUSALS_MAX);
	if (!store->table) {
		mem_free(store);
		return NULL;
	}
	store->source.find = store_find;
	store->source.note = store_note;
	pthread_mutex_init(&store->lock, NULL);
	return store;
}

void refusal_store_free(struct refusal_store *store)
{
	if (!store)
		return;
	tls_refusals_free(store->table);
	pthread_mutex_destroy(&store->lock);
	mem_free(store);
}

struct tls_refusal_source *refusal_store_source(struct refusal_store *store)
{
	return &store->source;
}
