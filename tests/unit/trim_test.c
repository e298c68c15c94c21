/* SPDX-License-Identifier: MIT */
/* When a worker gives the heap's empty pages back: after a burst, and when its sessions have left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "worker/trim.h"

#define MANY (4 * TRIM_SESSIONS)

static int64_t now;
static uint64_t bytes;

/* So many sessions, and so many bytes, until the next look. */
static bool look(struct trim *t, uint64_t sessions, uint64_t more)
{
	now += TRIM_CALM_NS;
	bytes += more;
	return trim_due(t, sessions, bytes, now);
}

static void a_burst_that_calmed_down(void **state)
{
	struct trim t = { 0 };

	(void)state;
	assert_false(look(&t, 1, 0));
	assert_false(trim_waits(&t, 1));
	for (uint64_t i = 1; i <= 10; i++)
		assert_false(look(&t, MANY, TRIM_CALM_BYTES));
	assert_true(trim_waits(&t, MANY));
	assert_false(trim_due(&t, MANY, bytes, now + TRIM_CALM_NS / 2));        /* not that soon */
	assert_true(look(&t, MANY, TRIM_CALM_BYTES - 1));
	for (int i = 0; i < 10; i++)
		assert_false(look(&t, MANY + TRIM_SESSIONS - 1, 0));            /* once is enough */
	assert_false(trim_waits(&t, MANY + TRIM_SESSIONS - 1));
	assert_true(look(&t, MANY + TRIM_SESSIONS, 0));
}

static void sessions_that_are_over(void **state)
{
	struct trim t = { 0 };

	(void)state;
	assert_false(look(&t, MANY, 1 << 20));
	assert_false(look(&t, MANY / 4 + 1, 1 << 20));
	assert_true(look(&t, MANY / 4, 1 << 20));
	assert_false(look(&t, MANY / 4, 1 << 20));
	/* from there on a burst is one again */
	assert_false(look(&t, MANY / 4 + TRIM_SESSIONS, 1 << 20));
	assert_true(look(&t, MANY / 4 + TRIM_SESSIONS, 0));
	assert_true(look(&t, 0, 1 << 20));
	assert_false(look(&t, 0, 0));
}

static void few_sessions(void **state)
{
	struct trim t = { 0 };

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		assert_false(look(&t, i * 7 % TRIM_SESSIONS, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_burst_that_calmed_down),
		cmocka_unit_test(sessions_that_are_over),
		cmocka_unit_test(few_sessions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
