/* SPDX-License-Identifier: MIT */
/* Streams as tunnels (RFC 9113 8.5): what those inside hear of, and when, though what they send goes out at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "http2_world.h"

/* A tunnel to where, in stream 1. False: memory is out, on purpose. */
static bool begin(struct h2_world *w, const char *where)
{
	if (!h2_begin_bare(w, H2_TO_PROXY))
		return false;
	h2_magic(w);
	h2_frame(w, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	h2_headers(w, 1, 0, ":method", "CONNECT", ":authority", where, NULL);
	h2_give(w, SIDE_CLIENT);
	h2_forget(w);
	return true;
}

/*
 * Once a hook has answered, all of a response goes at once, past both marks of its stream: those inside hear of the
 * room only when they are done with sending.
 */
static void dialogue_drains_at_once(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, "a:80"))
		return;
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 0, 1000000);
	h2_number(&w, NGHTTP2_WINDOW_UPDATE, 1, 1000000);
	w.pb.env.block_hooks = w.pb.env.whole_hooks = hook_bit(HOOK_RESPONSE);
	w.hold_hooks = true;
	h2_data(&w, 1, 0, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	h2_text(&w, "HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n");
	for (int i = 0; i < 90000; i += 10)
		h2_text(&w, "0123456789");
	h2_give(&w, SIDE_NEW);
	H2_WANT_PART(&w, "hook response\n");
	h2_answer_hook(&w);
	H2_WANT_PART(&w, "flow response\n");
	h2_sleep(&w);
	h2_data(&w, 1, 0, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "new3 \"GET /2 HTTP/1.1\\r\\n");
	h2_end(&w);
}

static void test_drains_at_once(void **state)
{
	(void)state;
	dialogue_drains_at_once(NULL);
	playbook_sweep(dialogue_drains_at_once, NULL);
}

/* Bytes and their end, in one piece, for a relay that waits: without the bytes, the end is not passed on either. */
static void dialogue_end_waits(void *arg)
{
	struct h2_world w;
	const char *lines;

	(void)arg;
	if (!begin(&w, "a:22"))
		return;
	w.pb.env.block_hooks = hook_bit(HOOK_TCP_START);
	w.hold_hooks = true;
	h2_data(&w, 1, 0, "SSH-2.0-x\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "hook tcp_start\n");
	if (!w.holder || w.pb.sink.lost) {      /* memory was out already, on purpose */
		h2_end(&w);
		return;
	}
	h2_data(&w, 1, 0, "one");
	h2_data(&w, 1, 0, "two");
	h2_data(&w, 1, END, "");
	h2_give(&w, SIDE_CLIENT);
	h2_answer_hook(&w);
	lines = w.lines.ptr ? w.lines.ptr : "";
	assert_true(!strstr(lines, "close new3 half\n") ||
		    (strstr(lines, "SSH-2.0-x") && strstr(lines, "one") && strstr(lines, "two")));
	H2_WANT(&w, "new3 \"SSH-2.0-x\\r\\n\"\nnew3 \"one\"\nnew3 \"two\"\nclose new3 half\n");
	h2_end(&w);
}

static void test_end_waits(void **state)
{
	(void)state;
	dialogue_end_waits(NULL);
	playbook_sweep(dialogue_end_waits, NULL);
}

/* False: the n-th allocation from the wakeup on was not needed. */
static bool wake_without_memory(uint64_t n)
{
	struct h2_world w;
	const char *lines;
	bool hit, lost;

	assert_true(begin(&w, "a:22"));
	w.pb.env.block_hooks = hook_bit(HOOK_TCP_START);
	w.hold_hooks = true;
	h2_data(&w, 1, 0, "GE");
	h2_give(&w, SIDE_CLIENT);
	mem_fail_at(n);
	h2_sleep(&w);
	hit = mem_fail_hit();
	mem_fail_at(0);
	lost = w.pb.sink.lost;
	h2_answer_hook(&w);
	assert_int_equal(w.pb.sink.lost, lost);
	lines = w.lines.ptr ? w.lines.ptr : "";
	assert_true(lost || strstr(lines, "new3 \"GE\"") || strstr(lines, "client RST 1"));
	h2_end(&w);
	return hit;
}

/* Wakeups come past the tunnel. What finds no memory then is known at once: the session is to end. */
static void test_lost_at_wakeup(void **state)
{
	(void)state;
	for (uint64_t n = 1; wake_without_memory(n); n++)
		;
}

/* A relay that waits has heard of neither end when both have come: its last message goes before them. */
static void dialogue_last_message(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, "a:22"))
		return;
	w.pb.env.block_hooks = hook_bit(HOOK_TCP_MESSAGE);
	w.hold_hooks = true;
	h2_data(&w, 1, 0, "SSH-2.0-x\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "hook tcp_message\n");
	h2_close(&w, SIDE_NEW, false);
	h2_data(&w, 1, 0, "last");
	h2_data(&w, 1, END, "");
	h2_give(&w, SIDE_CLIENT);
	h2_answer_hook(&w);
	H2_WANT(&w, "new3 \"SSH-2.0-x\\r\\n\"\nclient DATA 1 end \"\"\nhook tcp_message\n");
	h2_sleep(&w);
	H2_WANT(&w, "");
	h2_answer_hook(&w);
	H2_WANT(&w, "new3 \"last\"\nclose new3\nflow tcp_end\n");
	h2_end(&w);
}

