/* SPDX-License-Identifier: MIT */
/*
 * A destination that was promised and does not answer: the other addresses of its name are tried, when they are known
 * to be its, and nothing else is. Time is virtual, so when something happens is exact.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "core/patterns.h"
#include "driver_stage.h"
#include "io/sim.h"

#define GET "GET / HTTP/1.1\r\nHost: two.test\r\n\r\n"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static const struct sim_faults all_lost = { .connect_lost = 1000 };

static struct addr v6(uint8_t last)
{
	return (struct addr){ { 0x20, 0x01, 0x0d, 0xb8, [15] = last }, 7000, 6 };
}

static struct addr v4(uint8_t last)
{
	return addr_v4(0xc6336400u + last, 7000);
}

/* The client wants v6(1), which two.test's addresses begin with. */
static void begin(struct stage *st)
{
	struct addr addrs[] = { v6(1), v6(2), v4(1) };

	stage_init(st);
	st->to = v6(1);
	st->promised = true;
	sim_name(st->io, "two.test", addrs, ARRAY_SIZE(addrs));
}

/* Connects; lost: what is dialled within the first 100 ms gets no answer. says: at once, or NULL. */
static void connect_client(struct stage *st, bool lost, const char *says)
{
	stage_connect(st);
	if (says)
		stage_say(&st->client, says);
	if (lost)
		sim_set_faults(st->io, &all_lost);
	stage_run(st, 100 * MS_NS);
	sim_set_faults(st->io, NULL);
}

static void expect_other(struct stage *st, struct far_end *origin, int64_t after_ns, const struct addr *where)
{
	char ip[ADDR_TEXT_MAX];

	assert_true(origin->connected);
	assert_in_range(origin->at_ns, after_ns, after_ns + MS_NS);
	assert_string_equal(st->address, "2001:db8::1");
	assert_string_equal(st->peer, addr_ip_text(where, ip));
	assert_string_equal(origin->got, GET);
	assert_false(st->client.reset || st->client.fin);
}

static void test_dead(void **state)
{
	struct stage st;
	struct addr other = v4(1);
	int64_t begun;

	(void)state;
	begin(&st);
	stage_listen(&st, v4(1));
	begun = st.io->now_ns;
	connect_client(&st, true, GET);
	assert_int_equal(st.accepted, 0);
	stage_run(&st, SECOND_NS);
	expect_other(&st, &st.origins[0], begun + 250 * MS_NS, &other);
	assert_string_equal(st.told, "[2001:db8::1]:7000 does not answer: connected to 198.51.100.1:7000, another "
				     "address of two.test");
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECT], 1);
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECTED], 1);
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECT_ERROR], 0);
	stage_say(&st.origins[0], ANSWER);
	stage_run(&st, SECOND_NS);
	assert_string_equal(st.client.got, ANSWER);
	stage_fini(&st);
}

/* The other family first, then the other address of its own, one attempt each 250 ms. */
static void test_order(void **state)
{
	struct stage st;
	struct addr other = v6(2);
	int64_t begun;

	(void)state;
	begin(&st);
	stage_listen(&st, v6(2));
	begun = st.io->now_ns;
	connect_client(&st, true, GET);
	stage_run(&st, 140 * MS_NS);
	sim_set_faults(st.io, &all_lost);        /* v4(1) is dialled now */
	stage_run(&st, 100 * MS_NS);
	sim_set_faults(st.io, NULL);
	assert_int_equal(st.accepted, 0);
	stage_run(&st, SECOND_NS);
	expect_other(&st, &st.origins[0], begun + 500 * MS_NS, &other);
	stage_fini(&st);
}

/* A failure is known at once, and so is what to do, when the client has said whom it wants, or as soon as it does. */
static void test_refused(void **state)
{
	struct stage st;
	struct addr other = v4(1);
	int64_t begun;

	(void)state;
	for (int late = 0; late < 2; late++) {
		begin(&st);
		stage_listen(&st, v4(1));
		begun = st.io->now_ns;
		connect_client(&st, false, late ? NULL : GET);
		if (late)
			stage_say(&st.client, GET);
		stage_run(&st, 100 * MS_NS);
		expect_other(&st, &st.origins[0], begun + late * 100 * MS_NS, &other);
		stage_fini(&st);
	}
	/* the first of the others refuses, too */
	begin(&st);
	stage_listen(&st, v6(2));
	begun = st.io->now_ns;
	connect_client(&st, false, GET);
	other = v6(2);
	expect_other(&st, &st.origins[0], begun, &other);
	stage_fini(&st);
}

