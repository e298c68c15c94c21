/* SPDX-License-Identifier: MIT */
/* HTTP/2: messages and frames that no peer may send (spec/layers 10.4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

static void test_bad_upper_case(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h",
		   "X-Upper", "1", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_connection_field(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h",
		   "connection", "close", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_te_other(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "te",
		   "gzip", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_no_method(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":scheme", "http", ":path", "/", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_no_path(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_empty_path(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_no_authority(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_two_methods(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":method", "GET", ":scheme", "http", ":path", "/",
		   ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_late_pseudo(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", "a", "b", ":path", "/", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_unknown_pseudo(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", ":odd",
		   "1", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_status_in_request(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h",
		   ":status", "200", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_hosts_differ(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "host",
		   "other", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_bad_authority(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h:99999", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_control_in_value(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "a",
		   "b\rc", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_blank_in_name(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "a b",
		   "c", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_blank_around_value(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "a", " c", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_length(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, 0, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "h",
		   "content-length", "3",
		   NULL);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 1, END, "four");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\nflow error\n"
		    "server RST 1 INTERNAL_ERROR\n");
	h2_end(&w);
}

static void test_bad_frame_size(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_frame(&w, NGHTTP2_PING, 0, 0, "123", 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=0 FRAME_SIZE_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_even_stream(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 2);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=0 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_data_idle(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_data(&w, 1, 0, "x");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=0 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_hpack(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_frame(&w, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | END, 1, "\377\377\377\377\377\377\377", 7);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 COMPRESSION_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_window(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 0);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=0 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_response(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, END, ":status", "200", "Upper", "1", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "server GOAWAY 0 last=0 PROTOCOL_ERROR\nclose server\n");
	h2_end(&w);
}

static void test_bad_status(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, END, "a", "b", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, ":status=502");
	h2_end(&w);
}

static void test_bad_101(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, END, ":status", "101", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, ":status=502");
	h2_end(&w);
}

static void test_bad_path_unvalidated(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H1));
	w.pb.options.validate_inbound_headers = false;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "https", ":path", "/ HTTP/1.1\r\nA: b", ":authority", "h",
		   NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_path_unvalidated),
		cmocka_unit_test(test_bad_upper_case), cmocka_unit_test(test_bad_connection_field),
		cmocka_unit_test(test_bad_te_other), cmocka_unit_test(test_bad_no_method),
		cmocka_unit_test(test_bad_no_path), cmocka_unit_test(test_bad_empty_path),
		cmocka_unit_test(test_bad_no_authority), cmocka_unit_test(test_bad_two_methods),
		cmocka_unit_test(test_bad_late_pseudo), cmocka_unit_test(test_bad_unknown_pseudo),
		cmocka_unit_test(test_bad_status_in_request), cmocka_unit_test(test_bad_hosts_differ),
		cmocka_unit_test(test_bad_bad_authority), cmocka_unit_test(test_bad_control_in_value),
		cmocka_unit_test(test_bad_blank_in_name), cmocka_unit_test(test_bad_blank_around_value),
		cmocka_unit_test(test_bad_length), cmocka_unit_test(test_bad_frame_size),
		cmocka_unit_test(test_bad_even_stream), cmocka_unit_test(test_bad_data_idle),
		cmocka_unit_test(test_bad_hpack), cmocka_unit_test(test_bad_window),
		cmocka_unit_test(test_bad_response), cmocka_unit_test(test_bad_status),
		cmocka_unit_test(test_bad_101),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
