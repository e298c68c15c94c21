/* SPDX-License-Identifier: MIT */
/* Pools of blocks: order, reuse, how much they keep, and flows that are made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/blocks.h"
#include "base/mem.h"
#include "flow/flow_edit.h"

#define REGIONS_MAX 64
#define A_REGION    (BLOCKS_REGION / BLOCK_SIZE)         /* about so many blocks */

static const uint8_t id[16] = { 1 };
static uint32_t seed;
static uint32_t regions, regions_max;

static uint32_t below(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void *take_region(void)
{
	void *at = regions < regions_max ? aligned_alloc(BLOCKS_REGION, BLOCKS_REGION) : NULL;

	regions += at != NULL;
	if (at)
		memset(at, 0xa5, BLOCKS_REGION);
	return at;
}

static void give_region(void *region)
{
	regions--;
	free(region);
}

static int start(void **state)
{
	static const struct blocks_source source = { take_region, give_region };
	static struct blocks pool;

	blocks_init(&pool, &source);
	regions = 0;
	regions_max = REGIONS_MAX;
	*state = &pool;
	return 0;
}

static void assert_over(struct blocks *pool)
{
	assert_int_equal(pool->live, 0);
	blocks_fini(pool);
	assert_int_equal(regions, 0);
	assert_int_equal(mem_live(), 0);
}

static void blocks_lie_in_the_order_in_which_they_are_taken(void **state)
{
	struct blocks *pool = *state;
	char *at[A_REGION + 1];
	uint32_t count = 0;

	for (; regions < 2; count++) {
		assert_in_range(count, 0, A_REGION);
		at[count] = block_take(pool);
		assert_non_null(at[count]);
		assert_int_equal((uintptr_t)at[count] % 64, 0);
		memset(at[count], (int)count, BLOCK_SIZE);
	}
	count--;                                /* that one began another region */
	assert_in_range(count, A_REGION - 2, A_REGION);
	for (uint32_t i = 1; i < count; i++)
		assert_ptr_equal(at[i], at[i - 1] + BLOCK_SIZE);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal((uint8_t)at[i][0], (uint8_t)i);
		assert_int_equal((uint8_t)at[i][BLOCK_SIZE - 1], (uint8_t)i);
	}
	for (uint32_t i = 0; i <= count; i++)
		block_give(at[i]);
	assert_over(pool);
}

/* As the flow store does it: what comes pushes out the oldest. */
static void a_queue_needs_hardly_more_than_it_holds(void **state)
{
	static void *queue[20 * A_REGION];
	struct blocks *pool = *state;

	for (uint32_t i = 0; i < 10 * ARRAY_SIZE(queue); i++) {
		void **at = &queue[i % ARRAY_SIZE(queue)];

		if (*at)
			block_give(*at);
		*at = block_take(pool);
		assert_non_null(*at);
		*(uint32_t *)*at = i;
		assert_in_range(regions, 1, 20 + 4);
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(queue); i++) {
		assert_int_equal(*(uint32_t *)queue[i] % ARRAY_SIZE(queue), i);
		block_give(queue[i]);
	}
	assert_in_range(regions, 1, 3);         /* the rest is the system's again */
	assert_over(pool);
}

static void holes_are_filled(void **state)
{
	static void *all[16 * A_REGION];
	struct blocks *pool = *state;
	uint32_t live = 0;

	seed = 5;
	for (uint32_t i = 0; i < 1000000; i++) {
		/* long phases in which more comes than goes, and the other way round */
		void **at = &all[below(ARRAY_SIZE(all))];
		bool more = below(8) ? i / 100000 % 2 == 0 : below(2);

		if (more && !*at) {
			*at = block_take(pool);
			assert_non_null(*at);
			*(void **)*at = at;
			live++;
		} else if (!more && *at) {
			assert_ptr_equal(*(void **)*at, at);
			block_give(*at);
			*at = NULL;
			live--;
		}
		assert_int_equal(pool->live, live);
		assert_in_range(regions, 0, 16 * 8 / 7 + 3);
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i])
			block_give(all[i]);
	assert_in_range(regions, 1, 3);
	assert_over(pool);
}