/* More than its first bytes is read of a client whose name may follow. */
static void test_name_in_pieces(void **state)
{
	static const char *const pieces[] = { "GE", "T / HTTP/1.1\r", "\nHost: two.", "test\r\n", "\r\n" };
	struct addr other = v4(1);
	struct stage st;

	(void)state;
	for (int lost = 0; lost < 2; lost++) {
		int64_t begun;

		begin(&st);
		stage_listen(&st, v4(1));
		begun = st.io->now_ns;
		connect_client(&st, lost, pieces[0]);
		stage_run(&st, 300 * MS_NS);
		for (uint32_t i = 1; i < ARRAY_SIZE(pieces); i++) {
			assert_int_equal(st.accepted, i == 4);
			stage_say(&st.client, pieces[i]);
			stage_run(&st, 100 * MS_NS);
		}
		assert_true(st.origins[0].connected);
		assert_in_range(st.origins[0].at_ns, begun + 700 * MS_NS, begun + 801 * MS_NS);
		assert_string_equal(st.origins[0].got, GET);
		assert_string_equal(st.peer, addr_ip_text(&other, (char[ADDR_TEXT_MAX]){ 0 }));
		stage_fini(&st);
	}
}

static void expect_reset(struct stage *st, int64_t at_ns, int err)
{
	stage_run(st, 20 * SECOND_NS);
	assert_int_equal(st->accepted, 0);
	assert_true(st->client.reset);
	assert_in_range(st->client.at_ns, at_ns, at_ns + 2 * MS_NS);
	assert_string_equal(st->error, strerror(err));
	assert_int_equal(st->hooks[HOOK_SERVER_CONNECT_ERROR], 1);
	assert_int_equal(st->hooks[HOOK_SERVER_CONNECTED], 0);
	assert_int_equal(st->flows, 1);
	assert_true(st->finished);
	stage_fini(st);
}

static void test_all_fail(void **state)
{
	struct stage st;
	int64_t begun;

	(void)state;
	begin(&st);
	begun = st.io->now_ns;
	connect_client(&st, false, GET);
	expect_reset(&st, begun, ECONNREFUSED);

	/* the others refuse; of the first nothing is heard */
	begin(&st);
	begun = st.io->now_ns;
	connect_client(&st, true, GET);
	expect_reset(&st, begun + 10 * SECOND_NS, ETIMEDOUT);

	begin(&st);
	begun = st.io->now_ns;
	stage_connect(&st);
	stage_say(&st.client, GET);
	sim_set_faults(st.io, &all_lost);
	expect_reset(&st, begun + 10 * SECOND_NS, ETIMEDOUT);

	/* the first refuses, the others are silent: its error it is */
	begin(&st);
	begun = st.io->now_ns;
	connect_client(&st, false, NULL);
	stage_say(&st.client, GET);
	sim_set_faults(st.io, &all_lost);
	expect_reset(&st, begun + 10 * SECOND_NS, ECONNREFUSED);
}

/* Who says no name gets nobody else, nor who says one that its address is none of, or that nobody knows. */
static void test_no_name(void **state)
{
	static const char *const says[] = {
		"\1\2\3 raw", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: 198.51.100.1\r\n\r\n",
		"GET http://two.test/ HTTP/1.1\r\nHost: two.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n",
	};
	struct addr others[] = { v6(2), v4(1) };
	struct stage st;

	(void)state;
	for (uint32_t i = 0; i < 2 * ARRAY_SIZE(says); i++) {
		int64_t begun;

		begin(&st);
		sim_name(st.io, "other.test", others, ARRAY_SIZE(others));
		stage_listen(&st, v4(1));
		stage_listen(&st, v6(2));
		begun = st.io->now_ns;
		connect_client(&st, i & 1, says[i / 2]);
		expect_reset(&st, begun + (i & 1 ? 10 * SECOND_NS : 0), i & 1 ? ETIMEDOUT : ECONNREFUSED);
	}
}

/* A client that is to be greeted first is waited for a little: it may only be slow. */
static void test_silent(void **state)
{
	struct stage st;
	int64_t begun;

	(void)state;
	for (int lost = 0; lost < 2; lost++) {
		begin(&st);
		stage_listen(&st, v4(1));
		begun = st.io->now_ns;
		connect_client(&st, lost, NULL);
		expect_reset(&st, begun + (lost ? 10 : 1) * SECOND_NS, lost ? ETIMEDOUT : ECONNREFUSED);
	}
}

/* What was not promised may fail: whoever asked for it is told, and has others to try. */
static void test_not_promised(void **state)
{
	struct stage st;
	int64_t begun;

	(void)state;
	for (int lost = 0; lost < 2; lost++) {
		begin(&st);
		st.promised = false;
		stage_listen(&st, v4(1));
		begun = st.io->now_ns;
		connect_client(&st, lost, GET);
		expect_reset(&st, begun + (lost ? 10 * SECOND_NS : 0), lost ? ETIMEDOUT : ECONNREFUSED);
	}
}

