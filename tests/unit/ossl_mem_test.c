/* SPDX-License-Identifier: MIT */
/* OpenSSL's free lists: blocks of any size are whole, come back, keep their content when resized, and are bounded. */
#include "crypto/ossl_mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void *take(size_t size)
{
	return ossl_mem_take(size, NULL, 0);
}

static void give(void *ptr)
{
	ossl_mem_give(ptr, NULL, 0);
}

/* The sanitizer sees it when a block is shorter than asked for. */
static void every_size(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		for (size_t size = 1; size < 26000; size += size < 2000 ? 1 : 97) {
			uint8_t *a = take(size), *b = take(size);

			assert_non_null(a);
			assert_ptr_not_equal(a, b);
			assert_int_equal((uintptr_t)a % 16, 0);
			memset(a, 1, size);
			memset(b, 2, size);
			assert_int_equal(a[size - 1], 1);
			give(a);
			give(b);
		}
	}
	give(take(0));
	give(NULL);
	ossl_mem_thread_fini();
	assert_int_equal(ossl_mem_kept(), 0);
}

static void reused(void **state)
{
	void *a = take(16712), *b;

	(void)state;
	give(a);
	assert_true(ossl_mem_kept() >= 16712);
	b = take(16584);
	assert_ptr_equal(a, b);
	assert_int_equal(ossl_mem_kept(), 0);
	give(b);
	ossl_mem_thread_fini();
}

static void resized(void **state)
{
	char *p = ossl_mem_resize(NULL, 10, NULL, 0);

	(void)state;
	strcpy(p, "123456789");
	for (size_t size = 20; size < 100000; size *= 3) {
		p = ossl_mem_resize(p, size, NULL, 0);
		assert_string_equal(p, "123456789");
		p[size - 1] = 0;
	}
	give(p);
	ossl_mem_thread_fini();
}

static void bounded(void **state)
{
	void *blocks[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
		blocks[i] = take(16000);
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
		give(blocks[i]);
	assert_in_range(ossl_mem_kept(), OSSL_MEM_KEEP_BYTES, OSSL_MEM_KEEP_BYTES + 20000);
	ossl_mem_thread_fini();
	assert_int_equal(ossl_mem_kept(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size),
		cmocka_unit_test(reused),
		cmocka_unit_test(resized),
		cmocka_unit_test(bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
