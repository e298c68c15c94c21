/* SPDX-License-Identifier: MIT */
/* The UDP relay, and how it is chosen, as dialogues: each EV_DATA is a datagram. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/patterns.h"
#include "flow/flow_edit.h"
#include "layers/mode.h"
#include "layers/udp.h"
#include "playbook.h"
#include "stand.h"

struct play {
	struct playbook pb;
	struct stand stand;
	struct layer *l;
};

static bool play_begin(struct play *p, bool connected, bool ignored)
{
	if (playbook_init(&p->pb) < 0)
		return false;
	p->l = stand_init(&p->stand, &p->pb);
	p->pb.client->record->udp = p->pb.server->record->udp = true;
	p->pb.server->state = connected ? CONN_OPEN : CONN_CLOSED;
	p->stand.child = udp_new(p->l, p->pb.client, p->pb.server, ignored);
	if (p->stand.child)
		return true;
	playbook_fini(&p->pb, p->l);
	return false;
}

static void play_end(struct play *p)
{
	playbook_fini(&p->pb, p->l);
}

static const struct flow *flow_of(const struct play *p)
{
	assert_false(list_empty(&p->pb.flows));
	return list_entry(p->pb.flows.next, struct flow, link);
}

#define UDP_HOOKS (hook_bit(HOOK_UDP_START) | hook_bit(HOOK_UDP_MESSAGE) | hook_bit(HOOK_UDP_END) | \
		   hook_bit(HOOK_UDP_ERROR))

static void dialogue_relay(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, false, false))
		return;
	p.pb.env.notify_hooks = UDP_HOOKS;
	PLAYBOOK("the flow begins, the server is opened, datagrams go both ways, an end is both sides'", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_START),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "one"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "two"),
		GIVE(EV_OPENED, SIDE_SERVER),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE),
		WANT(CMD_SEND, SIDE_SERVER, .text = "one"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE),
		WANT(CMD_SEND, SIDE_SERVER, .text = "two"),
		GIVE(EV_DATA, SIDE_SERVER, .text = "answer"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "answer"),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_END),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_UDP_END));
	if (!playbook_sweeping()) {
		const struct tcp_flow *t = &flow_of(&p)->tcp;

		assert_int_equal(flow_of(&p)->type, FLOW_UDP);
		assert_null(flow_of(&p)->error.ptr);
		assert_int_equal(t->count, 3);
		assert_true(t->messages[1].from_client);
		assert_int_equal(t->messages[1].data.len, 3);
		assert_false(t->messages[2].from_client);
	}
	play_end(&p);
}

static void test_relay(void **state)
{
	(void)state;
	dialogue_relay(NULL);
	playbook_sweep(dialogue_relay, NULL);
}

static bool count_sends(struct playbook *pb, struct command *cmd, bool *answer)
{
	if (cmd->type != CMD_SEND)
		return false;
	++*(uint32_t *)pb->owner;
	assert_int_equal(cmd->data->len, 0);
	*answer = false;
	return true;
}

static void test_empty(void **state)
{
	struct chain none = { 0 };
	uint32_t sends = 0;
	struct play p;

	(void)state;
	assert_true(play_begin(&p, true, false));
	p.pb.on_command = count_sends;
	p.pb.owner = &sends;
	layer_event(p.l, &(struct event){ .type = EV_START });
	layer_event(p.l, &(struct event){ .type = EV_DATA, .conn = p.pb.client, .data = &none });
	layer_event(p.l, &(struct event){ .type = EV_DATA, .conn = p.pb.server, .data = &none });
	assert_int_equal(sends, 2);
	p.pb.on_command = NULL;
	play_end(&p);
	/* the flow is handed over when the layer is freed; playbook_fini() has freed it then */
}

static void dialogue_ignored(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, false, true))
		return;
	p.pb.env.notify_hooks = UDP_HOOKS;
	PLAYBOOK("what is ignored is relayed, and nobody is told", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_OPENED, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "one"),
		WANT(CMD_SEND, SIDE_SERVER, .text = "one"),
		GIVE(EV_DATA, SIDE_SERVER, .text = "two"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "two"),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT));
	play_end(&p);
}

static void test_ignored(void **state)
{
	(void)state;
	dialogue_ignored(NULL);
	playbook_sweep(dialogue_ignored, NULL);
}

static void test_failures(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, false, false));
	p.pb.env.notify_hooks = UDP_HOOKS;
	PLAYBOOK("a server that cannot be reached", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_START),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "one"),
		GIVE(EV_OPENED, SIDE_SERVER, .error = "Network is unreachable"),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_ERROR),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_UDP_ERROR));
	assert_true(str_eq(flow_of(&p)->error, STR("Network is unreachable")));
	play_end(&p);

	assert_true(play_begin(&p, true, false));
	PLAYBOOK("a server that refuses", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "one"),
		WANT(CMD_SEND, SIDE_SERVER, .text = "one"),
		GIVE(EV_CLOSED, SIDE_SERVER, .reset = true, .error = "Connection refused"),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_UDP_ERROR));
	assert_true(str_eq(flow_of(&p)->error, STR("Connection refused")));
	assert_int_equal(flow_of(&p)->tcp.count, 1);
	play_end(&p);
}

static void do_change(void *arg)
{
	int ret = flow_set_message(arg, "changed", 7);

	assert_true(ret == 0 || playbook_sweeping());
}

