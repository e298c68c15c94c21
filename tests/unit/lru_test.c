/* SPDX-License-Identifier: MIT */
/* The table against a plain array in the order of use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/lru.h"

enum { KEYS = 40, STEPS = 20000 };

struct item {
	struct lru_entry base;
	char key[8];
};

static uint32_t at_random(uint32_t below)
{
	static uint32_t state = 1;

	state = state * 1664525u + 1013904223u;
	return (state >> 8) % below;
}

static void out_of(struct item **order, uint32_t *count, const struct item *it)
{
	uint32_t i = 0;

	while (order[i] != it)
		i++;
	for ((*count)--; i < *count; i++)
		order[i] = order[i + 1];
}

/* buckets: fewer than entries, so that chains are long; or many. */
static void play(uint32_t buckets)
{
	struct item items[KEYS] = { 0 }, *order[KEYS];
	bool in[KEYS] = { false };
	uint32_t count = 0;
	struct lru l;

	assert_int_equal(lru_init(&l, buckets), 0);
	for (uint32_t step = 0; step < STEPS; step++) {
		uint32_t k = at_random(KEYS);
		struct item *it = &items[k];

		snprintf(it->key, sizeof(it->key), "k%u", k);
		it->base.key = str_of(it->key);
		assert_ptr_equal(lru_find(&l, it->base.key), in[k] ? &it->base : NULL);
		assert_ptr_equal(lru_oldest(&l), count ? &order[0]->base : NULL);
		assert_int_equal(l.count, count);
		if (!in[k]) {
			lru_add(&l, &it->base);
			order[count++] = it;
			in[k] = true;
		} else if (at_random(2)) {
			lru_touch(&l, &it->base);
			out_of(order, &count, it);
			order[count++] = it;
		} else {
			lru_del(&l, &it->base);
			out_of(order, &count, it);
			in[k] = false;
		}
	}
	for (uint32_t i = 0; i < count; i++)
		lru_del(&l, &order[i]->base);
	assert_null(lru_oldest(&l));
	lru_fini(&l);
}

static void test_against_array(void **state)
{
	(void)state;
	play(1);
	play(8);
	play(1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_against_array) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
