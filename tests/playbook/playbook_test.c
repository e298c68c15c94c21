/* SPDX-License-Identifier: MIT */
/* The harness itself, on a small relay layer: what is written passes, what deviates is noticed. */
#include "playbook.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

struct relay {
	struct layer base;
	struct conn *client, *server;
};

static void relay_handle(struct layer *l, const struct event *ev)
{
	struct relay *r = container_of(l, struct relay, base);
	struct conn *other = ev->conn == r->client ? r->server : r->client;

	switch (ev->type) {
	case EV_START:
		layer_open(l, r->server);
		return;
	case EV_OPENED:
		if (ev->error)
			layer_close(l, r->client);
		return;
	case EV_DATA:
		if (layer_send(l, other, ev->data))
			layer_pause(l, ev->conn, PAUSE_PEER);
		return;
	case EV_WRITABLE:
		layer_resume(l, other, PAUSE_PEER);
		return;
	case EV_CLOSED:
		layer_close_half(l, other);
		return;
	case EV_WAKEUP:
	case EV_HOOK_DONE:
	case EV_DRAIN:
	case EV_ORDER:
		return;
	}
	abort();
}

static void relay_free(struct layer *l)
{
	layer_fini(l);
	mem_free(container_of(l, struct relay, base));
}

static const struct layer_ops relay_ops = { .name = "relay", .handle = relay_handle, .free = relay_free };

static struct layer *relay_new(struct playbook *pb)
{
	struct relay *r = mem_zalloc(sizeof(*r));

	if (!r)
		return NULL;
	layer_init(&r->base, &relay_ops, NULL, &pb->sink, &pb->env);
	r->client = pb->client;
	r->server = pb->server;
	return &r->base;
}

static bool dialogue(struct layer *l)
{
	return PLAYBOOK("a slow server pauses the client, and only the client", l,
		GIVE(EV_START, NOBODY),
		WANT(CMD_OPEN, SIDE_SERVER),
		GIVE(EV_DATA, SIDE_CLIENT, .text = "GET", .by = 1),
		GIVE(EV_OPENED, SIDE_SERVER),
		WANT(CMD_SEND, SIDE_SERVER, .text = "GE"),
		WANT(CMD_SEND, SIDE_SERVER, .text = "T"),
		GIVE(EV_DATA, SIDE_CLIENT, .text = " /"),
		WANT(CMD_SEND, SIDE_SERVER, .text = " /", .full = true),
		WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_PEER),
		GIVE(EV_DATA, SIDE_SERVER, .text = "ab", .by = 1),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true),
		GIVE(EV_WRITABLE, SIDE_SERVER),
		WANT(CMD_RESUME, SIDE_CLIENT),
		GIVE(EV_CLOSED, SIDE_CLIENT),
		WANT(CMD_CLOSE, SIDE_SERVER, .half = true));
}

static void passes(void **state)
{
	struct playbook pb;
	struct layer *l;

	(void)state;
	assert_int_equal(playbook_init(&pb), 0);
	l = relay_new(&pb);
	assert_true(dialogue(l));
	assert_int_equal(pb.server->state, CONN_CAN_READ);
	playbook_fini(&pb, l);
}

/* Each of these is wrong in one place. */
static void notices(void *arg)
{
	struct playbook pb;
	struct layer *l;

	(void)arg;
	if (playbook_init(&pb) < 0)
		return;
	mem_fail_at(0);
	l = relay_new(&pb);
	assert_false(PLAYBOOK("missing", l, GIVE(EV_DRAIN, NOBODY), WANT(CMD_OPEN, SIDE_SERVER)));
	assert_false(PLAYBOOK("not wanted", l, GIVE(EV_START, NOBODY)));
	assert_false(PLAYBOOK("other text", l, GIVE(EV_OPENED, SIDE_SERVER), GIVE(EV_DATA, SIDE_CLIENT, .text = "a"),
			      WANT(CMD_SEND, SIDE_SERVER, .text = "b")));
	assert_false(PLAYBOOK("too long", l, GIVE(EV_DATA, SIDE_CLIENT, .text = "ab"),
			      WANT(CMD_SEND, SIDE_SERVER, .text = "a")));
	assert_false(PLAYBOOK("too short", l, GIVE(EV_DATA, SIDE_CLIENT, .text = "ab"),
			      WANT(CMD_SEND, SIDE_SERVER, .text = "abc")));
	assert_false(PLAYBOOK("other side", l, GIVE(EV_DATA, SIDE_CLIENT, .text = "ab"),
			      WANT(CMD_SEND, SIDE_CLIENT, .text = "ab")));
	assert_false(PLAYBOOK("nobody waits", l, GIVE(EV_HOOK_DONE, NOBODY)));
	assert_false(PLAYBOOK("not half", l, GIVE(EV_CLOSED, SIDE_CLIENT), WANT(CMD_CLOSE, SIDE_SERVER)));
	playbook_fini(&pb, l);
}

static void deviations(void **state)
{
	(void)state;
	playbook_sweep(notices, NULL);
}

static uint32_t completed;

static void whole(void *arg)
{
	struct playbook pb;
	struct layer *l;

	(void)arg;
	if (playbook_init(&pb) < 0)
		return;
	l = relay_new(&pb);
	if (l)
		completed += dialogue(l);
	playbook_fini(&pb, l);
}

static void sweep(void **state)
{
	(void)state;
	playbook_sweep(whole, NULL);
	assert_int_equal(completed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passes),
		cmocka_unit_test(deviations),
		cmocka_unit_test(sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
