/* SPDX-License-Identifier: MIT */
/* Mode specifications against mitmproxy's parser. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/proxy_mode.h"
#include "vectors.h"

/* Ours differs on purpose: [v6] loses its brackets, ASCII digits only, local and tun have no port. */
static bool on_purpose(struct str spec)
{
	static const char *const specs[] = { "regular@1_000", "regular@\xef\xbc\x91\xef\xbc\x92", "local:curl@8080",
					     "local:,", "local:!", "local:curl,", "tun:mitm0@80", "tun:@1",
					     "reverse:tcp://host:\xd9\xa3", NULL };

	for (const char *const *s = specs; *s; s++)
		if (str_eq(spec, str_of(*s)))
			return true;
	return memmem(spec.ptr, spec.len, "@[", 2) != NULL;
}

static void check_listen(const struct proxy_mode *m, const json_t *parsed)
{
	const json_t *host = json_object_get(parsed, "listen_host_with_global");
	const json_t *port = json_object_get(parsed, "listen_port"), *address = json_object_get(parsed, "address");
	static const char *const transports[] = { "", "tcp", "udp", "both" };
	char description[MODE_TEXT_MAX];

	assert_true(str_eq(proxy_mode_host(m, STR("192.0.2.1")), vector_value(NULL, host)));
	assert_int_equal(proxy_mode_port(m, MODE_PORT_NONE), json_is_null(port) ? MODE_PORT_NONE :
			 json_integer_value(port));
	if (!json_is_null(port))
		assert_int_equal(proxy_mode_port(m, 7777),
				 json_integer_value(json_object_get(parsed, "listen_port_with_global")));
	assert_string_equal(proxy_mode_description(m, description),
			    json_string_value(json_object_get(parsed, "description")));
	assert_string_equal(transports[proxy_mode_transport(m)],
			    json_string_value(json_object_get(parsed, "transport")));
	if (address) {
		assert_true(str_eq(m->server_host, vector_value(NULL, json_array_get(address, 0))));
		assert_int_equal(m->server_port, json_integer_value(json_array_get(address, 1)));
	}
	assert_true(str_eq(m->data, vector_value(NULL, json_object_get(parsed, "data"))));
}

static void specs_parse_as_in_mitmproxy(void **state)
{
	json_t *root = vector_json("tests/vectors/core/modes.json", 0), *c;
	size_t i, parsed = 0, refused = 0;

	(void)state;
	json_array_foreach(json_object_get(root, "specs"), i, c) {
		struct str spec = vector_value(NULL, json_object_get(c, "spec"));
		struct proxy_mode m;
		struct err e = { 0 };
		int ret;

		if (on_purpose(spec))
			continue;
		ret = proxy_mode_parse(&m, spec, &e);
		if ((ret == 0) != json_is_true(json_object_get(c, "ok")))
			fail_msg("%.*s: %s", (int)spec.len, spec.ptr, ret ? e.text : "accepted");
		if (ret == 0)
			check_listen(&m, json_object_get(c, "parsed"));
		else
			assert_int_equal(strncmp(e.text, json_string_value(json_object_get(c, "error")),
						 ERR_TEXT_MAX - 1), 0);
		parsed += ret == 0;
		refused += ret != 0;
	}
	assert_true(parsed > 60 && refused > 40);
	json_decref(root);
}

static void what_is_ours(void **state)
{
	struct proxy_mode m;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(proxy_mode_parse(&m, STR("regular@[::1]:8888"), &e), 0);
	assert_true(str_eq(m.host, STR("::1")) && m.port == 8888);
	assert_int_equal(proxy_mode_parse(&m, STR("local:curl@80"), &e), -EINVAL);
	assert_string_equal(e.text, "local mode does not listen on a port");
	assert_int_equal(proxy_mode_parse(&m, STR("tun@80"), &e), -EINVAL);
	assert_int_equal(proxy_mode_parse(&m, STR("Reverse:http://x"), &e), 0);
	assert_int_equal(proxy_mode_supported(&m, &e), 0);
	assert_int_equal(proxy_mode_parse(&m, STR("Reverse:udp://x:1"), &e), 0);
	assert_int_equal(proxy_mode_supported(&m, &e), 0);
	assert_int_equal(proxy_mode_parse(&m, STR("Reverse:quic://x:1"), &e), 0);
	assert_int_equal(proxy_mode_supported(&m, &e), -ENOTSUP);
	assert_string_equal(e.text, "reverse mode to quic:// is not implemented in mitm-bpf yet");
	assert_int_equal(proxy_mode_parse(&m, STR("DNS"), &e), 0);
	assert_int_equal(proxy_mode_supported(&m, &e), -ENOTSUP);
	assert_int_equal(proxy_mode_parse(&m, STR("reverse:http://b\xc3\xbc" "cher.example"), &e), 0);
	assert_int_equal(proxy_mode_parse(&m, STR("reverse:http://\xc3"), &e), -EINVAL);
	assert_int_equal(proxy_mode_parse(&m, STR("reverse:http://a/b"), &e), -EINVAL);
	assert_int_equal(proxy_mode_parse(&m, STR(""), &e), -EINVAL);
}

