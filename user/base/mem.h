/* SPDX-License-Identifier: MIT */
/*
 * Allocation that tests can make fail and count. Everything on the data path allocates here; NULL is an ordinary
 * answer and closes one connection, never the process.
 */
#pragma once

#include "base/util.h"

/* Thread: any. Returns NULL when memory is out (or a test says so). mem_zalloc() zeroes. */
void *mem_alloc(size_t size) __must_check;
void *mem_zalloc(size_t size) __must_check;
void *mem_realloc(void *ptr, size_t size) __must_check;
char *mem_strndup(const char *text, size_t len) __must_check;
void mem_free(void *ptr);

/*
 * The same for what comes and goes with every request, from base/spare.h. Blocks of both kinds may be given to
 * mem_realloc(), mem_free() and mem_give(). Builds with a sanitizer see each block come and go.
 */
void *mem_take(size_t size) __must_check;
void *mem_ztake(size_t size) __must_check;
void mem_give(void *ptr);

/*
 * For allocators beside these, so that tests let theirs fail and count them, too: mem_enter() before one of them,
 * false: it is to fail; mem_leave() when it is given back, or failed after all.
 */
bool mem_enter(void) __must_check;
void mem_leave(void);

/*
 * For tests, per thread. mem_fail_at(n): the n-th allocation from now on fails (1 = the next one), and only that one;
 * 0 switches it off. mem_fail_hit() tells whether it happened. mem_live() counts what was not freed.
 */
void mem_fail_at(uint64_t n);
bool mem_fail_hit(void);
int64_t mem_live(void);
