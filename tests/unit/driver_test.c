/* SPDX-License-Identifier: MIT */
/* The driver over the simulated network: dialling, time-outs, holding, draining, answers; with a relay on top of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "driver_stage.h"
#include "io/sim.h"

static void dialogue_relay(struct stage *st)
{
	stage_listen(st, st->to);
	stage_connect(st);
	stage_run(st, SECOND_NS);
	if (st->client.peer && !st->client.reset)
		stage_say(&st->client, "\1up");
	stage_run(st, SECOND_NS);
	if (st->origins[0].peer && !st->origins[0].reset)
		stage_say(&st->origins[0], "down");
	stage_run(st, SECOND_NS);
}

static void test_relay(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	dialogue_relay(&st);
	assert_string_equal(st.origins[0].got, "\1up");
	assert_string_equal(st.client.got, "down");
	assert_int_equal(st.hooks[HOOK_CLIENT_CONNECTED], 1);
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECT], 1);
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECTED], 1);
	sim_peer_shutdown(st.client.peer);
	stage_run(&st, SECOND_NS);
	assert_true(st.origins[0].fin);
	assert_false(st.finished);              /* half is not all */
	sim_peer_shutdown(st.origins[0].peer);
	stage_run(&st, SECOND_NS);
	assert_true(st.client.fin);
	assert_true(st.finished);
	assert_int_equal(st.flows, 1);
	stage_fini(&st);
}

static void test_no_memory(void **state)
{
	bool hit = true;

	(void)state;
	for (uint64_t n = 1; hit; n++) {
		int64_t live = mem_live();
		struct stage st;

		stage_init(&st);
		mem_fail_at(n);
		dialogue_relay(&st);
		hit = mem_fail_hit();
		mem_fail_at(0);
		/* Right, or broken for the client to see. */
		if (strcmp(st.client.got, "down") != 0)
			assert_true(st.client.reset || st.client.fin);
		stage_fini(&st);
		assert_int_equal(mem_live(), live);
	}
}

static struct addr v6(uint8_t last)
{
	return (struct addr){ { 0x20, 0x01, 0x0d, 0xb8, [15] = last }, 7000, 6 };
}

static void test_dial_order(void **state)
{
	struct addr addrs[] = { addr_v4(0xc6336401, 0), addr_v4(0xc6336402, 0), v6(1), v6(2) };
	struct stage st;

	(void)state;
	/* v4 first, then families alternate: the third in the list is tried second. */
	stage_init(&st);
	st.host = "many.test";
	sim_name(st.io, st.host, addrs, 4);
	stage_listen(&st, v6(1));
	stage_listen(&st, addr_v4(0xc6336402, 7000));
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	assert_true(st.origins[0].connected);
	assert_false(st.origins[1].connected);
	stage_fini(&st);
}

static void test_dial_races(void **state)
{
	struct sim_faults lost = { .connect_lost = 1000 };
	struct addr addrs[] = { addr_v4(0xc6336401, 0), addr_v4(0xc6336402, 0) };
	struct stage st;
	int64_t begin;

	(void)state;
	stage_init(&st);
	st.host = "two.test";
	sim_name(st.io, st.host, addrs, 2);
	stage_listen(&st, addr_v4(0xc6336402, 7000));
	stage_listen(&st, addr_v4(0xc6336401, 7000));
	stage_connect(&st);
	sim_set_faults(st.io, &lost);            /* from here on: the first attempt gets no answer */
	begin = st.io->now_ns;
	stage_run(&st, 100 * MS_NS);
	sim_set_faults(st.io, NULL);
	assert_int_equal(st.accepted, 0);
	stage_run(&st, SECOND_NS);
	assert_true(st.origins[0].connected);
	assert_in_range(st.origins[0].at_ns - begin, 240 * MS_NS, 260 * MS_NS);
	assert_false(st.origins[1].connected);
	stage_fini(&st);
}

static void test_connect_timeout(void **state)
{
	struct sim_faults lost = { .connect_lost = 1000 };
	struct stage st;
	int64_t begin;

	(void)state;
	stage_init(&st);
	stage_connect(&st);
	sim_set_faults(st.io, &lost);
	begin = st.io->now_ns;
	stage_run(&st, 20 * SECOND_NS);
	assert_true(st.client.reset);
	assert_in_range(st.client.at_ns - begin, 10 * SECOND_NS - MS_NS, 10 * SECOND_NS + MS_NS);
	assert_string_equal(st.error, strerror(ETIMEDOUT));
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECT_ERROR], 1);
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECTED], 0);
	stage_fini(&st);
}

