/* SPDX-License-Identifier: MIT */
/* What is remembered of failed interceptions: bounded, with an end, and by all workers at once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "worker/refusal_store.h"

static struct str key(uint32_t n)
{
	static char text[4][32];
	static uint32_t next;
	char *at = text[next++ % 4];

	snprintf(at, sizeof(text[0]), "host%u:443 /bin/p", n);
	return str_of(at);
}

static void ends(void **state)
{
	struct tls_refusals *r = tls_refusals_new(8);
	char why[TLS_REFUSAL_WHY_MAX];

	(void)state;
	assert_false(tls_refusals_find(r, key(1), 0, why));
	tls_refusals_note(r, key(1), "because", 100);
	assert_true(tls_refusals_find(r, key(1), 99, why));
	assert_string_equal(why, "because");
	assert_false(tls_refusals_find(r, key(2), 99, why));
	tls_refusals_note(r, key(1), "again", 200);
	assert_int_equal(tls_refusals_count(r), 1);
	assert_true(tls_refusals_find(r, key(1), 150, why));
	assert_string_equal(why, "again");
	assert_false(tls_refusals_find(r, key(1), 200, why));
	assert_int_equal(tls_refusals_count(r), 0);
	tls_refusals_free(r);
}

static void bounded(void **state)
{
	struct tls_refusals *r = tls_refusals_new(1000);
	char why[TLS_REFUSAL_WHY_MAX];

	(void)state;
	for (uint32_t i = 0; i < 3000; i++) {
		tls_refusals_note(r, key(i), "x", 100);
		if (i >= 500)    /* in use, so it stays */
			assert_true(tls_refusals_find(r, key(0), 0, why));
	}
	assert_int_equal(tls_refusals_count(r), 1000);
	assert_true(tls_refusals_find(r, key(0), 0, why));
	assert_false(tls_refusals_find(r, key(1), 0, why));
	assert_false(tls_refusals_find(r, key(2000), 0, why));
	assert_true(tls_refusals_find(r, key(2001), 0, why));
	tls_refusals_free(r);
}

static void no_memory(void **state)
{
	struct tls_refusals *r = tls_refusals_new(4);
	char why[TLS_REFUSAL_WHY_MAX];

	(void)state;
	mem_fail_at(1);
	tls_refusals_note(r, key(1), "x", 100);
	mem_fail_at(0);
	assert_false(tls_refusals_find(r, key(1), 0, why));
	tls_refusals_free(r);
	for (uint64_t nth = 1; nth < 3; nth++) {
		mem_fail_at(nth);
		assert_null(refusal_store_new());
		mem_fail_at(0);
	}
}

#define THREADS 4

static __thread char own_key[32];

static void *work(void *arg)
{
	struct tls_refusal_source *s = arg;
	char why[TLS_REFUSAL_WHY_MAX];

	for (uint32_t i = 0; i < 3000; i++) {
		snprintf(own_key, sizeof(own_key), "%u", i % 50);
		s->note(s, str_of(own_key), "of a thread", 1 + i % 3);
		if (s->find(s, str_of(own_key), 1, why) && strcmp(why, "of a thread") != 0)
			return NULL;
	}
	return arg;
}

static void shared(void **state)
{
	struct refusal_store *store = refusal_store_new();
	struct tls_refusal_source *s = refusal_store_source(store);
	pthread_t threads[THREADS];
	char why[TLS_REFUSAL_WHY_MAX];

	(void)state;
	assert_int_equal(s->count, 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, s), 0);
	for (int i = 0; i < THREADS; i++) {
		void *right = NULL;

		pthread_join(threads[i], &right);
		assert_ptr_equal(right, s);
	}
	assert_true(s->count > 0 && s->count <= 50);
	for (uint32_t i = 0; i < 50; i++) {
		snprintf(own_key, sizeof(own_key), "%u", i);
		assert_false(s->find(s, str_of(own_key), 3, why));
	}
	assert_int_equal(s->count, 0);
	refusal_store_free(store);
}

/* Whose refusals people are told: the last first, those longest ago go. */
static void met(void **state)
{
	struct refusal_store *store = refusal_store_new();
	struct tls_refusal_source *s = refusal_store_source(store);
	struct refusal_met out[4];
	char host[200];

	(void)state;
	assert_int_equal(refusal_store_met(store, 7, out, 4), 0);
	s->met(s, 7, STR("one.test"), "first", 10);
	s->met(s, 7, STR("two.test"), "second", 20);
	s->met(s, 7, STR("one.test"), "third", 30);
	s->met(s, 8, STR("one.test"), "another's", 40);
	assert_int_equal(refusal_store_met(store, 7, out, 4), 2);
	assert_string_equal(out[0].host, "one.test");
	assert_string_equal(out[0].why, "third");
	assert_int_equal(out[0].count, 2);
	assert_int_equal(out[0].at_ns, 30);
	assert_string_equal(out[1].host, "two.test");
	assert_int_equal(refusal_store_met(store, 7, out, 1), 1);
	assert_int_equal(s->count, 0);           /* nothing is relayed untouched because of it */
	memset(host, 'x', sizeof(host));
	s->met(s, 9, (struct str){ host, sizeof(host) }, "long", 50);
	s->met(s, 9, (struct str){ 0 }, "no host", 60);
	assert_int_equal(refusal_store_met(store, 9, out, 4), 2);
	assert_string_equal(out[0].host, "");
	assert_int_equal(strlen(out[1].host), sizeof(out[1].host) - 1);
	for (uint32_t i = 0; i < 2 * REFUSALS_MET_MAX; i++) {
		snprintf(host, sizeof(host), "%u.test", i);
		s->met(s, 100 + i, str_of(host), "many", 100 + i);
	}
	assert_int_equal(refusal_store_met(store, 7, out, 4), 0);
	assert_int_equal(refusal_store_met(store, 100 + REFUSALS_MET_MAX - 1, out, 4), 0);
	assert_int_equal(refusal_store_met(store, 100 + REFUSALS_MET_MAX, out, 4), 1);
	assert_int_equal(refusal_store_met(store, 100 + 2 * REFUSALS_MET_MAX - 1, out, 4), 1);
	refusal_store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ends),
		cmocka_unit_test(bounded),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(shared),
		cmocka_unit_test(met),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
