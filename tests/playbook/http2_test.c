/* SPDX-License-Identifier: MIT */
/* HTTP/2 through the HTTP layer, frame by frame: both ends, and mixed with HTTP/1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

#define END NGHTTP2_FLAG_END_STREAM
#define GET(w, id) h2_headers(w, id, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", NULL)
#define POST(w, id) h2_headers(w, id, 0, ":method", "POST", ":scheme", "http", ":path", "/p", ":authority", "h", NULL)
#define OK(w, id, flags) h2_headers(w, id, flags, ":status", "200", NULL)
#define UP_GET ":method=GET :scheme=http :path=/ :authority=h\n"
#define UP_POST ":method=POST :scheme=http :path=/p :authority=h\n"

static void dialogue_get(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!h2_begin(&w, H2_TO_H2))
		return;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	OK(&w, 1, 0);
	h2_data(&w, 1, END, "hello");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200\nclient DATA 1 end \"hello\"\n");
	h2_end(&w);
}

static void test_get(void **state)
{
	(void)state;
	dialogue_get(NULL);
}

static void test_sweep(void **state)
{
	(void)state;
	playbook_sweep(dialogue_get, NULL);
}

static void test_refused(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_REFUSED_STREAM);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "server HEADERS 3 end " UP_GET);
	h2_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
