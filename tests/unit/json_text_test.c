/* SPDX-License-Identifier: MIT */
/* Whatever a process calls itself, JSON stays JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "app/json_text.h"

static void expect(const char *text, const char *wanted)
{
	struct strbuf out = { 0 };

	json_text(&out, text);
	assert_false(out.failed);
	assert_string_equal(out.ptr, wanted);
	strbuf_fini(&out);
}

static void test_texts(void **state)
{
	(void)state;
	expect(NULL, "null");
	expect("", "\"\"");
	expect("plain", "\"plain\"");
	expect("a\"b\\c", "\"a\\\"b\\\\c\"");
	expect("\033[2J\n\t\x7f", "\"\\u001b[2J\\u000a\\u0009\\u007f\"");
	expect("\xc3\xa9\xe2\x82\xac", "\"\xc3\xa9\xe2\x82\xac\"");
	expect("\xc2\x9b" "2J\xc2\xa0", "\"\\u009b2J\xc2\xa0\"");
	expect("\xff\xc3", "\"\\ufffd\\ufffd\"");
	expect("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");
}

/* Every byte alone and in twos, read by somebody else's parser. */
static void test_all_bytes(void **state)
{
	(void)state;
	for (int a = 1; a < 256; a++)
		for (int b = 0; b < 256; b += a % 7 + 1) {
			const char text[] = { (char)a, (char)b, 0 };
			struct strbuf out = { 0 };
			json_error_t error;
			json_t *json;

			strbuf_add_str(&out, STR("{"));
			json_text_member(&out, true, "a", text);
			json_text_member(&out, false, "b", NULL);
			strbuf_add_str(&out, STR("}"));
			json = json_loadb(out.ptr, out.len, 0, &error);
			if (!json)
				fail_msg("%s: %s", out.ptr, error.text);
			assert_true(json_is_string(json_object_get(json, "a")));
			assert_true(json_is_null(json_object_get(json, "b")));
			json_decref(json);
			strbuf_fini(&out);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_all_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
