/* SPDX-License-Identifier: MIT */
/* HTTP/2 through the HTTP layer, frame by frame, with both ends of it: what works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

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

#define DOWN_PREFACE "client SETTINGS 0 3=100 4=262144 6=65536 9=1 8=1\n"
#define DOWN_WINDOW "client WINDOW 0 +16711681\n"
#define UP_SETTINGS "server SETTINGS 0 3=100 4=262144 6=65536 2=0\n"
#define UP_PREFACE UP_SETTINGS "server WINDOW 0 +16711681\n"
#define UP_GET_TLS "server HEADERS 1 end :method=GET :scheme=https :path=/ :authority=h\n"
#define UP_PREFACE_ACK UP_SETTINGS "server SETTINGS 0 ack\nserver WINDOW 0 +16711681\n"

static void test_prefaces(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	w.all = true;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "open server\n" UP_PREFACE DOWN_PREFACE "client SETTINGS 0 ack\n" DOWN_WINDOW);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_end(&w);
}

/* A server that agreed on HTTP/2 may wait for its client's preface, and not for long (RFC 9113 3.4). */
static void test_preface_before_request(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H1_TO_H2));
	w.all = true;
	h2_forget(&w);
	h2_text(&w, "GET / HTTP/1.1\r\nHost: h\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, UP_PREFACE);
	h2_text(&w, "\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, UP_GET_TLS);
	h2_end(&w);

	assert_true(h2_begin_bare(&w, H1_TO_H2));
	w.all = true;
	w.pb.env.block_hooks = hook_bit(HOOK_REQUESTHEADERS);
	w.hold_hooks = true;
	h2_forget(&w);
	h2_text(&w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "hook requestheaders\n" UP_PREFACE);
	h2_answer_hook(&w);
	H2_WANT(&w, UP_GET_TLS);
	h2_end(&w);
}

static void dialogue_silent_client(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!h2_begin_bare(&w, H1_TO_H2))
		return;
	w.peers[SIDE_CLIENT].h2 = w.all = true;
	w.pb.client->record->alpn = STR("h2");
	h2_forget(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, DOWN_PREFACE DOWN_WINDOW UP_PREFACE_ACK);
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client SETTINGS 0 ack\n" UP_GET_TLS);
	h2_end(&w);
}

/* A server of HTTP/2 that begins is answered, though the client, who agreed on that as well, has said nothing yet. */
static void test_silent_client(void **state)
{
	(void)state;
	dialogue_silent_client(NULL);
	playbook_sweep(dialogue_silent_client, NULL);
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
	H2_WANT(&w, "flow response\nflow response\nclient HEADERS 5 end :status=200\n"
		   "client HEADERS 1 end :status=200\n");
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
	H2_WANT(&w, "flow response\nclient HEADERS 1 :status=200\nclient DATA 1 \"y\"\n"
		   "client HEADERS 1 end grpc-status=0\n");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get), cmocka_unit_test(test_sweep), cmocka_unit_test(test_bytewise),
		cmocka_unit_test(test_prefaces), cmocka_unit_test(test_preface_before_request),
		cmocka_unit_test(test_silent_client), cmocka_unit_test(test_server_first),
		cmocka_unit_test(test_preface_bytewise), cmocka_unit_test(test_option_off),
		cmocka_unit_test(test_many), cmocka_unit_test(test_interleaved), cmocka_unit_test(test_post),
		cmocka_unit_test(test_trailers), cmocka_unit_test(test_trailers_only),
		cmocka_unit_test(test_both_ways_at_once), cmocka_unit_test(test_informational),
		cmocka_unit_test(test_continue), cmocka_unit_test(test_continue_buffered),
		cmocka_unit_test(test_cookies_stay_split), cmocka_unit_test(test_host_only),
		cmocka_unit_test(test_head), cmocka_unit_test(test_empty_body),
		cmocka_unit_test(test_buffered), cmocka_unit_test(test_buffered_trailers),
		cmocka_unit_test(test_padding), cmocka_unit_test(test_ping),
		cmocka_unit_test(test_priority_ignored), cmocka_unit_test(test_unknown_frame),
		cmocka_unit_test(test_connect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
