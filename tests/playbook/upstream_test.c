/* SPDX-License-Identifier: MIT */
/* Upstream mode as dialogues: in absolute form for http, through CONNECT for what a client tunnels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "layers/mode.h"
#include "playbook.h"

#define GET_A "GET http://example.com/a HTTP/1.1\r\nHost: example.com\r\n\r\n"
#define GET_B "GET /b HTTP/1.1\r\nHost: example.com\r\n\r\n"
#define OK_5  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define CONNECTED "HTTP/1.1 200 Connection established\r\n\r\n"
#define SERVER (SIDE_NEW + 1)            /* what is asked for; SIDE_NEW only says which proxy there is */
#define PROXY  (SIDE_NEW + 2)

struct play {
	struct playbook pb;
	struct layer *l;
};

static bool play(struct play *p)
{
	struct proxy_mode m;
	struct err e;

	if (proxy_mode_parse(&m, STR("upstream:http://proxy.example:3128"), &e) < 0 || playbook_init(&p->pb) < 0)
		return false;
	p->l = mode_upstream_new(&p->pb.sink, &p->pb.env, p->pb.client, &m);
	if (p->l)
		return true;
	playbook_fini(&p->pb, NULL);
	return false;
}

static void play_end(struct play *p)
{
	playbook_fini(&p->pb, p->l);
}

static void assert_str(struct str got, const char *want)
{
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.ptr, want, got.len);
}

static void dialogue_http(void *arg)
{
	struct play p;

	(void)arg;
	if (!play(&p))
		return;
	PLAYBOOK("http: the proxy gets it as it came; twice on one connection", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_SEND, PROXY, .text = GET_A),
		GIVE(EV_DATA, PROXY, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_SEND, PROXY, .text = GET_A),
		GIVE(EV_DATA, PROXY, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_http(void **state)
{
	struct play p;
	struct flow *f;

	(void)state;
	dialogue_http(NULL);
	playbook_sweep(dialogue_http, NULL);
	assert_true(play(&p));
	p.pb.options.upstream_auth = "u:p";
	PLAYBOOK("an origin-form request gets its absolute form; with our password in place of the client's", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET /a HTTP/1.1\r\nproxy-authorization: x\r\nHost: h:81\r\n\r\n"),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_SEND, PROXY,
		     .text = "GET http://h:81/a HTTP/1.1\r\nproxy-authorization: Basic dTpw\r\nHost: h:81\r\n\r\n"),
		GIVE(EV_DATA, PROXY, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	f = list_entry(p.pb.flows.next, struct flow, link);
	assert_str(f->server->address.host, "h");
	assert_str(f->server->via.host, "proxy.example");
	assert_int_equal(f->server->via.port, 3128);
	assert_str(f->server->via_scheme, "http");
	play_end(&p);
}

static void test_options(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p));
	PLAYBOOK("what is asked of a server as a whole is asked of its proxy without a path (RFC 9112 3.2.4)", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "OPTIONS * HTTP/1.1\r\nHost: h:81\r\n\r\n"),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_SEND, PROXY, .text = "OPTIONS http://h:81 HTTP/1.1\r\nHost: h:81\r\n\r\n"));
	play_end(&p);
}

static void dialogue_connect(void *arg)
{
	struct play p;

	(void)arg;
	if (!play(&p))
		return;
	p.pb.options.upstream_auth = "u:p";
	PLAYBOOK("CONNECT: answered at once, the proxy is asked when there is something to send", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:80 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = CONNECTED),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_B),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_SEND, PROXY, .text = "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n"
					      "Proxy-Authorization: Basic dTpw\r\n\r\n"),
		GIVE(EV_DATA, PROXY, .text = "HTTP/1.1 200 fine\r\nVia: x\r\n\r\n", .by = 3),
		WANT(CMD_SEND, PROXY, .text = GET_B),
		GIVE(EV_DATA, PROXY, .text = OK_5),
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
	assert_true(play(&p));
	p.pb.options.http_connect_send_host_header = false;
	PLAYBOOK("raw bytes, both halves, a slow client; an IPv6 target has brackets", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT [2001:db8::1]:25 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = CONNECTED),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "\1\2\3"),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_SEND, PROXY, .text = "CONNECT [2001:db8::1]:25 HTTP/1.1\r\n\r\n"),
		GIVE(EV_DATA, PROXY, .text = "HTTP/1.0 200 OK\r\n\r\n220 hi\r\n"),
		WANT(CMD_SEND, PROXY, .text = "\1\2\3"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "220 hi\r\n", .full = true),
		WANT(CMD_PAUSE, PROXY, .why = PAUSE_PEER),
		GIVE(EV_WRITABLE, SIDE_CLIENT),
		WANT(CMD_RESUME, PROXY, .why = PAUSE_PEER),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, PROXY, .half = true),
		GIVE(EV_CLOSED, PROXY),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_CLOSE, PROXY),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	play_end(&p);
}

