/* SPDX-License-Identifier: MIT */
/*
 * Whole sessions over the simulated network. SIM_SEEDS: how many seeds (default 1000); SIM_SEED=n: this one only, with
 * what it does. Whatever a seed finds is found again by that seed.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "universe.h"

#define SEEDS 1000
#define FLOOD_BYTES     (4u << 20)
#define FLOOD_SLABS_MAX 64              /* 1 MiB: both marks, what one turn reads, what the flow keeps */

static void describe(const struct script *s)
{
	static const char *const ways[] = { "proxy", "connect", "steered" };

	print_message("seed %" PRIu64 ":%s%s%s%s%s%s\n", s->seed, s->breaking ? " breaking" : "",
		      s->slow ? " slow" : "",
		      s->lazy ? " lazy" : "", s->whole_bodies ? " whole-bodies" : "", s->block_hooks ? " hooks" : "",
		      s->fail_alloc ? " no-memory" : "");
	for (uint32_t i = 0; i < s->talk_count; i++) {
		const struct talk *t = &s->talks[i];

		print_message("  %s %s%s host %u leave %d at %" PRIu64 " pipeline %u\n", ways[t->via],
			      t->kind == SCRIPT_TCP ? "tcp" : "http", t->tls ? "s" : "", t->host, t->leave, t->leave_at,
			      t->pipeline);
		for (uint32_t n = 0; n < t->count; n++) {
			const struct exchange *x = &s->exchanges[t->first + n];

			print_message("    %u %s up %" PRIu64 "/%d down %" PRIu64 "/%d status %u fate %d at %" PRIu64
				      " ends %d %d%s%s%s%s\n", x->id, x->method ? x->method : "-", x->up, x->up_framing,
				      x->down, x->down_framing, x->status, x->fate, x->at, x->up_end, x->down_end,
				      x->http10 ? " 1.0" : "", x->expect ? " expect" : "",
				      x->server_first ? " server first" : "",
				      script_must_work(s, t, n) ? " must work" : "");
		}
	}
}

static bool play(uint64_t seed, bool say)
{
	static struct script s;
	const char *wrong;
	uint64_t digest;

	script_draw(&s, seed);
	s.say = say;
	if (say)
		describe(&s);
	wrong = universe_run(&s, &digest);
	if (!wrong)
		return true;
	print_error("SIM_SEED=%" PRIu64 ": %s\n", seed, wrong);
	return false;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void test_seeds(void **state)
{
	uint64_t one = number("SIM_SEED", 0), count = number("SIM_SEEDS", SEEDS), wrong = 0;

	(void)state;
	if (one) {
		assert_true(play(one, true));
		return;
	}
	for (uint64_t seed = 1; seed <= count; seed++)
		wrong += !play(seed, false);
	assert_int_equal(wrong, 0);
}

/* A seed is worth nothing when it does not repeat. */
static void test_repeats(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		static struct script s;
		uint64_t first, second;

		script_draw(&s, seed);
		universe_run(&s, &first);
		script_draw(&s, seed);
		universe_run(&s, &second);
		assert_int_equal(first, second);
	}
}

/* One talk that moves bytes through a perfect network while one end reads slowly. */
static void draw_flood(struct script *s, enum script_kind kind, bool up, bool tls)
{
	struct exchange *x = &s->exchanges[0];
	struct talk *t = &s->talks[0];

	*s = (struct script){ .seed = 1, .state = 1, .talk_count = 1, .exchange_count = 1, .capture_max = 65536 };
	*t = (struct talk){ .count = 1, .kind = kind, .via = VIA_CONNECT, .tls = tls, .pipeline = 1,
			    .slow_permille = up ? 0 : 900, .slow_origin_permille = up ? 900 : 0 };
	*x = (struct exchange){ .id = 1001, .method = "POST", .status = 200, .up_framing = READER_CHUNKED,
				.down_framing = READER_LENGTH, .up = up ? FLOOD_BYTES : 10,
				.down = up ? 10 : FLOOD_BYTES };
}

/* The writer never rests, the reader hardly reads: what the proxy holds is the marks' worth, not the body's. */
static void test_memory(void **state)
{
	static struct script s;
	uint64_t digest;

	(void)state;
	for (int i = 0; i < 8; i++) {
		const char *wrong;

		draw_flood(&s, i & 1 ? SCRIPT_TCP : SCRIPT_HTTP, i & 2, i & 4);
		wrong = universe_run(&s, &digest);
		if (wrong)
			fail_msg("flood %d: %s", i, wrong);
		assert_in_range(s.slabs_max, IO_LOW_WATER / BUF_SLAB_SIZE, FLOOD_SLABS_MAX);
	}
}

static int set_up(void **state)
{
	static const char *const names[] = { "o0.test", "o1.test", "o2.test", "o3.test", "proxy.test" };

	(void)state;
	far_setup(names, ARRAY_SIZE(names));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	far_teardown();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seeds),
		cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
