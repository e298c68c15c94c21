/* SPDX-License-Identifier: MIT */
/* ignore_hosts, allow_hosts and tcp_hosts, by each of the names that a connection can have. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/patterns.h"
#include "layers/mode.h"
#include "playbook.h"

/* A ClientHello for secret.test, and where it may be cut. */
#define HELLO "\x16\x03\x01\x00" "C\x01\x00\x00?\x03\x03RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR" \
	"\x00\x00\x02\x13\x01\x01\x00\x00\x14\x00\x00\x00\x10\x00\x0e\x00\x00\x0bsecret.test"
#define GET(host) "GET /x HTTP/1.1\r\nHost: " host "\r\n\r\n"

enum outcome { UNSEEN, SEEN_AS_TCP, SEEN_AS_HTTP };

struct connection {
	const char *name;
	const char *ignore, *allow, *tcp;
	bool show;
	struct str says;
	uint32_t by;                     /* bytes at a time */
	const char *sni;                 /* the client's, of TLS that is off already */
	enum outcome outcome;
};

#define SAYS(literal) .says = STR(literal)

static const struct connection connections[] = {
	{ "nothing is ignored", NULL, NULL, NULL, false, SAYS("GET / HTTP/1.1\r\n\r\n"), .outcome = SEEN_AS_HTTP },
	{ "by address", "example", NULL, NULL, false, SAYS(GET("other")), .outcome = UNSEEN },
	{ "by address with its port", "^EXAMPLE\\.com:80$", NULL, NULL, false, SAYS("x y"), .outcome = UNSEEN },
	{ "another port is another name", "example\\.com:443", NULL, NULL, false,
	  SAYS(GET("h")), .outcome = SEEN_AS_HTTP },
	{ "by the connected peer", "^192\\.0\\.2\\.7:80$", NULL, NULL, false, SAYS(GET("h")), .outcome = UNSEEN },
	{ "by Host", "^bank\\.test:80$", NULL, NULL, false, SAYS(GET("bank.test")), .outcome = UNSEEN },
	{ "by Host, a byte at a time", "bank", NULL, NULL, false, SAYS(GET("bank.test")), .by = 1, .outcome = UNSEEN },
	{ "a Host with a port of its own", "^bank\\.test:8$", NULL, NULL, false,
	  SAYS(GET("bank.test:8")), .outcome = UNSEEN },
	{ "Host among others", "bank", NULL, NULL, false,
	  SAYS("GET / HTTP/1.1\r\nA: b\r\nhOST:  bank.test \r\nC: d\r\n\r\n"), .outcome = UNSEEN },
	{ "no Host at all", "bank", NULL, NULL, false, SAYS("GET / HTTP/1.1\r\nA: bank\r\n\r\n"), .by = 1,
	  .outcome = SEEN_AS_HTTP },
	{ "by SNI", "^secret\\.test:80$", NULL, NULL, false, SAYS(HELLO), .outcome = UNSEEN },
	{ "by SNI, a byte at a time", "secret", NULL, NULL, false, SAYS(HELLO), .by = 1, .outcome = UNSEEN },
	{ "by the SNI of TLS that is off", "^inner:80", NULL, NULL, false,
	  SAYS("a b"), .sni = "inner", .outcome = UNSEEN },
	{ "ignored, but shown", "example", NULL, NULL, true, SAYS(GET("h")), .outcome = SEEN_AS_TCP },
	{ "not among the allowed", NULL, "^other:", NULL, false, SAYS(GET("h")), .outcome = UNSEEN },
	{ "allowed by address", NULL, "example", NULL, false, SAYS(GET("h")), .outcome = SEEN_AS_HTTP },
	{ "allowed by Host", NULL, "^h:", NULL, false, SAYS(GET("h")), .by = 1, .outcome = SEEN_AS_HTTP },
	{ "allowed and ignored is ignored", "^h:", "example", NULL, false, SAYS(GET("h")), .outcome = UNSEEN },
	{ "tcp_hosts, by address", NULL, NULL, "^example\\.com$", false, SAYS(GET("h")), .outcome = SEEN_AS_TCP },
	{ "tcp_hosts, by SNI", NULL, NULL, "^inner$", false, SAYS(GET("h")), .sni = "inner", .outcome = SEEN_AS_TCP },
	{ "tcp_hosts, another", NULL, NULL, "^h$", false, SAYS(GET("h")), .outcome = SEEN_AS_HTTP },
};

