/* SPDX-License-Identifier: MIT */
/* HTTP/2: what comes for streams that are over, or can never begin (RFC 9113 5.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http2_world.h"

/* A request that was answered. */
static void answered(struct h2_world *w, int32_t id)
{
	GET(w, id);
	h2_give(w, SIDE_CLIENT);
	OK(w, id, END);
	h2_give(w, SIDE_SERVER);
	h2_forget(w);
}

static void test_request_again(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	answered(&w, 1);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=1 STREAM_CLOSED\nclose client\n");
	h2_end(&w);
}

/* The peer has reset it itself; the other streams go on. */
static void test_head_after_reset(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	h2_headers(&w, 1, END, "a", "b", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client RST 1 STREAM_CLOSED\n");
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, UP_GET);
	h2_end(&w);
}

/* It may not know yet that we have. */
static void test_head_after_our_reset(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	OK(&w, 1, 0);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_INTERNAL_ERROR);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "client RST 1 INTERNAL_ERROR\n");
	h2_data(&w, 1, 0, "more");
	h2_headers(&w, 1, END, "a", "b", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "");
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, UP_GET);
	h2_end(&w);
}

/* Of too many resets, the first ones are forgotten: nobody is punished for what we do not know. */
static void test_forgotten(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	for (int32_t id = 1; id < 101; id += 2) {
		POST(&w, id);
		h2_number(&w, NGHTTP2_RST_STREAM, id, NGHTTP2_CANCEL);
		h2_give(&w, SIDE_CLIENT);
	}
	h2_forget(&w);
	h2_headers(&w, 1, END, "a", "b", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "");
	h2_headers(&w, 99, END, "a", "b", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client RST 99 STREAM_CLOSED\n");
	h2_end(&w);
}

static void test_lower_stream(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 5);
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client GOAWAY 0 last=5 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_first_is_not_one(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 3);
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "client GOAWAY 0 last=3 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

/* After our GOAWAY new streams are not looked at, nor is what follows on them. */
static void test_after_goodbye(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	layer_event(w.l, &(struct event){ .type = EV_DRAIN });
	h2_forget(&w);
	POST(&w, 3);
	h2_headers(&w, 3, END, "a", "b", NULL);
	h2_data(&w, 1, END, "x");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "server DATA 1 end \"x\"\n");
	h2_end(&w);
}

static void test_response_again(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	answered(&w, 1);
	OK(&w, 1, END);
	h2_give(&w, SIDE_SERVER);
	H2_WANT_PART(&w, "server GOAWAY 0 last=0 STREAM_CLOSED\n");
	h2_end(&w);
}

/* The client does not want it any more, which the server cannot know yet. */
static void test_response_to_nobody(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	GET(&w, 1);
	h2_give(&w, SIDE_CLIENT);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	h2_give(&w, SIDE_CLIENT);
	h2_forget(&w);
	OK(&w, 1, 0);
	h2_data(&w, 1, END, "late");
	h2_give(&w, SIDE_SERVER);
	H2_WANT(&w, "");
	GET(&w, 3);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, UP_GET);
	h2_end(&w);
}

static void test_priority_of_nothing(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	h2_frame(&w, NGHTTP2_PRIORITY, 0, 0, "\0\0\0\1\10", 5);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client GOAWAY 0 last=0 PROTOCOL_ERROR\nclose client\n");
	h2_end(&w);
}

static void test_priority_flood(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	for (int i = 0; i < 10100; i++)
		h2_frame(&w, NGHTTP2_PRIORITY, 0, 3, "\0\0\0\1\10", 5);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "ENHANCE_YOUR_CALM");
	h2_end(&w);
}

/* Each is answered, so each has its price. */
static void test_late_flood(void **state)
{
	struct h2_world w;

	(void)state;
	assert_true(h2_begin(&w, H2_TO_H2));
	POST(&w, 1);
	h2_number(&w, NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
	for (int i = 0; i < 1100; i++)
		h2_headers(&w, 1, 0, "a", "b", NULL);
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "ENHANCE_YOUR_CALM");
	h2_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_again), cmocka_unit_test(test_head_after_reset),
		cmocka_unit_test(test_head_after_our_reset), cmocka_unit_test(test_forgotten),
		cmocka_unit_test(test_lower_stream), cmocka_unit_test(test_first_is_not_one),
		cmocka_unit_test(test_after_goodbye), cmocka_unit_test(test_response_again),
		cmocka_unit_test(test_response_to_nobody), cmocka_unit_test(test_priority_of_nothing),
		cmocka_unit_test(test_priority_flood), cmocka_unit_test(test_late_flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
