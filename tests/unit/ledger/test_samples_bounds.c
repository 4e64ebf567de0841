/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Samples beyond what is kept: sums stay the same in the mean, memory stays bounded. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger/allocate.h"
#include "looks.h"

static unsigned int n_allocations, failing_allocation;

/* In place of src/ledger/allocate.c. */
void *ledger_allocate(size_t n, size_t size)
{
	n_allocations++;
	if (n_allocations == failing_allocation)
		return NULL;
	return calloc(n, size);
}

#define STACKS 4
#define BYTES 64

static void see(struct samples *samples, uint64_t address, uint64_t stack, uint32_t window,
		double time)
{
	const struct sighting sighting = {
		.address = address,
		.stack = stack,
		.type = 1,
		.site = window ? 2 : 1,
		.tier = window ? SAMPLE_WINDOW : SAMPLE_ALWAYS_ON,
		.window = window,
		.time = time,
	};

	samples_see(samples, &sighting);
}

static void look(struct samples *samples, double time)
{
	look_at_all(samples, time, LIVE_BLOCK(0, BYTES), NULL, NULL);
}

/* By stack, from 1 on. */
static void sum(const struct samples *samples, double time, double *bytes, double *variances)
{
	const struct samples_query query = {.time = time};
	struct samples_cell *cells;
	size_t n;

	memset(bytes, 0, (STACKS + 1) * sizeof(*bytes));
	memset(variances, 0, (STACKS + 1) * sizeof(*variances));
	assert_int_equal(samples_cells(samples, &query, &cells, &n), 0);
	for (size_t i = 0; i < n; i++) {
		bytes[cells[i].stack] += cells[i].weight * cells[i].expanded_bytes;
		variances[cells[i].stack] += cells[i].thinning_variance;
	}
	free(cells);
}

static struct samples *new_samples(size_t max_samples, size_t max_candidates, uint64_t seed)
{
	const struct samples_limits limits = {
		.max_samples = max_samples, .max_candidates = max_candidates, .seed = seed};
	struct samples *samples = NULL;

	assert_int_equal(samples_new(&limits, &samples), 0);
	return samples;
}

#define RUNS 150
#define MAX_SAMPLES 512
static const size_t numbers[STACKS + 1] = {0, 20, 300, 3000, 6000};

/* More candidates at once than are kept, and more samples in time. */
static void fill(struct samples *samples)
{
	struct samples_totals totals;
	uint64_t address = 0x1000;
	double time = 0;

	for (size_t i = 0; i < numbers[STACKS]; i++) {
		for (uint64_t stack = 1; stack <= STACKS; stack++)
			if (i < numbers[stack])
				see(samples, address += 16, stack, 0, time);
		if (i % 400 == 399)
			look(samples, time += 2);
		samples_totals(samples, &totals);
		assert_true(totals.samples <= MAX_SAMPLES);
		assert_true(totals.candidates <= MAX_SAMPLES);
	}
	look(samples, time + 2);
}

static void thinning_changes_no_sum_in_the_mean(void **state)
{
	double sums[STACKS + 1] = {0}, squares[STACKS + 1] = {0}, stated[STACKS + 1] = {0};

	(void)state;
	for (uint64_t run = 0; run < RUNS; run++) {
		struct samples *samples = new_samples(MAX_SAMPLES, MAX_SAMPLES, run);
		double bytes[STACKS + 1], variances[STACKS + 1];

		fill(samples);
		sum(samples, 1000, bytes, variances);
		for (size_t i = 1; i <= STACKS; i++) {
			double error = bytes[i] - (double)numbers[i] * BYTES;

			sums[i] += error;
			squares[i] += error * error;
			stated[i] += variances[i];
		}
		samples_free(samples);
	}
	for (size_t i = 1; i <= STACKS; i++) {
		double truth = (double)numbers[i] * BYTES, mean = sums[i] / RUNS;
		double deviation = sqrt(squares[i] / RUNS);

		print_message("%4zu objects: mean error %+.4f, deviation %.4f, stated %.4f\n",
			      numbers[i], mean / truth, deviation / truth,
			      sqrt(stated[i] / RUNS) / truth);
		assert_true(fabs(mean) <= 4 * deviation / sqrt(RUNS));
		/* The stated variance is unbiased, too; the coins make it vary. */
		assert_true(fabs(stated[i] - squares[i]) <= 0.4 * squares[i]);
	}
	/* The small stay whole: what has least is thinned last. */
	assert_true(squares[1] == 0);
}

