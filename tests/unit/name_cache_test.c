/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/name_cache.h"

static struct addr found[IO_RESOLVE_MAX];

static void put(struct name_cache *c, const char *host, int64_t now_ns, uint32_t count)
{
	struct addr addrs[IO_RESOLVE_MAX];

	for (uint32_t i = 0; i < count; i++)
		addrs[i] = addr_v4(0xc0000201 + i, 80);
	name_cache_put(c, str_of(host), now_ns, addrs, count);
}

static void test_time(void **state __unused)
{
	struct name_cache *c = name_cache_new();
	struct addr second = addr_v4(0xc0000202, 443);

	assert_non_null(c);
	put(c, "a.test", 100, 2);
	assert_int_equal(name_cache_find(c, STR("a.tes"), 443, 100, found), 0);
	assert_int_equal(name_cache_find(c, STR("a.test"), 443, 99 + NAME_CACHE_NS, found), 2);
	assert_true(addr_eq(&found[1], &second));
	assert_int_equal(name_cache_find(c, STR("a.test"), 443, 100 + NAME_CACHE_NS, found), 0);
	put(c, "a.test", 200, 1);
	put(c, "a.test", 300, IO_RESOLVE_MAX);
	assert_int_equal(name_cache_find(c, STR("a.test"), 1, 299 + NAME_CACHE_NS, found), IO_RESOLVE_MAX);
	name_cache_free(c);
}

/* The one that was not asked for the longest goes. */
static void test_limit(void **state __unused)
{
	struct name_cache *c = name_cache_new();
	char host[32];

	assert_non_null(c);
	for (uint32_t i = 0; i <= NAME_CACHE_MAX; i++) {
		snprintf(host, sizeof(host), "%u.test", i);
		put(c, host, 0, 1);
		assert_int_equal(name_cache_find(c, STR("0.test"), 80, 0, found), 1);
	}
	assert_int_equal(name_cache_find(c, STR("1.test"), 80, 0, found), 0);
	assert_int_equal(name_cache_find(c, STR("2.test"), 80, 0, found), 1);
	name_cache_free(c);
}

static void test_no_memory(void **state __unused)
{
	int64_t live = mem_live();
	struct name_cache *c;

	for (uint64_t n = 1; n <= 2; n++) {
		mem_fail_at(n);
		assert_null(name_cache_new());
	}
	mem_fail_at(0);
	c = name_cache_new();
	assert_non_null(c);
	put(c, "a.test", 0, 1);
	mem_fail_at(1);
	put(c, "a.test", 0, 2);
	mem_fail_at(0);
	assert_int_equal(name_cache_find(c, STR("a.test"), 80, 0, found), 0);
	name_cache_free(c);
	assert_int_equal(mem_live(), live);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_time), cmocka_unit_test(test_limit), cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
