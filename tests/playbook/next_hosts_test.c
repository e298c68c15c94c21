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
#include "layers/next_hosts.h"
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

struct calling {
	struct str says;
	const char *host;                /* NULL: none */
	size_t from;                     /* with so many bytes it is known; 0: with all */
};

static const struct calling callings[] = {
	{ STR(HELLO), "secret.test", 0 },
	{ STR(GET("a.test") "more"), "a.test", sizeof("GET /x HTTP/1.1\r\nHost: a.test\r\n") - 1 },
	{ STR(GET("a.test:8080")), "a.test", sizeof("GET /x HTTP/1.1\r\nHost: a.test:8080\r\n") - 1 },
	{ STR("OPTIONS /*/* HTTP/1.0\r\nAccept: */*\r\nHOST:\tb_c.test \r\n"), "b_c.test", 0 },
	{ STR("POST / HTTP/1.1\nhost:localhost\n"), "localhost", 0 },
	{ STR(GET("192.0.2.1")), NULL, sizeof("GET /x HTTP/1.1\r\nHost: 192.0.2.1\r\n") - 1 },
	{ STR(GET("[2001:db8::1]:80")), NULL, sizeof("GET /x HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n") - 1 },
	{ STR(GET("a b")), NULL, sizeof("GET /x HTTP/1.1\r\nHost: a b\r\n") - 1 },
	{ STR("GET / HTTP/1.0\r\nAccept: */*\r\n\r\n"), NULL, 0 },
	/* of a proxy, which is the one that does not answer */
	{ STR("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"), NULL, sizeof("GET http://a.test/ HTTP/") - 1 },
	{ STR("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n"), NULL, sizeof("CONNECT a.test:443 HTTP/") - 1 },
	{ STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), NULL, sizeof("PRI * HTTP/") - 1 },
	{ STR("SSH-2.0-x\r\n"), NULL, sizeof("SSH-2.0-x\r\n") - 1 },
	{ STR("\x16\x02"), NULL, 0 },
	{ STR("\x00\x01"), NULL, 1 },
};

/* Before enough has come it says so, and from then on the same, whatever follows. */
static void test_called(void **state)
{
	char host[LAYER_HOST_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(callings); i++) {
		const struct calling *c = &callings[i];
		size_t from = c->from ? c->from : c->says.len;

		for (size_t len = 0; len <= c->says.len; len++) {
			int ret = next_hosts_called((struct str){ c->says.ptr, len }, host);
			int wanted = len < from ? 0 : c->host ? (int)strlen(c->host) : -ENOENT;

			if (ret != wanted)
				print_error("%s: %zu bytes\n", c->says.ptr, len);
			assert_int_equal(ret, wanted);
			if (ret > 0)
				assert_memory_equal(host, c->host, (size_t)ret);
		}
	}
}

static void test_called_too_late(void **state)
{
	static char long_head[NEXT_HOSTS_BYTES_MAX + 64];
	char host[LAYER_HOST_MAX];
	size_t begin = sizeof("GET / HTTP/1.1\r\nA: ") - 1;

	(void)state;
	memcpy(long_head, "GET / HTTP/1.1\r\nA: ", begin);
	memset(long_head + begin, 'a', sizeof(long_head) - begin);
	memcpy(long_head + sizeof(long_head) - 19, "\r\nHost: a.test\r\n\r\n", 19);
	assert_int_equal(next_hosts_called((struct str){ long_head, NEXT_HOSTS_BYTES_MAX - 1 }, host), 0);
	assert_int_equal(next_hosts_called((struct str){ long_head, NEXT_HOSTS_BYTES_MAX }, host), -ENOENT);
	assert_int_equal(next_hosts_called((struct str){ long_head, sizeof(long_head) }, host), -ENOENT);
}

static int host_of(const struct layer *l, char host[static LAYER_HOST_MAX])
{
	memset(host, 0, LAYER_HOST_MAX);
	return l->ops->host(l, host);
}

/* Whoever dials may ask the mode, as often as it likes; what the client has said is still there for the server. */
static void test_asked_while_opening(void **state)
{
	char host[LAYER_HOST_MAX];
	struct playbook pb;
	struct layer *l;

	(void)state;
	assert_int_equal(playbook_init(&pb), 0);
	l = mode_transparent_new(&pb.sink, &pb.env, pb.client, pb.server);
	PLAYBOOK("a client speaks before its server answers", l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER));
	assert_int_equal(host_of(l, host), 0);
	PLAYBOOK("and says something", l, GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\n"));
	assert_int_equal(host_of(l, host), 0);
	PLAYBOOK("and goes on", l, GIVE(EV_DATA, SIDE_CLIENT, .text = "Host: a.test\r\n", .by = 5));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(host_of(l, host), 6);
		assert_string_equal(host, "a.test");
	}
	PLAYBOOK("the server has it all", l,
		GIVE(EV_DATA, SIDE_CLIENT, .text = "\r\n"),
		GIVE(EV_OPENED, SIDE_SERVER),
		WANT(CMD_SEND, SIDE_SERVER, .text = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
	assert_int_equal(host_of(l, host), 0);
	playbook_fini(&pb, l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_server_first),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_called),
		cmocka_unit_test(test_called_too_late),
		cmocka_unit_test(test_asked_while_opening),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