static void connect_refused(const char *answer, const char *why)
{
	struct play p;

	assert_true(play(&p));
	PLAYBOOK(why, p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:80 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = CONNECTED),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_B),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_SEND, PROXY, .any = true),
		GIVE(EV_DATA, PROXY, .text = answer),
		WANT(CMD_CLOSE, PROXY),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(list_entry(p.pb.flows.next, struct flow, link)->error, why);
	play_end(&p);
}

static void test_refused(void **state)
{
	struct play p;

	(void)state;
	connect_refused("HTTP/1.1 403 No way\r\nContent-Length: 3\r\n\r\nbye",
			"Upstream proxy proxy.example:3128 refused HTTP CONNECT request: 403 No way");
	connect_refused("220 smtp\r\n\r\n",
			"Error connecting to proxy.example:3128: Bad HTTP response line: b'220 smtp'");
	assert_true(play(&p));
	PLAYBOOK("a proxy that is not there, one that hangs up", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_A),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY, .error = "Connection refused"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(list_entry(p.pb.flows.next, struct flow, link)->error, "Connection refused");
	play_end(&p);
	assert_true(play(&p));
	PLAYBOOK("one that hangs up instead of answering", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:80 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = CONNECTED),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_B),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_SEND, PROXY, .any = true),
		GIVE(EV_CLOSED, PROXY),
		WANT(CMD_CLOSE, PROXY),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	assert_str(list_entry(p.pb.flows.next, struct flow, link)->error, "connection closed");
	play_end(&p);
}

static void test_hook(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p));
	p.pb.env.block_hooks = hook_bit(HOOK_HTTP_CONNECT_UPSTREAM);
	PLAYBOOK("the CONNECT waits for whoever wants to see it", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:80 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = CONNECTED),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_B),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_HTTP_CONNECT_UPSTREAM, .hold = true),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, PROXY, .any = true),
		GIVE(EV_DATA, PROXY, .text = "HTTP/1.1 200 OK\r\n\r\n"),
		WANT(CMD_SEND, PROXY, .text = GET_B));
	play_end(&p);
}

/* The client of a tunnel says first, and then something happens while its CONNECT is looked at. */
static void begin_looked_at(struct play *p, const char *first)
{
	assert_true(play(p));
	p->pb.env.block_hooks = hook_bit(HOOK_HTTP_CONNECT_UPSTREAM);
	PLAYBOOK("a CONNECT is looked at", p->l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT example.com:80 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = CONNECTED),
		GIVE(EV_DATA, SIDE_CLIENT, .text = first),
		WANT(CMD_OPEN, PROXY),
		GIVE(EV_OPENED, PROXY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_HTTP_CONNECT_UPSTREAM, .hold = true));
}

static void test_left_meanwhile(void **state)
{
	struct play p;

	(void)state;
	begin_looked_at(&p, GET_B);
	PLAYBOOK("who asked leaves meanwhile: there is no tunnel", p.l,
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, PROXY),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR),
		GIVE(EV_HOOK_DONE, NOBODY));
	assert_str(list_entry(p.pb.flows.next, struct flow, link)->error, "Client disconnected.");
	play_end(&p);

	begin_looked_at(&p, "\1\2\3");
	PLAYBOOK("who has only said all that it has to say has not left", p.l,
		GIVE(EV_CLOSED, SIDE_CLIENT),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, PROXY, .any = true),
		GIVE(EV_DATA, PROXY, .text = "HTTP/1.1 200 OK\r\n\r\n"),
		WANT(CMD_SEND, PROXY, .text = "\1\2\3"),
		WANT(CMD_CLOSE, PROXY, .half = true));
	play_end(&p);

	begin_looked_at(&p, GET_B);
	PLAYBOOK("nor is there one when the proxy leaves", p.l,
		GIVE(EV_CLOSED, PROXY),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_CLOSE, PROXY),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);

	begin_looked_at(&p, GET_B);
	PLAYBOOK("what the proxy says before it was asked is no answer yet", p.l,
		GIVE(EV_DATA, PROXY, .text = "HTTP/1.1 200 OK\r\n\r\n"),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, PROXY, .text = "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n"),
		WANT(CMD_SEND, PROXY, .text = GET_B));
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_hook),
		cmocka_unit_test(test_left_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
