/* SPDX-License-Identifier: MIT */
/* Two threads, two rings: reports go there and come back in order, each exactly once. Meant for SAN=thread as well. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

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
		struct report *r = ring_pop(p->there);

		if (!r) {
			sched_yield();
			continue;
		}
		p->in_order &= r->worker == seen++;
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
