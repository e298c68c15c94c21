/* SPDX-License-Identifier: MIT */
/*
 * Two threads, two rings: reports go there and come back in order, each exactly once; so do flows, whose memory is of a
 * pool that only one of the two may touch. Meant for SAN=thread as well.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/blocks.h"
#include "base/mem.h"
#include "core/options.h"
#include "core/report.h"

#define REPORTS 200000
#define IN_FLIGHT 300            /* more than the ring holds, so that it fills up */

struct pair {
	struct ring *there, *back;
	bool in_order;
};

/* The master's part: reads, checks the order, gives back. */
static void *reader(void *arg)
{
	struct pair *p = arg;

	p->in_order = true;
	for (uint32_t seen = 0; seen < REPORTS;) {
		const struct report *seen_ahead = ring_peek(p->there, 0), *behind_it;
		struct report *r = ring_pop(p->there);

		if (!r) {
			p->in_order &= !seen_ahead;
			sched_yield();
			continue;
		}
		p->in_order &= r->worker == seen++ && (!seen_ahead || seen_ahead == r);
		behind_it = ring_peek(p->there, 1);
		p->in_order &= !behind_it || behind_it->worker == seen + 1;
		while (!ring_push(p->back, r))
			sched_yield();
	}
	return NULL;
}

static void reports_cross_threads_in_order(void **state)
{
	struct pair p = { .there = ring_new(256), .back = ring_new(64) };
	uint32_t sent = 0, freed = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, reader, &p), 0);
	while (freed < REPORTS) {
		struct report *r;

		while ((r = ring_pop(p.back)) != NULL) {
			assert_int_equal(r->worker, freed);
			freed++;
			report_free(r);
		}
		if (sent == REPORTS || sent - freed >= IN_FLIGHT) {
			sched_yield();
			continue;
		}
		r = mem_zalloc(sizeof(*r));
		r->worker = sent;
		if (ring_push(p.there, r))
			sent++;
		else
			report_free(r);         /* nothing was taken */
	}
	pthread_join(thread, NULL);
	assert_true(p.in_order);
	ring_free(p.there);
	ring_free(p.back);
	assert_int_equal(mem_live(), 0);
}

static void what_comes_next_is_seen_before(void **state)
{
	struct ring *ring = ring_new(4);
	struct report reports[4] = { 0 };

	(void)state;
	for (int round = 0; round < 5; round++) {
		assert_null(ring_peek(ring, 0));
		for (int i = 0; i < 3; i++)
			assert_true(ring_push(ring, &reports[i]));
		assert_ptr_equal(ring_pop(ring), &reports[0]);
		assert_true(ring_push(ring, &reports[3]));
		assert_ptr_equal(ring_peek(ring, 0), &reports[1]);
		assert_ptr_equal(ring_peek(ring, 1), &reports[2]);
		assert_null(ring_peek(ring, 2));        /* it has not looked for that one yet */
		for (int i = 1; i < 4; i++)
			assert_ptr_equal(ring_pop(ring), &reports[i]);
		assert_null(ring_pop(ring));
	}
	ring_free(ring);
}

/* --- flows ----------------------------------------------------------------------------------------------------- */

#define FLOWS 20000
#define KEPT  500                /* as the flow store does */

static void *take_region(void)
{
	return aligned_alloc(BLOCKS_REGION, BLOCKS_REGION);
}

/* Writes into every second one, as in a hook, and keeps them all for a while. */
static void *keeper(void *arg)
{
	struct pair *p = arg;
	struct report *kept[KEPT] = { NULL };

	p->in_order = true;
	for (uint32_t seen = 0; seen < FLOWS + KEPT;) {
		struct report **at = &kept[seen % KEPT];
		struct report *r = seen < FLOWS ? ring_pop(p->there) : NULL;

		if (seen < FLOWS && !r) {
			sched_yield();
			continue;
		}
		if (r) {
			struct http_message *m = &r->flow->http.request.base;

			p->in_order &= r->worker == seen && m->headers.count == 40;
			if (r->flow->lent)
				p->in_order &= flow_header_add(r->flow, &m->headers, STR("kept"), STR("yes")) == 0;
		}
		while (*at && !ring_push(p->back, *at))
			sched_yield();
		*at = r;
		seen++;
	}
	return NULL;
}

static struct report *make_flow(struct blocks *pool, uint32_t number)
{
	static const uint8_t id[16] = { 3 };
	struct flow *f = flow_new_in(pool, FLOW_HTTP, id, NULL, NULL);
	struct report *r;

	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(flow_header_add(f, &f->http.request.base.headers, STR("name"), STR("some value")), 0);
	r = report_flow(f, HOOK_RESPONSE);
	assert_non_null(r);
	r->worker = number;
	if (number % 2)
		flow_lend(f);
	return r;
}

static uint32_t free_flows(struct ring *back)
{
	struct report *r;
	uint32_t n = 0;

	for (; (r = ring_pop(back)) != NULL; n++) {
		if (r->flow->lent)
			flow_return(r->flow);
		report_free(r);
	}
	return n;
}

static void flows_of_a_pool_cross_threads(void **state)
{
	static const struct blocks_source source = { .take = take_region, .give = free };
	struct pair p = { .there = ring_new(64), .back = ring_new(64) };
	uint32_t sent = 0, freed = 0;
	struct blocks pool;
	pthread_t thread;

	(void)state;
	blocks_init(&pool, &source);
	assert_int_equal(pthread_create(&thread, NULL, keeper, &p), 0);
	while (freed < FLOWS) {
		struct report *r = sent < FLOWS ? make_flow(&pool, sent) : NULL;

		freed += free_flows(p.back);
		while (r && !ring_push(p.there, r)) {
			freed += free_flows(p.back);
			sched_yield();
		}
		sent += r != NULL;
	}
	pthread_join(thread, NULL);
	assert_true(p.in_order);
	assert_int_equal(pool.live, 0);
	blocks_fini(&pool);
	ring_free(p.there);
	ring_free(p.back);
	assert_int_equal(mem_live(), 0);
}

static void a_full_ring_takes_nothing(void **state)
{
	struct ring *ring = ring_new(4);
	struct report items[5];

	(void)state;
	assert_null(ring_pop(ring));
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 4; i++)
			assert_true(ring_push(ring, &items[i]));
		assert_false(ring_push(ring, &items[4]));
		for (int i = 0; i < 4; i++)
			assert_ptr_equal(ring_pop(ring), &items[i]);
		assert_null(ring_pop(ring));
	}
	ring_free(ring);
}

static void names_and_defaults(void **state)
{
	struct options o;

	(void)state;
	assert_string_equal(hook_name(HOOK_CLIENT_CONNECTED), "client_connected");
	assert_string_equal(hook_name(HOOK_TCP_ERROR), "tcp_error");
	options_init(&o);
	assert_true(o.connection_eager && o.upstream_cert && !o.ssl_insecure);
	assert_int_equal(o.body_capture_max, 256 << 20);
	assert_int_equal(o.tls_version_client_min, 0x303);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_ring_takes_nothing),
		cmocka_unit_test(names_and_defaults),
		cmocka_unit_test(reports_cross_threads_in_order),
		cmocka_unit_test(what_comes_next_is_seen_before),
		cmocka_unit_test(flows_of_a_pool_cross_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
