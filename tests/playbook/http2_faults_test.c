/* SPDX-License-Identifier: MIT */
/* HTTP/2: resets, GOAWAY, ends, limits and floods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

static void test_client_resets(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow error\nserver RST 1 CANCEL\n");
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 3 end " UP_GET);
	h2_end(&w);
}

/* Whatever a client means by that, its origin is told what it said; of other codes only that something broke. */
static void test_client_wants_http11(void **state)
{
	static const struct {
		uint32_t said;
		const char *told;
	} codes[] = {
		{ NGHTTP2_HTTP_1_1_REQUIRED, "flow error\nserver RST 1 HTTP_1_1_REQUIRED\n" },
		{ NGHTTP2_NO_ERROR, "flow error\nserver RST 1 INTERNAL_ERROR\n" },
		{ NGHTTP2_REFUSED_STREAM, "flow error\nserver RST 1 INTERNAL_ERROR\n" },
		{ NGHTTP2_HTTP_1_1_REQUIRED + 1, "flow error\nserver RST 1 INTERNAL_ERROR\n" },
	};
	struct h2_world w;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		assert_true(h2_begin(&w, H2_TO_H2));
		GET(&w, 1);
		h2_give(&w, SIDE_CLIENT);
		h2_forget(&w);
		h2_number(&w, NGHTTP2_RST_STREAM, 1, codes[i].said);
		h2_give(&w, SIDE_CLIENT);
		H2_WANT(&w, codes[i].told);
		h2_end(&w);
	}
}

static void test_client_resets_in_body(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 1, 0, "x");
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_INTERNAL_ERROR);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow error\nserver RST 1 INTERNAL_ERROR\n");
	h2_end(&w);
}

static void test_client_resets_during_response(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "x");
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow error\nserver RST 1 CANCEL\n");
	h2_data(&w, 1, END, "late");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "");
	h2_end(&w);
}

static void test_server_resets(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_INTERNAL_ERROR);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "stream reset by server (INTERNAL_ERROR)</p>");
	h2_end(&w);
}

static void test_server_cancels(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow error\nclient RST 1 CANCEL\n");
	h2_end(&w);
}

static void test_server_wants_http11(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_HTTP_1_1_REQUIRED);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow error\nclient RST 1 HTTP_1_1_REQUIRED\n");
	h2_end(&w);
}

static void test_server_resets_in_body(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "x");
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_INTERNAL_ERROR);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow error\nclient RST 1 INTERNAL_ERROR\n");
	h2_end(&w);
}

static void test_early_answer(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, END);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_NO_ERROR);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client HEADERS 1 end :status=200\n");
	h2_data(&w, 1, END, "late");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow response\n");
	h2_end(&w);
}

static void test_refused_once(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_REFUSED_STREAM);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "server HEADERS 3 end " UP_GET);
	OK(&w, 3, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200\n");
	h2_end(&w);
}

static void test_refused_twice(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_REFUSED_STREAM);
	h2_give(&w, SIDE_SERVER);
	h2_number(&w, NGHTTP2_RST_STREAM, 3, NGHTTP2_REFUSED_STREAM);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "stream reset by server (REFUSED_STREAM)</p>");
	h2_end(&w);
}

static void test_refused_with_body(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 1, 0, "one ");
	h2_give(&w, SIDE_CLIENT);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_REFUSED_STREAM);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_data(&w, 1, END, "two");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server DATA 3 end \"two\"\n");
	h2_end(&w);
}

static void test_refused_sends_again(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_data(&w, 1, END, "all");
	h2_give(&w, SIDE_CLIENT);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_REFUSED_STREAM);
	h2_forget(&w);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "server HEADERS 3 " UP_POST "server DATA 3 end \"all\"\n");
	h2_end(&w);
}

static void test_goaway_graceful(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_goaway(&w, 1, NGHTTP2_NO_ERROR);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "open new3\nnew3 HEADERS 1 end " UP_GET);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client HEADERS 1 end :status=200\n");
	h2_end(&w);
}

static void test_goaway_then_new(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_goaway(&w, 1, NGHTTP2_NO_ERROR);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "");
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open new3\nnew3 HEADERS 1 end " UP_GET);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client HEADERS 1 end :status=200\n");
	h2_end(&w);
}

