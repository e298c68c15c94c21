/* SPDX-License-Identifier: MIT */
/* HTTP/2 mixed with HTTP/1, with windows that fill, with hooks that wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

static void dialogue_mixed(void *arg)
{
	enum h2_kind kind = *(enum h2_kind *)arg;
	struct h2_world w;

	if (!h2_begin(&w, kind))
		return;
	if (kind == H1_TO_H2) {
		h2_text(&w, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
			   "0\r\nT: 1\r\n\r\n");
	} else {
		POST(&w, 1);
		h2_data(&w, 1, 0, "ab");
		h2_headers(&w, 1, END, "cookie", "a", "cookie", "b", NULL);
	}
	h2_give(&w, SIDE_CLIENT);
	if (kind == H2_TO_H1) {
		h2_text(&w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nS: 2\r\n\r\n");
	} else {
		h2_headers(&w, 1, 0, ":status", "103", NULL);
		OK(&w, 1, 0);
		h2_data(&w, 1, 0, "x");
		h2_headers(&w, 1, END, "s", "1", NULL);
	}
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "flow response\n");
	h2_end(&w);
}

static void test_sweep_mixed(void **state)
{
	(void)state;
	for (enum h2_kind kind = H2_TO_H2; kind <= H2_TO_H1; kind++) {
		dialogue_mixed(&kind);
		playbook_sweep(dialogue_mixed, &kind);
	}
}

static void test_stalled_stream(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
	OK(&w, 1, 0);
	h2_zeros(&w, 1, 0, 250000);
	OK(&w, 3, 0);
	h2_give(&w, SIDE_SERVER);
	/* the client has opened its window for 65,535 bytes in all */
	H2_WANT_PART(&w, "client DATA 1 (16384 bytes)\n");
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 1000000);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 3, END, "past it");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient DATA 3 end \"past it\"\n");
	/* nothing more of the first may come before the client takes it */
	h2_zeros(&w, 1, 0, 12144);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "");
	h2_zeros(&w, 1, 0, 1);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "server RST 1 FLOW_CONTROL_ERROR\n");
	h2_end(&w);
}

static void test_window_follows(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
	OK(&w, 1, 0);
	h2_zeros(&w, 1, 0, 250000);
	h2_give(&w, SIDE_SERVER);
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 1000000);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 1, 1000000);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server WINDOW 1 +");
	h2_end(&w);
}

static void test_upload_stalls(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_zeros(&w, 1, 0, 250000);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 1000000);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "");
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 1, 1000000);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client WINDOW 1 +");
	h2_end(&w);
}

/* An origin that has answered needs not take the rest; when it leaves, nobody waits for that to be taken. */
static void test_upload_outlives_origin(void **state)
{
	struct h2_world w;

	(void)state;
	for (int reset = 0; reset < 2; reset++) {
		assert_true(h2_begin(&w, H2_TO_H2));
		POST(&w, 1);
		h2_give(&w, SIDE_CLIENT);
		h2_zeros(&w, 1, 0, 250000);
		h2_give(&w, SIDE_CLIENT);
		OK(&w, 1, END);
		h2_give(&w, SIDE_SERVER);
		h2_forget(&w);
		h2_close(&w, SIDE_SERVER, reset);
		H2_WANT_PART(&w, "client WINDOW 1 +");
		h2_data(&w, 1, END, "the rest");
		h2_give(&w, SIDE_CLIENT);
		H2_WANT_PART(&w, "flow response\n");
		h2_end(&w);
	}
}

static void test_full_connection(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	w.full[SIDE_CLIENT] = true;
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "a");
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_data(&w, 1, END, "b");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\n");
	h2_writable(&w, SIDE_CLIENT);
	H2_WANT(&w, "client DATA 1 end \"b\"\n");
	h2_end(&w);
}

static void test_small_window_setting(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_setting(&w, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 3);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, END, "hello");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200\nclient DATA 1 \"hel\"\n");
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 1, 10);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client DATA 1 end \"lo\"\n");
	h2_end(&w);
}

/* What came of a response before it broke, the client gets. */
static void test_part_before_reset(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_setting(&w, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 3);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "hello");
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_INTERNAL_ERROR);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow error\nclient HEADERS 1 :status=200\nclient DATA 1 \"hel\"\n");
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 1, 10);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client DATA 1 \"lo\"\nclient RST 1 INTERNAL_ERROR\n");
	h2_end(&w);
}

static void test_reset_drops_queue(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_zeros(&w, 1, END, 100000);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 100000);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "");
	h2_end(&w);
}

