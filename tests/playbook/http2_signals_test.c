/* SPDX-License-Identifier: MIT */
/* What is said beside the messages of HTTP/2: priorities (RFC 9218), and pings that keep a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

#define NO_RFC7540 NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES

static void update(struct h2_world *w, int32_t id, const char *value)
{
	uint8_t payload[128] = { 0, 0, (uint8_t)(id >> 8), (uint8_t)id };
	size_t len = strlen(value);

	memcpy(payload + 4, value, len);
	h2_frame(w, NGHTTP2_PRIORITY_UPDATE, 0, 0, payload, 4 + len);
}

/* An origin that schedules by RFC 9218. */
static bool begin(struct h2_world *w)
{
	if (!h2_begin_bare(w, H2_TO_H2))
		return false;
	h2_magic(w);
	h2_frame(w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(w, SIDE_CLIENT);
	h2_setting(w, NO_RFC7540, 1);
	h2_give(w, SIDE_SERVER);
	h2_forget(w);
	return true;
}

static void test_offered(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin_bare(&w, H2_TO_H2));
	w.all = true;
	h2_magic(&w);
	h2_frame(&w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client SETTINGS 0 3=100 4=262144 6=65536 9=1");
	h2_end(&w);
}

static void test_field_passes(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w));
	h2_headers(&w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h", "priority",
		   "u=1, i", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end :method=GET :scheme=http :path=/ :authority=h priority=u=1, i\n");
	h2_headers(&w, 1, END, ":status", "200", "priority", "u=5", NULL);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200 priority=u=5\n");
	h2_end(&w);
}

/* Without a sweep: nghttp2 1.52 frees what it could not queue past the allocator that counts. */
static void test_update_passes(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w));
	GET(&w, 1);
	GET(&w, 5);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	update(&w, 5, "u=0");
	h2_give(&w, SIDE_CLIENT);
	/* the streams of the two sides have numbers of their own */
	H2_WANT(&w, "server UPDATE 0 of 3 u=0\n");
	h2_end(&w);
}

static void test_update_early(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w));
	update(&w, 3, "u=2");
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server UPDATE 0 of 1 u=2\nserver HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_update_unwanted(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	update(&w, 1, "u=0");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_update_to_http1(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	GET(&w, 1);
	update(&w, 1, "u=0");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server \"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n\"\n");
	h2_end(&w);
}

static void test_update_over(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	update(&w, 1, "u=0");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "");
	h2_end(&w);
}

static void test_update_too_long(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w));
	GET(&w, 1);
	update(&w, 1, "u=0, x=\"0123456789012345678901234567890123456789012345678901234567890\"");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "server HEADERS 1 end " UP_GET);
	h2_end(&w);
}

static void test_update_of_nothing(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w));
	h2_frame(&w, NGHTTP2_PRIORITY_UPDATE, 0, 1, "\0\0\0\1u=1", 7);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=0 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_update_flood(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w));
	GET(&w, 1);
	for (int i = 0; i < 10002; i++)
		update(&w, 1, i & 1 ? "u=1" : "u=2");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "ENHANCE_YOUR_CALM");
	h2_end(&w);
}

/* From a server it is nothing that we know. */
static void test_update_from_server(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(begin(&w));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	update(&w, 1, "u=0");
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "flow response\nclient HEADERS 1 end :status=200\n");
	h2_end(&w);
}

/* Both bodies wait; window is opened for one of them. */
static void two_bodies(struct h2_world *w, const char *first, const char *second)
{
	assert_true(begin(w));
	h2_headers(w, 1, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h",
		   first ? "priority" : NULL, first, NULL);
	h2_headers(w, 3, END, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h",
		   second ? "priority" : NULL, second, NULL);
	h2_give(w, SIDE_CLIENT);
	OK(w, 1, 0);
	h2_zeros(w, 1, 0, 65535);
	OK(w, 3, 0);
	h2_give(w, SIDE_SERVER);
	h2_zeros(w, 1, END, 40000);
	h2_zeros(w, 3, END, 40000);
	h2_give(w, SIDE_SERVER);
	h2_number(w, NGHTTP2_WINDOW_UPDATE, 1, 100000);
	h2_give(w, SIDE_CLIENT);
	h2_forget(w);
	h2_number(w, NGHTTP2_WINDOW_UPDATE, 0, 32768);
	h2_give(w, SIDE_CLIENT);
}

