/* SPDX-License-Identifier: MIT */
/* When flows are printed: at the pause, together and in order; the texts themselves are flow_text_test's. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "addons/dumper.h"
#include "base/err.h"
#include "base/mem.h"
#include "flow/flow.h"
#include "master/settings.h"

struct stage {
	struct settings *settings;
	struct addon *dumper;
	struct flow *flow;
	int out[2];                      /* a pipe: its reader's end first */
	struct err e;
};

static void stage_init(struct stage *s)
{
	static const uint8_t id[16] = { 7 };
	struct conn_record *client = conn_record_new(true, id), *server = conn_record_new(false, id);

	*s = (struct stage){ .settings = settings_new() };
	assert_int_equal(pipe2(s->out, O_NONBLOCK | O_CLOEXEC), 0);
	assert_true(fcntl(s->out[1], F_SETPIPE_SZ, 1 << 18) >= 1 << 18);
	s->dumper = dumper_new(s->out[1]);
	assert_int_equal(s->dumper->ops->configure(s->dumper, s->settings, &s->e), 0);
	s->flow = flow_new(FLOW_HTTP, id, client, server);
	s->flow->http.request.method = STR("GET");
	s->flow->http.request.scheme = STR("http");
	s->flow->http.request.host = STR("example.test");
	s->flow->http.request.port = 80;
	s->flow->http.has_response = true;
	s->flow->http.response.status = 200;
	s->flow->http.response.base.version = STR("HTTP/1.1");
	conn_record_put(client);
	conn_record_put(server);
}

static void stage_fini(struct stage *s)
{
	s->dumper->ops->free(s->dumper);
	flow_free(s->flow);
	settings_free(s->settings);
	close(s->out[0]);
	close(s->out[1]);
	assert_int_equal(mem_live(), 0);
}

static int show(struct stage *s, struct str path)
{
	s->flow->http.request.path = path;
	return s->dumper->ops->flow(s->dumper, s->flow, ADDON_RESPONSE, &s->e);
}

static int rest(struct stage *s)
{
	return s->dumper->ops->pause(s->dumper, &s->e);
}

/* What is in the pipe, terminated, until the next call. */
static const char *printed(struct stage *s)
{
	static char text[1 << 18];
	ssize_t got = read(s->out[0], text, sizeof(text) - 1);

	text[MAX(got, (ssize_t)0)] = 0;
	return text;
}

static void nothing_is_seen_before_the_pause(void **state)
{
	struct stage s;
	const char *text, *one, *two;

	(void)state;
	stage_init(&s);
	assert_int_equal(show(&s, STR("/one")), 0);
	assert_int_equal(show(&s, STR("/two")), 0);
	assert_string_equal(printed(&s), "");
	assert_int_equal(rest(&s), 0);
	text = printed(&s);
	one = strstr(text, "example.test/one");
	two = strstr(text, "example.test/two");
	assert_true(one && two && one < two);
	assert_int_equal(rest(&s), 0);
	assert_string_equal(printed(&s), "");
	stage_fini(&s);
}

/* It says so when it has collected enough; until then nothing is lost, and afterwards it collects again. */
static void much_is_due(void **state)
{
	struct stage s;
	int shown = 1, lines = 0;

	(void)state;
	stage_init(&s);
	for (int round = 0; round < 2; round++) {
		for (shown = 1; show(&s, STR("/")) == 0; shown++)
			assert_true(shown < 5000);
		assert_true(shown > 100);
		assert_string_equal(printed(&s), "");
		assert_int_equal(rest(&s), 0);
		lines = 0;
		for (const char *p = printed(&s); (p = strstr(p, "GET http")) != NULL; p++)
			lines++;
		assert_int_equal(lines, shown);
	}
	stage_fini(&s);
}

static void a_reader_that_left_is_told_at_the_pause(void **state)
{
	struct stage s;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	stage_init(&s);
	close(s.out[0]);
	assert_int_equal(show(&s, STR("/")), 0);
	assert_int_equal(rest(&s), -EPIPE);
	s.out[0] = -1;
	stage_fini(&s);
}

/* What was collected before is printed whole, and that there was no memory is said behind it. */
static void without_memory_what_came_before_is_printed(void **state)
{
	int failures = 0;

	(void)state;
	for (uint64_t n = 1;; n++) {
		const char *text;
		struct stage s;
		bool hit;
		int due;

		stage_init(&s);
		assert_int_equal(show(&s, STR("/before")), 0);
		mem_fail_at(n);
		due = show(&s, STR("/a-path-that-is-longer"));
		hit = mem_fail_hit();
		mem_fail_at(0);
		assert_int_equal(rest(&s), due ? -ENOMEM : 0);
		failures += due;
		text = printed(&s);
		assert_non_null(strstr(text, "/before"));
		assert_int_equal(text[strlen(text) - 1], '\n');
		assert_true(!due || (!strstr(text, "longer") && strstr(s.e.text, "out of memory")));
		assert_true(hit || strstr(text, "longer"));
		stage_fini(&s);
		if (!hit)
			break;
	}
	assert_true(failures > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_seen_before_the_pause),
		cmocka_unit_test(much_is_due),
		cmocka_unit_test(a_reader_that_left_is_told_at_the_pause),
		cmocka_unit_test(without_memory_what_came_before_is_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
