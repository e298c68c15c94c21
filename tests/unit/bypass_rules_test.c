/* SPDX-License-Identifier: MIT */
/* Which destinations are found in expressions, and that the expressions match each of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <cmocka.h>

#include "base/addr.h"
#include "core/patterns.h"
#include "steer/bypass_rules.h"

/* "10.0.0.0/8:443, ..." of what was found; * for any port. */
static void found_text(const char *expression, char *out, size_t size)
{
	struct steer_bypass_key keys[BYPASS_RULES_MAX];
	uint32_t count = bypass_rules_parse(str_of(expression), keys);
	size_t len = 0;

	out[0] = 0;
	for (uint32_t i = 0; i < count; i++) {
		char ip[INET6_ADDRSTRLEN], port[8] = "*";

		inet_ntop(keys[i].family, keys[i].ip, ip, sizeof(ip));
		if (keys[i].port)
			snprintf(port, sizeof(port), "%u", ntohs(keys[i].port));
		len += (size_t)snprintf(out + len, size - len, "%s%s/%u:%s", i ? " " : "", ip, keys[i].prefix_len - 32,
					port);
	}
}

static void finds(void **state __unused)
{
	static const char *const cases[][2] = {
		{ "^10\\.0\\.0\\.1:443$", "10.0.0.1/32:443" },
		{ "10.0.0.1", "10.0.0.1/32:*" },
		{ "10\\.0\\.0\\.1:", "10.0.0.1/32:*" },
		{ "10.0.0.1:44", "10.0.0.1/32:44" },
		{ "^10\\.0\\.0\\.1(:\\d+)?$", "10.0.0.1/32:*" },
		{ "^192\\.168\\.", "192.168.0.0/16:*" },
		{ "^192\\.168\\..*", "192.168.0.0/16:*" },
		{ "^192\\.168\\.\\d+\\.\\d+:53$", "192.168.0.0/16:53" },
		{ "^172\\.16\\.[0-9]{1,3}\\.[0-9]+", "172.16.0.0/16:*" },
		{ "^10.*:443$", "10.0.0.0/8:443" },
		{ "^10\\..+:22", "10.0.0.0/8:22" },
		{ "192.168", "192.168.0.0/16:*" },
		{ "10.0.0.1:443|10.0.0.2:443|^example.com:443$", "10.0.0.1/32:443 10.0.0.2/32:443" },
		{ "^2001:db8::1:443$", "2001:db8::1/128:443" },
		{ "2001:DB8::1:443", "2001:db8::1/128:443 2001:db8::1:443/128:*" },
		{ "^2001:db8::1:\\d+$", "2001:db8::1/128:*" },
		{ "^::1:8080$", "::1/128:8080" },
		{ "fd77::2.*", "fd77::2/128:*" },
	};
	char text[512];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		found_text(cases[i][0], text, sizeof(text));
		if (strcmp(text, cases[i][1]) != 0)
			fail_msg("%s: \"%s\", not \"%s\"", cases[i][0], text, cases[i][1]);
	}
}

static void finds_nothing(void **state __unused)
{
	static const char *const cases[] = {
		"", "example.com", "^example\\.com:443$", "10.0.0.1$", "^10\\.0\\.0\\.1$", "10.0.0.256", "10.0.0.01",
		"10\\.0\\.0\\.1?", "10?\\.0\\.0\\.1", "10\\.?0\\.0\\.1", "1*0.0.0.1", "10.0.0.1:443?", "10.0.0.1:0",
		"10.0.0.1:65536", "10.0.0.1:443x", "(10.0.0.1|10.0.0.2)x", "(x|10.0.0.1|y)z", "[|10.0.0.1|]x",
		"10\\.\\d+\\.0\\.1", "\\d+\\.0\\.0\\.1", "10\\.0\\.0\\.1\\|10.0.0.2", "x\\|10.0.0.2", "\\Q|10.0.0.2|x",
		"a{1|10.0.0.2|,2}", "^.*$", ".*", "2001:db8:0::1:443$", "2001:db8::1?", "::ffff:1.2.3.4:80",
		"10.0.0.1.5", "10.0.0.1:443:1", "(?!10.0.0.1)", "^10\\.0\\.0\\.1:443$x", "2001:db8::1$", "10.0.0.\\d",
		"10 .0.0.1", "10.0.0.-1", "|", "^", "10..0.0.1", "10.0.0.[1-3]",
	};
	char text[512];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		found_text(cases[i], text, sizeof(text));
		if (text[0])
			fail_msg("%s: \"%s\"", cases[i], text);
	}
}

/* An address that a key covers, and a port, in the words that expressions are compared with. */
static void subject(const struct steer_bypass_key *key, char *out, size_t size)
{
	struct steer_bypass_key one = *key;
	uint16_t port = key->port ? ntohs(key->port) : (uint16_t)(1 + rand() % 65535);
	char ip[INET6_ADDRSTRLEN];

	for (uint32_t bit = key->prefix_len - 32; bit < (key->family == AF_INET ? 32 : 128); bit += 8)
		one.ip[bit / 8] = (uint8_t)rand();
	inet_ntop(one.family, one.ip, ip, sizeof(ip));
	snprintf(out, size, "%s:%u", ip, port);
}

static void check_sound(const char *expression, uint32_t *checked)
{
	struct steer_bypass_key keys[BYPASS_RULES_MAX];
	uint32_t count = bypass_rules_parse(str_of(expression), keys);
	struct patterns *patterns;
	struct err e;

	if (!count || patterns_new(&patterns, &expression, 1, &e) < 0)
		return;
	for (uint32_t i = 0; i < count * 20; i++) {
		char text[80];

		subject(&keys[i % count], text, sizeof(text));
		if (!patterns_match(patterns, str_of(text)))
			fail_msg("\"%s\" does not match %s", expression, text);
		++*checked;
	}
	patterns_free(patterns);
}

/* Whatever is found in whatever expression: the expression matches it. */
static void never_more(void **state __unused)
{
	static const char *const pieces[] = {
		"^", "10", "0", "255", "1", "192", "\\.", "\\.", "\\.", ".", ".", ":", ":443", ":53", "$", ".*", ".+",
		"\\d+", "[0-9]+", "\\d{1,3}", "|", "?", "*", "+", "(", ")", "(:\\d+)?", "[", "]", "\\|", "x",
		"2001:db8::1", "::", "fe80:", ":1", "a", "{2}", "$", "10\\.0\\.0\\.1", "172.16",
	};
	uint32_t checked = 0;

	srand(1);
	for (int i = 0; i < 300000; i++) {
		char expression[200] = "";
		int count = 1 + rand() % 9;

		for (int k = 0; k < count; k++)
			strcat(expression, pieces[(size_t)rand() % ARRAY_SIZE(pieces)]);
		check_sound(expression, &checked);
	}
	assert_true(checked > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds),
		cmocka_unit_test(finds_nothing),
		cmocka_unit_test(never_more),
	};

	return cmocka_run_group_tests_name("bypass_rules", tests, NULL, NULL);
}