static void do_drop(void *arg)
{
	int ret = flow_drop_message(arg);

	assert_true(ret == 0 || playbook_sweeping());
}

static void do_kill(void *arg)
{
	assert_int_equal(flow_kill(arg, (struct stamp){ 0 }), 0);
}

static const struct order kill_order = { .kind = ORDER_KILL };
static const struct order inject_order = { .kind = ORDER_INJECT, .to_client = true, .bytes = { "in", 2 } };

static void dialogue_changes(void *arg)
{
	struct play p;

	(void)arg;
	if (!play_begin(&p, true, false))
		return;
	p.pb.env.block_hooks = hook_bit(HOOK_UDP_MESSAGE);
	p.pb.options.body_capture_max = 3;
	PLAYBOOK("a message is changed, one is dropped, one is injected; one at a time", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "abcd"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE, .check = do_change),
		WANT(CMD_SEND, SIDE_SERVER, .text = "changed"),
		GIVE(EV_DATA, SIDE_SERVER, .text = "efgh"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE, .check = do_drop),
		GIVE(EV_ORDER, NOBODY, .order = &inject_order),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "in"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "x"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE, .hold = true),
		GIVE(EV_DATA, SIDE_SERVER, .text = "y"),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_SERVER, .text = "x"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "y"),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_UDP_END));
	if (!playbook_sweeping())
		assert_int_equal(flow_of(&p)->tcp.count, 0);     /* looked at, though none had room */
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
	p.pb.env.block_hooks = hook_bit(HOOK_UDP_MESSAGE);
	PLAYBOOK("killed in a message: it is not sent", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "a"),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_MESSAGE, .check = do_kill),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_UDP_ERROR));
	assert_true(flow_of(&p)->killed);
	play_end(&p);

	assert_true(play_begin(&p, true, false));
	p.pb.env.notify_hooks = hook_bit(HOOK_UDP_START);
	PLAYBOOK("killed between messages", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_START),
		GIVE(EV_ORDER, NOBODY, .order = &kill_order),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_UDP_ERROR),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "late"));
	play_end(&p);

	assert_true(play_begin(&p, false, false));
	p.pb.env.block_hooks = hook_bit(HOOK_UDP_START);
	PLAYBOOK("killed at its start: no server is opened", p.l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_START, .check = do_kill),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_UDP_ERROR));
	play_end(&p);
}

static void test_drain(void **state)
{
	struct play p;

	(void)state;
	assert_true(play_begin(&p, true, false));
	PLAYBOOK("the proxy is stopping: an answer that is on its way has a moment", p.l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "q"),
		WANT(CMD_SEND, SIDE_SERVER, .text = "q"),
		GIVE(EV_DRAIN, NOBODY),
		WANT(CMD_WAKEUP, NOBODY),
		GIVE(EV_DATA, SIDE_SERVER, .text = "a"),
		WANT(CMD_SEND, SIDE_CLIENT, .text = "a"),
		GIVE(EV_WAKEUP, NOBODY),
		WANT(CMD_WAKEUP, NOBODY, .delay_ns = -1),
		WANT(CMD_CLOSE, SIDE_SERVER),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_UDP_END));
	play_end(&p);
}

/* From the mode down: what decides, and that nothing is opened before the first datagram. */
static void mode_dialogue(const char *ignore, bool shown, bool flow)
{
	struct patterns *patterns = NULL;
	struct playbook pb;
	struct layer *l;
	struct err e;

	assert_int_equal(playbook_init(&pb), 0);
	if (ignore)
		assert_int_equal(patterns_new(&patterns, &ignore, 1, &e), 0);
	pb.options.ignore_hosts = patterns;
	pb.options.show_ignored_hosts = shown;
	pb.client->record->udp = pb.server->record->udp = true;
	pb.env.notify_hooks = hook_bit(HOOK_UDP_START);
	l = mode_transparent_new(&pb.sink, &pb.env, pb.client, pb.server);
	if (flow)
		PLAYBOOK("the first datagram begins the flow", l,
			GIVE(EV_START, NOBODY),
			GIVE(EV_DATA, SIDE_CLIENT, .text = "GET / HTTP/1.1\r\n\r\n"),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_UDP_START),
			WANT(CMD_OPEN, SIDE_SERVER),
			GIVE(EV_OPENED, SIDE_SERVER),
			WANT(CMD_SEND, SIDE_SERVER, .text = "GET / HTTP/1.1\r\n\r\n"));
	else
		PLAYBOOK("the first datagram of what is ignored", l,
			GIVE(EV_START, NOBODY),
			GIVE(EV_DATA, SIDE_CLIENT, .text = "x"),
			WANT(CMD_OPEN, SIDE_SERVER),
			GIVE(EV_OPENED, SIDE_SERVER),
			WANT(CMD_SEND, SIDE_SERVER, .text = "x"));
	playbook_fini(&pb, l);
	patterns_free(patterns);
}

static void test_chosen(void **state)
{
	(void)state;
	mode_dialogue(NULL, false, true);
	mode_dialogue("example.com:80", false, false);
	mode_dialogue("example.com:80", true, true);
	mode_dialogue("example.org", false, true);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_relay), cmocka_unit_test(test_empty), cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_failures), cmocka_unit_test(test_changes), cmocka_unit_test(test_kill),
		cmocka_unit_test(test_drain), cmocka_unit_test(test_chosen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