static void test_client_goaway(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_goaway(&w, 0, NGHTTP2_NO_ERROR);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "");
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200\nclose client\n");
	h2_end(&w);
}

static void test_drain(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	layer_event(w.l, &(struct event){ .type = EV_DRAIN });
	H2_WANT(&w, "client GOAWAY 0 last=1 NO_ERROR\n");
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200\nclose client\n");
	h2_end(&w);
}

static void test_drain_idle(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	layer_event(w.l, &(struct event){ .type = EV_DRAIN });
	H2_WANT(&w, "client GOAWAY 0 last=0 NO_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_client_leaves(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_close(&w, SIDE_CLIENT, false);
	H2_WANT(&w, "close client\nflow error\nflow error\nserver RST 1 INTERNAL_ERROR\n"
		    "server RST 3 INTERNAL_ERROR\n");
	h2_end(&w);
}

static void test_server_leaves(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_close(&w, SIDE_SERVER, false);
	H2_WANT_PART(&w, "<p>peer closed connection</p>");
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open new3\nnew3 HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_server_leaves_in_body(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_close(&w, SIDE_SERVER, true);
	H2_WANT(&w, "close server\nflow error\nclient RST 1 INTERNAL_ERROR\n");
	h2_end(&w);
}

static void test_server_leaves_stale(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_close(&w, SIDE_SERVER, false);
	H2_WANT(&w, "close server\nopen new3\nnew3 HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_refused_connection(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_close(&w, SIDE_SERVER, false);
	w.refuse_open = true;
	h2_forget(&w);
	GET(&w, 3);
	GET(&w, 5);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "<p>Connection refused</p>");
	h2_end(&w);
}

static void test_waiting_for_one(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_close(&w, SIDE_SERVER, false);
	w.hold_open = true;
	h2_forget(&w);
	GET(&w, 3);
	GET(&w, 5);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open new3\n");
	h2_number(&w, NGHTTP2_RST_STREAM, 3, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow error\n");
	h2_open(&w);
	H2_WANT(&w, "new3 HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_nobody_waits(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_close(&w, SIDE_SERVER, false);
	w.hold_open = true;
	h2_forget(&w);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	h2_number(&w, NGHTTP2_RST_STREAM, 3, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open new3\nclose new3\nflow error\n");
	h2_end(&w);
}

static void test_head_too_large(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	static char big[70000];

	memset(big, 97, sizeof(big) - 1);
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "x", big, NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client");
	h2_end(&w);
}

static void test_head_many(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	struct h2_bytes *none = NULL;

	(void)none;
	w.pb.options.header_count_max = 5;
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "a", "1",
		   "b", "2", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client HEADERS 1 :status=431 ");
	w.pb.options.header_count_max = 100;
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_response_head_too_large(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	w.pb.options.header_count_max = 2;
	h2_headers(&w, 1, END, ":status", "200", "a", "1", "b", "2", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "header fields are too large");
	h2_end(&w);
}

static void test_continuation_flood(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_frame(&w, NGHTTP2_HEADERS, 0, 1, "\202", 1);
	for (int i = 0; i < 20; i++)
		h2_frame(&w, NGHTTP2_CONTINUATION, 0, 1, "\0\1a\1b", 5);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 ENHANCE_YOUR_CALM\nclose client\n");
	h2_end(&w);
}

static void test_rapid_reset(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	for (int32_t id = 1; id < 2100; id += 2) {
		GET(&w, id);
		h2_number(&w, NGHTTP2_RST_STREAM, id, NGHTTP2_CANCEL);
	}
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "ENHANCE_YOUR_CALM");
	h2_end(&w);
}

static void test_settings_flood(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	for (int i = 0; i < 1100; i++)
		h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "ENHANCE_YOUR_CALM");
	h2_end(&w);
}

static void test_ping_flood(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	for (int i = 0; i < 50100; i++) {
		h2_frame(&w, NGHTTP2_PING, 0, 0, "12345678", 8);
		if (i % 300)
			continue;
		h2_forget(&w);
		h2_give(&w, SIDE_CLIENT);
	}
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "ENHANCE_YOUR_CALM");
	h2_end(&w);
}

static void test_empty_data_flood(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	for (int i = 0; i < 1100; i++)
		h2_data(&w, 1, 0, "");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "ENHANCE_YOUR_CALM");
	h2_end(&w);
}

static void test_calm_comes_back(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	for (int32_t id = 1; id < 2600; id += 2) {
		GET(&w, id);
		h2_number(&w, NGHTTP2_RST_STREAM, id, NGHTTP2_CANCEL);
		w.pb.now_ns += 20000000;
		h2_give(&w, SIDE_CLIENT);
		h2_forget(&w);
	}
	GET(&w, 2601);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server HEADERS 2601 end ");
	h2_end(&w);
}

static void test_push(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_frame(&w, NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 1, "\0\0\0\2\202", 5);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "server RST 2 CANCEL\n");
	h2_end(&w);
}

static void test_unvalidated(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	w.pb.options.validate_inbound_headers = false;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\n");
	h2_end(&w);
}

/* Where a message ends is nobody's to be wrong about, whatever else is let through. */
static void test_unvalidated_length(void **state)
{
	struct h2_world w;

	(void)state;
	for (int end = 0; end < 2; end++) {
		assert_true(h2_begin_bare(&w, H2_TO_H2));
		w.pb.options.validate_inbound_headers = false;
		h2_magic(&w);
		h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
		h2_headers(&w, 1, 0, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "h",
			   "content-length", "3", NULL);
		h2_give(&w, SIDE_CLIENT);
		h2_forget(&w);
		h2_data(&w, 1, end ? END : 0, end ? "2!" : "four");
		h2_give(&w, SIDE_CLIENT);
		H2_WANT_PART(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\nflow error\n");
		h2_end(&w);
	}
}

static void test_unvalidated_host(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	w.pb.options.validate_inbound_headers = false;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "host", "i", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, ":path=/ :authority=h host=i\n");
	h2_end(&w);
}

static void test_unvalidated_name(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	w.pb.options.validate_inbound_headers = false;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "x y:z", "v",
		   NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, ":path=/ :authority=h x y:z=v\n");
	h2_end(&w);
}

