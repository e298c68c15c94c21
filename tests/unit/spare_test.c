/* SPDX-License-Identifier: MIT */
/* Free lists: blocks of any size are whole, come back, keep their content when resized, and are bounded. */
#include "base/spare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The sanitizer sees it when a block is shorter than asked for. */
static void every_size(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		for (size_t size = 1; size < 26000; size += size < 2000 ? 1 : 97) {
			uint8_t *a = spare_take(size), *b = spare_take(size);

			assert_non_null(a);
			assert_ptr_not_equal(a, b);
			assert_int_equal((uintptr_t)a % 16, 0);
			memset(a, 1, size);
			memset(b, 2, size);
			assert_int_equal(a[size - 1], 1);
			spare_give(a);
			spare_give(b);
		}
	}
	spare_give(spare_take(0));
	spare_give(NULL);
	spare_thread_fini();
	assert_int_equal(spare_kept(), 0);
}

static void reused(void **state)
{
	void *a = spare_take(16712), *b;

	(void)state;
	spare_give(a);
	assert_true(spare_kept() >= 16712);
	b = spare_take(16584);
	assert_ptr_equal(a, b);
	assert_int_equal(spare_kept(), 0);
	spare_give(b);
	spare_thread_fini();
}

static void resized(void **state)
{
	char *p = spare_resize(NULL, 10);

	(void)state;
	strcpy(p, "123456789");
	for (size_t size = 20; size < 100000; size *= 3) {
		p = spare_resize(p, size);
		assert_string_equal(p, "123456789");
		p[size - 1] = 0;
	}
	spare_give(p);
	spare_thread_fini();
}

static void bounded(void **state)
{
	void *blocks[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
		blocks[i] = spare_take(16000);
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
		spare_give(blocks[i]);
	assert_in_range(spare_kept(), SPARE_KEEP_BYTES, SPARE_KEEP_BYTES + 20000);
	spare_thread_fini();
	assert_int_equal(spare_kept(), 0);
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