static void test_concurrent_limit(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_setting(&w, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_setting(&w, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1);
	h2_give(&w, SIDE_SERVER);
	GET(&w, 3);
	GET(&w, 5);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "");
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nserver HEADERS 3 end " UP_GET "client HEADERS 1 end :status=200\n");
	OK(&w, 3, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nserver HEADERS 5 end " UP_GET "client HEADERS 3 end :status=200\n");
	h2_end(&w);
}

static void test_cancel_before_sent(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_setting(&w, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1);
	h2_give(&w, SIDE_SERVER);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	h2_number(&w, NGHTTP2_RST_STREAM, 3, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow error\n");
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200\n");
	h2_end(&w);
}

static void test_h2_to_h1(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "https", ":path", "/a", ":authority", "h",
		   "cookie", "a=1", "x", "y",
		   "cookie", "b=2", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server \"GET /a HTTP/1.1\\r\\nHost: h\\r\\ncookie: a=1; b=2\\r\\nx: y\\r\\n\\r\\n\"\n");
	h2_text(&w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Case: Kept\r\nConnection: x-hop\r\n"
		   "X-Hop: 1\r\n\r\nhi");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200 content-length=2 x-case=Kept\n"
		   "client DATA 1 end \"hi\"\n");
	h2_end(&w);
}

static void test_h2_to_h1_folded(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_text(&w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx: a\r\n b\n\tc\r\n\r\n");
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client HEADERS 1 end :status=200 content-length=0 x=a   b");
	h2_end(&w);
}

static void test_h2_to_h1_chunked(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	POST(&w, 1);
	h2_data(&w, 1, 0, "ab");
	h2_headers(&w, 1, END, "t", "1", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server \"POST /p HTTP/1.1\\r\\nHost: h\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n\"\n"
		    "server \"2\\r\\nab\\r\\n\"\nserver \"0\\r\\nt: 1\\r\\n\\r\\n\"\n");
	h2_text(&w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nS: 2\r\n\r\n");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200\nclient DATA 1 \"x\"\nclient HEADERS 1 end s=2\n");
	h2_end(&w);
}

static void test_h2_to_h1_two(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	GET(&w, 1);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server \"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n\"\nopen new3\n"
	    "new3 \"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n\"\n");
	h2_end(&w);
}

static void test_h2_to_h1_reused(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	w.hold_hooks = false;
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	h2_text(&w, "HTTP/1.1 204 No Content\r\n\r\n");
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_headers(&w, 3, END, ":method", "GET", ":scheme", "https", ":path", "/b", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server \"GET /b HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n\"\n");
	h2_end(&w);
}

static void test_h2_to_h1_until_eof(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_text(&w, "HTTP/1.0 200 OK\r\n\r\nall");
	h2_forget(&w);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client HEADERS 1 :status=200\nclient DATA 1 \"all\"\n");
	h2_close(&w, SIDE_SERVER, false);
	H2_WANT(&w, "flow response\nclose server\nclient DATA 1 end \"\"\n");
	h2_end(&w);
}

static void test_h2_to_h1_101(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_text(&w, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, ":status=502");
	h2_end(&w);
}

static void test_h2_to_h1_leaves(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "close server\nflow error\n");
	h2_end(&w);
}

static void test_h1_to_h2(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	h2_text(&w, "GET /a HTTP/1.1\r\nHost: h\r\nX-Case: v\r\nConnection: keep-alive, X-Hop\r\n"
		   "X-Hop: 1\r\nTE: trailers\r\n"
		"Upgrade: x\r\nKeep-Alive: 5\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end :method=GET :scheme=https :path=/a :authority=h x-case=v te=trailers\n");
	h2_headers(&w, 1, 0, ":status", "200", "content-length", "2", NULL);
	h2_data(&w, 1, END, "hi");
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client \"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n\"\nclient \"hi\"\n");
	h2_end(&w);
}

static void test_h1_to_h2_no_length(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	h2_text(&w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "hi");
	h2_headers(&w, 1, END, "s", "1", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client \"HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n\"\n"
		   "client \"2\\r\\nhi\\r\\n\"\n"
		     "client \"0\\r\\ns: 1\\r\\n\\r\\n\"\n");
	h2_end(&w);
}

static void test_h1_to_h2_empty(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	h2_text(&w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client \"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n\"\n");
	h2_end(&w);
}

static void test_h1_to_h2_old(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	h2_text(&w, "GET / HTTP/1.0\r\nHost: h\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, END, "hi");
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client \"HTTP/1.1 200 OK\\r\\n\\r\\n\"\nclient \"hi\"\n");
	h2_end(&w);
}

static void test_h1_to_h2_chunked(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	h2_text(&w, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 :method=POST :scheme=https :path=/ :authority=h\n"
		   "server DATA 1 \"ab\"\nserver HEADERS 1 end t=1\n");
	h2_end(&w);
}

