/* SPDX-License-Identifier: MIT */
/* Runs the dialogues, and compares the flows that come of them. */
#include "websocket_talk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GET_UP "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
#define GET_VIA "GET http://h/chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"

static uint64_t no_chance(struct env *env)
{
	(void)env;
	return 0;
}

bool talk_begin(struct play *p, const char *extensions)
{
	char answer[300];

	if (playbook_init(&p->pb) < 0)
		return false;
	p->pb.env.random = no_chance;
	p->l = mode_regular_new(&p->pb.sink, &p->pb.env, p->pb.client);
	if (!p->l) {
		playbook_fini(&p->pb, NULL);
		return false;
	}
	snprintf(answer, sizeof(answer), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n%s%s%s\r\n",
		 extensions ? "Sec-WebSocket-Extensions: " : "", extensions ? extensions : "",
		 extensions ? "\r\n" : "");
	if (PLAYBOOK("the handshake", p->l,
		GIVE(EV_START, NOBODY),
		GIVE(EV_DATA, SIDE_CLIENT, .text = GET_VIA),
		WANT(CMD_OPEN, SIDE_NEW),
		GIVE(EV_OPENED, SIDE_NEW),
		WANT(CMD_SEND, SIDE_NEW, .text = GET_UP),
		GIVE(EV_DATA, SIDE_NEW, .text = answer),
		WANT(CMD_SEND, SIDE_CLIENT, .text = answer)))
		return true;
	playbook_fini(&p->pb, p->l);
	return false;
}

static void check(struct play *p, const struct talk *t)
{
	const struct websocket_flow *w;
	const struct flow *f;
	char bytes[200];
	uint32_t count = 0;

	if (list_empty(&p->pb.flows)) {
		layer_free(p->l);
		p->l = NULL;
	}
	assert_false(list_empty(&p->pb.flows));
	f = list_entry(p->pb.flows.next, struct flow, link);
	w = f->http.messages;
	assert_non_null(w);
	if (t->close_code) {
		assert_true(w->closed);
		assert_int_equal(w->close_code, t->close_code);
		assert_int_equal(w->closed_by_client, t->closed_by_client);
		assert_int_equal(!w->close_reason.ptr, !t->close_reason);
		assert_true(!t->close_reason || str_eq(w->close_reason, str_of(t->close_reason)));
	}
	assert_int_equal(w->lost, t->lost);
	while (t->check_messages && count < ARRAY_SIZE(t->messages) && t->messages[count].text) {
		const struct websocket_message *m = &w->messages[count];

		assert_true(count < w->count);
		bytes[0] = m->from_client ? '>' : '<';
		assert_int_equal(1 + chain_peek(&m->data, 0, bytes + 1, sizeof(bytes) - 1), t->messages[count].len);
		assert_memory_equal(bytes, t->messages[count].text, t->messages[count].len);
		count++;
	}
	if (t->check_messages)
		assert_int_equal(count, w->count);
}

static void run(void *arg)
{
	const struct talk *t = arg;
	struct play p;
	size_t count = 0;

	if (!talk_begin(&p, t->extensions))
		return;
	if (t->block)
		p.pb.env.block_hooks = p.pb.env.whole_hooks = hook_bit(HOOK_WEBSOCKET_MESSAGE);
	if (t->capture_max)
		p.pb.options.body_capture_max = t->capture_max;
	while (count < TALK_STEPS_MAX && (t->steps[count].what || t->steps[count].side || t->steps[count].want))
		count++;
	if (playbook_run(p.l, t->name, t->steps, count, __FILE__, __LINE__) && !playbook_sweeping())
		check(&p, t);
	playbook_fini(&p.pb, p.l);
}

void talk_all(const struct talk *talks, size_t count)
{
	for (size_t i = 0; i < count; i++)
		run((void *)&talks[i]);
}

void talk_sweep(const struct talk *talks, size_t count)
{
	for (size_t i = 0; i < count; i++)
		playbook_sweep(run, (void *)&talks[i]);
}