/* A resolver that does not answer holds nobody up for more than a second, and is then not asked by each who comes. */
static void test_slow_names(void **state)
{
	static const struct sim_faults slow_names = { .resolve_slow = 1000 };
	struct stage st;
	int64_t begun;

	(void)state;
	for (int again = 0; again < 2; again++) {
		begin(&st);
		stage_listen(&st, v4(1));
		begun = st.io->now_ns;
		st.world.no_names_until_ns = again ? begun + SECOND_NS : 0;
		sim_set_faults(st.io, &slow_names);
		connect_client(&st, false, GET);
		assert_int_equal(st.world.no_names_until_ns, again ? begun + SECOND_NS : 0);
		stage_run(&st, SECOND_NS);
		if (!again)
			assert_in_range(st.world.no_names_until_ns - begun, 11 * SECOND_NS, 12 * SECOND_NS);
		assert_false(st.accepted);
		expect_reset(&st, begun + (again ? 0 : SECOND_NS), ECONNREFUSED);
	}
}

/* In the usual case nobody is asked for names, and nobody else is tried. */
static void test_answers(void **state)
{
	struct sim_faults slow = { .latency_min_ns = 120 * MS_NS, .latency_max_ns = 120 * MS_NS };
	struct sim_faults late = { .latency_min_ns = 200 * MS_NS, .latency_max_ns = 200 * MS_NS };

	(void)state;
	for (int over = 0; over < 2; over++) {
		struct stage st;

		begin(&st);
		stage_listen(&st, v6(1));
		stage_listen(&st, v4(1));
		stage_connect(&st);
		stage_say(&st.client, GET);
		sim_set_faults(st.io, over ? &late : &slow);
		stage_run(&st, 225 * MS_NS);
		sim_set_faults(st.io, &all_lost);        /* over: the other one is asked, and does not answer */
		stage_run(&st, SECOND_NS);
		sim_set_faults(st.io, NULL);
		stage_run(&st, SECOND_NS);
		assert_string_equal(st.origins[0].got, GET);
		assert_false(st.origins[1].connected);
		assert_string_equal(st.peer, "2001:db8::1");
		assert_string_equal(st.told, "");
		stage_fini(&st);
	}
}

/* A name that leads to where we are ourselves leads nowhere: whoever listens there hears nothing. */
static void test_own_address(void **state)
{
	struct addr addrs[] = { v6(1), addr_v4(0x0a000001, 7000) };
	struct stage st;
	int64_t begun;

	(void)state;
	begin(&st);
	sim_name(st.io, "own.test", addrs, ARRAY_SIZE(addrs));
	stage_listen(&st, addrs[1]);
	begun = st.io->now_ns;
	connect_client(&st, false, "GET / HTTP/1.1\r\nHost: own.test\r\n\r\n");
	assert_int_equal(st.accepted, 1);
	assert_true(st.origins[0].reset);
	assert_int_equal(st.origins[0].len, 0);
	st.accepted = 0;
	expect_reset(&st, begun, ECONNREFUSED);
}

/* What a client said in TLS holds for all connections that are made for it. */
static void test_session_name(void **state)
{
	struct conn_record *client;
	struct stage st;
	int64_t begun;

	(void)state;
	begin(&st);
	stage_listen(&st, v4(1));
	begun = st.io->now_ns;
	connect_client(&st, true, NULL);
	client = st.driver->client->record;
	assert_int_equal(conn_record_text(client, &client->sni, STR("two.test")), 0);
	stage_run(&st, SECOND_NS);
	assert_true(st.origins[0].connected);
	assert_in_range(st.origins[0].at_ns, begun + 250 * MS_NS, begun + 251 * MS_NS);
	stage_fini(&st);
}

/* The next connection of the session goes where the last one was answered. */
static void test_again(void **state)
{
	struct stage st;

	(void)state;
	begin(&st);
	stage_listen(&st, v4(1));
	connect_client(&st, true, GET);
	stage_run(&st, SECOND_NS);
	stage_say(&st.origins[0], ANSWER);
	stage_run(&st, SECOND_NS);
	sim_peer_close(st.origins[0].peer);
	stage_run(&st, SECOND_NS);
	assert_string_equal(st.client.got, ANSWER);
	st.origins[0].len = 0;
	memset(st.origins[0].got, 0, sizeof(st.origins[0].got));
	stage_say(&st.client, GET);
	stage_run(&st, 10 * MS_NS);
	assert_int_equal(st.accepted, 2);
	assert_string_equal(st.origins[0].got, GET);
	assert_string_equal(st.address, "2001:db8::1");
	assert_string_equal(st.peer, "198.51.100.1");
	stage_fini(&st);
}