static void test_urgent_first(void **state)
{
	struct h2_world w;

	(void)state;
	two_bodies(&w, "u=5", "u=1");
	H2_WANT(&w, "client DATA 3 (16384 bytes)\nclient DATA 3 (16384 bytes)\n");
	h2_end(&w);
}

static void test_fair_without_wishes(void **state)
{
	struct h2_world w;

	(void)state;
	two_bodies(&w, NULL, NULL);
	H2_WANT_PART(&w, "client DATA 1 (16384 bytes)\n");
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 32768);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client DATA 3 (16384 bytes)\n");
	h2_end(&w);
}

/* --- keep-alive -------------------------------------------------------------------------------------------------- */

#define SECOND INT64_C(1000000000)

static void dialogue_ping(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!h2_begin(&w, H2_TO_H2))
		return;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_sleep(&w);
	H2_WANT(&w, "server PING 0\n");
	h2_frame(&w, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "00000000", 8);
	h2_give(&w, SIDE_SERVER);
	h2_sleep(&w);
	H2_WANT(&w, "server PING 0\n");
	h2_end(&w);
}

static void test_idle_is_pinged(void **state)
{
	(void)state;
	dialogue_ping(NULL);
	playbook_sweep(dialogue_ping, NULL);
}

static void test_busy_is_not_pinged(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	assert_int_equal(w.pb.due_ns, 58 * SECOND);
	w.pb.now_ns = 30 * SECOND;
	OK(&w, 1, 0);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	h2_sleep(&w);
	H2_WANT(&w, "");
	assert_int_equal(w.pb.due_ns, 88 * SECOND);
	h2_sleep(&w);
	H2_WANT(&w, "server PING 0\n");
	h2_end(&w);
}

static void test_closed_is_not_pinged(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	w.pb.options.http2_ping_keepalive_ns = 0;
	h2_forget(&w);
	h2_sleep(&w);
	H2_WANT(&w, "");
	h2_end(&w);
}

/* A client that is gone without a word must not be kept by pings; who comes back is. */
static void test_pings_end(void **state)
{
	struct h2_world w;
	int pings = 0;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	w.pb.options.tcp_timeout_ns = 600 * SECOND;
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	for (; w.pb.due_ns > w.pb.now_ns; pings++) {
		h2_sleep(&w);
		h2_frame(&w, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "00000000", 8);
		h2_give(&w, SIDE_SERVER);
		h2_forget(&w);
		assert_true(pings < 20);
	}
	assert_true(w.pb.now_ns >= w.pb.options.tcp_timeout_ns);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	OK(&w, 3, END);
	h2_give(&w, SIDE_SERVER);
	h2_forget(&w);
	assert_true(w.pb.due_ns > w.pb.now_ns);
	h2_sleep(&w);
	H2_WANT(&w, "server PING 0\n");
	h2_end(&w);
}

static void test_client_is_not_pinged(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H1));
	assert_null(w.pb.sleeper);
	h2_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offered), cmocka_unit_test(test_field_passes),
		cmocka_unit_test(test_update_passes), cmocka_unit_test(test_update_early),
		cmocka_unit_test(test_update_unwanted), cmocka_unit_test(test_update_to_http1),
		cmocka_unit_test(test_update_over), cmocka_unit_test(test_update_too_long),
		cmocka_unit_test(test_update_of_nothing), cmocka_unit_test(test_update_flood),
		cmocka_unit_test(test_update_from_server), cmocka_unit_test(test_urgent_first),
		cmocka_unit_test(test_fair_without_wishes), cmocka_unit_test(test_idle_is_pinged),
		cmocka_unit_test(test_busy_is_not_pinged), cmocka_unit_test(test_closed_is_not_pinged),
		cmocka_unit_test(test_pings_end), cmocka_unit_test(test_client_is_not_pinged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
