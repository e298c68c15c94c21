/* SPDX-License-Identifier: MIT */
/* The shared store: minted once however many threads ask, and the user's own first. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cert_fixture.h"
#include "worker/leaf_store.h"

#define THREADS 8
#define NAMES 6

static struct ca *ca;
static struct leaf_store *store;
static pthread_barrier_t barrier;

static int setup(void **state)
{
	struct err e;

	(void)state;
	ca = fixture_ca();
	return leaf_store_new(&store, ca, &e);
}

static int teardown(void **state)
{
	(void)state;
	leaf_store_free(store);
	ca_free(ca);
	return 0;
}

static struct leaf *get(const char *sni, bool rsa)
{
	struct leaf_request request = { .sni = str_of(sni), .rsa = rsa };
	struct leaf *leaf = NULL;

	if (leaf_source_get(leaf_store_source(store), &request, FIXTURE_NOW_S, &leaf) < 0)
		abort();
	return leaf;
}

static void test_same_request_same_leaf(void **state)
{
	struct leaf_request spelled = { .sni = STR("a.test"), .server_host = STR("a.test") };
	struct leaf *a = get("a.test", false), *again = get("a.test", false), *b = get("b.test", false);
	struct leaf *c;

	(void)state;
	assert_ptr_equal(a, again);
	assert_ptr_not_equal(a, b);
	assert_int_equal(leaf_store_minted(store), 2);
	/* another request that says the same */
	assert_int_equal(leaf_source_get(leaf_store_source(store), &spelled, FIXTURE_NOW_S, &c), 0);
	assert_ptr_equal(a, c);
	assert_int_equal(leaf_store_minted(store), 2);
	/* near its end it is minted anew */
	assert_int_equal(leaf_source_get(leaf_store_source(store), &spelled, a->expires_s, &again), 0);
	assert_ptr_not_equal(a, again);
	leaf_put(a);
	leaf_put(a);
	leaf_put(b);
	leaf_put(c);
	leaf_put(again);
}

static void test_no_name(void **state)
{
	struct leaf_request request = { 0 };
	struct leaf *leaf;

	(void)state;
	assert_int_equal(leaf_source_get(leaf_store_source(store), &request, FIXTURE_NOW_S, &leaf), -EINVAL);
}

static void *ask(void *arg)
{
	struct leaf **got = arg;
	char name[32];

	pthread_barrier_wait(&barrier);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < NAMES; i++) {
			struct leaf *leaf;

			snprintf(name, sizeof(name), "n%d.test", i);
			leaf = get(name, i == 0);
			if (round == 0)
				got[i] = leaf;
			else if (got[i] != leaf)
				abort();
			else
				leaf_put(leaf);
		}
	}
	return NULL;
}

static void test_once_under_concurrency(void **state)
{
	uint64_t before = leaf_store_minted(store);
	struct leaf *got[THREADS][NAMES];
	pthread_t threads[THREADS];

	(void)state;
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask, got[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
	assert_int_equal(leaf_store_minted(store) - before, NAMES);
	for (int n = 0; n < NAMES; n++) {
		assert_int_equal(EVP_PKEY_is_a(got[0][n]->key, "RSA"), n == 0);
		for (int i = 0; i < THREADS; i++) {
			assert_ptr_equal(got[i][n], got[0][n]);
			if (i > 0)
				leaf_put(got[i][n]);
		}
		leaf_put(got[0][n]);
	}
}

static void test_users_own_first(void **state)
{
	struct leaf_table *table = leaf_table_new();
	struct leaf *minted = get("a.test", false), *found, *own;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = fixture_issue(ca, "a.test", NULL, NULL, NULL, key);

	(void)state;
	own = leaf_new(cert, key, NULL);
	assert_int_equal(leaf_table_add(table, own, (struct str){ 0 }), 0);
	leaf_store_set_table(store, table);
	for (int i = 0; i < 2; i++) {
		found = get("a.test", false);
		assert_ptr_equal(found, own);
		leaf_put(found);
	}
	found = get("b.test", false);
	assert_ptr_not_equal(found, own);
	leaf_put(found);
	leaf_store_set_table(store, NULL);
	found = get("a.test", false);
	assert_ptr_not_equal(found, own);
	assert_ptr_not_equal(found, minted);
	leaf_put(found);
	leaf_put(minted);
	assert_int_equal(atomic_load(&own->refs), 1);
	leaf_put(own);
	X509_free(cert);
	EVP_PKEY_free(key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_request_same_leaf),
		cmocka_unit_test(test_no_name),
		cmocka_unit_test(test_once_under_concurrency),
		cmocka_unit_test(test_users_own_first),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
