/* SPDX-License-Identifier: MIT */
/* HTTP/1 through the HTTP layer, as dialogues: regular mode and towards a known destination. */
#include "http_play.h"

/* --- what works -------------------------------------------------------------------------------------------------- */

static void dialogue_get(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_regular(&p))
		return;
	PLAYBOOK("a request, its response, and another on the same connections", p.l,
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
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_get(void **state)
{
	struct play p;
	const struct flow *f;

	(void)state;
	dialogue_get(NULL);
	assert_true(play_regular(&p));
	PLAYBOOK("a byte at a time changes nothing", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A, .by = 1),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5, .by = 1),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	f = first_flow(&p);
	assert_str(f->http.request.host, "example.com");
	assert_int_equal(f->http.request.port, 80);
	assert_str(f->http.request.path, "/a");
	assert_str(f->http.request.base.headers.at[1].name, "X-Case");
	assert_int_equal(f->http.response.status, 200);
	assert_body(&f->http.response.base.body, "hello");
	assert_int_equal(f->http.response.base.body.total, 5);
	play_end(&p);
}

static void test_get_sweep(void **state)
{
	(void)state;
	playbook_sweep(dialogue_get, NULL);
}

static void test_chunked_and_trailers(void **state)
{
	struct play p;
	const struct flow *f;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("chunks flow both ways, trailers too", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT,
		     .text = "POST http://example.com/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
						   "3\r\nabc\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		WANT(CMD_PAUSE, SIDE_CLIENT),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
		WANT(CMD_RESUME, SIDE_CLIENT),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"),
		WANT(CMD_SEND, SIDE_NEW, .text = "2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT,
		     .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "0\r\nT: 1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "0\r\nT: 1\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	f = first_flow(&p);
	assert_body(&f->http.request.base.body, "abcde");
	assert_true(f->http.request.base.has_trailers);
	assert_str(f->http.request.base.trailers.at[0].value, "5");
	assert_body(&f->http.response.base.body, "Wiki");
	play_end(&p);
}

static void test_without_body(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("HEAD, 204 and 304 have no body, whatever they say", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "HEAD http://h/ HTTP/1.1\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "HEAD / HTTP/1.1\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET http://h/ HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET / HTTP/1.1\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT,
		     .text = "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_pipelined(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("pipelined requests are answered one after the other", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT,
		     .text = "GET http://h/1 HTTP/1.1\r\n\r\n\r\nGET http://h/2 HTTP/1.1\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET /1 HTTP/1.1\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET /2 HTTP/1.1\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_until_eof(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("a body until the end closes both", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET http://h/ HTTP/1.0\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET / HTTP/1.0\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.0 200 OK\r\n\r\nall "),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.0 200 OK\r\n\r\nall "),
		GIVE(EV_DATA, SIDE_NEW, .text = "there is"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "there is"),
		GIVE(EV_CLOSED, SIDE_NEW),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	assert_body(&first_flow(&p)->http.response.base.body, "all there is");
	play_end(&p);
}

static void test_informational(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("100-continue is the origin's to give", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT,
		     .text = "PUT http://h/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW,
		     .text = "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 100 Continue\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 100 Continue\r\n\r\n"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "ok"),
		WANT(CMD_SEND, SIDE_NEW, .text = "ok"),
		GIVE(EV_DATA, SIDE_NEW,
		     .text = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
			     "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT,
		     .text = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
			     "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_upgrade(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("after 101 it is a relay", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT,
		     .text = "GET http://h/ HTTP/1.1\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET / HTTP/1.1\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nfirst"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "first"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "ping"),
		WANT(CMD_SEND, SIDE_NEW, .text = "ping"),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_NEW, .half = true),
		GIVE(EV_CLOSED, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	play_end(&p);
}

/* --- what goes wrong --------------------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("an origin that is down: 502, and the connection closes", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW, .error = "Connection refused"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = ERROR_PAGE("502", "Bad Gateway", "138", "Connection refused")),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(first_flow(&p)->error, "Connection refused");
	play_end(&p);
}

static void test_no_host(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("no destination: 400 and no flow", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	assert_true(list_empty(&p.pb.flows));
	play_end(&p);
}

static void test_smuggling(void **state)
{
	static const char *const bad[] = {
		"POST http://h/ HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST http://h/ HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"POST http://h/ HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
		"POST http://h/ HTTP/1.1\r\nContent-Length: 03\r\n\r\nabc",
		"POST http://h/ HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"POST http://h/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nBad Name: x\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nName : x\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nName: a\rb\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct play p;

		assert_true(play_regular(&p));
		PLAYBOOK(bad[i], p.l,
			GIVE(EV_START, NOBODY),
			GIVE(EV_DATA, SIDE_CLIENT, .text = bad[i]),
			WANT(CMD_SEND, SIDE_CLIENT, .any = true),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
		assert_non_null(strstr(first_flow(&p)->error.ptr, "smuggling"));
		play_end(&p);
	}
}

static void test_origin_garbage(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("an origin that does not speak HTTP: 502 with its words", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "220 smtp ready\r\n\r\n"),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(first_flow(&p)->error, "Cannot parse HTTP response: Bad HTTP response line: b'220 smtp ready'");
	play_end(&p);
}

static void test_origin_cuts_body(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("half a body is never passed off as a whole one", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"),
		GIVE(EV_CLOSED, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);

	assert_true(play_regular(&p));
	PLAYBOOK("without a length, only a reset tells half a body from a whole one", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\n\r\nhal"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\n\r\nhal"),
		GIVE(EV_CLOSED, SIDE_NEW, .reset = true),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);
}

static void test_stale_connection(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("a kept connection that died unused is tried once more on a new one", p.l,
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
		GIVE(EV_CLOSED, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_OPEN, SIDE_NEW + 1),
		GIVE(EV_OPENED, SIDE_NEW + 1),
		WANT(CMD_SEND, SIDE_NEW + 1, .text = GET_A_UP),
		GIVE(EV_CLOSED, SIDE_NEW + 1),
		WANT(CMD_CLOSE, SIDE_NEW + 1),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);
}

static void test_client_leaves(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("a client that leaves takes its upstream with it", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(first_flow(&p)->error, "Client disconnected.");
	play_end(&p);
}

/* --- backpressure, hooks, buffering ------------------------------------------------------------------------------ */

static void test_backpressure(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	PLAYBOOK("a slow client pauses the origin, and only the origin", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", .full = true),
		WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_PEER),
		GIVE(EV_WRITABLE, SIDE_CLIENT),
		WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_PEER),
		GIVE(EV_DATA, SIDE_NEW, .text = "defghi"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "defghi"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_hooks_block(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_regular(&p));
	p.pb.env.block_hooks = hook_bit(HOOK_REQUESTHEADERS) | hook_bit(HOOK_REQUEST) | hook_bit(HOOK_RESPONSE);
	p.pb.env.whole_hooks = p.pb.env.block_hooks;
	PLAYBOOK("who may change a message gets it whole, and it waits for the answer", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "POST http://h/ HTTP/1.1\r\nContent-Length: 4\r\n\r\nab"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUESTHEADERS, .hold = true),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "cd"),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_REQUEST, .hold = true),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_RESPONSE, .hold = true),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

