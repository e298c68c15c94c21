/* SPDX-License-Identifier: MIT */
/* HTTP/1 at its edges, as dialogues: limits, odd forms, early answers, retries, upgrades, lifetimes. */
#include <stdio.h>

#include "http_play.h"

/* --- less common, and limits ------------------------------------------------------------------------------------- */

static void test_expect_buffered(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.options.body_streaming = false;
	PLAYBOOK("who wants the body whole gives 100-continue itself, and takes the question away", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text =
			"PUT http://h/ HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 100 Continue\r\n\r\n"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "body", .by = 1),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "PUT / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5, .by = 1),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_buffered_chunks(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.options.body_streaming = false;
	PLAYBOOK("chunks that were buffered leave as one", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text =
			"POST http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text =
			"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
	play_end(&p);
}

static void test_size_limit(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.options.body_size_limit = 4;
	PLAYBOOK("a request that grows past the limit: 413", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text =
			"POST http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		WANT(CMD_PAUSE, SIDE_CLIENT),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .any = true),
		WANT(CMD_RESUME, SIDE_CLIENT),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "1\r\ne\r\n"),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .text = ERROR_PAGE("413", "Payload Too Large", "173",
			"Request body exceeds the body_size_limit.")),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);

	assert_true(play_regular(&p));
	p.pb.options.body_size_limit = 4;
	p.pb.options.body_streaming = false;
	PLAYBOOK("a response that does: 502", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(first_flow(&p)->error, "Response body exceeds the body_size_limit.");
	play_end(&p);

	assert_true(play_regular(&p));
	p.pb.options.body_size_limit = 4;
	p.pb.options.stream_large_bodies = 2;
	p.pb.options.body_streaming = false;
	PLAYBOOK("one that is let pass is not measured", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text =
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "3\r\ndef\r\n0\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "3\r\ndef\r\n0\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_header_limits(void **state)
{
	static char large[300];
	struct play p;

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	memcpy(large, "GET http://h/ HTTP/1.1\r\nA: ", 27);
	assert_true(play_regular(&p));
	p.pb.options.header_bytes_max = 200;
	PLAYBOOK("a head without an end: 431, no flow", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = large, .by = 50),
		WANT(CMD_SEND, SIDE_CLIENT, .text = ERROR_PAGE("431", "Request Header Fields Too Large", "207",
			"The request&#x27;s header fields are too large.")),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	assert_true(list_empty(&p.pb.flows));
	play_end(&p);

	assert_true(play_regular(&p));
	p.pb.options.header_count_max = 2;
	PLAYBOOK("too many fields", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET http://h/ HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"),
		WANT(CMD_LOG, NOBODY, .text = "more than 2 header fields"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);

	assert_true(play_regular(&p));
	p.pb.options.header_bytes_max = 200;
	PLAYBOOK("an origin's head without an end: 502", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = large, .by = 50),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);
}

static void test_early_response(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("an answer before the request is over: the request goes on, then both serve again", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "POST http://h/ HTTP/1.1\r\nContent-Length: 4\r\n\r\na"),
		WANT(CMD_OPEN, SIDE_NEW),
		WANT(CMD_PAUSE, SIDE_CLIENT),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\na"),
		WANT(CMD_RESUME, SIDE_CLIENT),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "bcd"),
		WANT(CMD_SEND, SIDE_NEW, .text = "bcd"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET http://h/2 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET /2 HTTP/1.1\r\n\r\n"));
	play_end(&p);

	assert_true(play_regular(&p));
	p.pb.env.notify_hooks = hook_bit(HOOK_RESPONSE) | hook_bit(HOOK_ERROR);
	PLAYBOOK("a client that then leaves: the flow has its response, and no error besides", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "POST http://h/ HTTP/1.1\r\nContent-Length: 4\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .any = true),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

static void test_retry_only_safe(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("a POST is not sent twice, whatever became of the first", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "POST http://example.com/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
		WANT(CMD_SEND, SIDE_NEW, .any = true),
		GIVE(EV_CLOSED, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);

	assert_true(play_regular(&p));
	PLAYBOOK("nor is a GET on a new connection, or one whose answer had begun", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 2"),
		GIVE(EV_CLOSED, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);
}

static void test_http10(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("HTTP/1.0 lives on when it says so, and ends when it does not", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET http://h/1 HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET /1 HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text =
			"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"),
		WANT(CMD_SEND, SIDE_CLIENT, .text =
			"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET http://h/2 HTTP/1.0\r\n\r\n"),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET /2 HTTP/1.0\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

/* First line and fields of the request as given to the proxy, and as they reach the origin. */
static void test_forms(void **state)
{
	static const struct { const char *in, *out; } cases[] = {
		{ "GET http://h/ HTTP/1.1\r\nA: one\r\n  two\r\n\tthree\r\nB: \r\n\r\n",
		  "GET / HTTP/1.1\r\nA: one\r\n two\r\n three\r\nB: \r\n\r\n" },
		{ "GET http://[::1]:8080/x?y HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
		  "GET /x?y HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n" },
		{ "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" },
		{ "BREW HTTP://h HTTP/1.1\r\nX: a\r\nX: b\r\nx: c\r\n\r\n",
		  "BREW / HTTP/1.1\r\nX: a\r\nX: b\r\nx: c\r\n\r\n" },
		{ "M-SEARCH http://h/ HTTP/1.1\nHost:h\n\n", "M-SEARCH / HTTP/1.1\r\nHost: h\r\n\r\n" },
		{ "GET  http://h/ \t HTTP/1.1 \r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n" },
		{ "\r\n\nGET /origin HTTP/1.1\r\nhOsT: h:81\r\n\r\n", "GET /origin HTTP/1.1\r\nhOsT: h:81\r\n\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (uint32_t by = 0; by < 2; by++) {
			struct play p;

			assert_true(play_regular(&p));
			PLAYBOOK(cases[i].in, p.l,
				GIVE(EV_START, NOBODY),
				GIVE(EV_DATA, SIDE_CLIENT, .text = cases[i].in, .by = by),
				WANT(CMD_OPEN, SIDE_NEW),
				GIVE(EV_OPENED, SIDE_NEW),
				WANT(CMD_SEND, SIDE_NEW, .text = cases[i].out));
			play_end(&p);
		}
	}
	{
		struct play p;

		assert_true(play_regular(&p));
		PLAYBOOK("an IPv6 literal needs no name service", p.l,
			GIVE(EV_START, NOBODY),
			GIVE(EV_DATA, SIDE_CLIENT, .text = cases[1].in),
			WANT(CMD_OPEN, SIDE_NEW));
		assert_int_equal(p.pb.conns[SIDE_NEW]->origin.family, 6);
		assert_int_equal(p.pb.conns[SIDE_NEW]->origin.port, 8080);
		play_end(&p);
	}
}

static void test_bad_heads(void **state)
{
	static const char *const bad[] = {
		"GET\r\n\r\n", "GET / HTTP/1.1 x\r\n\r\n", "GET http://h/ HTTP/11\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n",
		"GET ftp://h/ HTTP/1.1\r\n\r\n", "GET http:///x HTTP/1.1\r\n\r\n", "GET http://h:0/ HTTP/1.1\r\n\r\n",
		"GET http://h:65536/ HTTP/1.1\r\n\r\n", "GET http://[::1/ HTTP/1.1\r\n\r\n",
		"CONNECT h HTTP/1.1\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\n folded: first\r\n\r\n", "GET http://h/ HTTP/1.1\r\nnocolon\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\n: empty\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct play p;

		assert_true(play_regular(&p));
		PLAYBOOK(bad[i], p.l,
			GIVE(EV_START, NOBODY),
			GIVE(EV_DATA, SIDE_CLIENT, .text = bad[i]),
			WANT(CMD_SEND, SIDE_CLIENT, .any = true),
			WANT(CMD_CLOSE, SIDE_CLIENT));
		assert_non_null(strstr(playbook_trace(&p.pb), "400 Bad Request"));
		assert_true(list_empty(&p.pb.flows));
		play_end(&p);
	}
}

/* It could have been read, so it is shown. */
static void test_foreign_scheme(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("what we do not fetch", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET ftp://h:21/ HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_non_null(strstr(playbook_trace(&p.pb), "400 Bad Request"));
	play_end(&p);
}

static void test_connect_http10(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("a tunnel is confirmed in the version that it was asked for", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT h:25 HTTP/1.0\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.0 200 Connection established\r\n\r\n"));
	play_end(&p);
}

#define UPGRADE "GET http://h/ HTTP/1.1\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"

static void test_upgrade_refused(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("an upgrade that is not taken up changes nothing", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = UPGRADE),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .any = true),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET http://h/2 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET /2 HTTP/1.1\r\n\r\n"));
	play_end(&p);
}

static void upgrade_to_h2c(const char *fields, const char *sent)
{
	char given[400], wanted[400];
	struct play p;

	snprintf(given, sizeof(given), "GET http://h/ HTTP/1.1\r\n%sA: 1\r\n\r\n", fields);
	snprintf(wanted, sizeof(wanted), "GET / HTTP/1.1\r\n%sA: 1\r\n\r\n", sent);
	assert_true(play_regular(&p));
	PLAYBOOK(fields, p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = given),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = wanted));
	play_end(&p);
}

static void test_upgrade_to_h2c(void **state)
{
	(void)state;
	upgrade_to_h2c("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", "");
	upgrade_to_h2c("connection: close, upgrade\r\nUPGRADE: H2C\r\n", "connection: close\r\n");
	upgrade_to_h2c("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
		       "Connection: Upgrade\r\nUpgrade: websocket\r\n");
}

static void dialogue_upgrade_waits(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_regular(&p))
		return;
	p.pb.env.block_hooks = p.pb.env.whole_hooks = hook_bit(HOOK_RESPONSE);
	PLAYBOOK("after 101 nothing is read, pooled or closed before somebody has looked at it", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = UPGRADE),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .any = true),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 101 Switching Protocols\r\n\r\nfirst"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE, .hold = true),
		WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_LAYER),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_LAYER),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "first"));
	play_end(&p);
}

