/* SPDX-License-Identifier: MIT */
/* Whose forwarded traffic is taken: the spec's order against longest-prefix matching, which the kernel does. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/addr.h"
#include "base/mem.h"
#include "steer/tc_spec.h"

static bool holds(const struct tc_client *c, const uint8_t *ip)
{
	for (uint32_t i = 0; i < c->prefix; i++)
		if ((c->ip[i / 8] ^ ip[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

/* As the kernel does it. */
static bool taken(const struct tc_spec *s, const uint8_t *ip)
{
	const struct tc_client *longest = NULL;

	for (uint32_t i = 0; i < s->count; i++)
		if (holds(&s->clients[i], ip) && (!longest || s->clients[i].prefix > longest->prefix))
			longest = &s->clients[i];
	return longest ? longest->taken : s->others;
}

static bool takes(const char *spec, const char *client)
{
	struct tc_spec s;
	struct err e = { 0 };
	struct addr a;
	bool yes;

	if (tc_spec_parse(&s, str_of(spec), &e) < 0)
		fail_msg("%s: %s", spec, e.text);
	assert_true(addr_parse(&a, str_of(client)));
	yes = taken(&s, a.ip);
	tc_spec_fini(&s);
	return yes;
}

static void clients_are_named(void **state)
{
	(void)state;
	assert_true(takes("eth1", "192.0.2.1") && takes("eth1", "2001:db8::1"));
	assert_true(takes("eth1,10.0.0.5", "10.0.0.5") && !takes("eth1,10.0.0.5", "10.0.0.6"));
	assert_false(takes("eth1,10.0.0.0/8", "2001:db8::1"));
	assert_true(takes("eth1,::/0", "10.0.0.1") && takes("eth1, fd00::/8 ", "fd12::1"));
	assert_true(takes("eth1,!10.0.0.5", "10.0.0.6") && !takes("eth1,!10.0.0.5", "10.0.0.5"));
	assert_true(takes("eth1,10.0.0.0/8,!10.1.0.0/16,10.1.2.0/24", "10.1.2.3"));
	assert_false(takes("eth1,10.0.0.0/8,!10.1.0.0/16,10.1.2.0/24", "10.1.3.3"));
	/* the last that matches decides, also when it is the wider one */
	assert_false(takes("eth1,10.1.2.3,!10.0.0.0/8", "10.1.2.3"));
	assert_true(takes("eth1,!10.1.2.3,10.1.2.3", "10.1.2.3"));
	assert_true(takes("eth1,10.1.2.99/24", "10.1.2.1"));
}

static void what_is_wrong_is_said(void **state)
{
	static const struct {
		const char *spec, *says;
	} bad[] = {
		{ "", "the name of an interface is missing" }, { ",10.0.0.1", "the name of an interface is missing" },
		{ "lo", "lo carries this machine's own traffic" }, { "sixteen-letters-", "no interface can be called" },
		{ "a/b", "no interface can be called" }, { "a b", "no interface can be called" },
		{ "eth1,", "is no address of a client" }, { "eth1,me", "me is no address of a client" },
		{ "eth1,10.0.0.1/33", "up to 32" }, { "eth1,::1/129", "up to 128" }, { "eth1,10.0.0.1/", "up to 32" },
		{ "eth1,10.0.0.1/x", "up to 32" }, { "eth1,!!10.0.0.1", "is no address" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct tc_spec s;
		struct err e = { 0 };

		assert_int_equal(tc_spec_parse(&s, str_of(bad[i].spec), &e), -EINVAL);
		if (!strstr(e.text, bad[i].says))
			fail_msg("%s: %s", bad[i].spec, e.text);
		tc_spec_fini(&s);
	}
}

static void names_fit(void **state)
{
	struct tc_spec s;

	(void)state;
	assert_int_equal(tc_spec_parse(&s, STR("veth*,!10.0.0.1"), NULL), 0);
	assert_true(tc_spec_is_pattern(&s) && tc_spec_fits(&s, "veth12") && tc_spec_fits(&s, "veth"));
	assert_false(tc_spec_fits(&s, "vet"));
	tc_spec_fini(&s);
	assert_int_equal(tc_spec_parse(&s, STR("fifteen-letters"), NULL), 0);
	assert_true(!tc_spec_is_pattern(&s) && tc_spec_fits(&s, "fifteen-letters"));
	assert_false(tc_spec_fits(&s, "fifteen-letter"));
	tc_spec_fini(&s);
}

/* Few bits, so that prefixes hold one another all the time; the order decides, item by item. */
static void order_is_what_counts(void **state)
{
	unsigned int seed = 7, both[2] = { 0 };

	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct tc_client items[8];
		uint32_t count = 1 + (uint32_t)rand_r(&seed) % ARRAY_SIZE(items);
		struct strbuf text = { 0 };
		struct tc_spec s;

		strbuf_addf(&text, "eth1");
		for (uint32_t i = 0; i < count; i++) {
			uint32_t bits = (uint32_t)rand_r(&seed) % 5, low = (uint32_t)rand_r(&seed) % 16;

			items[i] = (struct tc_client){ .prefix = (uint8_t)(124 + bits), .taken = rand_r(&seed) & 1 };
			memcpy(items[i].ip, addr_v4(0x0a000000 + low, 0).ip, 16);
			strbuf_addf(&text, ",%s10.0.0.%u/%u", items[i].taken ? "" : "!", low, 28 + bits);
		}
		assert_int_equal(tc_spec_parse(&s, (struct str){ text.ptr, text.len }, NULL), 0);
		for (uint32_t low = 0; low < 20; low++) {
			struct addr a = addr_v4(0x0a000000 + low, 0);
			bool want = !items[0].taken;

			for (uint32_t i = 0; i < count; i++)
				if (holds(&items[i], a.ip))
					want = items[i].taken;
			if (taken(&s, a.ip) != want)
				fail_msg("%s: 10.0.0.%u", text.ptr, low);
			both[want]++;
		}
		tc_spec_fini(&s);
		strbuf_fini(&text);
	}
	assert_true(both[0] > 1000 && both[1] > 1000);
}

static void memory_that_fails_is_said(void **state)
{
	static const char spec[] = "eth1,10.0.0.1,10.0.0.2,!10.0.0.0/8";
	bool hit = true;

	(void)state;
	for (uint64_t n = 1; hit; n++) {
		struct tc_spec s;
		int ret;

		mem_fail_at(n);
		ret = tc_spec_parse(&s, STR(spec), NULL);
		hit = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(ret, hit ? -ENOMEM : 0);
		tc_spec_fini(&s);
	}
	assert_int_equal(mem_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clients_are_named),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(names_fit),
		cmocka_unit_test(order_is_what_counts),
		cmocka_unit_test(memory_that_fails_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