static void old_windows_are_merged_without_changing_the_mean(void **state)
{
	const size_t n = SAMPLES_WINDOWS_MAX + 2000;
	double mean = 0, expected = 0;
	const int runs = 2;

	(void)state;
	for (uint64_t run = 0; run < (uint64_t)runs; run++) {
		struct samples *samples = new_samples(0, 0, run);
		double bytes[STACKS + 1], variances[STACKS + 1];
		struct samples_totals totals;

		for (uint32_t i = 1; i <= n; i++) {
			struct window_facts facts = {.window = i,
						     .closed = i,
						     .progress = 1,
						     .stratum_progress = i % 2 ? 9 : 90,
						     .sightings_before_detach = 2 + (i % 3 == 0)};

			see(samples, 0x10000 + 64ull * i, 1 + i % STACKS, i, i);
			if (i % 3 == 0)
				see(samples, 0x10010 + 64ull * i, 2, i, i);
			see(samples, 0x10020 + 64ull * i, 1, i, i);
			/* The last goes, and of two or three one or two are left. */
			expected += (i % 3 ? 2 : 3) * BYTES * (i % 2 ? 9.0 : 90) / runs;
			assert_int_equal(samples_window_end(samples, &facts), 0);
			look(samples, i);
		}
		samples_totals(samples, &totals);
		assert_true(totals.merged_windows > 2000);
		sum(samples, (double)n, bytes, variances);
		for (size_t i = 1; i <= STACKS; i++)
			mean += bytes[i] / runs;
		samples_free(samples);
	}
	/* The last of each is too young.  Pairs of 1 and 2 blocks: 2 % is five standard errors. */
	print_message("of %.0f bytes: %.0f\n", expected, mean);
	assert_true(mean != expected && fabs(mean / expected - 1) < 0.02);
}

/* Windows that never end, stacks and types without end: all is refused in the end, and counted. */
static void what_has_no_room_is_counted(void **state)
{
	const struct samples_limits limits = {.max_stacks = 10};
	struct samples *samples = NULL;
	struct samples_totals totals;

	(void)state;
	assert_int_equal(samples_new(&limits, &samples), 0);
	for (uint64_t i = 0; i < 100; i++)
		see(samples, 0x1000 + 16 * i, i, 0, 0);
	samples_totals(samples, &totals);
	assert_int_equal(totals.refused_sightings, 90);
	/* Stacks without anything make room. */
	for (uint64_t i = 0; i < 10; i++)
		samples_free_seen(samples, 0x1000 + 16 * i);
	for (uint64_t i = 0; i < 10; i++)
		see(samples, 0x1000 + 16 * i, 1000 + i, 0, 0);
	samples_totals(samples, &totals);
	assert_int_equal(totals.refused_sightings, 90);
	for (uint32_t i = 1; i <= 2 * SAMPLES_WINDOWS_MAX; i++)
		see(samples, 0x900000 + 16ull * i, 1000, i, 0);
	samples_totals(samples, &totals);
	assert_true(totals.refused_sightings > SAMPLES_WINDOWS_MAX);
	samples_free(samples);
	assert_int_equal(samples_new(&(struct samples_limits){.max_samples = SIZE_MAX}, &samples),
			 -EINVAL);
}

