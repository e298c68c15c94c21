/* SPDX-License-Identifier: MIT */
/* Options by text, and the command line that ends in them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "app/cli.h"
#include "base/mem.h"

#define SET(s, ...)                                                                                     \
	settings_set(s, (const char *const[]){ __VA_ARGS__ },                                          \
		     sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *), &e)

static void texts_become_values(void **state)
{
	struct settings *s = settings_new();
	const char *const *modes;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(SET(s, "flow_detail= -2 ", "ssl_insecure", "listen_host=", "flow_memory_max=3m"), 0);
	assert_int_equal(settings_int(s, "flow_detail"), -2);
	assert_true(settings_bool(s, "ssl_insecure"));
	assert_string_equal(settings_text(s, "listen_host"), "");
	assert_int_equal(settings_size(s, "flow_memory_max"), 3 << 20);
	assert_int_equal(SET(s, "ssl_insecure=toggle"), 0);
	assert_false(settings_bool(s, "ssl_insecure"));
	assert_int_equal(SET(s, "mode=a", "mode=b", "mode"), 0);
	assert_int_equal(settings_texts(s, "mode", &modes), 2);
	assert_string_equal(modes[1], "b");
	assert_int_equal(SET(s, "mode"), 0);
	assert_int_equal(settings_texts(s, "mode", &modes), 0);
	assert_int_equal(SET(s, "rfile=x=y"), 0);
	assert_string_equal(settings_text(s, "rfile"), "x=y");
	assert_int_equal(SET(s, "rfile"), 0);
	assert_null(settings_text(s, "rfile"));
	assert_int_equal(SET(s, "listen_port=8081"), 0);
	assert_true(settings_given(s, "listen_port"));
	assert_int_equal(SET(s, "listen_port="), 0);
	assert_false(settings_given(s, "listen_port"));
	assert_false(settings_changed(s, "tcp_timeout"));
	assert_int_equal(SET(s, "tcp_timeout=5"), 0);
	assert_true(settings_changed(s, "tcp_timeout"));
	settings_free(s);
	assert_int_equal(mem_live(), 0);
}

static void mistakes_change_nothing_and_say_what(void **state)
{
	static const struct { const char *text, *sentence; } wrong[] = {
		{ "flow_detial=2", "Unknown option(s): flow_detial (did you mean flow_detail?)" },
		{ "zzzzzzzzzzzz=2", "Unknown option(s): zzzzzzzzzzzz" },
		{ "anticache", "The option anticache of mitmproxy is not implemented in mitm-bpf yet." },
		{ "flow_detail=1x", "Failed to parse option flow_detail: not an integer: 1x" },
		{ "flow_detail", "Option is required: flow_detail" },
		{ "showhost=yes", "Failed to parse option showhost: boolean must be \"true\", \"false\", or have the "
				  "value omitted (a synonym for \"true\")." },
		{ "connection_strategy=nope",
		  "Invalid value for connection_strategy: 'nope' (choose from eager, lazy)" },
		{ "body_capture_max=1K", "Invalid size specification for body_capture_max: 1K (a number, or one with "
					 "the suffix b, k, m, g or t)" },
		{ "workers=1000", "Invalid value for workers: 1000 (must be 0 to 256)" },
		{ "flow_memory_max=99999999999t", NULL },
	};
	struct settings *s = settings_new();
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_not_equal(SET(s, "tcp_timeout=7", wrong[i].text), 0);
		if (wrong[i].sentence)
			assert_string_equal(e.text, wrong[i].sentence);
		assert_int_equal(settings_int(s, "tcp_timeout"), 600);
	}
	assert_int_equal(SET(s, "tcp_timeout=1", "tcp_timeout=1"), -EINVAL);
	assert_string_equal(e.text, "Received multiple values for tcp_timeout");
	settings_free(s);
	assert_int_equal(mem_live(), 0);
}

static void the_snapshot_has_what_was_set(void **state)
{
	struct settings *s = settings_new();
	struct options o, defaults;
	struct err e = { 0 };

	(void)state;
	options_init(&defaults);
	settings_snapshot(s, &o);
	assert_memory_equal(&o, &defaults, sizeof(o));
	assert_int_equal(SET(s, "connection_strategy=lazy", "tls_version_client_min=TLS1_3", "body_size_limit=1k",
			     "tcp_timeout=2", "ciphers_client=ALL", "body_streaming=never"), 0);
	settings_snapshot(s, &o);
	assert_false(o.connection_eager || o.body_streaming);
	assert_int_equal(o.tls_version_client_min, TLS_1_3);
	assert_int_equal(o.body_size_limit, 1024);
	assert_int_equal(o.tcp_timeout_ns, 2000000000);
	assert_string_equal(o.ciphers_client, "ALL");
	assert_int_equal(o.stream_large_bodies, UINT64_MAX);
	assert_int_equal(SET(s, "body_size_limit=0", "stream_large_bodies=0"), 0);
	settings_snapshot(s, &o);
	assert_int_equal(o.body_size_limit, 0);
	assert_int_equal(o.stream_large_bodies, 0);
	settings_free(s);
}

/* Splits at blanks. Returns cli_parse()'s result. */
static int parse(struct cli *cli, const char *line, struct err *e)
{
	char copy[256], *words[16] = { "mitm-bpf" };
	int count = 1;

	strcpy(copy, line);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
		words[count++] = word;
	return cli_parse(cli, count, words, e);
}