static void forwarded_traffic_is_a_mode(void **state)
{
	char description[MODE_TEXT_MAX];
	struct proxy_mode m[2];
	struct err e = { 0 };

	(void)state;
	assert_int_equal(proxy_mode_parse(&m[0], STR("tc:eth1,10.0.0.0/8"), &e), 0);
	assert_int_equal(proxy_mode_supported(&m[0], &e), 0);
	assert_true(m[0].kind == MODE_TC && str_eq(m[0].data, STR("eth1,10.0.0.0/8")));
	assert_int_equal(proxy_mode_port(&m[0], 8080), MODE_PORT_NONE);
	assert_string_equal(proxy_mode_description(&m[0], description), "Forwarded traffic of eth1,10.0.0.0/8");
	assert_true(str_eq(proxy_mode_recorded(&m[0]), STR("transparent")));
	assert_int_equal(proxy_mode_parse(&m[1], STR("tc:eth2"), &e), 0);
	assert_int_equal(proxy_modes_check(m, 2, STR(""), MODE_PORT_NONE, &e), 0);
	assert_int_equal(proxy_mode_parse(&m[1], STR("tc:eth1"), &e), 0);
	assert_int_equal(proxy_modes_check(m, 2, STR(""), MODE_PORT_NONE, &e), -EINVAL);
	assert_int_equal(proxy_mode_parse(&m[1], STR("tc:eth1@80"), &e), -EINVAL);
	assert_string_equal(e.text, "tc mode does not listen on a port");
	assert_int_equal(proxy_mode_parse(&m[1], STR("socks5@1"), &e), 0);
	assert_true(str_eq(proxy_mode_recorded(&m[1]), STR("socks5@1")));
}

static void sets_that_collide_are_refused(void **state)
{
	json_t *root = vector_json("tests/vectors/core/modes.json", 0), *c, *text;
	size_t i, k, checked = 0;

	(void)state;
	json_array_foreach(json_object_get(root, "sets"), i, c) {
		const json_t *host = json_object_get(c, "listen_host"), *port = json_object_get(c, "listen_port");
		struct proxy_mode modes[8];
		struct err e = { 0 };
		bool all = true;
		int ret;

		json_array_foreach(json_object_get(c, "mode"), k, text)
			all &= proxy_mode_parse(&modes[k], vector_value(NULL, text), &e) == 0;
		if (!all)
			continue;
		ret = proxy_modes_check(modes, k, json_is_string(host) ? vector_value(NULL, host) : STR(""),
					json_is_integer(port) ? (int32_t)json_integer_value(port) : MODE_PORT_NONE, &e);
		if (k == 2 && modes[0].kind == MODE_LOCAL && modes[1].kind == MODE_LOCAL)
			assert_int_equal(ret, -EINVAL); /* mitmproxy finds out at the start only */
		else if ((ret == 0) != json_is_true(json_object_get(c, "ok")))
			fail_msg("set %zu: %s", i, e.text);
		else if (ret < 0)
			assert_int_equal(strncmp(e.text, json_string_value(json_object_get(c, "error")),
						 ERR_TEXT_MAX - 1), 0);
		checked++;
	}
	assert_true(checked >= 20);
	json_decref(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs_parse_as_in_mitmproxy),
		cmocka_unit_test(what_is_ours),
		cmocka_unit_test(forwarded_traffic_is_a_mode),
		cmocka_unit_test(sets_that_collide_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