static void memory_stays_within_what_the_header_says(void **state)
{
	struct samples *samples = new_samples(0, 0, 1);
	struct samples_totals totals;

	(void)state;
	for (uint64_t i = 0; i < 400000; i++) {
		const struct sighting sighting = {.address = 0x10000 + 16 * i,
						  .stack = hash_u64(i) % 30000,
						  .type = hash_u64(i) % 20000,
						  .time = (double)i / 10000};

		samples_see(samples, &sighting);
		if (i % 10000 == 0)
			look(samples, (double)i / 10000);
	}
	samples_totals(samples, &totals);
	print_message("%.2f MiB\n", (double)totals.memory_bytes / (1 << 20));
	assert_true(totals.memory_bytes < 6.6 * (1 << 20));
	samples_free(samples);
}

/* --- a model, and failing allocations --------------------------------------------------------- */

#define MODEL_ADDRESSES 64

/* Any order of sightings, frees, looks and windows, against an array. */
static void play(struct samples *samples, uint64_t seed, size_t steps)
{
	uint64_t stacks[MODEL_ADDRESSES] = {0};
	double bytes[STACKS + 1], variances[STACKS + 1], expected[STACKS + 1] = {0};
	uint32_t window = 1;

	for (uint64_t i = 0; i < steps; i++) {
		uint64_t draw = hash_u64(seed + i);
		size_t place = draw % MODEL_ADDRESSES;
		uint64_t stack = 1 + (draw >> 8) % STACKS;

		switch (draw >> 16 & 15) {
		case 0:
			samples_free_seen(samples, 0x1000 + 16 * place);
			stacks[place] = 0;
			break;
		case 1:
			look(samples, (double)i);
			break;
		case 2:
			samples_window_end(samples, &(struct window_facts){.window = window});
			window++;
			break;
		case 3:
			/* Too young at its window's end, whenever that comes. */
			see(samples, 0x1000 + 16 * place, stack, window, (double)i);
			stacks[place] = 0;
			break;
		default:
			see(samples, 0x1000 + 16 * place, stack, 0, (double)i);
			stacks[place] = stack;
		}
	}
	look(samples, (double)steps + 1);
	if (failing_allocation)
		return;
	sum(samples, (double)steps + 1, bytes, variances);
	for (size_t i = 0; i < MODEL_ADDRESSES; i++)
		if (stacks[i])
			expected[stacks[i]] += BYTES;
	for (size_t i = 1; i <= STACKS; i++)
		assert_true(bytes[i] == expected[i]);
}

static void any_order_gives_what_a_simple_model_gives(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 300; seed++) {
		struct samples *samples = new_samples(0, 0, 1);

		play(samples, seed << 32, 50 + seed);
		samples_free(samples);
	}
}

static void each_allocation_may_fail(void **state)
{
	struct samples *samples = NULL;
	unsigned int failed = 0;

	(void)state;
	for (unsigned int i = 1;; i++) {
		struct samples_cell *cells = NULL;
		struct samples_totals totals;
		size_t n;
		int r;

		n_allocations = 0;
		failing_allocation = i;
		r = samples_new(NULL, &samples);
		if (r < 0) {
			assert_int_equal(r, -ENOMEM);
			failed++;
			continue;
		}
		play(samples, 7, 500);
		samples_totals(samples, &totals);
		r = samples_cells(samples, &(struct samples_query){.time = 1000}, &cells, &n);
		assert_true(r == 0 || r == -ENOMEM);
		free(cells);
		samples_free(samples);
		if (n_allocations < i)
			break;
		failed++;
	}
	failing_allocation = 0;
	assert_true(failed >= 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thinning_changes_no_sum_in_the_mean),
		cmocka_unit_test(old_windows_are_merged_without_changing_the_mean),
		cmocka_unit_test(what_has_no_room_is_counted),
		cmocka_unit_test(memory_stays_within_what_the_header_says),
		cmocka_unit_test(any_order_gives_what_a_simple_model_gives),
		cmocka_unit_test(each_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
