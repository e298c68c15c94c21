/* SPDX-License-Identifier: MIT */
/* Reverse mode without TLS, passwords, and bodies that are too large to wait for, as dialogues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/proxy_auth.h"
#include "layers/mode.h"
#include "playbook.h"

#define OK_5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define SERVER SIDE_NEW

struct play {
	struct playbook pb;
	struct layer *l;
	struct proxy_auth *auth;
};

static bool play_with(struct play *p, const char *spec, const char *proxyauth)
{
	struct proxy_mode m;
	struct err e;

	p->auth = NULL;
	if (proxy_mode_parse(&m, str_of(spec), &e) < 0 || playbook_init(&p->pb) < 0)
		return false;
	p->l = NULL;
	if (!proxyauth || proxy_auth_new(&p->auth, str_of(proxyauth), STR(""), &e) == 0)
		p->l = m.kind == MODE_REVERSE ? mode_reverse_new(&p->pb.sink, &p->pb.env, p->pb.client, &m) :
						mode_regular_new(&p->pb.sink, &p->pb.env, p->pb.client);
	p->pb.options.proxyauth = p->auth;
	if (p->l)
		return true;
	playbook_fini(&p->pb, NULL);
	proxy_auth_free(p->auth);
	return false;
}

static bool play(struct play *p, const char *spec)
{
	return play_with(p, spec, NULL);
}

static void play_end(struct play *p)
{
	playbook_fini(&p->pb, p->l);
	proxy_auth_free(p->auth);
}

static const struct flow *first_flow(const struct play *p)
{
	assert_false(list_empty(&p->pb.flows));
	return list_entry(p->pb.flows.next, struct flow, link);
}

static void dialogue_http(void *arg)
{
	struct play p;

	(void)arg;
	if (!play(&p, "reverse:http://target.example:8000"))
		return;
	p.pb.options.upstream_auth = "u:p";
	p.pb.client->record->sockname.port = 8080;
	PLAYBOOK("the Host names the target, services lead to us, the password is ours", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SERVER),
		GIVE(EV_OPENED, SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\nhost: us\r\nA: b\r\nHost: again\r\n\r\n"),
		WANT(CMD_SEND, SERVER, .text = "GET / HTTP/1.1\r\nhost: target.example:8000\r\nA: b\r\n"
					       "Authorization: Basic dTpw\r\n\r\n"),
		GIVE(EV_DATA, SERVER, .text = "HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":443\"; ma=1, h2=\"alt.x-y:9\"\r\n"
					      "Content-Length: 0\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":8080\"; ma=1, h2=\":8080\"\r\n"
						    "Content-Length: 0\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_http(void **state)
{
	struct play p;

	(void)state;
	dialogue_http(NULL);
	playbook_sweep(dialogue_http, NULL);
	assert_true(play(&p, "reverse:http://[2001:db8::1]"));
	PLAYBOOK("a default port is not written, an IPv6 address has brackets; CONNECT is no request to a server", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SERVER),
		GIVE(EV_OPENED, SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
		WANT(CMD_SEND, SERVER,
		     .text = "GET / HTTP/1.0\r\nConnection: keep-alive\r\nHost: [2001:db8::1]\r\n\r\n"),
		GIVE(EV_DATA, SERVER, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT a:1 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_ERROR));
	play_end(&p);
	assert_true(play(&p, "reverse:http://target.example"));
	p.pb.options.keep_host_header = p.pb.options.keep_alt_svc_header = true;
	PLAYBOOK("kept when it is to be kept", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SERVER),
		GIVE(EV_OPENED, SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\nHost: us\r\n\r\n"),
		WANT(CMD_SEND, SERVER, .text = "GET / HTTP/1.1\r\nHost: us\r\n\r\n"),
		GIVE(EV_DATA, SERVER, .text = "HTTP/1.1 204 No\r\nAlt-Svc: h3=\":443\"\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 204 No\r\nAlt-Svc: h3=\":443\"\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_refused(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p, "reverse:http://target.example"));
	PLAYBOOK("a target that is down: the client is closed without a word", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SERVER),
		GIVE(EV_OPENED, SERVER, .error = "Connection refused"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

static void test_tcp(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p, "reverse:tcp://target.example:25"));
	PLAYBOOK("a server that speaks first; what looks like HTTP is bytes all the same", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SERVER),
		GIVE(EV_OPENED, SERVER),
		GIVE(EV_DATA, SERVER, .text = "220 hi\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "220 hi\r\n"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SERVER, .text = "GET / HTTP/1.1\r\n\r\n"),
		GIVE(EV_CLOSED, SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	play_end(&p);
	assert_true(play(&p, "reverse:tcp://target.example:25"));
	PLAYBOOK("a client that speaks first", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SERVER),
		GIVE(EV_OPENED, SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SERVER, .text = "GET / HTTP/1.1\r\n\r\n"));
	play_end(&p);
}

/* --- passwords --------------------------------------------------------------------------------------------------- */

