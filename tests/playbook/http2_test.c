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

static void dialogue_mixed(void *arg)
{
	enum h2_kind kind = *(enum h2_kind *)arg;
	struct h2_world w;

	if (!h2_begin(&w, kind))
		return;
	if (kind == H1_TO_H2) {
		h2_text(&w, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n");
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

static void test_bytewise(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give_slowly(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	OK(&w, 1, 0);
	h2_data(&w, 1, END, "hi");
	h2_give_slowly(&w, SIDE_SERVER);
	H2_WANT(&w, "client HEADERS 1 :status=200\nclient DATA 1 \"h\"\nflow response\nclient DATA 1 end \"i\"\n");
	h2_end(&w);
}

static void test_prefaces(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	w.all = true;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open server\nclient SETTINGS 0\nclient SETTINGS 0 ack\nclient WINDOW 0 +16711681\n");
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server SETTINGS 0\nserver WINDOW 0 +16711681\nserver HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_server_first(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_SERVER);
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server HEADERS 1 end " UP_GET);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200\n");
	h2_end(&w);
}

static void test_preface_bytewise(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	GET(&w, 1);
	h2_give_slowly(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_option_off(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H1));
	w.pb.options.http2 = false;
	h2_magic(&w);
	w.peers[SIDE_CLIENT].h2 = false;
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client (286 bytes)");
	h2_end(&w);
}

static void test_many(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	for (int32_t id = 1; id < 9; id += 2)
		GET(&w, id);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET "server HEADERS 3 end " UP_GET "server HEADERS 5 end " UP_GET
		    "server HEADERS 7 end " UP_GET);
	OK(&w, 5, END);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nflow response\nclient HEADERS 5 end :status=200\nclient HEADERS 1 end :status=200\n");
	h2_end(&w);
}

static void test_interleaved(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	POST(&w, 3);
	h2_data(&w, 1, 0, "a");
	h2_data(&w, 3, 0, "b");
	h2_data(&w, 1, END, "c");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server DATA 1 end \"ac\"\nserver DATA 3 \"b\"\n");
	h2_end(&w);
}

static void test_post(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_data(&w, 1, END, "body");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 " UP_POST "server DATA 1 end \"body\"\n");
	h2_end(&w);
}

static void test_trailers(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 1, 0, "x");
	h2_headers(&w, 1, END, "sum", "1", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server DATA 1 \"x\"\nserver HEADERS 1 end sum=1\n");
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "y");
	h2_headers(&w, 1, END, "grpc-status", "0", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200\nclient DATA 1 \"y\"\nclient HEADERS 1 end grpc-status=0\n");
	h2_end(&w);
}

static void test_trailers_only(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, END, ":status", "200", "grpc-status", "12", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client HEADERS 1 end :status=200 grpc-status=12\n");
	h2_data(&w, 1, END, "late");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow response\nserver DATA 1 end \"late\"\n");
	h2_end(&w);
}

static void test_both_ways_at_once(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "r1");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client HEADERS 1 :status=200\nclient DATA 1 \"r1\"\n");
	h2_data(&w, 1, 0, "q1");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server DATA 1 \"q1\"\n");
	h2_data(&w, 1, END, "r2");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client DATA 1 end \"r2\"\n");
	h2_data(&w, 1, END, "q2");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "flow response\nserver DATA 1 end \"q2\"\n");
	h2_end(&w);
}

static void test_informational(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, 0, ":status", "103", "link", "<a>", NULL);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=103 link=<a>\nclient HEADERS 1 end :status=200\n");
	h2_end(&w);
}

static void test_continue(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, 0, ":method", "PUT", ":scheme", "http", ":path", "/", ":authority", "h", "expect",
		   "100-continue", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 :method=PUT :scheme=http :path=/ :authority=h expect=100-continue\n");
	h2_headers(&w, 1, 0, ":status", "100", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "client HEADERS 1 :status=100\n");
	h2_end(&w);
}

static void test_continue_buffered(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.options.body_streaming = false;
	h2_headers(&w, 1, 0, ":method", "PUT", ":scheme", "http", ":path", "/", ":authority", "h", "expect",
		   "100-continue", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client HEADERS 1 :status=100\n");
	h2_data(&w, 1, END, "x");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 :method=PUT :scheme=http :path=/ :authority=h\nserver DATA 1 end \"x\"\n");
	h2_end(&w);
}

static void test_cookies_stay_split(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "cookie", "a=1",
		   "cookie", "b=2", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end :method=GET :scheme=http :path=/ :authority=h cookie=a=1 cookie=b=2\n");
	h2_end(&w);
}

static void test_host_only(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", "host", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end :method=GET :scheme=http :path=/ host=h\n");
	h2_end(&w);
}

static void test_head(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "HEAD", ":scheme", "http", ":path", "/", ":authority", "h", NULL);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, END, ":status", "200", "content-length", "9", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200 content-length=9\n");
	h2_end(&w);
}

