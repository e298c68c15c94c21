/* SPDX-License-Identifier: MIT */
/* Which layer a connection gets from its first bytes, and how a client came to us: next and mode as dialogues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "layers/mode.h"
#include "layers/next.h"
#include "playbook.h"

#define SECOND_NS INT64_C(1000000000)
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

struct play {
	struct playbook pb;
	struct layer *l;
};

static bool play_begin(struct play *p, bool steered)
{
	if (playbook_init(&p->pb) < 0)
		return false;
	p->l = steered ? mode_transparent_new(&p->pb.sink, &p->pb.env, p->pb.client, p->pb.server) :
			 mode_regular_new(&p->pb.sink, &p->pb.env, p->pb.client);
	if (p->l)
		return true;
	playbook_fini(&p->pb, NULL);
	return false;
}

static void play_end(struct play *p)
{
	playbook_fini(&p->pb, p->l);
}

static void test_server_lost_before(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, true));
	PLAYBOOK("a server that is lost before anything was said to it is opened again",
		p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "EHL"),
		WANT(CMD_WAKEUP, NOBODY),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		WANT(CMD_SEND, SIDE_SERVER, .text = "EHL"),
		GIVE(EV_DATA, SIDE_SERVER, .text = "250"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "250"));
	play_end(&p);
}

static const struct flow *first_flow(const struct play *p)
{
	assert_false(list_empty(&p->pb.flows));
	return list_entry(p->pb.flows.next, struct flow, link);
}

/* Relayed as they are, at once: no prefix of anything that we know. */
static void test_is_tcp(void **state)
{
	static const struct { const char *bytes; size_t len; } cases[] = {
		{ "\0\0\0\1binary", 10 }, { "SSH-2.0-OpenSSH_9\r\n", 19 }, { "EHLO example.com\r\n", 18 },
		{ "GET /\r\n", 7 },                      /* HTTP/0.9 is not HTTP here */
		{ "1 HTTP/1.1\r\n", 12 }, { "GE T / HTTP/1.1\r\n", 17 }, { "\r\n", 2 },
		{ "\x16\x02\x01", 3 }, { "\x16\x03\x05", 3 }, { "\x17\x03\x01", 3 }, { "NICK \x01x", 7 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct play p;

		assert_true(play_begin(&p, true));
		PLAYBOOK(cases[i].bytes, p.l,
			GIVE(EV_START, NOBODY),
			WANT(CMD_OPEN, SIDE_SERVER),
			GIVE(EV_OPENED, SIDE_SERVER),
			GIVE(EV_DATA, SIDE_CLIENT, .text = cases[i].bytes, .len = cases[i].len),
			WANT(CMD_SEND, SIDE_SERVER, .text = cases[i].bytes, .len = cases[i].len),
			GIVE(EV_CLOSED, SIDE_CLIENT, .reset = true),
			WANT(CMD_CLOSE, SIDE_SERVER, .reset = true),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
		assert_int_equal(first_flow(&p)->type, FLOW_TCP);
		play_end(&p);
	}
}

static void dialogue_http(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, true))
		return;
	PLAYBOOK("a first line in pieces is waited for (DB-7)", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "G"),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = SECOND_NS),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "ET / HTTP/1.1\r", .by = 1),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "\nHost: h\r\n\r\n"),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_SEND, SIDE_SERVER, .text = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
		GIVE(EV_DATA, SIDE_SERVER, .text = OK),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_http(void **state)
{
	struct play p;

	(void)state;
	dialogue_http(NULL);
	playbook_sweep(dialogue_http, NULL);

	assert_true(play_begin(&p, true));
	PLAYBOOK("after a second it is decided by what is there", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "USER anonymous"),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = SECOND_NS),
		GIVE(EV_WAKEUP, NOBODY),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_SEND, SIDE_SERVER, .text = "USER anonymous"),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	play_end(&p);

	assert_true(play_begin(&p, true));
	PLAYBOOK("a client that ends within its first line is relayed with its end", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "who"),
		WANT(CMD_WAKEUP, NOBODY),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_SEND, SIDE_SERVER, .text = "who"),
		WANT(CMD_CLOSE, SIDE_SERVER, .half = true),
		GIVE(EV_DATA, SIDE_SERVER, .text = "me"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "me"),
		GIVE(EV_CLOSED, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	play_end(&p);
}

