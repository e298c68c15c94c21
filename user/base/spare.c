/* SPDX-License-Identifier: MIT */
/*
 * Free lists by size over malloc(). A block's class is read from the block itself (malloc_usable_size()), so that any
 * block may be freed on any thread, and nothing is stored with it.
 */
#include "base/spare.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_STEP 16u
#define SMALL_MAX 1024u
#define LARGE_STEP 512u
#define LARGE_MAX 24576u
#define SMALL_CLASSES (SMALL_MAX / SMALL_STEP)
#define CLASSES (SMALL_CLASSES + (LARGE_MAX - SMALL_MAX) / LARGE_STEP)

struct block {
	struct block *next;
};

static _Thread_local struct block *lists[CLASSES];
static _Thread_local size_t kept;

static size_t class_size(uint32_t c)
{
	return c < SMALL_CLASSES ? (c + 1) * SMALL_STEP : SMALL_MAX + (c - SMALL_CLASSES + 1) * LARGE_STEP;
}

/* The smallest class that holds size; size is 1..LARGE_MAX. */
static uint32_t class_up(size_t size)
{
	if (size <= SMALL_MAX)
		return (uint32_t)((size - 1) / SMALL_STEP);
	return SMALL_CLASSES + (uint32_t)((size - SMALL_MAX - 1) / LARGE_STEP);
}

/* The largest class that a block of this size can serve; size >= SMALL_STEP. */
static uint32_t class_down(size_t size)
{
	if (size < SMALL_MAX + LARGE_STEP)
		return (uint32_t)(MIN(size, (size_t)SMALL_MAX) / SMALL_STEP - 1);
	return SMALL_CLASSES + (uint32_t)((size - SMALL_MAX) / LARGE_STEP - 1);
}

void *spare_take(size_t size)
{
	struct block *b;
	uint32_t c;

	if (unlikely(size == 0 || size > LARGE_MAX))
		return malloc(size);
	c = class_up(size);
	b = lists[c];
	if (unlikely(!b))
		return malloc(class_size(c));
	lists[c] = b->next;
	kept -= class_size(c);
	return b;
}

void spare_give(void *ptr)
{
	struct block *b = ptr;
	size_t size;
	uint32_t c;

	if (!ptr)
		return;
	size = malloc_usable_size(ptr);
	if (size < SMALL_STEP || size >= LARGE_MAX + LARGE_STEP || kept >= SPARE_KEEP_BYTES) {
		free(ptr);
		return;
	}
	c = class_down(size);
	b->next = lists[c];
	lists[c] = b;
	kept += class_size(c);
}

void *spare_resize(void *ptr, size_t size)
{
	size_t had = ptr ? malloc_usable_size(ptr) : 0;
	void *grown;

	if (ptr && size && size <= had)
		return ptr;
	grown = spare_take(size);
	if (!grown || !ptr)
		return grown;
	memcpy(grown, ptr, MIN(had, size));
	spare_give(ptr);
	return grown;
}

void spare_thread_fini(void)
{
	for (uint32_t c = 0; c < CLASSES; c++) {
		while (lists[c]) {
			struct block *b = lists[c];

			lists[c] = b->next;
			kept -= class_size(c);
			free(b);
		}
	}
}

size_t spare_kept(void)
{
	return kept;
}
