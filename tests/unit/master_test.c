/* SPDX-License-Identifier: MIT */
/*
 * The master against a worker that is only a pair of rings: what it shows, what it keeps, and that everything which was
 * lent comes back, whatever ends it.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "master/flow_store.h"
#include "master/master.h"
#include "master/settings.h"

/* --- an addon that remembers ---------------------------------------------------------------------------------- */

struct spy {
	struct addon base;
	uint32_t flows[ADDON_UNFINISHED + 1], messages, done;
	int fail_with;                   /* at the next flow */
	uint32_t collected, collects_max;        /* flows since the last pause; at which one it is due, 0: never */
	uint32_t pauses;                 /* after which something had been collected */
	struct spy *before;              /* who must have paused before this one does */
};

static int spy_flow(struct addon *a, const struct flow *f, enum addon_moment moment, struct err *e)
{
	struct spy *s = container_of(a, struct spy, base);

	assert_non_null(f->client);
	s->flows[moment]++;
	s->collected++;
	if (s->fail_with)
		return err_set(e, s->fail_with, "no more");
	return s->collects_max && s->collected >= s->collects_max;
}

static int spy_pause(struct addon *a, struct err *e __unused)
{
	struct spy *s = container_of(a, struct spy, base);

	assert_true(!s->before || s->before->collected == 0);
	s->pauses += s->collected > 0;
	s->collected = 0;
	return 0;
}

static int spy_message(struct addon *a, bool udp, const struct conn_record *client,
		       const struct conn_record *server, const struct tcp_message *m, struct err *e __unused)
{
	assert_true(!udp && client->is_client && !server->is_client && m->data.len == 0);
	container_of(a, struct spy, base)->messages++;
	return 0;
}

static int spy_done(struct addon *a, struct err *e __unused)
{
	container_of(a, struct spy, base)->done++;
	return 0;
}

static const struct addon_ops spy_ops = { .name = "spy", .flow = spy_flow, .tcp_message = spy_message,
					  .pause = spy_pause, .done = spy_done };

/* --- a worker that is only rings ------------------------------------------------------------------------------ */

struct fake {
	struct worker_link link;
	struct report *todo, **todo_tail;
	uint32_t lent, wakes, drains, stops;
	bool busy;                       /* not drained before stop */
	bool closed_at_stop;             /* one unfinished flow is reported at stop */
	struct conn_record *client, *server;
};

static const uint8_t id[16] = { 7 };

static void lend(struct fake *w, enum report_kind kind, enum hook_id hook)
{
	enum flow_type type = hook >= HOOK_TCP_START ? FLOW_TCP : FLOW_HTTP;
	struct report *r = kind == REPORT_FLOW ? report_flow(flow_new(type, id, w->client, w->server), hook)
					       : mem_zalloc(sizeof(*r));

	r->kind = kind;
	r->hook = hook;
	if (kind == REPORT_TCP_MESSAGE) {
		r->client = conn_record_get(w->client);
		r->server = conn_record_get(w->server);
	}
	if (kind == REPORT_LOG)
		r->text = mem_strndup("hello", 5);
	*w->todo_tail = r;
	w->todo_tail = &r->next;
	w->lent++;
}

/* The worker's turn: takes back what came, sends what there is room for. */
static void work(struct fake *w)
{
	uint64_t one = 1;
	struct report *r;

	while ((r = ring_pop(w->link.from_master)) != NULL) {
		report_free(r);
		w->lent--;
	}
	while (w->todo) {
		struct report *next = w->todo->next;

		if (!ring_push(w->link.to_master, w->todo))
			break;
		w->todo = next;
	}
	if (!w->todo)
		w->todo_tail = &w->todo;
	assert_int_equal(write(w->link.master_fd, &one, sizeof(one)), sizeof(one));
}

static void fake_wake(struct worker_link *link)
{
	struct fake *w = container_of(link, struct fake, link);

	w->wakes++;
	work(w);
}

static void fake_drain(void *owner)
{
	((struct fake *)owner)->drains++;
}

static bool fake_drained(void *owner)
{
	struct fake *w = owner;

	work(w);
	return !w->busy && !w->todo;
}

