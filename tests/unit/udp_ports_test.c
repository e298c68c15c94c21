/* SPDX-License-Identifier: MIT */
/* Port lists. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "steer/udp_ports.h"

static bool has(const struct udp_ports *p, uint32_t port)
{
	return p->bits[port / 32] >> port % 32 & 1;
}

static uint32_t count(const struct udp_ports *p)
{
	uint32_t n = 0;

	for (uint32_t port = 0; port <= 65535; port++)
		n += has(p, port);
	return n;
}

static void good(const char *text, uint32_t ports, uint32_t one)
{
	struct udp_ports p;
	struct err e;

	assert_int_equal(udp_ports_parse(&p, str_of(text), &e), 0);
	assert_int_equal(count(&p), ports);
	assert_int_equal(udp_ports_none(&p), ports == 0);
	assert_true(ports == 0 || has(&p, one));
}

static void bad(const char *text)
{
	struct err e = { 0 };
	struct udp_ports p;

	assert_int_equal(udp_ports_parse(&p, str_of(text), &e), -EINVAL);
	assert_non_null(strstr(e.text, "is no UDP port"));
}

static void test_lists(void **state)
{
	(void)state;
	good("none", 0, 0);
	good("all", 65536, 65535);
	good("53", 1, 53);
	good("53,443", 2, 443);
	good(" 53 , 443 ", 2, 53);
	good("53,443,8000-8100", 103, 8100);
	good("65535", 1, 65535);
	good("0-65535", 65536, 0);
	good("31-33", 3, 32);
	good("53,53", 1, 53);
	good("7-7", 1, 7);
}

static void test_mistakes(void **state)
{
	static const char *const texts[] = { "", ",", "53,", ",53", "dns", "53 443", "65536", "-1", "5-", "-5", "9-8",
					     "1-2-3", "all,53", "0x35", "53,none" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		bad(texts[i]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_lists), cmocka_unit_test(test_mistakes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