static const struct patterns *compile(const char *text)
{
	struct patterns *p = NULL;

	if (text && patterns_new(&p, &text, 1, NULL) < 0)
		assert_true(playbook_sweeping());
	return p;
}

static void set_up(struct playbook *pb, const struct connection *c)
{
	struct conn_record *server = pb->server->record, *client = pb->client->record;

	pb->options.ignore_hosts = compile(c->ignore);
	pb->options.allow_hosts = compile(c->allow);
	pb->options.tcp_hosts = compile(c->tcp);
	pb->options.show_ignored_hosts = c->show;
	server->peername = (struct endpoint){ STR("192.0.2.7"), 80 };
	client->sni = str_of(c->sni);
}

/* How long is waited is not the matter here. */
static bool take_wakeup(struct playbook *pb, struct command *cmd, bool *answer)
{
	(void)pb;
	*answer = false;
	return cmd->type == CMD_WAKEUP;
}

static void run(void *arg)
{
	const struct connection *c = arg;
	struct playbook pb;
	struct layer *l;

	if (playbook_init(&pb) < 0)
		return;
	pb.on_command = take_wakeup;
	set_up(&pb, c);
	l = mode_transparent_new(&pb.sink, &pb.env, pb.client, pb.server);
	if (l) {
		PLAYBOOK(c->name, l,
			GIVE(EV_START, NOBODY),
			WANT(CMD_OPEN, SIDE_SERVER),
			GIVE(EV_OPENED, SIDE_SERVER),
			GIVE(EV_DATA, SIDE_CLIENT, .text = c->says.ptr, .len = c->says.len, .by = c->by),
			WANT(CMD_SEND, SIDE_SERVER, .any = true));
		layer_free(l);
	}
	if (!playbook_sweeping()) {
		const struct list *first = list_first(&pb.flows);
		const struct flow *f = first ? list_entry(first, struct flow, link) : NULL;

		assert_int_equal(!f, c->outcome == UNSEEN);
		assert_true(!f || f->type == (c->outcome == SEEN_AS_TCP ? FLOW_TCP : FLOW_HTTP));
	}
	patterns_free((struct patterns *)pb.options.ignore_hosts);
	patterns_free((struct patterns *)pb.options.allow_hosts);
	patterns_free((struct patterns *)pb.options.tcp_hosts);
	playbook_fini(&pb, NULL);
}

static void test_connections(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(connections); i++)
		run((void *)&connections[i]);
}

static void test_sweep(void **state)
{
	(void)state;
	/* This world has no TLS to fall back to. */
	for (size_t i = 0; i < ARRAY_SIZE(connections); i++)
		if (connections[i].says.ptr[0] != 0x16)
			playbook_sweep(run, (void *)&connections[i]);
}

static void test_server_first(void **state)
{
	struct playbook pb;
	struct layer *l;

	(void)state;
	assert_int_equal(playbook_init(&pb), 0);
	pb.options.ignore_hosts = compile("example");
	l = mode_transparent_new(&pb.sink, &pb.env, pb.client, pb.server);
	PLAYBOOK("a server that speaks first is ignored as well, and its end and reset go through", l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_SERVER, .text = "220 hello\r\n"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "220 hello\r\n"),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true));
	assert_true(list_empty(&pb.flows));
	patterns_free((struct patterns *)pb.options.ignore_hosts);
	playbook_fini(&pb, l);
}

static void test_wrong(void **state)
{
	const char *bad[] = { "fine", "(oops" };
	struct patterns *p = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(patterns_new(&p, bad, 2, &e), -EINVAL);
	assert_non_null(strstr(e.text, "(oops"));
	assert_false(patterns_match(NULL, STR("x")));
	/* One that would take for ever finds nothing, soon. */
	bad[0] = "(a+)+b";
	assert_int_equal(patterns_new(&p, bad, 1, &e), 0);
	assert_false(patterns_match(p, STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac")));
	patterns_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_server_first),
		cmocka_unit_test(test_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