static void expect_refused(struct stage *st, const char *error)
{
	stage_connect(st);
	stage_run(st, SECOND_NS);
	assert_true(st->client.reset);
	assert_string_equal(st->error, error);
	assert_int_equal(st->hooks[HOOK_SERVER_CONNECT_ERROR], 1);
	assert_int_equal(st->flows, 1);
	assert_true(st->finished);
	stage_fini(st);
}

static void test_refused(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	expect_refused(&st, strerror(ECONNREFUSED));

	stage_init(&st);
	st.host = "nobody.test";
	expect_refused(&st, "Name or service not known");

	stage_init(&st);
	st.to = st.proxy;
	expect_refused(&st, "Request destination unknown. Unable to figure out where this request should be "
			    "forwarded to.");
}

static void test_idle(void **state)
{
	struct stage st;
	int64_t begin;

	(void)state;
	stage_init(&st);
	dialogue_relay(&st);
	begin = st.io->now_ns - SECOND_NS;
	stage_run(&st, 400 * SECOND_NS);
	assert_false(st.finished);
	stage_say(&st.origins[0], "!");                /* either side's bytes count */
	begin = st.io->now_ns;
	stage_run(&st, 599 * SECOND_NS);
	assert_false(st.finished);
	stage_run(&st, 2 * SECOND_NS);
	assert_true(st.finished);
	assert_in_range(st.client.at_ns - begin, 599 * SECOND_NS, 601 * SECOND_NS);
	assert_int_equal(st.flows, 1);
	stage_fini(&st);
}

static void test_question_holds_idle(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	st.env.block_hooks = hook_bit(HOOK_TCP_MESSAGE);
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	stage_say(&st.client, "\1q");
	stage_run(&st, 2000 * SECOND_NS);
	assert_false(st.finished);              /* somebody is looking at it */
	assert_int_equal(st.origins[0].len, 0);
	driver_answer(st.driver, st.token + 1); /* nobody's */
	assert_int_equal(st.origins[0].len, 0);
	driver_answer(st.driver, st.token);
	driver_answer(st.driver, st.token);
	stage_run(&st, SECOND_NS);
	assert_string_equal(st.origins[0].got, "\1q");
	stage_fini(&st);
}

/* What came before the client's end is delivered, although it waits for an answer; a reset is passed on, though
 * late. */
static void test_end_during_question(void **state)
{
	(void)state;
	for (int reset = 0; reset < 2; reset++) {
		struct stage st;

		stage_init(&st);
		dialogue_relay(&st);
		st.env.block_hooks = hook_bit(HOOK_TCP_MESSAGE);
		sim_peer_shutdown(st.origins[0].peer);
		stage_run(&st, SECOND_NS);
		stage_say(&st.client, "q");
		stage_run(&st, SECOND_NS);
		if (reset)
			sim_peer_reset(st.client.peer);
		else
			sim_peer_shutdown(st.client.peer);
		stage_run(&st, SECOND_NS);
		assert_false(st.finished);
		assert_false(st.origins[0].fin || st.origins[0].reset);
		driver_answer(st.driver, st.token);
		stage_run(&st, SECOND_NS);
		assert_true(st.finished);
		assert_true(reset ? st.origins[0].reset : st.origins[0].fin);
		if (!reset)
			assert_string_equal(st.origins[0].got, "\1upq");
		stage_fini(&st);
	}
}

static void test_question_of_server_connect(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	st.env.block_hooks = hook_bit(HOOK_SERVER_CONNECT);
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	assert_int_equal(st.accepted, 0);
	driver_answer(st.driver, st.token);
	stage_run(&st, SECOND_NS);
	assert_int_equal(st.accepted, 1);
	stage_fini(&st);

	stage_init(&st);
	st.env.block_hooks = hook_bit(HOOK_SERVER_CONNECT);
	st.refuse_ask = true;                    /* it cannot be asked: on it goes */
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	assert_int_equal(st.accepted, 1);
	stage_fini(&st);
}

static void answer(struct stage *st)
{
	driver_answer(st->driver, st->token);
	stage_run(st, SECOND_NS);
}

