/* SPDX-License-Identifier: MIT */
/* The TCP relay and the bypass as dialogues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "flow/flow_edit.h"
#include "layers/bypass.h"
#include "layers/tcp.h"
#include "playbook.h"
#include "stand.h"

struct play {
	struct playbook pb;
	struct stand stand;
	struct layer *l;
};

static bool play_begin(struct play *p, bool connected, bool bypass)
{
	if (playbook_init(&p->pb) < 0)
		return false;
	p->l = stand_init(&p->stand, &p->pb);
	p->pb.server->state = connected ? CONN_OPEN : CONN_CLOSED;
	p->stand.child = (bypass ? bypass_new : tcp_new)(p->l, p->pb.client, p->pb.server);
	if (p->stand.child)
		return true;
	playbook_fini(&p->pb, p->l);
	return false;
}

static void play_end(struct play *p)
{
	playbook_fini(&p->pb, p->l);
}

static const struct tcp_flow *tcp_of(const struct play *p)
{
	assert_false(list_empty(&p->pb.flows));
	return &list_entry(p->pb.flows.next, struct flow, link)->tcp;
}

static void dialogue_relay(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, true, false))
		return;
	p.pb.env.notify_hooks = hook_bit(HOOK_TCP_START) | hook_bit(HOOK_TCP_MESSAGE) | hook_bit(HOOK_TCP_END);
	PLAYBOOK("bytes both ways, an end at a time", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_START),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "hello"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE),
		WANT(CMD_SEND, SIDE_SERVER, .text = "hello"),
		GIVE(EV_DATA, SIDE_SERVER, .text = "world"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "world"),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_SERVER, .half = true),
		GIVE(EV_DATA, SIDE_SERVER, .text = "!"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "!"),
		GIVE(EV_CLOSED, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_END),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	if (!playbook_sweeping()) {
		const struct tcp_flow *t = tcp_of(&p);

		assert_int_equal(t->count, 3);
		assert_true(t->messages[0].from_client);
		assert_false(t->messages[2].from_client);
		assert_int_equal(t->messages[1].data.len, 5);
		assert_int_equal(t->dropped, 0);
	}
	play_end(&p);
}

static void test_relay(void **state)
{
	(void)state;
	dialogue_relay(NULL);
	playbook_sweep(dialogue_relay, NULL);
}

static void dialogue_lazy(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, false, false))
		return;
	PLAYBOOK("what comes while the server is being opened waits, in order", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "one two ", .by = 4),
		GIVE(EV_OPENED, SIDE_SERVER),
		WANT(CMD_SEND, SIDE_SERVER, .text = "one two "),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "three"),
		WANT(CMD_SEND, SIDE_SERVER, .text = "three"));
	play_end(&p);
}

static void test_lazy(void **state)
{
	struct play p;

	(void)state;
	dialogue_lazy(NULL);
	playbook_sweep(dialogue_lazy, NULL);

	assert_true(play_begin(&p, false, false));
	p.pb.env.notify_hooks = UINT64_MAX;
	PLAYBOOK("a server that refuses: the client is reset, tcp_error says why", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_START),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "lost"),
		GIVE(EV_OPENED, SIDE_SERVER, .error = "Connection refused"),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR));
	assert_int_equal(tcp_of(&p)->count, 0);
	play_end(&p);
}

static void test_reset(void **state)
{
	static const int sides[] = { SIDE_CLIENT, SIDE_SERVER };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct play p;

		assert_true(play_begin(&p, true, false));
		PLAYBOOK("a reset is a reset on the other side, also behind a half-close", p.l,
			GIVE(EV_START, NOBODY),
			GIVE(EV_CLOSED, sides[i]),
			WANT(CMD_CLOSE, sides[!i], .half = true),
			GIVE(EV_CLOSED, sides[i], .reset = true),
			WANT(CMD_CLOSE, sides[!i], .reset = true),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
		play_end(&p);
	}
}

static void dialogue_hook(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, true, false))
		return;
	p.pb.env.block_hooks = hook_bit(HOOK_TCP_MESSAGE);
	PLAYBOOK("one message at a time; an end waits behind the bytes before it", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "a"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE, .hold = true),
		GIVE(EV_DATA, SIDE_SERVER, .text = "b"),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_SERVER, .text = "a"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE, .hold = true),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "b"),
		WANT(CMD_CLOSE, SIDE_SERVER, .half = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	play_end(&p);
}

static void test_hook(void **state)
{
	(void)state;
	dialogue_hook(NULL);
	playbook_sweep(dialogue_hook, NULL);
}

static void do_change(void *arg)
{
	int ret = flow_set_message(arg, "changed", 7);

	assert_true(ret == 0 || playbook_sweeping());
}

static void do_kill(void *arg)
{
	assert_int_equal(flow_kill(arg, (struct stamp){ 0 }), 0);
}

static void is_injected(void *arg)
{
	const struct tcp_flow *t = &((struct flow *)arg)->tcp;

	assert_false(t->messages[t->count - 1].from_client);
	assert_int_equal(t->messages[t->count - 1].data.len, 2);
}

static const struct order kill_order = { .kind = ORDER_KILL };
static const struct order inject_order = { .kind = ORDER_INJECT, .to_client = true, .bytes = { "in", 2 } };

static void dialogue_changes(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, true, false))
		return;
	p.pb.env.block_hooks = hook_bit(HOOK_TCP_MESSAGE);
	p.pb.options.body_capture_max = 3;
	PLAYBOOK("a message is changed, one is injected; an order waits for the message that is looked at", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "abcd"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE, .check = do_change),
		WANT(CMD_SEND, SIDE_SERVER, .text = "changed"),
		GIVE(EV_ORDER, NOBODY, .order = &inject_order),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE, .check = is_injected),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "in"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "x"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE, .hold = true),
		GIVE(EV_ORDER, NOBODY, .order = &inject_order),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_SERVER, .text = "x"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE, .check = is_injected),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "in"),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	if (!playbook_sweeping())
		assert_int_equal(tcp_of(&p)->count, 0);  /* looked at, though none had room */
	play_end(&p);
}