#define PAGE(status, reason)                                                                                  \
	"<html><head><title>" status " " reason "</title></head><body><h1>" status " " reason "</h1></body></html>"
#define PAGE_407 "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"mitmproxy\"\r\n" \
	"content-length: 129\r\n\r\n" PAGE("407", "Proxy Authentication Required")
#define PAGE_401 "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"mitmproxy\"\r\n"                \
	"content-length: 95\r\n\r\n" PAGE("401", "Unauthorized")

static void dialogue_auth(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_with(&p, "regular", "user:pass"))
		return;
	PLAYBOOK("a request without, with a wrong, with the right password", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "POST http://h/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = PAGE_407),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT,
		     .text = "GET http://h/ HTTP/1.1\r\nProxy-Authorization: Basic dXNlcjpuby4=\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = PAGE_407),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT,
		     .text = "GET http://h/ HTTP/1.1\r\nproxy-authorization: BASIC dXNlcjpwYXNz\r\nA: b\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET / HTTP/1.1\r\nA: b\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void dialogue_auth_connect(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_with(&p, "regular", "user:pass"))
		return;
	PLAYBOOK("CONNECT is asked once, what is in the tunnel is not", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "CONNECT h:80 HTTP/1.1\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = PAGE_407),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_HTTP_CONNECT_ERROR),
		GIVE(EV_DATA, SIDE_CLIENT,
		     .text = "CONNECT h:80 HTTP/1.1\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 Connection established\r\n\r\n"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\nAuthorization: for h\r\n\r\n"),
		WANT(CMD_SEND, SIDE_NEW, .text = "GET / HTTP/1.1\r\nAuthorization: for h\r\n\r\n"));
	play_end(&p);
}

static void test_auth(void **state)
{
	struct play p;

	(void)state;
	dialogue_auth(NULL);
	playbook_sweep(dialogue_auth, NULL);
	dialogue_auth_connect(NULL);
	playbook_sweep(dialogue_auth_connect, NULL);
	assert_true(play_with(&p, "reverse:http://t.example", "user:pass"));
	PLAYBOOK("who thinks that we are the server is asked as a server does", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SERVER),
		GIVE(EV_OPENED, SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = PAGE_401),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE),
		GIVE(EV_DATA, SIDE_CLIENT,
		     .text = "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic dXNlcjpwYXNz\r\n\r\n"),
		WANT(CMD_SEND, SERVER, .text = "GET / HTTP/1.1\r\nHost: t.example\r\n\r\n"));
	play_end(&p);
}

/* --- bodies ------------------------------------------------------------------------------------------------------ */

static void large_setup(struct play *p)
{
	assert_true(play(p, "regular"));
	p->pb.options.body_streaming = false;
	p->pb.options.stream_large_bodies = 4;
}

static void test_large_known(void **state)
{
	struct play p;

	(void)state;
	large_setup(&p);
	PLAYBOOK("announced as large: it streams both ways, and is not kept", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "POST http://h/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"),
		WANT(CMD_OPEN, SIDE_NEW),
		WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"),
		WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_LAYER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "cde"),
		WANT(CMD_SEND, SIDE_NEW, .text = "cde"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
		GIVE(EV_DATA, SIDE_NEW, .text = "llo"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "llo"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	assert_true(first_flow(&p)->http.request.base.body.missing && first_flow(&p)->http.response.base.body.missing);
	assert_int_equal(first_flow(&p)->http.response.base.body.total, 5);
	assert_int_equal(first_flow(&p)->http.response.base.body.data.len, 0);
	play_end(&p);
}

static void test_large_found_out(void **state)
{
	struct play p;

	(void)state;
	large_setup(&p);
	p.pb.options.store_streamed_bodies = true;
	PLAYBOOK("found out to be large: what was held back goes in one piece, the rest as it comes", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "POST http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
						   "3\r\nabc\r\n"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "2\r\nde\r\n"),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW,
		     .text = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "1\r\nf\r\n0\r\n\r\n"),
		WANT(CMD_SEND, SIDE_NEW, .text = "1\r\nf\r\n0\r\n\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "3\r\nlo \r\n"),
		WANT(CMD_SEND, SIDE_CLIENT,
		     .text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n"),
		GIVE(EV_DATA, SIDE_NEW, .text = "0\r\n\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "0\r\n\r\n"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	assert_false(first_flow(&p)->http.request.base.body.missing);
	assert_int_equal(first_flow(&p)->http.request.base.body.data.len, 6);
	assert_int_equal(first_flow(&p)->http.response.base.body.data.len, 6);
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_auth),
		cmocka_unit_test(test_large_known),
		cmocka_unit_test(test_large_found_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