static void fake_stop(void *owner)
{
	struct fake *w = owner;

	w->stops++;
	if (w->closed_at_stop)
		lend(w, REPORT_FLOW, HOOK_REQUEST);
	work(w);
}

static bool fake_stopped(void *owner)
{
	struct fake *w = owner;

	work(w);
	return w->lent == 0;
}

struct bench {
	struct settings *settings;
	struct fake worker;
	struct spy first, second;
	struct addon *addons[2];
	struct master *master;
};

static void bench_init(struct bench *b, const char *memory)
{
	struct err e = { 0 };

	memset(b, 0, sizeof(*b));
	b->settings = settings_new();
	assert_int_equal(settings_put(b->settings, "flow_memory_max", memory, &e), 0);
	b->first.base.ops = b->second.base.ops = &spy_ops;
	b->addons[0] = &b->first.base;
	b->addons[1] = &b->second.base;
	b->worker.link.to_master = ring_new(16);
	b->worker.link.from_master = ring_new(16);
	b->worker.link.master_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	b->worker.link.wake = fake_wake;
	b->worker.todo_tail = &b->worker.todo;
	b->worker.client = conn_record_new(true, id);
	b->worker.server = conn_record_new(false, id);

	const struct master_config config = {
		.settings = b->settings, .addons = b->addons, .addon_count = 2,
		.world = { .owner = &b->worker, .drain = fake_drain, .drained = fake_drained, .stop = fake_stop,
			   .stopped = fake_stopped, .poll_fd = -1 },
	};

	assert_int_equal(master_new(&b->master, &config, &e), 0);
	assert_int_equal(master_add_link(b->master, &b->worker.link, &e), 0);
}

static void bench_fini(struct bench *b)
{
	assert_int_equal(b->worker.lent, 0);
	master_free(b->master);
	conn_record_put(b->worker.client);
	conn_record_put(b->worker.server);
	ring_free(b->worker.link.to_master);
	ring_free(b->worker.link.from_master);
	close(b->worker.link.master_fd);
	settings_free(b->settings);
	assert_int_equal(mem_live(), 0);
}

static void each_report_is_shown_and_returned(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, "256m");
	lend(&b.worker, REPORT_FLOW, HOOK_RESPONSE);
	lend(&b.worker, REPORT_FLOW, HOOK_ERROR);
	lend(&b.worker, REPORT_FLOW, HOOK_HTTP_CONNECT_ERROR);
	lend(&b.worker, REPORT_FLOW, HOOK_TCP_END);
	lend(&b.worker, REPORT_FLOW, HOOK_TCP_ERROR);
	lend(&b.worker, REPORT_TCP_MESSAGE, HOOK_TCP_MESSAGE);
	lend(&b.worker, REPORT_LOG, 0);
	b.worker.closed_at_stop = true;
	work(&b.worker);
	raise(SIGTERM);
	assert_int_equal(master_run(b.master), 0);
	for (enum addon_moment m = ADDON_RESPONSE; m <= ADDON_TCP_ERROR; m++)
		assert_int_equal(b.first.flows[m], 1);
	assert_int_equal(b.second.flows[ADDON_UNFINISHED], 1);
	assert_int_equal(b.first.messages, 1);
	assert_int_equal(b.first.done, 1);
	assert_int_equal(b.worker.drains, 1);
	assert_int_equal(b.worker.stops, 1);
	bench_fini(&b);
}

/* At the end of what has come, and whenever one has collected enough: all of them, the first one first. */
static void pauses_are_everybodys(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, "1m");
	b.second.before = &b.first;
	b.second.collects_max = 3;
	for (int i = 0; i < 8; i++)
		lend(&b.worker, REPORT_FLOW, HOOK_RESPONSE);
	work(&b.worker);
	raise(SIGTERM);
	assert_int_equal(master_run(b.master), 0);
	assert_int_equal(b.first.pauses, 3);
	assert_int_equal(b.second.pauses, 3);
	assert_int_equal(b.first.collected + b.second.collected, 0);
	bench_fini(&b);
}