static void test_strange_scheme(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "ftp", ":path", "/", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client HEADERS 1 :status=400");
	h2_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client_wants_http11),
		cmocka_unit_test(test_client_resets), cmocka_unit_test(test_client_resets_in_body),
		cmocka_unit_test(test_client_resets_during_response), cmocka_unit_test(test_server_resets),
		cmocka_unit_test(test_server_cancels), cmocka_unit_test(test_server_wants_http11),
		cmocka_unit_test(test_server_resets_in_body), cmocka_unit_test(test_early_answer),
		cmocka_unit_test(test_refused_once), cmocka_unit_test(test_refused_twice),
		cmocka_unit_test(test_refused_with_body), cmocka_unit_test(test_refused_sends_again),
		cmocka_unit_test(test_goaway_graceful), cmocka_unit_test(test_goaway_then_new),
		cmocka_unit_test(test_client_goaway), cmocka_unit_test(test_drain),
		cmocka_unit_test(test_drain_idle), cmocka_unit_test(test_client_leaves),
		cmocka_unit_test(test_server_leaves), cmocka_unit_test(test_server_leaves_in_body),
		cmocka_unit_test(test_server_leaves_stale), cmocka_unit_test(test_refused_connection),
		cmocka_unit_test(test_waiting_for_one), cmocka_unit_test(test_nobody_waits),
		cmocka_unit_test(test_head_too_large), cmocka_unit_test(test_head_many),
		cmocka_unit_test(test_response_head_too_large), cmocka_unit_test(test_continuation_flood),
		cmocka_unit_test(test_rapid_reset), cmocka_unit_test(test_settings_flood),
		cmocka_unit_test(test_ping_flood), cmocka_unit_test(test_empty_data_flood),
		cmocka_unit_test(test_calm_comes_back), cmocka_unit_test(test_push),
		cmocka_unit_test(test_unvalidated), cmocka_unit_test(test_unvalidated_length),
		cmocka_unit_test(test_unvalidated_host), cmocka_unit_test(test_unvalidated_name),
		cmocka_unit_test(test_strange_scheme),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