/* Nothing is heard of a client before its hook is answered, and nothing of it is lost. */
static void test_question_of_client_connected(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	st.env.block_hooks = hook_bit(HOOK_CLIENT_CONNECTED);
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	stage_say(&st.client, "\1early");
	sim_peer_shutdown(st.client.peer);
	driver_drain(st.driver);
	stage_run(&st, SECOND_NS);
	assert_int_equal(st.accepted, 0);
	answer(&st);
	assert_string_equal(st.origins[0].got, "\1early");
	assert_true(st.origins[0].fin);
	stage_fini(&st);

	stage_init(&st);
	st.env.block_hooks = hook_bit(HOOK_CLIENT_CONNECTED);
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	st.driver->client->refused = true;       /* what a hook's client.error comes to */
	answer(&st);
	assert_true(st.client.fin && st.finished);
	assert_int_equal(st.accepted, 0);
	assert_int_equal(st.hooks[HOOK_CLIENT_DISCONNECTED], 1);
	stage_fini(&st);
}

static void test_question_of_server_connected(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	st.env.block_hooks = hook_bit(HOOK_SERVER_CONNECTED);
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	assert_int_equal(st.accepted, 1);
	stage_say(&st.origins[0], "hi");
	sim_peer_shutdown(st.origins[0].peer);
	stage_say(&st.client, "\1up");
	stage_run(&st, SECOND_NS);
	assert_int_equal(st.client.len + st.origins[0].len, 0);
	answer(&st);
	assert_string_equal(st.origins[0].got, "\1up");
	assert_string_equal(st.client.got, "hi");
	assert_true(st.client.fin);
	stage_fini(&st);

	stage_init(&st);
	st.env.block_hooks = hook_bit(HOOK_SERVER_CONNECTED);
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	sim_peer_reset(st.origins[0].peer);
	stage_run(&st, SECOND_NS);
	assert_false(st.finished);
	answer(&st);
	assert_true(st.finished && st.client.fin);       /* a server that left meanwhile without a word */
	assert_int_equal(st.hooks[HOOK_SERVER_DISCONNECTED], 1);
	stage_fini(&st);
}

static void test_server_connect_decides(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	st.env.block_hooks = hook_bit(HOOK_SERVER_CONNECT) | hook_bit(HOOK_SERVER_CONNECT_ERROR);
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, 30 * SECOND_NS);          /* longer than a connection may take */
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECT], 1);
	for (struct conn *c = (struct conn *)st.driver->conns; !c->is_client; c = st.driver->client) {
		c->refused = true;
		assert_int_equal(conn_record_text(c->record, &c->record->error, STR("denied")), 0);
	}
	answer(&st);
	assert_int_equal(st.hooks[HOOK_SERVER_CONNECT_ERROR], 1);
	assert_false(st.finished || st.client.reset);    /* that is looked at first */
	answer(&st);
	assert_true(st.finished);
	assert_int_equal(st.accepted, 0);
	assert_string_equal(st.error, "Connection killed: denied");
	stage_fini(&st);
}

/* Whoever has heard that a connection would be made hears that it was not. */
static void test_connect_given_up(void **state)
{
	struct sim_faults lost = { .connect_lost = 1000 };
	struct stage st;

	(void)state;
	for (int asked = 0; asked < 2; asked++) {
		stage_init(&st);
		st.env.block_hooks = asked ? hook_bit(HOOK_SERVER_CONNECT_ERROR) : 0;
		stage_connect(&st);
		sim_set_faults(st.io, &lost);
		stage_run(&st, SECOND_NS);
		assert_int_equal(st.hooks[HOOK_SERVER_CONNECT], 1);
		sim_peer_reset(st.client.peer);
		st.client.peer = NULL;
		stage_run(&st, SECOND_NS);
		assert_int_equal(st.hooks[HOOK_SERVER_CONNECT_ERROR], 1);
		assert_int_equal(st.finished, !asked);
		if (asked)
			answer(&st);
		assert_true(st.finished);
		stage_fini(&st);
	}
}

