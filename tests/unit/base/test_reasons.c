/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "base/reasons.h"
#include "pyleakd/wire.h"

static const struct {
	unsigned number;
	const char *label, *sentence;
} rows[] = {
#define ROW(number, name, label, sentence) { number, label, sentence },
	REASONS(ROW)
#undef ROW
};

static void every_reason_has_its_own_label_fit_for_a_metric(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_string_equal(reason_label((enum reason)rows[i].number), rows[i].label);
		assert_string_equal(reason_sentence((enum reason)rows[i].number), rows[i].sentence);
		assert_int_equal(strspn(rows[i].label, "abcdefghijklmnopqrstuvwxyz_"),
				 strlen(rows[i].label));
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(rows[i].label, rows[k].label);
	}
}

static void the_losses_of_bpf_have_the_same_numbers_here(void **state)
{
	(void)state;
	assert_int_equal(WIRE_LOSS_RING_FULL, REASON_RING_FULL);
	assert_int_equal(WIRE_LOSS_STACK_MAP_FULL, REASON_STACK_MAP_FULL);
	assert_int_equal(WIRE_LOSS_FRAME_UNREADABLE, REASON_FRAME_UNREADABLE);
	assert_int_equal(WIRE_LOSS_THREAD_STATE_UNREADABLE, REASON_THREAD_STATE_UNREADABLE);
	assert_int_equal(WIRE_LOSS_BLOCK_UNREADABLE, REASON_BLOCK_UNREADABLE);
	assert_int_equal(WIRE_LOSS_SIZE_UNREADABLE, REASON_SIZE_UNREADABLE);
	assert_int_equal(WIRE_LOSS_THREAD_MAP_FULL, REASON_THREAD_MAP_FULL);
	assert_int_equal(WIRE_LOSS_UNKNOWN_SITE, REASON_UNKNOWN_SITE);
	assert_int_equal(WIRE_LOSS_STACK_RECORD, REASON_STACK_RECORD_LOST);
	assert_int_equal(WIRE_LOSS_REENTERED, REASON_REENTERED);
	assert_int_equal(WIRE_LOSS_POOL_MAP_FULL, REASON_POOL_MAP_FULL);
	for (unsigned loss = 0; loss < WIRE_LOSS_MAX; loss++)
		assert_string_not_equal(reason_label((enum reason)loss), "unknown");
}

static void a_number_without_a_row_is_unknown(void **state)
{
	(void)state;
	assert_string_equal(reason_label((enum reason)99), "unknown");
	assert_string_equal(reason_sentence((enum reason)100000), "unknown reason");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_reason_has_its_own_label_fit_for_a_metric),
		cmocka_unit_test(the_losses_of_bpf_have_the_same_numbers_here),
		cmocka_unit_test(a_number_without_a_row_is_unknown),
	};

	return cmocka_run_group_tests_name("base/reasons", tests, NULL, NULL);
}