static void no_memory_is_an_answer(void **state)
{
	static void *all[3 * A_REGION];
	struct blocks *pool = *state;
	uint32_t count = 0;

	regions_max = 0;
	assert_null(block_take(pool));
	assert_int_equal(mem_live(), 0);
	regions_max = 2;
	while ((all[count] = block_take(pool)))
		count++;
	assert_in_range(count, 2 * A_REGION - 4, 2 * A_REGION);
	assert_null(block_take(pool));
	block_give(all[--count]);
	all[count] = block_take(pool);
	assert_non_null(all[count++]);
	assert_int_equal(mem_live(), count);
	while (count)
		block_give(all[--count]);
	mem_fail_at(1);
	assert_null(block_take(pool));
	assert_true(mem_fail_hit());
	assert_over(pool);
}

static void small_parts_of_an_arena_are_the_pools(void **state)
{
	struct { uint8_t *at; size_t len; } pieces[300];
	struct blocks *pool = *state;
	struct arena a = { .pool = pool };
	uint64_t blocks;

	seed = 3;
	for (uint32_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		pieces[i].len = below(40) ? below(300) : below(20000);
		pieces[i].at = arena_alloc(&a, pieces[i].len);
		assert_non_null(pieces[i].at);
		memset(pieces[i].at, (int)i, pieces[i].len);
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(pieces); i++)
		for (size_t k = 0; k < pieces[i].len; k++)
			assert_int_equal(pieces[i].at[k], (uint8_t)i);
	blocks = pool->live;
	assert_in_range(blocks, 1, 20);         /* much is doubling blocks' of the heap */
	assert_true(mem_live() > (int64_t)blocks);
	arena_fini(&a);
	assert_over(pool);
}

static void what_another_thread_adds_is_from_the_heap(void **state)
{
	struct blocks *pool = *state;
	struct flow *f = flow_new_in(pool, FLOW_HTTP, id, NULL, NULL);
	struct http_message *m = &f->http.request.base;
	static char text[1000];
	uint64_t before;

	assert_int_equal(flow_header_add(f, &m->headers, STR("a"), STR("b")), 0);
	assert_int_equal(pool->live, 1);
	before = pool->live;
	flow_lend(f);
	memset(text, 'x', sizeof(text));
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(flow_set_header(f, m, STR("long"), (struct str){ text, sizeof(text) }), 0);
	assert_int_equal(pool->live, before);
	flow_return(f);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(flow_header_add(f, &m->headers, STR("a"), (struct str){ text, sizeof(text) }), 0);
	assert_true(flow_bytes(f) > 40000);
	assert_true(str_eq(m->headers.at[0].value, STR("b")));
	flow_free(f);
	assert_over(pool);
}

static void every_allocation_of_a_flow_may_fail(void **state)
{
	struct blocks *pool = *state;
	uint32_t failures = 0;

	for (uint32_t n = 1;; n++) {
		struct flow *f;
		bool fails;

		mem_fail_at(n);
		f = flow_new_in(pool, FLOW_HTTP, id, NULL, NULL);
		for (uint32_t i = 0; f && i < 200; i++)
			(void)!flow_header_add(f, &f->http.request.base.headers, STR("name"), STR("value, value"));
		fails = mem_fail_hit();
		mem_fail_at(0);
		flow_free(f);
		assert_int_equal(mem_live(), 0);
		if (!fails)
			break;
		failures++;
	}
	assert_in_range(failures, 4, 100);
	assert_over(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(blocks_lie_in_the_order_in_which_they_are_taken, start),
		cmocka_unit_test_setup(a_queue_needs_hardly_more_than_it_holds, start),
		cmocka_unit_test_setup(holes_are_filled, start),
		cmocka_unit_test_setup(no_memory_is_an_answer, start),
		cmocka_unit_test_setup(small_parts_of_an_arena_are_the_pools, start),
		cmocka_unit_test_setup(what_another_thread_adds_is_from_the_heap, start),
		cmocka_unit_test_setup(every_allocation_of_a_flow_may_fail, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
