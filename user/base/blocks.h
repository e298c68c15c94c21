/* SPDX-License-Identifier: MIT */
/*
 * Blocks of one size for what is made by the thousand and stays for long: flows. From the heap, such memory would be
 * spread among what comes and goes at once, and freeing it would touch lines that nobody has used for long. Here blocks
 * lie in regions, in the order in which they were taken, and one is given back by a bit at its region's start, without
 * being touched.
 *
 * Thread: a pool, and taking and giving its blocks, are one thread's. What is in a block may be anybody's meanwhile.
 */
#pragma once

#include "base/list.h"

#define BLOCKS_REGION ((size_t)512 << 10)        /* bytes; also how it is aligned */
/* Bytes. No power of two: the beginnings of blocks, which are used most, would share few lines of the caches. */
#define BLOCK_SIZE    ((size_t)31 * 64)

/* Where regions come from; outside tests worker/regions.h. */
struct blocks_source {
	void *(*take)(void);             /* a region, uninitialized; NULL: memory is out */
	void (*give)(void *region);
};

struct blocks {
	const struct blocks_source *source;
	struct blocks_region *current;   /* where blocks are taken from; NULL: none yet */
	struct list usable;              /* regions with so many free blocks that they can be next */
	uint32_t regions, empty;         /* all; those in usable without a block in use */
	uint64_t live;                   /* blocks taken and not given back */
};

/* Nothing is taken before the first block is. */
void blocks_init(struct blocks *b, const struct blocks_source *source);
/* All blocks have come back. */
void blocks_fini(struct blocks *b);

/* BLOCK_SIZE bytes, uninitialized, aligned as a cache line. NULL when memory is out (or a test says so: mem.h). */
void *block_take(struct blocks *b) __must_check;
void block_give(void *block);
