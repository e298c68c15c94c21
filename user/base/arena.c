/* SPDX-License-Identifier: MIT */
/*
 * A bump allocator: blocks double from 1 KiB to 64 KiB, a larger object gets a block of its own. With a pool, the first
 * few are the pool's.
 */
#include "base/arena.h"

#include <errno.h>

#include "base/blocks.h"
#include "base/mem.h"

#define BLOCK_MIN ((size_t)1024)
#define BLOCK_MAX ((size_t)65536)
/* An arena that is larger has something large in it, and will have more. */
#define POOL_MAX  (8 * BLOCK_SIZE)

struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	bool pooled;
	char data[] __attribute__((aligned(8)));
};

static struct arena_block *block_new(struct arena *a, size_t size)
{
	size_t room = BLOCK_SIZE - sizeof(struct arena_block);
	bool pooled = a->pool && size <= room && a->bytes < POOL_MAX;
	size_t cap = a->blocks ? MIN(a->blocks->cap * 2, BLOCK_MAX) : BLOCK_MIN;
	struct arena_block *b;

	cap = pooled ? room : MAX(cap, size);
	b = pooled ? block_take(a->pool) : mem_alloc(sizeof(*b) + cap);
	if (!b)
		return NULL;
	b->used = 0;
	b->pooled = pooled;
	b->cap = cap;
	b->next = a->blocks;
	a->blocks = b;
	a->bytes += sizeof(*b) + cap;
	return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_block *b = a->blocks;
	void *ptr;

	size = (size + 7) & ~(size_t)7;
	if (!b || b->cap - b->used < size) {
		b = block_new(a, size);
		if (!b)
			return NULL;
	}
	ptr = b->data + b->used;
	b->used += size;
	return ptr;
}

void *arena_zalloc(struct arena *a, size_t size)
{
	void *ptr = arena_alloc(a, size);

	if (ptr)
		memset(ptr, 0, size);
	return ptr;
}

struct str arena_copy(struct arena *a, struct str s)
{
	char *copy;

	if (!s.ptr)
		return s;
	copy = arena_alloc(a, s.len + 1);
	if (!copy)
		return (struct str){ NULL, s.len + 1 };
	memcpy(copy, s.ptr, s.len);
	copy[s.len] = 0;
	return (struct str){ copy, s.len };
}

int arena_grow(struct arena *a, void *array, uint32_t *cap, uint32_t want, size_t elem)
{
	uint32_t grown = *cap ? *cap : 8;
	void *fresh;

	if (want <= *cap)
		return 0;
	while (grown < want)
		grown *= 2;
	fresh = arena_alloc(a, grown * elem);
	if (!fresh)
		return -ENOMEM;
	if (*cap)
		memcpy(fresh, *(void **)array, *cap * elem);
	*(void **)array = fresh;
	*cap = grown;
	return 0;
}

void arena_fini(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *next = a->blocks->next;

		if (a->blocks->pooled)
			block_give(a->blocks);
		else
			mem_free(a->blocks);
		a->blocks = next;
	}
	a->bytes = 0;
}

/* Behind a's own first block, which has room left. */
void arena_join(struct arena *a, struct arena *from)
{
	struct arena_block **end = a->blocks ? &a->blocks->next : &a->blocks, *rest = *end;

	*end = from->blocks;
	while (*end)
		end = &(*end)->next;
	*end = rest;
	a->bytes += from->bytes;
	*from = (struct arena){ 0 };
}
