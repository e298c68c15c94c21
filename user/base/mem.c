/* SPDX-License-Identifier: MIT */
/* Allocation with a failure switch. Counters are per thread, so that workers do not share a cache line. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#include "base/spare.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define spare_take malloc
#define spare_give free
#endif

static _Thread_local uint64_t fail_in;
static _Thread_local bool fail_hit;
static _Thread_local int64_t live;

static bool fails(void)
{
	if (likely(fail_in == 0) || --fail_in)
		return false;
	fail_hit = true;
	return true;
}

void *mem_alloc(size_t size)
{
	void *ptr = fails() ? NULL : malloc(size ? size : 1);

	live += ptr != NULL;
	return ptr;
}

void *mem_zalloc(size_t size)
{
	void *ptr = fails() ? NULL : calloc(1, size ? size : 1);

	live += ptr != NULL;
	return ptr;
}

void *mem_realloc(void *ptr, size_t size)
{
	void *grown = fails() ? NULL : realloc(ptr, size ? size : 1);

	live += !ptr && grown;
	return grown;
}

char *mem_strndup(const char *text, size_t len)
{
	char *copy = mem_alloc(len + 1);

	if (!copy)
		return NULL;
	memcpy(copy, text, len);
	copy[len] = 0;
	return copy;
}

void mem_free(void *ptr)
{
	live -= ptr != NULL;
	free(ptr);
}

void *mem_take(size_t size)
{
	void *ptr = fails() ? NULL : spare_take(size ? size : 1);

	live += ptr != NULL;
	return ptr;
}

void *mem_ztake(size_t size)
{
	void *ptr = mem_take(size);

	if (ptr)
		memset(ptr, 0, size);
	return ptr;
}

void mem_give(void *ptr)
{
	live -= ptr != NULL;
	spare_give(ptr);
}

bool mem_enter(void)
{
	if (fails())
		return false;
	live++;
	return true;
}

void mem_leave(void)
{
	live--;
}

void mem_fail_at(uint64_t n)
{
	fail_in = n;
	fail_hit = false;
}

bool mem_fail_hit(void)
{
	return fail_hit;
}

int64_t mem_live(void)
{
	return live;
}
