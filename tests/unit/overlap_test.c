/* SPDX-License-Identifier: MIT */
/* What two selections both mean, by their words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "app/overlap.h"
#include "steer/intercept_spec.h"

static struct intercept_spec *spec_of(const char *text)
{
	struct intercept_spec *spec = NULL;
	struct err e;

	if (intercept_spec_parse(&spec, str_of(text), &e) < 0)
		fail_msg("%s", e.text);
	return spec;
}

static void one_way(const char *a_text, const char *b_text, const char *wanted)
{
	struct intercept_spec *a = spec_of(a_text), *b = spec_of(b_text);
	struct strbuf out = { 0 };
	bool found = overlap_of_specs(a, b, &out);

	strbuf_add(&out, "", 1);
	if (found != (wanted != NULL) || strcmp(out.ptr, wanted ? wanted : "") != 0)
		fail_msg("\"%s\" and \"%s\": \"%s\"", a_text, b_text, out.ptr);
	strbuf_fini(&out);
	intercept_spec_free(a);
	intercept_spec_free(b);
}

static void words(void **state __unused)
{
	static const char *const cases[][3] = {
		{ "curl", "curl", "curl" },
		{ "curl", "wget", NULL },
		{ "curl", "!wget", "curl" },
		{ "curl", "!curl", NULL },
		{ "curl", "!wget,!curl", NULL },
		{ "", "", "everybody whom neither excludes" },
		{ "!curl", "!wget", "everybody whom neither excludes" },
		{ "", "7", "7" },
		{ "7", "7", "7" },
		{ "7", "8", NULL },
		{ "tree:7", "tree:7", "tree:7" },
		{ "tree:7", "7", NULL },
		{ "user:alice", "user:alice,curl", "user:alice" },
		{ "user:alice", "user:bob", NULL },
		{ "comm:curl", "comm:curl2", NULL },
		{ "curl,!curl", "curl", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		one_way(cases[i][0], cases[i][1], cases[i][2]);
		one_way(cases[i][1], cases[i][0], cases[i][2]);
	}
	one_way("python", "python3", "python");
	one_way("python3", "python", "python3");
}

static void the_answer_is_a_spec(void **state __unused)
{
	struct intercept_spec *spec = spec_of("curl,!7,user:alice,tree:9"), *again;
	struct strbuf out = { 0 };
	struct err e;

	assert_int_equal(overlap_serve(spec, &out, &e), 0);
	assert_true(str_eq((struct str){ out.ptr, out.len }, STR("curl,!7,user:alice,tree:9")));
	assert_int_equal(intercept_spec_parse(&again, (struct str){ out.ptr, out.len }, &e), 0);
	assert_int_equal(again->count, 4);
	assert_true(overlap_serve(NULL, &out, &e) < 0);
	intercept_spec_free(again);
	intercept_spec_free(spec);
	strbuf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(the_answer_is_a_spec),
	};

	return cmocka_run_group_tests_name("overlap", tests, NULL, NULL);
}