static void test_upgrade_to_nothing(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.options.rawtcp = false;
	PLAYBOOK("an upgrade to what is not relayed is told, and ends both sides", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET http://h/ HTTP/1.1\r\nUpgrade: x\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 101 Switching Protocols\r\n\r\nfirst"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_NEW));
	play_end(&p);
}

static void test_upgrade_waits(void **state)
{
	(void)state;
	dialogue_upgrade_waits(NULL);
	playbook_sweep(dialogue_upgrade_waits, NULL);
}

/* --- lifetimes that the simulator found -------------------------------------------------------------------------- */

static void test_upstream_dies_during_hook(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.env.block_hooks = p.pb.env.whole_hooks = hook_bit(HOOK_RESPONSE);
	PLAYBOOK("an origin that leaves while somebody looks at its answer", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE, .hold = true),
		GIVE(EV_CLOSED, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_NEW),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW));
	play_end(&p);
}

static void test_paused_upstream_is_reused(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("what one response was paused for, the next is not", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", .full = true),
		WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_PEER),
		GIVE(EV_DATA, SIDE_NEW, .text = "llo"),
		GIVE(EV_WRITABLE, SIDE_CLIENT),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "llo", .full = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_PEER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP));
	assert_int_equal(p.pb.conns[SIDE_NEW]->paused, 0);
	play_end(&p);
}