/* --- CONNECT and known destinations ------------------------------------------------------------------------------ */

static void dialogue_connect(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_regular(&p))
		return;
	PLAYBOOK("CONNECT, then HTTP inside", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:80 HTTP/1.1\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 Connection established\r\n\r\n"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A_UP),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_A_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_connect(void **state)
{
	struct play p;

	(void)state;
	dialogue_connect(NULL);
	playbook_sweep(dialogue_connect, NULL);
	assert_true(play_regular(&p));
	PLAYBOOK("a server that speaks first gets its relay at once", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:25 HTTP/1.1\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 Connection established\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "220 ready\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "220 ready\r\n"),
		GIVE(EV_CLOSED, SIDE_NEW, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	play_end(&p);
}

static void test_transparent(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_transparent(&p));
	PLAYBOOK("a steered client: its destination first, then what it says", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\nHost: other\r\n\r\n"),
		GIVE(EV_OPENED, SIDE_SERVER),
		WANT(CMD_SEND, SIDE_SERVER, .text = "GET / HTTP/1.1\r\nHost: other\r\n\r\n"),
		GIVE(EV_DATA, SIDE_SERVER, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_CLOSED, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\nHost: other\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET / HTTP/1.1\r\nHost: other\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	assert_str(first_flow(&p)->http.request.host, "example.com");
	play_end(&p);

	assert_true(play_transparent(&p));
	PLAYBOOK("a destination that refuses: the client is reset, as the kernel would have", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER, .error = "Connection refused"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true));
	play_end(&p);

	assert_true(play_transparent(&p));
	PLAYBOOK("what the client said before the destination refused is no request any more", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		GIVE(EV_OPENED, SIDE_SERVER, .error = "Connection refused"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true));
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get),
		cmocka_unit_test(test_get_sweep),
		cmocka_unit_test(test_chunked_and_trailers),
		cmocka_unit_test(test_without_body),
		cmocka_unit_test(test_pipelined),
		cmocka_unit_test(test_until_eof),
		cmocka_unit_test(test_informational),
		cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_host),
		cmocka_unit_test(test_smuggling),
		cmocka_unit_test(test_origin_garbage),
		cmocka_unit_test(test_origin_cuts_body),
		cmocka_unit_test(test_stale_connection),
		cmocka_unit_test(test_client_leaves),
		cmocka_unit_test(test_backpressure),
		cmocka_unit_test(test_hooks_block),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_transparent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