static void command_lines(void **state)
{
	const char *const *modes;
	struct err e = { 0 };
	struct cli c;

	(void)state;
	assert_int_equal(parse(&c, "dump -nr file --flow-d 3 -p=8081 --listen-host=::1 -k --set tcp_timeout=9", &e), 0);
	assert_int_equal(c.action, CLI_RUN);
	assert_false(settings_bool(c.settings, "server"));
	assert_string_equal(settings_text(c.settings, "rfile"), "file");
	assert_int_equal(settings_int(c.settings, "flow_detail"), 3);
	assert_int_equal(settings_int(c.settings, "listen_port"), 8081);
	assert_string_equal(settings_text(c.settings, "listen_host"), "::1");
	assert_true(settings_bool(c.settings, "ssl_insecure"));
	assert_int_equal(settings_int(c.settings, "tcp_timeout"), 9);
	settings_free(c.settings);

	assert_int_equal(parse(&c, "--intercept curl,!7 -m regular@1 --set mode=x", &e), 0);
	assert_int_equal(settings_texts(c.settings, "mode", &modes), 2);
	assert_string_equal(modes[0], "local:curl,!7");
	assert_string_equal(modes[1], "regular@1");
	settings_free(c.settings);

	assert_int_equal(parse(&c, "--cgroup /a -qv", &e), 0);
	assert_int_equal(settings_texts(c.settings, "mode", &modes), 1);
	assert_string_equal(modes[0], "local");
	assert_string_equal(settings_text(c.settings, "cgroup"), "/a");
	assert_int_equal(settings_int(c.settings, "flow_detail"), 2);
	assert_string_equal(settings_text(c.settings, "termlog_verbosity"), "debug");
	settings_free(c.settings);

	assert_int_equal(parse(&c, "doctor --json", &e), 0);
	assert_true(c.action == CLI_DOCTOR && c.json);
	settings_free(c.settings);
	assert_int_equal(mem_live(), 0);
}

static void command_lines_that_are_refused(void **state)
{
	static const struct { const char *line, *sentence; } wrong[] = {
		{ "--listen 1", "ambiguous option: --listen could match --listen-port, --listen-host" },
		{ "--listen_port 1", "--listen_port uses underscores, please use hyphens" },
		{ "-p", "argument -p/--listen-port: expected one argument" },
		{ "--mode", "argument --mode: expected one argument" },
		{ "--quiet=1", "argument --quiet takes no value" },
		{ "--showhost --no-showhost", "argument --no-showhost: not allowed with argument --showhost" },
		{ "~q", NULL }, { "--nope", NULL }, { "-z", NULL }, { "--json", NULL }, { "--io fast", NULL },
	};
	struct err e = { 0 };
	struct cli c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_true(parse(&c, wrong[i].line, &e) < 0);
		assert_true(e.text[0] != 0);
		if (wrong[i].sentence)
			assert_string_equal(e.text, wrong[i].sentence);
	}
	assert_int_equal(mem_live(), 0);
}

static void every_allocation_may_fail(void **state)
{
	struct err e = { 0 };
	struct cli c;
	uint64_t n = 0;
	int ret;

	(void)state;
	do {
		mem_fail_at(++n);
		ret = parse(&c, "--intercept curl -w file --set tcp_timeout=9 --certs a --certs b", &e);
		assert_true((ret < 0) == mem_fail_hit());
		mem_fail_at(0);
		if (ret == 0)
			settings_free(c.settings);
		assert_int_equal(mem_live(), 0);
	} while (ret < 0);
	assert_true(n > 20);
}

/* What one that runs is asked for: an update of a copy, also of single elements. */
static void copies_with_an_update(void **state)
{
	static const char *const good[] = { "mode+=socks5", "mode=regular", "mode+=regular@1", "mode-=regular",
					    "http2=false" };
	static const char *const bad[][1] = { { "mode-=nobody" }, { "http2+=1" }, { "nosuch+=1" },
					      { "flow_detail=x" } };
	struct settings *s = settings_new(), *copy;
	const char *const *modes;
	struct err e = { 0 };

	(void)state;
	copy = settings_changed_by(s, good, ARRAY_SIZE(good), &e);
	assert_non_null(copy);
	assert_int_equal(settings_texts(copy, "mode", &modes), 2);
	assert_string_equal(modes[0], "socks5");
	assert_string_equal(modes[1], "regular@1");
	assert_false(settings_bool(copy, "http2"));
	assert_true(settings_bool(s, "http2"));
	assert_int_equal(settings_texts(s, "mode", &modes), 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		e.text[0] = 0;
		assert_null(settings_changed_by(copy, bad[i], 1, &e));
		assert_true(e.text[0]);
	}
	settings_free(copy);
	for (uint64_t n = 1;; n++) {
		mem_fail_at(n);
		copy = settings_changed_by(s, good, ARRAY_SIZE(good), &e);
		if (copy)
			break;
		assert_true(mem_fail_hit());
	}
	mem_fail_at(0);
	settings_free(copy);
	settings_free(s);
	assert_int_equal(mem_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_become_values),
		cmocka_unit_test(mistakes_change_nothing_and_say_what),
		cmocka_unit_test(the_snapshot_has_what_was_set),
		cmocka_unit_test(copies_with_an_update),
		cmocka_unit_test(command_lines),
		cmocka_unit_test(command_lines_that_are_refused),
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
