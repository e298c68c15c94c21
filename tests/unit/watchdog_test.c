/* SPDX-License-Identifier: MIT */
/* What the watchdog makes of workers that move, hang, are crowded, and come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/watchdog.h"

static void moving_is_well(void **state __unused)
{
	struct watchdog_view view = { 0 };

	for (uint32_t beat = 1; beat < 100; beat++)
		assert_false(watchdog_see(&view, beat, 0, false, false));
	assert_int_equal(view.verdict, WATCHDOG_WELL);
}

static void a_hang_is_seen_once(void **state __unused)
{
	struct watchdog_view view = { .beats = 7 };

	for (int i = 0; i < WATCHDOG_STILL_MAX; i++)
		assert_false(watchdog_see(&view, 7, 0, false, false));
	assert_true(watchdog_see(&view, 7, 0, false, false));
	assert_int_equal(view.verdict, WATCHDOG_STILL);
	for (int i = 0; i < 100; i++)
		assert_false(watchdog_see(&view, 7, 0, false, false));
	assert_true(watchdog_see(&view, 8, 0, false, false));
	assert_int_equal(view.verdict, WATCHDOG_WELL);
	assert_false(watchdog_see(&view, 8, 0, false, false));
}

static void beats_wrap(void **state __unused)
{
	struct watchdog_view view = { .beats = UINT32_MAX };

	assert_false(watchdog_see(&view, 0, 0, false, false));
	assert_int_equal(view.still, 0);
}

static void a_slow_one_is_left_alone(void **state __unused)
{
	struct watchdog_view view = { 0 };

	/* a beat in every third second, as under a heavy load */
	for (uint32_t tick = 0; tick < 60; tick++)
		assert_false(watchdog_see(&view, tick / WATCHDOG_STILL_MAX, 0, false, false));
}

static void a_full_queue_counts_at_once(void **state __unused)
{
	struct watchdog_view view = { 0 };

	assert_true(watchdog_see(&view, 1, 0, true, true));
	assert_int_equal(view.verdict, WATCHDOG_CROWDED);
	/* some room in the queue is not enough: it accepts nothing yet */
	assert_false(watchdog_see(&view, 2, 0, true, false));
	assert_int_equal(view.verdict, WATCHDOG_CROWDED);
	assert_true(watchdog_see(&view, 3, 0, false, false));
	assert_int_equal(view.verdict, WATCHDOG_WELL);
}

static void not_accepting_counts_when_it_lasts(void **state __unused)
{
	struct watchdog_view view = { 0 };
	uint32_t beat = 0;

	for (int i = 0; i < WATCHDOG_STILL_MAX; i++)
		assert_false(watchdog_see(&view, ++beat, 0, true, false));
	assert_false(watchdog_see(&view, ++beat, 0, false, false));
	for (int i = 0; i < WATCHDOG_STILL_MAX; i++)
		assert_false(watchdog_see(&view, ++beat, 0, true, false));
	assert_true(watchdog_see(&view, ++beat, 0, true, false));
	assert_int_equal(view.verdict, WATCHDOG_CROWDED);
}

static void slowly_is_well(void **state __unused)
{
	struct watchdog_view view = { 0 };

	for (uint32_t i = 1; i < 100; i++)
		assert_false(watchdog_see(&view, i, i / WATCHDOG_STILL_MAX, true, false));
}

static void crowded_and_then_still(void **state __unused)
{
	struct watchdog_view view = { 0 };

	assert_true(watchdog_see(&view, 1, 0, true, true));
	for (int i = 0; i < WATCHDOG_STILL_MAX; i++)
		assert_false(watchdog_see(&view, 1, 0, true, true));
	assert_true(watchdog_see(&view, 1, 0, true, true));
	assert_int_equal(view.verdict, WATCHDOG_STILL);
	assert_true(watchdog_see(&view, 2, 0, true, true));
	assert_int_equal(view.verdict, WATCHDOG_CROWDED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moving_is_well),
		cmocka_unit_test(a_hang_is_seen_once),
		cmocka_unit_test(beats_wrap),
		cmocka_unit_test(a_slow_one_is_left_alone),
		cmocka_unit_test(a_full_queue_counts_at_once),
		cmocka_unit_test(not_accepting_counts_when_it_lasts),
		cmocka_unit_test(slowly_is_well),
		cmocka_unit_test(crowded_and_then_still),
	};

	return cmocka_run_group_tests_name("watchdog", tests, NULL, NULL);
}