static void test_empty_body(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, END, "");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200\nclient DATA 1 end \"\"\n");
	h2_end(&w);
}

static void test_buffered(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.options.body_streaming = false;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, 0, "a");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "");
	h2_data(&w, 1, END, "b");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200\nclient DATA 1 end \"ab\"\n");
	h2_end(&w);
}

static void test_buffered_trailers(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.options.body_streaming = false;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_headers(&w, 1, END, "t", "1", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200\nclient HEADERS 1 end t=1\n");
	h2_end(&w);
}

static void test_padding(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_frame(&w, NGHTTP2_DATA, END | NGHTTP2_FLAG_PADDED, 1, "\3abc\0\0\0", 7);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server DATA 1 end \"abc\"\n");
	h2_end(&w);
}

static void test_ping(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_frame(&w, NGHTTP2_PING, 0, 0, "12345678", 8);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client PING 0 ack\n");
	h2_end(&w);
}

static void test_priority_ignored(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_frame(&w, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\0\10", 5);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_unknown_frame(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_frame(&w, 0xbe, 0, 0, "?", 1);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_end(&w);
}

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
	H2_WANT(&w, "flow error\nserver RST 1 CANCEL\n");
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
	H2_WANT(&w, "close client\nflow error\nflow error\nserver RST 1 CANCEL\nserver RST 3 CANCEL\n");
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
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "a", "1", "b", "2", NULL);
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
	for (int i = 0; i < 11000; i++) {
		h2_frame(&w, NGHTTP2_PING, 0, 0, "12345678", 8);
		if (i % 100 == 0)
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
	for (int32_t id = 1; id < 4000; id += 2) {
		GET(&w, id);
		h2_number(&w, NGHTTP2_RST_STREAM, id, NGHTTP2_CANCEL);
		w.pb.now_ns += 20000000;
		h2_give(&w, SIDE_CLIENT);
		h2_forget(&w);
	}
	GET(&w, 4001);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server HEADERS 4001 end ");
	h2_end(&w);
}