static void test_long_line(void **state)
{
	static char line[16384 + 1];
	struct play p;

	(void)state;
	memset(line, 'a', sizeof(line) - 1);
	assert_true(play_begin(&p, true));
	PLAYBOOK("no longer than 16 KiB is waited", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = line, .by = 8192),
		WANT(CMD_WAKEUP, NOBODY),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_SEND, SIDE_SERVER, .text = line));
	play_end(&p);
}

static void test_server_first(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, true));
	PLAYBOOK("who speaks first is relayed first, what the client had begun to say behind it", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "HEL"),
		WANT(CMD_WAKEUP, NOBODY),
		GIVE(EV_DATA, SIDE_SERVER, .text = "220 hi\r\n"),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "220 hi\r\n"),
		WANT(CMD_SEND, SIDE_SERVER, .text = "HEL"));
	play_end(&p);

	assert_true(play_begin(&p, true));
	PLAYBOOK("a server that leaves without a word takes the client with it", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_CLOSED, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

static void test_silent(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, true));
	PLAYBOOK("a client that leaves without a word: no flow", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	assert_true(list_empty(&p.pb.flows));
	play_end(&p);

	assert_true(play_begin(&p, true));
	PLAYBOOK("the proxy is stopping: who has said nothing is let go", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DRAIN, NOBODY),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = 500000000),
		GIVE(EV_WAKEUP, NOBODY),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);

	assert_true(play_begin(&p, true));
	PLAYBOOK("the proxy is stopping: who has begun to speak is heard", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET /"),
		WANT(CMD_WAKEUP, NOBODY),
		GIVE(EV_DRAIN, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = " HTTP/1.1\r\n\r\n"),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_SEND, SIDE_SERVER, .text = "GET / HTTP/1.1\r\n\r\n"));
	play_end(&p);
}

static void test_rawtcp_off(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, true));
	p.pb.options.rawtcp = false;
	PLAYBOOK("without rawtcp everything is HTTP, and this is none", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "EHLO x\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

static void test_proxy(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, false));
	PLAYBOOK("a proxy is spoken to in HTTP or TLS; anything else is answered in HTTP", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "EHLO example.com\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	assert_true(list_empty(&p.pb.flows));
	play_end(&p);

	assert_true(play_begin(&p, false));
	PLAYBOOK("half of a TLS record's first bytes is waited for, and then is none", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "\x16\x03"),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = SECOND_NS),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

/* --- modes -------------------------------------------------------------------------------------------------------- */

static void dialogue_refused(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, true))
		return;
	PLAYBOOK("a destination that refuses is shown, and the client reset", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\n\r\n"),
		GIVE(EV_OPENED, SIDE_SERVER, .error = "No route to host"),
		WANT(CMD_LOG, NOBODY, .text = "error establishing server connection: No route to host"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true));
	if (!playbook_sweeping())
		assert_memory_equal(first_flow(&p)->error.ptr, "No route to host", 16);
	play_end(&p);
}

static void test_refused(void **state)
{
	(void)state;
	dialogue_refused(NULL);
	playbook_sweep(dialogue_refused, NULL);
}

static void dialogue_lazy(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, true))
		return;
	p.pb.options.connection_eager = false;
	PLAYBOOK("lazy: the server is opened when somebody needs it", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "\0\1", .len = 2),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		WANT(CMD_SEND, SIDE_SERVER, .text = "\0\1", .len = 2));
	play_end(&p);
}

static void test_lazy(void **state)
{
	(void)state;
	dialogue_lazy(NULL);
	playbook_sweep(dialogue_lazy, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server_lost_before),
		cmocka_unit_test(test_is_tcp),
		cmocka_unit_test(test_http),
		cmocka_unit_test(test_long_line),
		cmocka_unit_test(test_server_first),
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_rawtcp_off),
		cmocka_unit_test(test_proxy),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_lazy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