static const struct patterns *everything(void)
{
	static const char *const all[] = { "." };
	struct patterns *p = NULL;

	assert_int_equal(patterns_new(&p, all, 1, NULL), 0);
	return p;
}

/* connection_strategy lazy: who opens is another layer, which has been given the client's bytes, or read them. */
static void test_lazy(void **state)
{
	struct addr other = v4(1);

	(void)state;
	for (int as = 0; as < 3; as++) {
		const struct patterns *all = everything();
		struct stage st;
		int64_t begun;

		begin(&st);
		st.options.connection_eager = false;
		st.options.tcp_hosts = as == 1 ? all : NULL;
		st.options.ignore_hosts = as == 2 ? all : NULL;
		stage_listen(&st, v4(1));
		begun = st.io->now_ns;
		connect_client(&st, true, GET);
		stage_run(&st, SECOND_NS);
		expect_other(&st, &st.origins[0], begun + 250 * MS_NS, &other);
		stage_fini(&st);
		patterns_free((struct patterns *)all);
	}
}

/* Whoever looks at server_connect takes their time; that of the connection begins afterwards. */
static void test_asked(void **state)
{
	struct addr other = v4(1);
	struct stage st;
	int64_t begun;

	(void)state;
	begin(&st);
	st.env.block_hooks = hook_bit(HOOK_SERVER_CONNECT);
	stage_listen(&st, v4(1));
	connect_client(&st, false, GET);
	stage_run(&st, 30 * SECOND_NS);
	assert_int_equal(st.accepted, 0);
	begun = st.io->now_ns;
	sim_set_faults(st.io, &all_lost);
	driver_answer(st.driver, st.token);
	stage_run(&st, 100 * MS_NS);
	sim_set_faults(st.io, NULL);
	stage_run(&st, SECOND_NS);
	expect_other(&st, &st.origins[0], begun + 250 * MS_NS, &other);
	stage_fini(&st);
}

/* The session ends while the dial waits, for whatever: because the client leaves, or because the proxy does. */
static void test_cancelled(void **state)
{
	static const struct sim_faults slow_names = { .resolve_slow = 1000 };
	static const struct {
		bool lost;
		const char *says;
		const struct sim_faults *faults;
		int64_t wait_ns;
	} at[] = {
		{ true, GET, NULL, 50 * MS_NS },                 /* for the first address */
		{ false, "GET / HT", NULL, 200 * MS_NS },        /* for the name, after it has failed */
		{ true, "GET / HT", NULL, 400 * MS_NS },         /* for both */
		{ true, GET, &slow_names, 160 * MS_NS },         /* for the name's addresses */
		{ true, GET, &all_lost, 600 * MS_NS },           /* for three addresses */
	};

	(void)state;
	for (uint32_t i = 0; i < 2 * ARRAY_SIZE(at); i++) {
		struct stage st;

		begin(&st);
		connect_client(&st, at[i / 2].lost, at[i / 2].says);
		sim_set_faults(st.io, at[i / 2].faults);
		stage_run(&st, at[i / 2].wait_ns);
		assert_int_equal(st.hooks[HOOK_SERVER_CONNECT], 1);
		assert_int_equal(st.hooks[HOOK_SERVER_CONNECTED] + st.hooks[HOOK_SERVER_CONNECT_ERROR], 0);
		if (i & 1) {
			sim_peer_reset(st.client.peer);
			stage_run(&st, 20 * SECOND_NS);
			assert_true(st.finished);
		}
		stage_fini(&st);
	}
}

static void dialogue(struct stage *st, bool lost)
{
	stage_listen(st, v4(1));
	connect_client(st, lost, GET);
	stage_run(st, SECOND_NS);
	if (st->accepted && !st->origins[0].reset)
		stage_say(&st->origins[0], ANSWER);
	stage_run(st, 15 * SECOND_NS);
}

static void test_no_memory(void **state)
{
	(void)state;
	for (int lost = 0; lost < 2; lost++) {
		bool hit = true;

		for (uint64_t n = 1; hit; n++) {
			int64_t live = mem_live();
			struct stage st;

			begin(&st);
			mem_fail_at(n);
			dialogue(&st, lost);
			hit = mem_fail_hit();
			mem_fail_at(0);
			/* Right, or broken for the client to see. */
			if (strcmp(st.client.got, ANSWER) != 0)
				assert_true(st.client.reset || st.client.fin);
			stage_fini(&st);
			assert_int_equal(mem_live(), live);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dead),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_name_in_pieces),
		cmocka_unit_test(test_all_fail),
		cmocka_unit_test(test_no_name),
		cmocka_unit_test(test_slow_names),
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_not_promised),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_own_address),
		cmocka_unit_test(test_session_name),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_lazy),
		cmocka_unit_test(test_asked),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
