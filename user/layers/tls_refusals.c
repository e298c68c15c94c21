/* SPDX-License-Identifier: MIT */
/* A hash table with a list through it in order of use. */
#include "layers/tls_refusals.h"

#include <stdio.h>

#include "base/list.h"
#include "base/mem.h"

#define BUCKETS 256u

struct entry {
	struct list used;                /* most recent last */
	struct entry *next;              /* same bucket */
	int64_t until_ns;
	uint32_t hash;
	uint32_t len;
	char why[TLS_REFUSAL_WHY_MAX];
	char key[];
};

struct tls_refusals {
	struct list used;
	uint32_t count, max;
	struct entry *buckets[BUCKETS];
};

/* FNV-1a. */
static uint32_t hash(struct str key)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < key.len; i++)
		h = (h ^ (uint8_t)key.ptr[i]) * 16777619u;
	return h;
}

struct tls_refusals *tls_refusals_new(uint32_t entries_max)
{
	struct tls_refusals *r = mem_zalloc(sizeof(*r));

	if (!r)
		return NULL;
	r->max = entries_max;
	list_init(&r->used);
	return r;
}

static struct entry **place(struct tls_refusals *r, struct str key, uint32_t h)
{
	struct entry **at = &r->buckets[h % BUCKETS];

	while (*at && ((*at)->hash != h || !str_eq((struct str){ (*at)->key, (*at)->len }, key)))
		at = &(*at)->next;
	return at;
}

static void drop(struct tls_refusals *r, struct entry **at)
{
	struct entry *e = *at;

	*at = e->next;
	list_del(&e->used);
	r->count--;
	mem_free(e);
}

static void drop_oldest(struct tls_refusals *r)
{
	struct entry *e = list_entry(list_first(&r->used), struct entry, used);
	struct entry **at = &r->buckets[e->hash % BUCKETS];

	while (*at != e)
		at = &(*at)->next;
	drop(r, at);
}

void tls_refusals_free(struct tls_refusals *r)
{
	if (!r)
		return;
	while (r->count)
		drop_oldest(r);
	mem_free(r);
}

uint32_t tls_refusals_count(const struct tls_refusals *r)
{
	return r->count;
}

bool tls_refusals_find(struct tls_refusals *r, struct str key, int64_t now_ns, char why[static TLS_REFUSAL_WHY_MAX])
{
	struct entry **at = place(r, key, hash(key)), *e = *at;

	if (!e)
		return false;
	if (e->until_ns <= now_ns) {
		drop(r, at);
		return false;
	}
	list_del(&e->used);
	list_add_tail(&r->used, &e->used);
	memcpy(why, e->why, TLS_REFUSAL_WHY_MAX);
	return true;
}

void tls_refusals_note(struct tls_refusals *r, struct str key, const char *why, int64_t until_ns)
{
	uint32_t h = hash(key);
	struct entry **at = place(r, key, h), *e = *at;

	if (!e) {
		e = mem_zalloc(sizeof(*e) + key.len);
		if (!e)
			return;
		memcpy(e->key, key.ptr, key.len);
		e->len = (uint32_t)key.len;
		e->hash = h;
		*at = e;
		r->count++;
	} else {
		list_del(&e->used);
	}
	e->until_ns = until_ns;
	snprintf(e->why, sizeof(e->why), "%s", why);
	list_init(&e->used);
	list_add_tail(&r->used, &e->used);
	if (r->count > r->max)
		drop_oldest(r);
}
