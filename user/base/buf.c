/* SPDX-License-Identifier: MIT */
/* Slabs, slices, chains. A slab's `used` is the frontier: only bytes behind it may still be written. */
#include "base/buf.h"

#include <errno.h>

#include "base/arena.h"
#include "base/mem.h"

void slab_pool_init(struct slab_pool *pool, uint32_t keep)
{
	*pool = (struct slab_pool){ .keep = keep };
}

void slab_pool_fini(struct slab_pool *pool)
{
	BUG_ON(pool->live != 0);
	while (pool->free) {
		struct slab *next = pool->free->next_free;

		mem_free(pool->free);
		pool->free = next;
	}
	pool->free_count = 0;
}

struct slab *slab_new(struct slab_pool *pool)
{
	struct slab *slab = pool->free;

	if (slab) {
		pool->free = slab->next_free;
		pool->free_count--;
	} else {
		slab = mem_alloc(sizeof(*slab));
		if (!slab)
			return NULL;
		slab->pool = pool;
	}
	slab->refs = 1;
	slab->used = 0;
	pool->live++;
	return slab;
}

void slab_put(struct slab *slab)
{
	struct slab_pool *pool = slab->pool;

	if (--slab->refs)
		return;
	pool->live--;
	if (pool->free_count >= pool->keep) {
		mem_free(slab);
		return;
	}
	slab->next_free = pool->free;
	pool->free = slab;
	pool->free_count++;
}

static int chain_reserve(struct chain *c)
{
	uint32_t cap = c->heap ? c->cap : ARRAY_SIZE(c->own);
	struct slice *at = c->heap ? c->heap : c->own;
	struct slice *grown;

	if (c->first + c->count < cap)
		return 0;
	if (c->first && c->first >= c->count) {
		memmove(at, at + c->first, c->count * sizeof(*at));
		c->first = 0;
		return 0;
	}
	grown = mem_alloc(2 * cap * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memcpy(grown, at + c->first, c->count * sizeof(*at));
	mem_free(c->heap);
	c->heap = grown;
	c->cap = 2 * cap;
	c->first = 0;
	return 0;
}

int chain_append(struct chain *c, struct slice s)
{
	if (s.len == 0) {
		slice_put(s);
		return 0;
	}
	if (c->count) {
		struct slice *last = chain_at(c, c->count - 1);

		if (s.slab && last->slab == s.slab && last->ptr + last->len == s.ptr) {
			last->len += s.len;
			c->len += s.len;
			slice_put(s);
			return 0;
		}
	}
	if (chain_reserve(c) < 0) {
		slice_put(s);
		return -ENOMEM;
	}
	*chain_at(c, c->count++) = s;
	c->len += s.len;
	return 0;
}

int chain_join(struct chain *c, struct chain *from)
{
	int ret = 0;

	if (c->count == 0) {
		chain_clear(c);
		*c = chain_take(from);
		return 0;
	}
	for (uint32_t i = 0; i < from->count && ret == 0; i++)
		ret = chain_append(c, slice_get(*chain_at(from, i)));
	chain_clear(from);
	return ret;
}

struct slab *chain_room(struct chain *c, struct slab_pool *pool, uint32_t min)
{
	struct slab *slab;

	if (c->count) {
		struct slice *last = chain_at(c, c->count - 1);

		slab = last->slab;
		if (slab && slab->used + min <= BUF_SLAB_SIZE && last->ptr + last->len == slab->data + slab->used)
			return slab_get(slab);
	}
	return slab_new(pool);
}

int chain_fill(struct chain *c, struct slab *slab, uint32_t len)
{
	BUG_ON(len > BUF_SLAB_SIZE - slab->used);
	slab->used += len;
	return chain_append(c, (struct slice){ slab, slab->data + slab->used - len, len });
}

int chain_write(struct chain *c, struct slab_pool *pool, const void *bytes, size_t len)
{
	const uint8_t *from = bytes;

	while (len) {
		struct slab *slab = chain_room(c, pool, 1);
		uint32_t part;
		int ret;

		if (!slab)
			return -ENOMEM;
		part = (uint32_t)MIN(len, (size_t)(BUF_SLAB_SIZE - slab->used));
		memcpy(slab->data + slab->used, from, part);
		ret = chain_fill(c, slab, part);
		if (ret < 0)
			return ret;
		from += part;
		len -= part;
	}
	return 0;
}

int chain_pack(struct chain *c, struct slab_pool *pool, struct chain *from)
{
	int ret = 0;

	for (uint32_t i = 0; i < from->count && ret == 0; i++) {
		const struct slice *s = chain_at(from, i);

		if (c->count && s->len < BUF_PACK_MAX)
			ret = chain_write(c, pool, s->ptr, s->len);
		else
			ret = chain_append(c, slice_get(*s));
	}
	chain_clear(from);
	return ret;
}

int chain_share(struct chain *c, const struct chain *from, size_t len)
{
	BUG_ON(len > from->len);
	for (uint32_t i = 0; len; i++) {
		struct slice s = *chain_see(from, i);
		int ret;

		s.len = (uint32_t)MIN(len, (size_t)s.len);
		len -= s.len;
		ret = chain_append(c, slice_get(s));
		if (ret < 0)
			return ret;
	}
	return 0;
}

void chain_drop(struct chain *c, size_t len)
{
	BUG_ON(len > c->len);
	c->len -= len;
	while (len) {
		struct slice *s = chain_at(c, 0);

		if (len < s->len) {
			s->ptr += len;
			s->len -= (uint32_t)len;
			return;
		}
		len -= s->len;
		slice_put(*s);
		c->first++;
		c->count--;
	}
	if (c->count == 0)
		c->first = 0;
}

void chain_cut(struct chain *c, size_t len)
{
	BUG_ON(len > c->len);
	while (c->len > len) {
		struct slice *s = chain_at(c, c->count - 1);
		size_t more = c->len - len;

		if (more < s->len) {
			s->len -= (uint32_t)more;
			c->len -= more;
			return;
		}
		c->len -= s->len;
		slice_put(*s);
		c->count--;
	}
	if (c->count == 0)
		c->first = 0;
}

int chain_move(struct chain *c, struct chain *from, size_t len)
{
	int ret;

	if (len == from->len)
		return chain_join(c, from);
	ret = chain_share(c, from, len);
	chain_drop(from, len);
	return ret;
}

size_t chain_peek(const struct chain *c, size_t offset, void *out, size_t len)
{
	uint8_t *to = out;
	size_t done = 0;

	for (uint32_t i = 0; i < c->count && done < len; i++) {
		const struct slice *s = chain_see(c, i);
		size_t part;

		if (offset >= s->len) {
			offset -= s->len;
			continue;
		}
		part = MIN(len - done, s->len - offset);
		memcpy(to + done, s->ptr + offset, part);
		done += part;
		offset = 0;
	}
	return done;
}

const uint8_t *chain_flat(const struct chain *c, size_t len, struct arena *a)
{
	uint8_t *copy;

	BUG_ON(len > c->len);
	if (c->count && chain_see(c, 0)->len >= len)
		return chain_see(c, 0)->ptr;
	copy = arena_alloc(a, len + 1);
	if (copy)
		chain_peek(c, 0, copy, len);
	return copy;
}

void chain_clear(struct chain *c)
{
	for (uint32_t i = 0; i < c->count; i++)
		slice_put(*chain_at(c, i));
	mem_free(c->heap);
	*c = (struct chain){ 0 };
}