/* A session is over when all that was asked is answered; the client's last hook comes once. */
static void test_questions_at_the_end(void **state)
{
	struct stage st;

	(void)state;
	for (int stop = 0; stop < 2; stop++) {
		stage_init(&st);
		dialogue_relay(&st);
		st.env.block_hooks = hook_bit(HOOK_CLIENT_DISCONNECTED) | hook_bit(HOOK_SERVER_DISCONNECTED);
		if (stop)
			driver_stop(st.driver);
		else
			sim_peer_reset(st.client.peer);
		stage_run(&st, SECOND_NS);
		for (int i = 0; i < 2; i++) {
			assert_false(st.finished);
			answer(&st);
		}
		assert_true(st.finished);
		assert_int_equal(st.hooks[HOOK_CLIENT_DISCONNECTED], 1);
		assert_int_equal(st.hooks[HOOK_SERVER_DISCONNECTED], 1);
		assert_int_equal(st.flows, 1);
		stage_fini(&st);
	}
}

/* Stopping does not take away what somebody looks at. */
static void test_stop_during_question(void **state)
{
	struct stage st;

	(void)state;
	for (int i = 0; i < 2; i++) {
		stage_init(&st);
		st.env.block_hooks = hook_bit(i ? HOOK_CLIENT_CONNECTED : HOOK_TCP_MESSAGE);
		stage_listen(&st, st.to);
		stage_connect(&st);
		stage_run(&st, SECOND_NS);
		stage_say(&st.client, "\1q");
		stage_run(&st, SECOND_NS);
		driver_stop(st.driver);
		stage_run(&st, SECOND_NS);
		assert_false(st.finished);
		assert_int_equal(st.flows, 0);
		answer(&st);
		assert_true(st.finished);
		stage_fini(&st);
	}
}

static void test_hold(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	dialogue_relay(&st);
	driver_hold(st.driver, true);
	stage_say(&st.client, "more");
	stage_run(&st, SECOND_NS);
	assert_string_equal(st.origins[0].got, "\1up");
	driver_hold(st.driver, false);
	stage_run(&st, SECOND_NS);
	assert_string_equal(st.origins[0].got, "\1upmore");
	stage_fini(&st);
}

static void test_drain(void **state)
{
	struct stage st;

	(void)state;
	stage_init(&st);
	stage_listen(&st, st.to);
	stage_connect(&st);
	stage_run(&st, SECOND_NS);
	driver_drain(st.driver);                 /* has said nothing */
	stage_run(&st, SECOND_NS);
	assert_true(st.client.fin && st.finished);
	stage_fini(&st);

	stage_init(&st);
	dialogue_relay(&st);
	driver_drain(st.driver);                 /* in flight */
	stage_say(&st.client, "on");
	stage_run(&st, SECOND_NS);
	assert_string_equal(st.origins[0].got, "\1upon");
	assert_false(st.finished);
	stage_fini(&st);
}

/* What a slow reader has not taken when the session closes still reaches it, however long that takes. */
static void test_linger(void **state)
{
	static const struct sim_faults narrow = { .window_min = 16384, .window_max = 16384 };
	static uint8_t bytes[300000];
	struct stage st;

	(void)state;
	stage_init(&st);
	sim_set_faults(st.io, &narrow);
	dialogue_relay(&st);
	sim_peer_pause(st.client.peer, true);
	sim_peer_send(st.origins[0].peer, bytes, sizeof(bytes));
	sim_peer_shutdown(st.origins[0].peer);
	sim_peer_shutdown(st.client.peer);
	stage_run(&st, SECOND_NS);
	for (int i = 0; i < 100 && !st.client.fin && !st.client.reset; i++) {
		sim_peer_pause(st.client.peer, false);
		stage_run(&st, 2000);
		sim_peer_pause(st.client.peer, true);
		stage_run(&st, 4 * SECOND_NS);
	}
	sim_peer_pause(st.client.peer, false);
	stage_run(&st, SECOND_NS);
	assert_true(st.client.fin);
	assert_false(st.client.reset);
	stage_fini(&st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_relay),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_dial_order),
		cmocka_unit_test(test_dial_races),
		cmocka_unit_test(test_connect_timeout), cmocka_unit_test(test_connect_given_up),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_question_holds_idle),
		cmocka_unit_test(test_end_during_question),
		cmocka_unit_test(test_question_of_server_connect),
		cmocka_unit_test(test_question_of_client_connected),
		cmocka_unit_test(test_question_of_server_connected),
		cmocka_unit_test(test_server_connect_decides),
		cmocka_unit_test(test_questions_at_the_end),
		cmocka_unit_test(test_stop_during_question),
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_linger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