static void test_h1_to_h2_early_hints(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	h2_text(&w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, 0, ":status", "103", "link", "<a>", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client \"HTTP/1.1 103 Early Hints\\r\\nlink: <a>\\r\\n\\r\\n\"\n");
	h2_end(&w);
}

static void test_h1_to_h2_bad_value(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	w.pb.options.validate_inbound_headers = false;
	h2_text(&w, "GET / HTTP/1.1\r\nHost: h\r\nX: a\1b\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client (285 bytes)\nclose client\nflow error\n");
	h2_end(&w);
}

static void test_h1_to_h2_keeps(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H1_TO_H2));
	for (int32_t id = 1; id < 6; id += 2) {
		h2_text(&w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
		h2_give(&w, SIDE_CLIENT);
		OK(&w, id, END);
		h2_forget(&w);
		h2_give(&w, SIDE_SERVER);
		H2_WANT(&w, "client \"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n\"\nflow response\n");
	}
	h2_end(&w);
}

static void test_hook_holds_one(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.env.block_hooks = w.pb.env.whole_hooks = hook_bit(HOOK_REQUEST);
	w.hold_hooks = true;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "hook request\n");
	w.pb.env.block_hooks = w.pb.env.whole_hooks = 0;
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_answer_hook(&w);
	H2_WANT(&w, "server HEADERS 3 end " UP_GET);
	h2_end(&w);
}

static void hook_and_reset(uint32_t code)
{
	struct h2_world w;

	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.env.block_hooks = w.pb.env.whole_hooks = hook_bit(HOOK_REQUEST);
	w.hold_hooks = true;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, code);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_answer_hook(&w);
	H2_WANT(&w, "flow error\n");
	h2_end(&w);
}

static void test_hook_and_reset(void **state)
{
	(void)state;
	hook_and_reset(NGHTTP2_CANCEL);
	hook_and_reset(NGHTTP2_HTTP_1_1_REQUIRED);
	hook_and_reset(NGHTTP2_PROTOCOL_ERROR);
}

/* A response that meets the hook of its streamed request: its head waits beside the flow, with its trailers. */
static void test_response_meets_hook(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.env.block_hooks = hook_bit(HOOK_REQUEST);
	w.hold_hooks = true;
	POST(&w, 1);
	h2_data(&w, 1, END, "abc");
	h2_give(&w, SIDE_CLIENT);
	h2_open(&w);
	H2_WANT_PART(&w, "hook request\n");
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "hello");
	h2_headers(&w, 1, END, "x-t", "1", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "");
	h2_answer_hook(&w);
	H2_WANT_PART(&w, "client HEADERS 1 :status=200\nclient DATA 1 \"hello\"\nclient HEADERS 1 end x-t=1\n");
	h2_end(&w);
}

static void test_body_limit(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.options.body_size_limit = 2;
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 1, 0, "abc");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client HEADERS 1 :status=413 ");
	h2_end(&w);

	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.options.body_size_limit = 2;
	w.pb.options.body_streaming = false;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "abc");
	h2_forget(&w);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "server RST 1 INTERNAL_ERROR\n");
	h2_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sweep_mixed), cmocka_unit_test(test_stalled_stream),
		cmocka_unit_test(test_window_follows), cmocka_unit_test(test_upload_stalls),
		cmocka_unit_test(test_upload_outlives_origin), cmocka_unit_test(test_full_connection),
		cmocka_unit_test(test_small_window_setting),
		cmocka_unit_test(test_part_before_reset), cmocka_unit_test(test_reset_drops_queue),
		cmocka_unit_test(test_concurrent_limit),
		cmocka_unit_test(test_cancel_before_sent), cmocka_unit_test(test_h2_to_h1),
		cmocka_unit_test(test_h2_to_h1_folded),
		cmocka_unit_test(test_h2_to_h1_chunked), cmocka_unit_test(test_h2_to_h1_two),
		cmocka_unit_test(test_h2_to_h1_reused), cmocka_unit_test(test_h2_to_h1_until_eof),
		cmocka_unit_test(test_h2_to_h1_101), cmocka_unit_test(test_h2_to_h1_leaves),
		cmocka_unit_test(test_h1_to_h2), cmocka_unit_test(test_h1_to_h2_no_length),
		cmocka_unit_test(test_h1_to_h2_empty), cmocka_unit_test(test_h1_to_h2_old),
		cmocka_unit_test(test_h1_to_h2_chunked), cmocka_unit_test(test_h1_to_h2_early_hints),
		cmocka_unit_test(test_h1_to_h2_bad_value), cmocka_unit_test(test_h1_to_h2_keeps),
		cmocka_unit_test(test_hook_holds_one), cmocka_unit_test(test_hook_and_reset),
		cmocka_unit_test(test_response_meets_hook),
		cmocka_unit_test(test_body_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
