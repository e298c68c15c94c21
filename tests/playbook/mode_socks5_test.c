/* SPDX-License-Identifier: MIT */
/* SOCKS 5 as dialogues: every answer byte for byte, every way to refuse one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/proxy_auth.h"
#include "layers/mode.h"
#include "playbook.h"

#define BYTES(literal) .text = (literal), .len = sizeof(literal) - 1
#define HELLO      "\5\1\0"
#define HELLO_OK   "\5\0"
#define TO_NAME    "\5\1\0\3\13example.com\0\120"
#define TO_IPV4    "\5\1\0\1\300\0\2\1\0\120"
#define TO_IPV6    "\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\1\273"
#define REPLY(code) "\5" code "\0\1\0\0\0\0\0\0"
#define GET        "GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n"
#define OK_5       "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

struct play {
	struct playbook pb;
	struct layer *l;
	struct proxy_auth *auth;
};

static bool play(struct play *p, const char *proxyauth)
{
	struct err e;

	p->auth = NULL;
	if (playbook_init(&p->pb) < 0)
		return false;
	if (proxyauth && proxy_auth_new(&p->auth, str_of(proxyauth), STR(""), &e) < 0) {
		playbook_fini(&p->pb, NULL);
		return false;
	}
	p->pb.options.proxyauth = p->auth;
	p->l = mode_socks5_new(&p->pb.sink, &p->pb.env, p->pb.client);
	if (p->l)
		return true;
	playbook_fini(&p->pb, NULL);
	proxy_auth_free(p->auth);
	return false;
}

static void play_end(struct play *p)
{
	playbook_fini(&p->pb, p->l);
	proxy_auth_free(p->auth);
}

static void dialogue(void *arg)
{
	struct play p;

	(void)arg;
	if (!play(&p, "user:secret"))
		return;
	PLAYBOOK("login, a name, a request behind it", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES("\5\2\0\2")),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES("\5\2")),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES("\1\4user\6secret"), .by = 1),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES("\1\0")),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES(TO_NAME GET)),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES(REPLY("\0"))),
		WANT(CMD_SEND, SIDE_NEW, .text = GET),
		GIVE(EV_DATA, SIDE_NEW, .text = OK_5),
		WANT(CMD_SEND, SIDE_CLIENT, .text = OK_5),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_RESPONSE));
	play_end(&p);
}

static void test_login(void **state)
{
	(void)state;
	dialogue(NULL);
	playbook_sweep(dialogue, NULL);
}

static void test_everything_at_once(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p, NULL));
	PLAYBOOK("a client that does not wait for answers", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES(HELLO TO_IPV4 GET)),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES(HELLO_OK)),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES(REPLY("\0"))),
		WANT(CMD_SEND, SIDE_NEW, .text = GET));
	assert_true(str_eq(p.pb.conns[SIDE_NEW]->record->address.host, STR("192.0.2.1")));
	assert_int_equal(p.pb.conns[SIDE_NEW]->record->address.port, 80);
	assert_int_equal(p.pb.conns[SIDE_NEW]->origin.port, 80);
	assert_int_equal(p.pb.conns[SIDE_NEW]->origin.family, 4);
	play_end(&p);
}

static void test_byte_by_byte(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p, NULL));
	PLAYBOOK("IPv6, a byte at a time; a server that speaks first", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES(HELLO), .by = 1),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES(HELLO_OK)),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES(TO_IPV6), .by = 1),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES(REPLY("\0"))),
		GIVE(EV_DATA, SIDE_NEW, .text = "220 ready\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "220 ready\r\n"),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_NEW, .half = true),
		GIVE(EV_CLOSED, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	assert_true(str_eq(p.pb.conns[SIDE_NEW]->record->address.host, STR("2001:db8::1")));
	assert_int_equal(p.pb.conns[SIDE_NEW]->record->address.port, 443);
	play_end(&p);
}

static void test_lazy(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p, NULL));
	p.pb.options.connection_eager = false;
	PLAYBOOK("lazy: the success is told before there is one", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES(HELLO TO_NAME)),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES(HELLO_OK REPLY("\0"))),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET));
	play_end(&p);
}

static void test_refused_destination(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p, NULL));
	PLAYBOOK("a destination that refuses: reply 4", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES(HELLO TO_NAME)),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES(HELLO_OK)),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW, .error = "Connection refused"),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR),
		WANT(CMD_SEND, SIDE_CLIENT, BYTES(REPLY("\4"))),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

struct refusal {
	const char *name, *proxyauth, *in, *out, *log;
	size_t in_len, out_len;
};

#define REFUSAL(name, auth, in, out, log) { name, auth, in, out, log, sizeof(in) - 1, sizeof(out) - 1 }

static void test_refusals(void **state)
{
	static const struct refusal cases[] = {
		REFUSAL("another version", NULL, "\4\1", "", "Invalid SOCKS version. Expected 0x05, got 0x4"),
		REFUSAL("HTTP", NULL, "GET / HTTP/1.1\r\n\r\n", "",
			"Probably not a SOCKS request but a regular HTTP request. Invalid SOCKS version."),
		REFUSAL("only with a password", NULL, "\5\1\2", REPLY("\xff"),
			"Client does not support SOCKS5 with no authentication."),
		REFUSAL("no methods at all", NULL, "\5\0", REPLY("\xff"), "no authentication"),
		REFUSAL("only without a password", "any", "\5\1\0", REPLY("\xff"),
			"Client does not support SOCKS5 with user/password authentication."),
		REFUSAL("wrong password", "user:secret", "\5\1\2\1\4user\3bad", "\5\2\1\1", "authentication failed"),
		REFUSAL("BIND", NULL, HELLO "\5\2\0\1\1\2\3\4\0\120", HELLO_OK REPLY("\7"), "Unsupported SOCKS5"),
		REFUSAL("UDP ASSOCIATE", NULL, HELLO "\5\3\0\1\1\2\3\4\0\120", HELLO_OK REPLY("\7"), "Unsupported"),
		REFUSAL("reserved byte", NULL, HELLO "\5\1\1\1\1\2\3\4\0\120", HELLO_OK REPLY("\7"), "Unsupported"),
		REFUSAL("address type 2", NULL, HELLO "\5\1\0\2\1\2\3\4\0\120", HELLO_OK REPLY("\10"), "Unknown"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct refusal *c = &cases[i];
		struct playbook_step steps[] = {
			GIVE(EV_START, NOBODY),
			GIVE(EV_DATA, SIDE_CLIENT, .text = c->in, .len = c->in_len),
			WANT(CMD_SEND, SIDE_CLIENT, .text = c->out, .len = c->out_len),
			WANT(CMD_LOG, NOBODY, .text = c->log),
			WANT(CMD_CLOSE, SIDE_CLIENT),
		};
		struct play p;

		if (c->out_len == 0) {
			steps[2] = steps[3];
			steps[3] = steps[4];
		}
		assert_true(play(&p, c->proxyauth));
		playbook_run(p.l, c->name, steps, ARRAY_SIZE(steps) - (c->out_len == 0), __FILE__, __LINE__);
		play_end(&p);
	}
}

static void test_leaves(void **state)
{
	struct play p;

	(void)state;
	assert_true(play(&p, NULL));
	PLAYBOOK("a client that leaves in between", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, BYTES("\5")),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_LOG, NOBODY, .text = "before completing SOCKS5 handshake"),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
	assert_true(play(&p, NULL));
	PLAYBOOK("one that never speaks, when the proxy ends", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DRAIN, NOBODY),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_everything_at_once),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_lazy),
		cmocka_unit_test(test_refused_destination),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
