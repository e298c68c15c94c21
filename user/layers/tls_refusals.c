/* SPDX-License-Identifier: MIT */
#include "layers/tls_refusals.h"

#include <stdio.h>

#include "base/lru.h"
#include "base/mem.h"

struct refusal {
	struct lru_entry base;
	int64_t until_ns;
	char why[TLS_REFUSAL_WHY_MAX];
	char key[];
};

struct tls_refusals {
	struct lru table;
	uint32_t max;
};

struct tls_refusals *tls_refusals_new(uint32_t entries_max)
{
	struct tls_refusals *r = mem_zalloc(sizeof(*r));

	if (!r)
		return NULL;
	r->max = entries_max;
	if (lru_init(&r->table, entries_max) == 0)
		return r;
	mem_free(r);
	return NULL;
}

static void drop(struct tls_refusals *r, struct lru_entry *e)
{
	lru_del(&r->table, e);
	mem_free(container_of(e, struct refusal, base));
}

void tls_refusals_free(struct tls_refusals *r)
{
	struct lru_entry *oldest;

	if (!r)
		return;
	while ((oldest = lru_oldest(&r->table)))
		drop(r, oldest);
	lru_fini(&r->table);
	mem_free(r);
}

uint32_t tls_refusals_count(const struct tls_refusals *r)
{
	return r->table.count;
}

bool tls_refusals_find(struct tls_refusals *r, struct str key, int64_t now_ns, char why[static TLS_REFUSAL_WHY_MAX])
{
	struct lru_entry *e = lru_find(&r->table, key);
	const struct refusal *refusal = e ? container_of(e, struct refusal, base) : NULL;

	if (!e)
		return false;
	if (refusal->until_ns <= now_ns) {
		drop(r, e);
		return false;
	}
	lru_touch(&r->table, e);
	memcpy(why, refusal->why, TLS_REFUSAL_WHY_MAX);
	return true;
}

/* NULL when memory is out. */
static struct lru_entry *add(struct tls_refusals *r, struct str key)
{
	struct refusal *refusal = mem_zalloc(sizeof(*refusal) + key.len);

	if (!refusal)
		return NULL;
	memcpy(refusal->key, key.ptr, key.len);
	refusal->base.key = (struct str){ refusal->key, key.len };
	lru_add(&r->table, &refusal->base);
	return &refusal->base;
}

void tls_refusals_note(struct tls_refusals *r, struct str key, const char *why, int64_t until_ns)
{
	struct lru_entry *e = lru_find(&r->table, key);
	struct refusal *refusal;

	if (e)
		lru_touch(&r->table, e);
	else
		e = add(r, key);
	if (!e)
		return;
	refusal = container_of(e, struct refusal, base);
	refusal->until_ns = until_ns;
	snprintf(refusal->why, sizeof(refusal->why), "%s", why);
	if (r->table.count > r->max)
		drop(r, lru_oldest(&r->table));
}
