/* SPDX-License-Identifier: MIT */
/* Memory that is freed at once: the headers and strings of one message, the fields of one connection record. */
#pragma once

#include "base/str.h"

struct arena_block;
struct blocks;

struct arena {
	struct arena_block *blocks;
	size_t bytes;                /* everything taken, for accounting */
	struct blocks *pool;         /* of the thread that fills and frees it; NULL: all of it is from the heap */
};                                   /* {0} is empty and ready */

/* 8-aligned; NULL when memory is out. Lives until arena_fini(). */
void *arena_alloc(struct arena *a, size_t size) __must_check;
void *arena_zalloc(struct arena *a, size_t size) __must_check;

/* A terminated copy; none stays none. On failure .ptr is NULL with .len > 0: test with arena_copy_failed(). */
struct str arena_copy(struct arena *a, struct str s) __must_check;

/* Grows an array of *cap elements to hold at least want; the old one stays allocated. Returns 0 or -ENOMEM. */
int arena_grow(struct arena *a, void *array, uint32_t *cap, uint32_t want, size_t elem) __must_check;

void arena_fini(struct arena *a);

/* What is in from lives as long as what is in a; from is empty afterwards. */
void arena_join(struct arena *a, struct arena *from);

static inline bool arena_copy_failed(struct str copy)
{
	return !copy.ptr && copy.len;
}