static void test_bad_upper_case(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "X-Upper", "1", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_connection_field(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "connection", "close", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_te_other(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "te", "gzip", NULL);
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
	h2_headers(&w, 1, END, ":method", "GET", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", NULL);
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
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", ":odd", "1", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_status_in_request(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", ":status", "200", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_hosts_differ(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "host", "other", NULL);
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
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "a", "b\rc", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_bad_blank_in_name(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "a b", "c", NULL);
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
	h2_headers(&w, 1, 0, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "h", "content-length", "3",
		   NULL);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_data(&w, 1, END, "four");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 PROTOCOL_ERROR\nclose client\nflow error\nserver RST 1 CANCEL\n");
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

static void test_connect(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_headers(&w, 1, 0, ":method", "CONNECT", ":authority", "h:443", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client HEADERS 1 :status=405 ");
	h2_end(&w);
}

static void test_h2_to_h1(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "https", ":path", "/a", ":authority", "h", "cookie", "a=1", "x", "y",
		   "cookie", "b=2", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server \"GET /a HTTP/1.1\\r\\nHost: h\\r\\ncookie: a=1; b=2\\r\\nx: y\\r\\n\\r\\n\"\n");
	h2_text(&w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Case: Kept\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\nhi");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200 content-length=2 x-case=Kept\nclient DATA 1 end \"hi\"\n");
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
	h2_text(&w, "GET /a HTTP/1.1\r\nHost: h\r\nX-Case: v\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n"
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
	H2_WANT_PART(&w, "client \"HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n\"\nclient \"2\\r\\nhi\\r\\n\"\n"
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
	H2_WANT(&w, "server HEADERS 1 :method=POST :scheme=https :path=/ :authority=h\nserver DATA 1 \"ab\"\nserver HEADERS 1 end t=1\n");
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
	w.pb.env.block_hooks = hook_bit(HOOK_REQUEST);
	w.hold_hooks = true;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "hook request\n");
	w.pb.env.block_hooks = 0;
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_answer_hook(&w);
	H2_WANT(&w, "server HEADERS 3 end " UP_GET);
	h2_end(&w);
}

static void test_hook_and_reset(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.env.block_hooks = hook_bit(HOOK_REQUEST);
	w.hold_hooks = true;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_answer_hook(&w);
	H2_WANT_PART(&w, "flow error\n");
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
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_sweep_mixed),
		cmocka_unit_test(test_bytewise),
		cmocka_unit_test(test_prefaces),
		cmocka_unit_test(test_server_first),
		cmocka_unit_test(test_preface_bytewise),
		cmocka_unit_test(test_option_off),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_interleaved),
		cmocka_unit_test(test_post),
		cmocka_unit_test(test_trailers),
		cmocka_unit_test(test_trailers_only),
		cmocka_unit_test(test_both_ways_at_once),
		cmocka_unit_test(test_informational),
		cmocka_unit_test(test_continue),
		cmocka_unit_test(test_continue_buffered),
		cmocka_unit_test(test_cookies_stay_split),
		cmocka_unit_test(test_host_only),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_empty_body),
		cmocka_unit_test(test_buffered),
		cmocka_unit_test(test_buffered_trailers),
		cmocka_unit_test(test_padding),
		cmocka_unit_test(test_ping),
		cmocka_unit_test(test_priority_ignored),
		cmocka_unit_test(test_unknown_frame),
		cmocka_unit_test(test_client_resets),
		cmocka_unit_test(test_client_resets_in_body),
		cmocka_unit_test(test_client_resets_during_response),
		cmocka_unit_test(test_server_resets),
		cmocka_unit_test(test_server_cancels),
		cmocka_unit_test(test_server_wants_http11),
		cmocka_unit_test(test_server_resets_in_body),
		cmocka_unit_test(test_early_answer),
		cmocka_unit_test(test_refused_once),
		cmocka_unit_test(test_refused_twice),
		cmocka_unit_test(test_refused_with_body),
		cmocka_unit_test(test_refused_sends_again),
		cmocka_unit_test(test_goaway_graceful),
		cmocka_unit_test(test_goaway_then_new),
		cmocka_unit_test(test_client_goaway),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_drain_idle),
		cmocka_unit_test(test_client_leaves),
		cmocka_unit_test(test_server_leaves),
		cmocka_unit_test(test_server_leaves_in_body),
		cmocka_unit_test(test_server_leaves_stale),
		cmocka_unit_test(test_refused_connection),
		cmocka_unit_test(test_waiting_for_one),
		cmocka_unit_test(test_nobody_waits),
		cmocka_unit_test(test_stalled_stream),
		cmocka_unit_test(test_window_follows),
		cmocka_unit_test(test_upload_stalls),
		cmocka_unit_test(test_full_connection),
		cmocka_unit_test(test_small_window_setting),
		cmocka_unit_test(test_reset_drops_queue),
		cmocka_unit_test(test_concurrent_limit),
		cmocka_unit_test(test_cancel_before_sent),
		cmocka_unit_test(test_head_too_large),
		cmocka_unit_test(test_head_many),
		cmocka_unit_test(test_response_head_too_large),
		cmocka_unit_test(test_continuation_flood),
		cmocka_unit_test(test_rapid_reset),
		cmocka_unit_test(test_settings_flood),
		cmocka_unit_test(test_ping_flood),
		cmocka_unit_test(test_empty_data_flood),
		cmocka_unit_test(test_calm_comes_back),
		cmocka_unit_test(test_bad_upper_case),
		cmocka_unit_test(test_bad_connection_field),
		cmocka_unit_test(test_bad_te_other),
		cmocka_unit_test(test_bad_no_method),
		cmocka_unit_test(test_bad_no_path),
		cmocka_unit_test(test_bad_empty_path),
		cmocka_unit_test(test_bad_no_authority),
		cmocka_unit_test(test_bad_two_methods),
		cmocka_unit_test(test_bad_late_pseudo),
		cmocka_unit_test(test_bad_unknown_pseudo),
		cmocka_unit_test(test_bad_status_in_request),
		cmocka_unit_test(test_bad_hosts_differ),
		cmocka_unit_test(test_bad_bad_authority),
		cmocka_unit_test(test_bad_control_in_value),
		cmocka_unit_test(test_bad_blank_in_name),
		cmocka_unit_test(test_bad_blank_around_value),
		cmocka_unit_test(test_bad_length),
		cmocka_unit_test(test_bad_frame_size),
		cmocka_unit_test(test_bad_even_stream),
		cmocka_unit_test(test_bad_data_idle),
		cmocka_unit_test(test_bad_hpack),
		cmocka_unit_test(test_bad_window),
		cmocka_unit_test(test_bad_response),
		cmocka_unit_test(test_bad_status),
		cmocka_unit_test(test_bad_101),
		cmocka_unit_test(test_push),
		cmocka_unit_test(test_unvalidated),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_h2_to_h1),
		cmocka_unit_test(test_h2_to_h1_chunked),
		cmocka_unit_test(test_h2_to_h1_two),
		cmocka_unit_test(test_h2_to_h1_reused),
		cmocka_unit_test(test_h2_to_h1_until_eof),
		cmocka_unit_test(test_h2_to_h1_101),
		cmocka_unit_test(test_h2_to_h1_leaves),
		cmocka_unit_test(test_h1_to_h2),
		cmocka_unit_test(test_h1_to_h2_no_length),
		cmocka_unit_test(test_h1_to_h2_empty),
		cmocka_unit_test(test_h1_to_h2_old),
		cmocka_unit_test(test_h1_to_h2_chunked),
		cmocka_unit_test(test_h1_to_h2_early_hints),
		cmocka_unit_test(test_h1_to_h2_bad_value),
		cmocka_unit_test(test_h1_to_h2_keeps),
		cmocka_unit_test(test_hook_holds_one),
		cmocka_unit_test(test_hook_and_reset),
		cmocka_unit_test(test_body_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
