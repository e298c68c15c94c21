/* SPDX-License-Identifier: MIT */
/*
 * A region begins with a bit for each of its blocks. The region that is filled is left when it is full; a region comes
 * back into use once a part of it is free again, so that blocks that are used after each other lie beside each other.
 * Flows go in about the order in which they came: the bits of a region are set and cleared from its start to its end.
 */
#include "base/blocks.h"

#include "base/mem.h"

#define CACHE_LINE    64
#define WORD_BITS     64
#define REGION_BLOCKS ((uint32_t)((BLOCKS_REGION - sizeof(struct blocks_region)) / BLOCK_SIZE))
#define WORDS         ((BLOCKS_REGION / BLOCK_SIZE + WORD_BITS - 1) / WORD_BITS)
/* Below it a region is not worth coming back to. What is never used again because of that is an eighth at most. */
#define WORTH_BLOCKS  (REGION_BLOCKS / 8)
/*
 * So many empty ones are kept: flows come and go in bursts, as threads tell each other of them, and pages that are
 * given back have to be cleared when they are taken again.
 */
#define EMPTY_KEPT(b) ((b)->regions / 32 + 2)

struct blocks_region {
	struct blocks *owner;
	struct list link;                /* in usable */
	bool listed;
	uint32_t free_count;
	uint64_t free[WORDS];            /* a bit each */
} __attribute__((aligned(CACHE_LINE)));

void blocks_init(struct blocks *b, const struct blocks_source *source)
{
	*b = (struct blocks){ .source = source };
	list_init(&b->usable);
}

static void give_region(struct blocks *b, struct blocks_region *r)
{
	b->regions--;
	b->source->give(r);
}

void blocks_fini(struct blocks *b)
{
	BUG_ON(b->live != 0);
	list_for_each(&b->usable, pos)
		give_region(b, list_entry(pos, struct blocks_region, link));
	if (b->current)
		give_region(b, b->current);
	BUG_ON(b->regions != 0);
}

static struct blocks_region *fresh_region(struct blocks *b)
{
	struct blocks_region *r = b->source->take();

	if (!r)
		return NULL;
	b->regions++;
	r->owner = b;
	r->listed = false;
	r->free_count = REGION_BLOCKS;
	for (uint32_t i = 0; i < WORDS; i++) {
		uint32_t before = i * WORD_BITS, here = REGION_BLOCKS > before ? REGION_BLOCKS - before : 0;

		r->free[i] = here >= WORD_BITS ? ~(uint64_t)0 : ((uint64_t)1 << here) - 1;
	}
	return r;
}

static struct blocks_region *next_region(struct blocks *b)
{
	struct blocks_region *r;

	if (list_empty(&b->usable))
		return fresh_region(b);
	r = list_entry(list_first(&b->usable), struct blocks_region, link);
	list_del(&r->link);
	r->listed = false;
	b->empty -= r->free_count == REGION_BLOCKS;
	return r;
}

void *block_take(struct blocks *b)
{
	struct blocks_region *r = b->current;
	uint32_t i = 0, at;

	if (unlikely(!mem_enter()))
		return NULL;
	if (unlikely(!r || !r->free_count)) {
		r = next_region(b);
		if (!r) {
			mem_leave();
			return NULL;
		}
		b->current = r;          /* a full one is found again when its blocks are given back */
	}
	while (!r->free[i])
		i++;
	at = i * WORD_BITS + (uint32_t)__builtin_ctzll(r->free[i]);
	r->free[i] &= r->free[i] - 1;
	r->free_count--;
	b->live++;
	return (char *)(r + 1) + at * BLOCK_SIZE;
}

static void trim(struct blocks *b)
{
	list_for_each(&b->usable, pos) {
		struct blocks_region *r = list_entry(pos, struct blocks_region, link);

		if (b->empty <= EMPTY_KEPT(b))
			return;
		if (r->free_count < REGION_BLOCKS)
			continue;
		list_del(&r->link);
		b->empty--;
		give_region(b, r);
	}
}

/* A region that is not the current one has got a block back. */
static void list_region(struct blocks *b, struct blocks_region *r)
{
	if (!r->listed && r->free_count >= WORTH_BLOCKS) {
		r->listed = true;
		list_add_tail(&b->usable, &r->link);
	}
	if (r->free_count < REGION_BLOCKS)
		return;
	b->empty++;
	trim(b);
}

void block_give(void *block)
{
	struct blocks_region *r = (struct blocks_region *)((uintptr_t)block & ~(BLOCKS_REGION - 1));
	uint32_t at = (uint32_t)((size_t)((char *)block - (char *)(r + 1)) / BLOCK_SIZE);
	uint64_t bit = (uint64_t)1 << at % WORD_BITS;
	struct blocks *b = r->owner;

	BUG_ON(r->free[at / WORD_BITS] & bit);
	r->free[at / WORD_BITS] |= bit;
	r->free_count++;
	b->live--;
	mem_leave();
	if (r != b->current)
		list_region(b, r);
}
