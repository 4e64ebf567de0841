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

#include "base/hash.h"
#include "ledger/samples.h"

#define CHURN 1
#define LEAK 2
#define TYPE 0x7e
#define SITE_CREATION 5
#define SITE_INNER 6 /* callers */
#define SITE_OUTER 7
#define BYTES 64
#define BLOCKS_MAX 200000
#define FREE_MAX 2000
#define STRATUM 200 /* iterations of 1 ms, each of the same progress */
#define WINDOW 20
#define STRATA 400
#define LEAK_SHARE 0.1 /* of the iterations */

/* Whose sites a line's objects pass behind their creation. */
enum path { BY_NONE, BY_OUTER, BY_BOTH };

static struct heap {
	bool live[BLOCKS_MAX];
	uint32_t free_list[FREE_MAX];
	size_t n_free, n_blocks;
	size_t leaked;
	double time;
	uint32_t window; /* that is open */
	uint64_t in_window;
	uint64_t draws;
	enum path churn, leak;
	enum sample_tier callers;
	struct samples *samples;
} heap;

static double uniform(void)
{
	return ((double)(hash_u64(++heap.draws) >> 11) + 0.5) * 0x1p-53;
}

static void see(uint32_t block, uint64_t stack, uint16_t site)
{
	bool refines = site != SITE_CREATION;
	struct sighting sighting = {
		.address = 0x100000 + 64ull * block,
		.stack = stack,
		.type = TYPE,
		.site = site,
		.tier = refines ? heap.callers : SAMPLE_WINDOW,
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
	uint32_t block = heap.n_free ? heap.free_list[--heap.n_free] : (uint32_t)heap.n_blocks++;

	assert_true(heap.n_blocks <= BLOCKS_MAX);
	heap.live[block] = true;
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
	uint32_t block = make(CHURN, heap.churn);

	heap.live[block] = false;
	heap.free_list[heap.n_free++] = block;
	if (uniform() < LEAK_SHARE) {
		make(LEAK, heap.leak);
		heap.leaked++;
	}
	heap.time += 0.001;
}

/* All objects look alike: the fingerprint does not help. */
static void look(void)
{
	struct sample_due due[256];
	struct sample_seen seen[256];
	size_t n;

	do {
		n = samples_due(heap.samples, heap.time, due, 256);
		for (size_t i = 0; i < n; i++) {
			uint32_t block = (uint32_t)((due[i].address - 0x100000) / 64);

			seen[i] = (struct sample_seen){
				.handle = due[i].handle,
				.answer = heap.live[block] ? SAMPLE_LIVE : SAMPLE_PARKED,
				.type = TYPE,
				.size_bytes = BYTES,
				.size_class = 3,
			};
		}
		samples_looked(heap.samples, heap.time, seen, n);
	} while (n == 256);
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
		look();
	}
	look();
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
	memset(&heap, 0, sizeof(heap));
	heap.churn = churn;
	heap.leak = leak;
	heap.callers = callers;
	assert_int_equal(samples_new(NULL, &heap.samples), 0);
	if (callers == SAMPLE_ALWAYS_ON) {
		samples_site_is(heap.samples, SITE_INNER, SAMPLE_SITE_ALWAYS);
		samples_site_is(heap.samples, SITE_OUTER, SAMPLE_SITE_ALWAYS);
	}
	for (uint32_t i = 1; i <= STRATA; i++)
		stratum(i);
	*ret_churn = bytes_of(CHURN) / ((double)heap.leaked * BYTES);
	*ret_leak = bytes_of(LEAK) / ((double)heap.leaked * BYTES);
	print_message("of %zu leaked: charged to the churn %.3f, to the leak %.3f\n", heap.leaked,
		      *ret_churn, *ret_leak);
	samples_free(heap.samples);
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
