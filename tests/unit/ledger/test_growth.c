/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Who needed new pools and a higher break, when. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "ledger/allocate.h"
#include "ledger/growth.h"

DEFINE_CLEANUP(struct growth *, growth_free)

#define POOL 16384

static unsigned int n_allocations, failing_allocation;

/* In place of src/ledger/allocate.c. */
void *ledger_allocate(size_t n, size_t size)
{
	n_allocations++;
	if (n_allocations == failing_allocation)
		return NULL;
	return calloc(n, size);
}

static struct growth *new_growth(void)
{
	struct growth *growth;

	assert_int_equal(growth_new(&growth), 0);
	return growth;
}

static uint64_t count_of(const struct growth_row *row)
{
	uint64_t count = 0;

	for (size_t i = 0; i < GROWTH_SLICES; i++)
		count += row->counts[i];
	return count;
}

static size_t slices_of(const struct growth_row *row)
{
	size_t slices = 0;

	for (size_t i = 0; i < GROWTH_SLICES; i++)
		slices += row->counts[i] > 0;
	return slices;
}

static void pools_and_breaks_of_a_stack_are_apart(void **state)
{
	CLEANUP(growth_free) struct growth *growth = new_growth();
	_cleanup_free_ struct growth_row *rows = NULL;
	struct growth_totals totals;
	size_t n;

	(void)state;
	growth_note(growth, 70, 3, POOL, 1);
	growth_note(growth, 50, GROWTH_BREAK, 135168, 2);
	growth_note(growth, 70, 3, POOL, 3);
	growth_note(growth, 70, GROWTH_BREAK, 4096, 4);
	growth_note(growth, 70, 200, POOL, 4); /* no class */
	assert_int_equal(growth_rows(growth, 8, &rows, &n), 0);
	assert_int_equal(n, 4);
	assert_int_equal(rows[0].stack, 50);
	assert_int_equal(rows[0].bytes, 135168);
	assert_int_equal(rows[1].class, 3);
	assert_int_equal(rows[1].count, 2);
	assert_int_equal(rows[1].bytes, 2 * POOL);
	assert_true(rows[1].first_seconds == 1 && rows[1].last_seconds == 3);
	assert_int_equal(rows[1].counts[2], 1);
	assert_int_equal(rows[1].counts[6], 1);
	assert_int_equal(rows[2].class, GROWTH_CLASS_UNKNOWN);
	assert_int_equal(rows[3].class, GROWTH_BREAK);
	growth_totals(growth, &totals);
	assert_int_equal(totals.pools, 3);
	assert_int_equal(totals.pool_bytes, 3 * POOL);
	assert_int_equal(totals.break_bytes, 135168 + 4096);
	assert_int_equal(totals.merged, 0);
}

/* One second to half a year: what is steady fills the slices, what was once stays at its end. */
static void slices_keep_their_shape_however_long_it_takes(void **state)
{
	(void)state;
	for (double seconds = 5; seconds < 2e7; seconds *= 3.7) {
		CLEANUP(growth_free) struct growth *growth = new_growth();
		_cleanup_free_ struct growth_row *rows = NULL;
		size_t n, late = 0;

		for (unsigned int i = 0; i < 1000; i++)
			growth_note(growth, 1, 3, POOL, seconds * i / 1000);
		for (unsigned int i = 0; i < 1000; i++)
			growth_note(growth, 2, 3, POOL, seconds * i / 1e6);
		assert_int_equal(growth_rows(growth, seconds, &rows, &n), 0);
		assert_int_equal(n, 2);
		assert_int_equal(count_of(&rows[0]), 1000);
		assert_int_equal(slices_of(&rows[0]), GROWTH_SLICES);
		for (size_t i = GROWTH_SLICES / 2; i < GROWTH_SLICES; i++)
			late += rows[0].counts[i];
		assert_in_range(late, 430, 570);
		assert_int_equal(rows[1].counts[0], 1000);
	}
}

static void what_finds_no_room_is_merged(void **state)
{
	CLEANUP(growth_free) struct growth *growth = new_growth();
	_cleanup_free_ struct growth_row *rows = NULL;
	struct growth_totals totals;
	uint64_t count = 0;
	size_t n;

	(void)state;
	for (uint64_t stack = 16; stack < 16 + GROWTH_ROWS_MAX + 100; stack++)
		growth_note(growth, stack, 1, POOL, 1);
	growth_note(growth, 16, 1, POOL, 1); /* has its row already */
	assert_int_equal(growth_rows(growth, 2, &rows, &n), 0);
	assert_int_equal(n, GROWTH_ROWS_MAX);
	assert_int_equal(rows[n - 1].stack, GROWTH_OTHER);
	assert_int_equal(rows[n - 1].count, 101);
	assert_int_equal(rows[0].count, 2);
	for (size_t i = 0; i < n; i++)
		count += rows[i].count;
	growth_totals(growth, &totals);
	assert_int_equal(totals.merged, 101);
	assert_int_equal(totals.pools, count);
}

/* The N-th allocation fails: a note is lost from its row, never from the totals. */
static void failing_allocations_lose_no_more_than_their_row(void **state)
{
	unsigned int nth = 0;

	(void)state;
	do {
		CLEANUP(growth_free) struct growth *growth = NULL;
		_cleanup_free_ struct growth_row *rows = NULL;
		struct growth_totals totals;
		size_t n;

		n_allocations = 0;
		failing_allocation = ++nth;
		if (growth_new(&growth) < 0)
			continue;
		for (uint64_t stack = 16; stack < 300; stack++)
			growth_note(growth, stack, 1, POOL, 1);
		growth_totals(growth, &totals);
		assert_int_equal(totals.pools, 284);
		if (growth_rows(growth, 2, &rows, &n) < 0)
			continue;
		for (size_t i = 0; i < n; i++)
			assert_true(rows[i].count == 1 || rows[i].stack == GROWTH_OTHER);
		if (n_allocations < nth)
			assert_int_equal(n, 284);
	} while (nth <= n_allocations);
	assert_true(nth > 3);
	failing_allocation = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pools_and_breaks_of_a_stack_are_apart),
		cmocka_unit_test(slices_keep_their_shape_however_long_it_takes),
		cmocka_unit_test(what_finds_no_room_is_merged),
		cmocka_unit_test(failing_allocations_lose_no_more_than_their_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
