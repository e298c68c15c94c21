/* SPDX-License-Identifier: MIT */
/* The lock around the tables. */
#include "worker/refusal_store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct refusal_store {
	struct tls_refusal_source source;
	pthread_mutex_t lock;            /* guards what follows */
	struct tls_refusals *table;
	struct refusal_met met[REFUSALS_MET_MAX];
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

/* The entry of a process and host, or the one that has been there longest. */
static struct refusal_met *place(struct refusal_store *store, uint32_t pid, const char *host)
{
	struct refusal_met *oldest = &store->met[0];

	for (uint32_t i = 0; i < REFUSALS_MET_MAX; i++) {
		struct refusal_met *m = &store->met[i];

		if (m->pid == pid && strcmp(m->host, host) == 0)
			return m;
		if (!m->pid || (oldest->pid && m->at_ns < oldest->at_ns))
			oldest = m;
	}
	*oldest = (struct refusal_met){ .pid = pid };
	memcpy(oldest->host, host, sizeof(oldest->host));
	return oldest;
}

static void store_met(struct tls_refusal_source *s, uint32_t pid, struct str host, const char *why, int64_t now_ns)
{
	struct refusal_store *store = locked(s);
	char name[sizeof(store->met->host)] = "";
	struct refusal_met *m;

	memcpy(name, host.len ? host.ptr : "", MIN(host.len, sizeof(name) - 1));
	m = place(store, pid, name);
	m->count++;
	m->at_ns = now_ns;
	snprintf(m->why, sizeof(m->why), "%s", why);
	unlock(store);
}

static int compare_met(const void *a, const void *b)
{
	int64_t x = ((const struct refusal_met *)a)->at_ns, y = ((const struct refusal_met *)b)->at_ns;

	return x > y ? -1 : x < y;
}

uint32_t refusal_store_met(struct refusal_store *store, uint32_t pid, struct refusal_met *out, uint32_t max)
{
	struct refusal_met *found = mem_alloc(sizeof(store->met));
	uint32_t count = 0;

	if (!found)
		return 0;
	locked(&store->source);
	for (uint32_t i = 0; i < REFUSALS_MET_MAX; i++)
		if (store->met[i].pid == pid)
			found[count++] = store->met[i];
	unlock(store);
	qsort(found, count, sizeof(*found), compare_met);
	count = MIN(count, max);
	memcpy(out, found, count * sizeof(*found));
	mem_free(found);
	return count;
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
	store->source.met = store_met;
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
