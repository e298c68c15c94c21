/* SPDX-License-Identifier: MIT */
#include "io/name_cache.h"

#include "base/lru.h"
#include "base/mem.h"

struct name {
	struct lru_entry base;
	int64_t until_ns;
	uint32_t count;
	struct addr addrs[IO_RESOLVE_MAX];
	char host[];
};

struct name_cache {
	struct lru table;
};

struct name_cache *name_cache_new(void)
{
	struct name_cache *c = mem_zalloc(sizeof(*c));

	if (!c)
		return NULL;
	if (lru_init(&c->table, NAME_CACHE_MAX) == 0)
		return c;
	mem_free(c);
	return NULL;
}

static void drop(struct name_cache *c, struct lru_entry *e)
{
	lru_del(&c->table, e);
	mem_free(container_of(e, struct name, base));
}

void name_cache_free(struct name_cache *c)
{
	struct lru_entry *oldest;

	if (!c)
		return;
	while ((oldest = lru_oldest(&c->table)))
		drop(c, oldest);
	lru_fini(&c->table);
	mem_free(c);
}

uint32_t name_cache_find(struct name_cache *c, struct str host, uint16_t port, int64_t now_ns,
			 struct addr addrs[static IO_RESOLVE_MAX])
{
	struct lru_entry *e = lru_find(&c->table, host);
	const struct name *name = e ? container_of(e, struct name, base) : NULL;

	if (!e)
		return 0;
	if (name->until_ns <= now_ns) {
		drop(c, e);
		return 0;
	}
	lru_touch(&c->table, e);
	for (uint32_t i = 0; i < name->count; i++) {
		addrs[i] = name->addrs[i];
		addrs[i].port = port;
	}
	return name->count;
}

void name_cache_put(struct name_cache *c, struct str host, int64_t now_ns, const struct addr *addrs, uint32_t count)
{
	struct lru_entry *older = lru_find(&c->table, host);
	struct name *name = mem_alloc(sizeof(*name) + host.len);

	BUG_ON(count == 0 || count > IO_RESOLVE_MAX);
	if (older)
		drop(c, older);
	else if (c->table.count == NAME_CACHE_MAX)
		drop(c, lru_oldest(&c->table));
	if (!name)
		return;
	name->until_ns = now_ns + NAME_CACHE_NS;
	name->count = count;
	memcpy(name->addrs, addrs, count * sizeof(*addrs));
	memcpy(name->host, host.ptr, host.len);
	name->base.key = (struct str){ name->host, host.len };
	lru_add(&c->table, &name->base);
}
