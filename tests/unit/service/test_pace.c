/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "service/pace.h"

#define RATIO 0.01

/*
 * Steps that want to come every wanted_seconds and take cpu_seconds each, as
 * long as that: the share of a core that goes.
 */
static double share_of(double wanted_seconds, double cpu_seconds, double seconds, size_t *ret_steps)
{
	struct pace pace;
	double now = 0, spent = 0;

	pace_init(&pace, now, RATIO);
	*ret_steps = 0;
	while (now < seconds) {
		spent += cpu_seconds;
		pace_spend(&pace, now, cpu_seconds, RATIO);
		now += fmax(wanted_seconds, pace_pause(&pace, now, RATIO));
		++*ret_steps;
	}
	return spent / now;
}

static void what_costs_less_than_its_share_never_waits(void **state)
{
	size_t steps;

	(void)state;
	share_of(0.1, 0.0009, 600, &steps);
	assert_in_range(steps, 5999, 6001);
}

static void what_costs_more_is_bounded_to_its_share(void **state)
{
	static const double costs[] = {0.002, 0.01, 0.05, 0.09};
	size_t steps;

	(void)state;
	for (size_t i = 0; i < sizeof(costs) / sizeof(*costs); i++) {
		double share = share_of(0.1, costs[i], 1200, &steps);

		/* What was saved at the start comes on top: 0.3 s of 1200. */
		assert_true(share <= RATIO * (1 + PACE_SAVED_SECONDS / 1200) + 0.09 / 1200);
		assert_true(share >= RATIO * 0.99);
	}
}

/* Not the whole past: a target that was idle for a day may not take a day's share at once. */
static void what_is_saved_is_bounded(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 0, RATIO);
	assert_false(pace_is_over(&pace, 0, RATIO));
	pace_spend(&pace, 86400, RATIO * PACE_SAVED_SECONDS - 0.001, RATIO);
	assert_false(pace_is_over(&pace, 86400, RATIO));
	pace_spend(&pace, 86400, 0.002, RATIO);
	assert_true(pace_is_over(&pace, 86400, RATIO));
	assert_true(fabs(pace_pause(&pace, 86400, RATIO) - 0.1) < 1e-6);
	assert_false(pace_is_over(&pace, 86400.2, RATIO));
}

static void something_is_done_however_much_is_owed(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 0, RATIO);
	pace_spend(&pace, 0, 1000, RATIO);
	assert_true(pace_pause(&pace, 0, RATIO) == PACE_PAUSE_SECONDS_MAX);
}

static void the_average_is_of_the_last_minute(void **state)
{
	struct pace pace;
	double now;

	(void)state;
	pace_init(&pace, 0, RATIO);
	for (now = 0; now < 600; now += 0.5)
		pace_spend(&pace, now, 0.01, RATIO);
	assert_true(fabs(pace_average(&pace, now) - 0.02) < 0.0005);
	assert_true(pace_average(&pace, now + 600) < 0.0001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_costs_less_than_its_share_never_waits),
		cmocka_unit_test(what_costs_more_is_bounded_to_its_share),
		cmocka_unit_test(what_is_saved_is_bounded),
		cmocka_unit_test(something_is_done_however_much_is_owed),
		cmocka_unit_test(the_average_is_of_the_last_minute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