static void test_changes(void **state)
{
	(void)state;
	dialogue_changes(NULL);
	playbook_sweep(dialogue_changes, NULL);
}

static void test_kill(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, true, false));
	p.pb.env.block_hooks = hook_bit(HOOK_TCP_MESSAGE) | hook_bit(HOOK_TCP_ERROR);
	PLAYBOOK("killed in a message: it is not sent, both sides are reset", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "a"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_MESSAGE, .check = do_kill),
		WANT(CMD_CLOSE, SIDE_SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR));
	play_end(&p);

	assert_true(play_begin(&p, true, false));
	p.pb.env.notify_hooks = hook_bit(HOOK_TCP_START);
	PLAYBOOK("killed between messages", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_START),
		GIVE(EV_ORDER, NOBODY, .order = &kill_order),
		WANT(CMD_CLOSE, SIDE_SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR));
	play_end(&p);

	assert_true(play_begin(&p, true, false));
	p.pb.env.block_hooks = hook_bit(HOOK_TCP_START);
	PLAYBOOK("killed at its start", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_START, .check = do_kill),
		WANT(CMD_CLOSE, SIDE_SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR));
	play_end(&p);
}

static void test_backpressure(void **state)
{
	(void)state;
	for (int bypass = 0; bypass < 2; bypass++) {
		struct play p;

		assert_true(play_begin(&p, true, bypass));
		PLAYBOOK("a slow server pauses the client, and only the client", p.l,
			GIVE(EV_START, NOBODY),
			GIVE(EV_DATA, SIDE_CLIENT, .text = "much"),
			WANT(CMD_SEND, SIDE_SERVER, .text = "much", .full = true),
			WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_PEER),
			GIVE(EV_DATA, SIDE_SERVER, .text = "back"),
			WANT(CMD_SEND, SIDE_CLIENT, .text = "back"),
			GIVE(EV_WRITABLE, SIDE_SERVER),
			WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_PEER));
		play_end(&p);
	}
}

static void test_capture_limit(void **state)
{
	const struct tcp_flow *t;
	struct play p;

	(void)state;
	assert_true(play_begin(&p, true, false));
	p.pb.options.body_capture_max = sizeof(struct tcp_message) + 6;
	PLAYBOOK("past the limit bytes pass and are counted", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "hello"),
		WANT(CMD_SEND, SIDE_SERVER, .text = "hello"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "world"),
		WANT(CMD_SEND, SIDE_SERVER, .text = "world"),
		GIVE(EV_DATA, SIDE_SERVER, .text = "12345678"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "12345678"),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_END));
	t = tcp_of(&p);
	assert_int_equal(t->messages[0].data.len, 5);
	assert_int_equal(t->count, 2);
	assert_int_equal(t->messages[1].data.len, 1);
	assert_int_equal(t->dropped, 4 + 8);
	play_end(&p);
}

static void dialogue_bypass(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, false, true))
		return;
	p.pb.env.notify_hooks = p.pb.env.block_hooks = UINT64_MAX;
	PLAYBOOK("the bypass relays, and nobody hears of it", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "early"),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		GIVE(EV_OPENED, SIDE_SERVER),
		WANT(CMD_SEND, SIDE_SERVER, .text = "early"),
		WANT(CMD_CLOSE, SIDE_SERVER, .half = true),
		GIVE(EV_DATA, SIDE_SERVER, .text = "late"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "late"),
		GIVE(EV_CLOSED, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_SERVER));
	if (!playbook_sweeping())
		assert_true(list_empty(&p.pb.flows));
	play_end(&p);
}

static void test_bypass(void **state)
{
	struct play p;

	(void)state;
	dialogue_bypass(NULL);
	playbook_sweep(dialogue_bypass, NULL);

	assert_true(play_begin(&p, true, true));
	PLAYBOOK("a reset passes through the bypass as one", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true));
	play_end(&p);
}

/* As behind TLS that could not be agreed on: dialling once more would only tell the same again. */
static void test_failed_before(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, false, false));
	p.pb.server->failed = true;
	p.pb.env.notify_hooks = hook_bit(HOOK_TCP_START) | hook_bit(HOOK_TCP_ERROR);
	PLAYBOOK("a server that has failed is not opened again", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_START),
		WANT(CMD_CLOSE, SIDE_CLIENT, .reset = true),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_TCP_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_TCP_ERROR));
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_relay),
		cmocka_unit_test(test_lazy),
		cmocka_unit_test(test_failed_before),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_hook),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_backpressure),
		cmocka_unit_test(test_capture_limit),
		cmocka_unit_test(test_bypass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
