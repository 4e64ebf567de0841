/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A simulated heap with a free list, last in, first out, and one creation site
 * that all objects pass, hot and in windows alone.  Some pass a caller's site
 * behind it, which is always on: it is told of them once more.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "free_list_heap.h"

#define TYPE 0x7e
#define SITE_CREATION 5
#define SITE_INNER 6 /* callers */
#define SITE_OUTER 7
#define LEAK_SHARE 0.1 /* of the iterations */

/* Whose sites a line's objects pass behind their creation. */
enum path { BY_NONE, BY_OUTER, BY_BOTH };

static struct {
	enum path churn, leak;
	enum sample_tier callers;
} by;

static void see(uint32_t block, uint64_t stack, uint16_t site)
{
	bool refines = site != SITE_CREATION;
	struct sighting sighting = {
		.address = address_of(block),
		.stack = stack,
		.type = TYPE,
		.site = site,
		.tier = refines ? by.callers : SAMPLE_WINDOW,
		.window = heap.window,
		.refines = refines,
		.time = heap.time,
	};

	if (sighting.tier == SAMPLE_WINDOW && !heap.window)
		return;
	heap.in_window += heap.window != 0;
	samples_see(heap.samples, &sighting);
}

static uint32_t make(uint64_t stack, enum path path)
{
	uint32_t block = heap_take();

	see(block, stack, SITE_CREATION);
	if (path == BY_BOTH)
		see(block, stack, SITE_INNER);
	if (path != BY_NONE)
		see(block, stack, SITE_OUTER);
	return block;
}

/* What leaks takes the block that the churn has just given back. */
static void iterate(void)
{
	heap_give_back(make(CHURN, by.churn));
	if (uniform() < LEAK_SHARE) {
		make(LEAK, by.leak);
		heap.leaked++;
	}
	heap.time += 0.001;
}

static void stratum(uint32_t number)
{
	size_t opens = (size_t)(uniform() * (STRATUM - WINDOW));
	struct window_facts facts = {.window = number,
				     .progress = WINDOW,
				     .stratum_progress = STRATUM,
				     .complete = true};

	for (size_t i = 0; i < STRATUM; i++) {
		if (i == opens) {
			heap.window = number;
			heap.in_window = 0;
			facts.opened = heap.time;
			samples_site_is(heap.samples, SITE_CREATION, SAMPLE_SITE_WINDOW);
		}
		iterate();
		if (i != opens + WINDOW - 1)
			continue;
		heap.window = 0;
		facts.closed = heap.time;
		facts.sightings_before_detach = heap.in_window;
		samples_site_is(heap.samples, SITE_CREATION, SAMPLE_SITE_OFF);
		assert_int_equal(samples_window_end(heap.samples, &facts), 0);
		heap_look(TYPE);
	}
	heap_look(TYPE);
}

static double bytes_of(uint64_t stack)
{
	const struct samples_query query = {.time = heap.time};
	struct samples_type_sum *sums = NULL;
	double bytes = 0;
	size_t n = 0;

	assert_int_equal(samples_types(heap.samples, &query, &sums, &n), 0);
	for (size_t i = 0; i < n; i++)
		bytes += sums[i].stack == stack ? sums[i].estimated_bytes : 0;
	free(sums);
	return bytes;
}

/* Both lines' estimates as shares of what has leaked. */
static void run(enum path churn, enum path leak, enum sample_tier callers, double *ret_churn,
		double *ret_leak)
{
	heap_start();
	by.churn = churn;
	by.leak = leak;
	by.callers = callers;
	if (callers == SAMPLE_ALWAYS_ON) {
		samples_site_is(heap.samples, SITE_INNER, SAMPLE_SITE_ALWAYS);
		samples_site_is(heap.samples, SITE_OUTER, SAMPLE_SITE_ALWAYS);
	}
	for (uint32_t i = 1; i <= STRATA; i++)
		stratum(i);
	heap_end(bytes_of, ret_churn, ret_leak);
}

static void what_passes_callers_that_are_on_is_counted_once_and_whole(void **state)
{
	double to_churn, to_leak;

	(void)state;
	run(BY_OUTER, BY_OUTER, SAMPLE_ALWAYS_ON, &to_churn, &to_leak);
	assert_true(to_churn < 0.001);
	/* The last second's have not been looked at. */
	assert_true(fabs(to_leak - 1) < 0.02);
	run(BY_OUTER, BY_BOTH, SAMPLE_ALWAYS_ON, &to_churn, &to_leak);
	assert_true(to_churn < 0.001);
	assert_true(fabs(to_leak - 1) < 0.02);
}

/*
 * The leak, a tenth of the type, takes the churn's blocks where no caller is
 * on: the churn's would seem to survive.
 */
static void a_type_that_is_made_elsewhere_too_counts_in_windows_alone(void **state)
{
	double to_churn, to_leak;

	(void)state;
	run(BY_OUTER, BY_NONE, SAMPLE_ALWAYS_ON, &to_churn, &to_leak);
	assert_true(to_churn < 0.01);
	assert_true(fabs(to_leak - 1) < 0.15);
	run(BY_NONE, BY_OUTER, SAMPLE_ALWAYS_ON, &to_churn, &to_leak);
	assert_true(to_churn < 0.01);
	/* ~8000 leaked, ~700 of them seen in windows: 4 standard errors are 15 %. */
	assert_true(fabs(to_leak - 1) < 0.15);
}

/* While their heat is learned callers are in windows too: they change nothing there. */
static void callers_in_windows_change_nothing(void **state)
{
	double to_churn, to_leak;

	(void)state;
	run(BY_BOTH, BY_BOTH, SAMPLE_WINDOW, &to_churn, &to_leak);
	assert_true(to_churn < 0.01);
	assert_true(fabs(to_leak - 1) < 0.15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_passes_callers_that_are_on_is_counted_once_and_whole),
		cmocka_unit_test(a_type_that_is_made_elsewhere_too_counts_in_windows_alone),
		cmocka_unit_test(callers_in_windows_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