static void test_server_speaks_before_tunnel(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.env.block_hooks = hook_bit(HOOK_HTTP_CONNECTED);
	PLAYBOOK("a server is not read before there is a tunnel for its words", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:25 HTTP/1.1\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_HTTP_CONNECTED, .hold = true),
		WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_LAYER),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_LAYER),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 Connection established\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "220 ready\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "220 ready\r\n"));
	play_end(&p);

	assert_true(play_regular(&p));
	PLAYBOOK("CONNECT to nobody: 502 in plain text, and the connection closes", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:25 HTTP/1.1\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW, .error = "Connection refused"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_HTTP_CONNECT_ERROR),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	assert_non_null(strstr(playbook_trace(&p.pb), "Connection: close"));
	play_end(&p);
}

static void test_connect_refused(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("the page of a CONNECT that failed names an IPv6 address as an URL does", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW, .error = "No."),
		WANT(CMD_SEND, SIDE_CLIENT,
		     .text = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 176\r\nConnection: close\r\n\r\n"
			     "Cannot connect to [2001:db8::1]:443: No. If you plan to redirect requests away from this "
			     "server, consider setting `connection_strategy` to `lazy` to suppress early connections."),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_HTTP_CONNECT_ERROR),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect_refused),
		cmocka_unit_test(test_upgrade_to_nothing),
		cmocka_unit_test(test_expect_buffered),
		cmocka_unit_test(test_buffered_chunks),
		cmocka_unit_test(test_size_limit),
		cmocka_unit_test(test_header_limits),
		cmocka_unit_test(test_early_response),
		cmocka_unit_test(test_retry_only_safe),
		cmocka_unit_test(test_http10),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_bad_heads),
		cmocka_unit_test(test_foreign_scheme),
		cmocka_unit_test(test_connect_http10),
		cmocka_unit_test(test_upgrade_refused),
		cmocka_unit_test(test_upgrade_to_h2c),
		cmocka_unit_test(test_upgrade_waits),
		cmocka_unit_test(test_upstream_dies_during_hook),
		cmocka_unit_test(test_paused_upstream_is_reused),
		cmocka_unit_test(test_server_speaks_before_tunnel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