static void test_last_message(void **state)
{
	(void)state;
	dialogue_last_message(NULL);
	playbook_sweep(dialogue_last_message, NULL);
}

/* A client that has had its whole answer leaves, while somebody looks at the request that is on its way: it arrives. */
static void dialogue_early_answer(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, "a:80"))
		return;
	w.pb.env.block_hooks = hook_bit(HOOK_REQUEST);
	w.hold_hooks = true;
	h2_data(&w, 1, 0, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "new3 \"POST / HTTP/1.1\\r\\n");
	h2_text(&w, "HTTP/1.1 204 No Content\r\n\r\n");
	h2_give(&w, SIDE_NEW);
	H2_WANT(&w, "client DATA 1 \"HTTP/1.1 204 No Content\\r\\n\\r\\n\"\n");
	h2_data(&w, 1, 0, "0\r\n\r\n");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "hook request\n");
	h2_data(&w, 1, END, "");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT(&w, "client DATA 1 end \"\"\n");
	h2_sleep(&w);
	H2_WANT(&w, "");
	h2_answer_hook(&w);
	H2_WANT(&w, "new3 \"0\\r\\n\\r\\n\"\nflow response\nclose new3\nclose new3\n");
	h2_end(&w);
}

static void test_early_answer(void **state)
{
	(void)state;
	dialogue_early_answer(NULL);
	playbook_sweep(dialogue_early_answer, NULL);
}

/*
 * A client that leaves when it has said all, and been answered: what its origin had no room for goes to that before
 * anybody hears of its leaving, as with a client that has a connection of its own.
 */
static void dialogue_rest_of_request(void *arg)
{
	struct h2_world w;

	(void)arg;
	if (!begin(&w, "a:80"))
		return;
	w.full[SIDE_NEW] = true;
	h2_data(&w, 1, 0, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\none");
	h2_give(&w, SIDE_CLIENT);
	H2_WANT_PART(&w, "new3 \"POST / HTTP/1.1\\r\\n");
	h2_text(&w, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
	h2_give(&w, SIDE_NEW);
	H2_WANT_PART(&w, "client DATA 1 \"HTTP/1.1 404 Not Found\\r\\n");
	h2_data(&w, 1, 0, "two");
	h2_data(&w, 1, END, "");
	h2_give(&w, SIDE_CLIENT);
	h2_sleep(&w);
	H2_WANT(&w, "");
	h2_writable(&w, SIDE_NEW);
	h2_sleep(&w);
	H2_WANT(&w, "new3 \"onetwo\"\nflow response\nclose new3\nclient DATA 1 end \"\"\n");
	h2_end(&w);
}

static void test_rest_of_request(void **state)
{
	(void)state;
	dialogue_rest_of_request(NULL);
	playbook_sweep(dialogue_rest_of_request, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drains_at_once),
		cmocka_unit_test(test_end_waits),
		cmocka_unit_test(test_lost_at_wakeup),
		cmocka_unit_test(test_last_message),
		cmocka_unit_test(test_early_answer),
		cmocka_unit_test(test_rest_of_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
