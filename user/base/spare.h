/* SPDX-License-Identifier: MIT */
/*
 * Free lists of each thread, by size, over malloc(): for blocks that come and go with every request or handshake, more
 * of them at once than malloc() itself keeps at hand (7 of a size). Every block is one of malloc()'s.
 */
#pragma once

#include "base/util.h"

/* What a thread keeps at most. */
#define SPARE_KEEP_BYTES (2u << 20)

/* As malloc(), realloc(), free(). Thread: any; a block is kept by the one that gives it. */
void *spare_take(size_t size) __must_check;
void *spare_resize(void *ptr, size_t size) __must_check;
void spare_give(void *ptr);

/* Gives back what the calling thread keeps. Before it ends. */
void spare_thread_fini(void);

/* Bytes that the calling thread keeps. */
size_t spare_kept(void);