/* What the log says is behind the flows that came before it. */
static void logs_come_after_what_was_collected(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, "1m");
	for (int i = 0; i < 4; i++) {
		lend(&b.worker, REPORT_FLOW, HOOK_RESPONSE);
		lend(&b.worker, REPORT_LOG, 0);
	}
	work(&b.worker);
	raise(SIGTERM);
	assert_int_equal(master_run(b.master), 0);
	assert_int_equal(b.second.pauses, 4);
	bench_fini(&b);
}

static void many_reports_pass_small_rings(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, "20k");
	for (int i = 0; i < 500; i++)
		lend(&b.worker, REPORT_FLOW, HOOK_RESPONSE);
	work(&b.worker);
	raise(SIGINT);
	assert_int_equal(master_run(b.master), 0);
	assert_int_equal(b.second.flows[ADDON_RESPONSE], 500);
	bench_fini(&b);
}

static void a_second_signal_ends_it_now(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, "1m");
	b.worker.busy = true;
	raise(SIGINT);
	raise(SIGTERM);
	assert_int_equal(master_run(b.master), 0);
	assert_int_equal(b.worker.stops, 1);
	bench_fini(&b);
}

static void what_cannot_be_recorded_ends_it_with_1(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, "1m");
	b.first.fail_with = -ENOSPC;
	lend(&b.worker, REPORT_FLOW, HOOK_RESPONSE);
	lend(&b.worker, REPORT_FLOW, HOOK_RESPONSE);
	work(&b.worker);
	assert_int_equal(master_run(b.master), 1);
	assert_int_equal(b.first.flows[ADDON_RESPONSE], 1);     /* and is not asked again */
	assert_int_equal(b.second.flows[ADDON_RESPONSE], 2);
	assert_int_equal(b.worker.stops, 1);
	bench_fini(&b);
}

static void a_reader_that_left_is_no_failure(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, "1m");
	b.second.fail_with = -EPIPE;
	lend(&b.worker, REPORT_FLOW, HOOK_RESPONSE);
	lend(&b.worker, REPORT_FLOW, HOOK_RESPONSE);
	work(&b.worker);
	assert_int_equal(master_run(b.master), 0);
	assert_int_equal(b.first.flows[ADDON_RESPONSE], 2);
	assert_int_equal(b.worker.drains, 1);
	bench_fini(&b);
}

/* --- the store ------------------------------------------------------------------------------------------------ */

static void count_drop(void *owner, struct report *r)
{
	uint32_t *order = owner;

	assert_int_equal(r->worker, (*order)++);        /* oldest first */
	report_free(r);
}

static void the_store_drops_the_oldest_and_says_so_once(void **state)
{
	const int64_t second = 1000000000;
	uint32_t order = 0;
	struct flow_store *s = flow_store_new(20000, UINT64_MAX, count_drop, &order);

	(void)state;
	for (uint32_t i = 0; i < 50; i++) {
		struct report *r = report_flow(flow_new(FLOW_HTTP, id, NULL, NULL), HOOK_RESPONSE);

		r->worker = i;
		flow_store_add(s, r);
		assert_true(flow_store_stats(s).bytes <= 20000);
		assert_int_equal(flow_store_burst(s, i * second, 2 * second, false), 0);
	}
	assert_true(flow_store_stats(s).count > 5);
	assert_int_equal(flow_store_stats(s).dropped, order);
	assert_int_equal(flow_store_stats(s).count + order, 50);
	assert_int_equal(flow_store_burst(s, 52 * second, 2 * second, false), order);
	assert_int_equal(flow_store_burst(s, 60 * second, 2 * second, true), 0);
	flow_store_free(s);
	assert_int_equal(order, 50);
	assert_int_equal(mem_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_report_is_shown_and_returned),
		cmocka_unit_test(pauses_are_everybodys),
		cmocka_unit_test(logs_come_after_what_was_collected),
		cmocka_unit_test(many_reports_pass_small_rings),
		cmocka_unit_test(a_second_signal_ends_it_now),
		cmocka_unit_test(what_cannot_be_recorded_ends_it_with_1),
		cmocka_unit_test(a_reader_that_left_is_no_failure),
		cmocka_unit_test(the_store_drops_the_oldest_and_says_so_once),
	};

	master_hold_signals();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
