/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "service/turn.h"

static const int a, b, c;

static void windows_open_one_at_a_time(void **state)
{
	struct turn turn = {0};

	(void)state;
	assert_true(turn_take(&turn, &a, 0));
	assert_true(turn_take(&turn, &a, 1)); /* its own again */
	assert_false(turn_take(&turn, &b, 2));
	turn_give(&turn, &b); /* not its to give */
	assert_false(turn_take(&turn, &b, 3));
	turn_give(&turn, &a);
	assert_true(turn_take(&turn, &b, 4));
	turn_give(&turn, &b);
}

static void whoever_waits_goes_before_the_last_holder(void **state)
{
	struct turn turn = {0};

	(void)state;
	assert_true(turn_take(&turn, &a, 0));
	assert_false(turn_take(&turn, &b, 1));
	turn_give(&turn, &a);
	assert_false(turn_take(&turn, &a, 2));
	assert_false(turn_take(&turn, &c, 3));
	assert_true(turn_take(&turn, &b, 4));
	turn_give(&turn, &b);
	assert_true(turn_take(&turn, &c, 5));
}

/* It may have ended, or want nothing any more. */
static void nobody_waits_for_ever(void **state)
{
	struct turn turn = {0};

	(void)state;
	assert_true(turn_take(&turn, &a, 0));
	assert_false(turn_take(&turn, &b, 1));
	turn_give(&turn, &a);
	assert_false(turn_take(&turn, &a, TURN_WAIT_NS));
	assert_true(turn_take(&turn, &a, TURN_WAIT_NS + 1));
	assert_false(turn_take(&turn, &b, TURN_WAIT_NS + 2));
	turn_give(&turn, &a);
	turn_give(&turn, &b); /* it ended */
	assert_true(turn_take(&turn, &a, TURN_WAIT_NS + 3));
}

static void what_windows_may_take_is_shared(void **state)
{
	struct turn turn = {0};

	(void)state;
	assert_int_equal(turn_sharing(&turn), 1);
	turn_join(&turn);
	assert_int_equal(turn_sharing(&turn), 1);
	turn_join(&turn);
	assert_int_equal(turn_sharing(&turn), 2);
	turn_leave(&turn);
	turn_leave(&turn);
	turn_leave(&turn);
	assert_int_equal(turn_sharing(&turn), 1);
}

static void without_a_turn_everybody_may(void **state)
{
	(void)state;
	assert_true(turn_take(NULL, &a, 0));
	assert_true(turn_take(NULL, &b, 0));
	turn_give(NULL, &a);
	turn_join(NULL);
	assert_int_equal(turn_sharing(NULL), 1);
	turn_leave(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_open_one_at_a_time),
		cmocka_unit_test(whoever_waits_goes_before_the_last_holder),
		cmocka_unit_test(nobody_waits_for_ever),
		cmocka_unit_test(what_windows_may_take_is_shared),
		cmocka_unit_test(without_a_turn_everybody_may),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
