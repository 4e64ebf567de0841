/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The estimator's parts against tables and by hand; how often it is right: the simulation. */
#include <stdbool.h>

#include "series.h"

#include <errno.h>

#include "judge/allocate.h"
#include "judge/estimate.h"

static unsigned int n_allocations, failing_allocation;

/* In place of src/judge/allocate.c. */
void *judge_allocate(size_t n, size_t size)
{
	n_allocations++;
	if (n_allocations == failing_allocation)
		return NULL;
	return calloc(n, size);
}

static void assert_near(double value, double expected, double tolerance)
{
	if (!(fabs(value - expected) <= tolerance))
		print_error("%.9g instead of %.9g\n", value, expected);
	assert_true(fabs(value - expected) <= tolerance);
}

/* Tables of χ² (2 degrees: shape 1; 10: shape 5; …), Abramowitz and Stegun 26.8. */
static void gamma_quantiles_are_those_of_the_tables(void **state)
{
	(void)state;
	assert_near(gamma_quantile(0.5, 0.95), 3.84146 / 2, 1e-5);
	assert_near(gamma_quantile(1, 0.025), 0.0506356 / 2, 1e-7);
	assert_near(gamma_quantile(1, 0.975), 7.37776 / 2, 1e-5);
	assert_near(gamma_quantile(5, 0.005), 2.15585 / 2, 1e-5);
	assert_near(gamma_quantile(5, 0.975), 20.4831 / 2, 5e-5);
	assert_near(gamma_quantile(50, 0.025), 74.2219 / 2, 5e-5);
	assert_near(gamma_quantile(50, 0.975), 129.561 / 2, 5e-4);
}

static void quantile_and_distribution_are_each_others_inverse(void **state)
{
	static const double shapes[] = {0.05, 0.2, 1, 3.3, 40, 999, 9e4, 1.1e5, 1e7};
	static const double shares[] = {1e-4, 0.015, 0.5, 0.985, 0.9999};

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		for (size_t k = 0; k < sizeof(shares) / sizeof(*shares); k++)
			assert_near(gamma_cdf(shapes[i], gamma_quantile(shapes[i], shares[k])),
				    shares[k], 1e-6);
}

/* Garwood 1936: 10 events, 2.5 % below: 4.795; one more event for the upper end. */
static void events_of_equal_weight_have_the_poisson_interval(void **state)
{
	struct estimate_cluster clusters[10];
	struct estimate_interval interval;

	(void)state;
	/* Never neighbours, and far fewer than windows: the variance is that of a Poisson sum. */
	for (uint32_t i = 0; i < 10; i++)
		clusters[i] = (struct estimate_cluster){1000 * i + 500, 7};
	interval = estimate_interval_of(clusters, 10, 1000000, 0);
	assert_near(interval.value, 70, 1e-9);
	assert_near(interval.low, 7 * 4.795, 0.01);
	assert_near(interval.high, 7 * gamma_quantile(11, 0.985), 0.01);
	interval = estimate_interval_of(clusters, 1, 1000000, 0);
	assert_near(interval.low, 7 * 0.02532, 0.001);
	assert_near(interval.high, 7 * gamma_quantile(2, 0.985), 0.01);
}

static void what_is_the_same_in_all_windows_is_well_known(void **state)
{
	struct estimate_cluster clusters[100];
	struct estimate_interval interval;

	(void)state;
	for (uint32_t i = 0; i < 100; i++)
		clusters[i] = (struct estimate_cluster){i, 5};
	interval = estimate_interval_of(clusters, 100, 100, 0);
	assert_true(interval.low > 485 && interval.high < 525);
	/* The weights' own error is common to all: more windows don't help. */
	interval = estimate_interval_of(clusters, 100, 100, 0.2);
	assert_true(interval.low < 350 && interval.high > 700);
	/* A slow change along the session says nothing about the error. */
	for (uint32_t i = 0; i < 100; i++)
		clusters[i].sum = 0.1 * i + 0.01;
	interval = estimate_interval_of(clusters, 100, 100, 0);
	assert_true(interval.low > 0.9 * interval.value && interval.high < 1.1 * interval.value);
}

static void no_windows_and_one_window_give_an_interval(void **state)
{
	struct estimate_cluster cluster = {0, 300};
	struct estimate_interval interval = estimate_interval_of(NULL, 0, 0, 0.1);

	(void)state;
	assert_true(interval.value == 0 && interval.low == 0 && interval.high == 0);
	interval = estimate_interval_of(&cluster, 1, 1, 0);
	assert_true(interval.low > 0 && interval.low < 20);
	assert_true(interval.high > 1500 && interval.high < 2500);
	assert_near(estimate_unseen_high(200, 500), 4.19971 * 200 * 500, 1);
}

static void the_clock_weighs_by_progress_pooled_over_strata(void **state)
{
	struct estimate_clock clock = {0};

	(void)state;
	assert_near(estimate_clock_weight(&clock, 50), 50, 0);
	assert_near(estimate_clock_relative_error(&clock), 1, 0);
	/* Ten hits: a ratio of such numbers would be a tenth too high in the mean. */
	estimate_clock_add(&clock, 5000, 50, 10, 10);
	assert_near(estimate_clock_weight(&clock, 50), 500 * 10 / 11.0, 1e-9);
	clock = (struct estimate_clock){0};
	/* The target runs ten times slower in windows of 1/50; a missed one changes nothing. */
	for (int i = 0; i < 40; i++) {
		estimate_clock_add(&clock, 5000, 50, 10, 1000);
		estimate_clock_add(&clock, 5000, 50, 10, 1000);
	}
	assert_near(estimate_clock_weight(&clock, 50), 500, 0.1);
	assert_near(estimate_clock_relative_error(&clock), 0.0046, 0.001);
	for (int i = 0; i < 400; i++)
		estimate_clock_add(&clock, 5000, 0, 0, 0),
			estimate_clock_add(&clock, 5000, 50, 10, 1000);
	assert_near(estimate_clock_weight(&clock, 50), 1000, 20);
}

static const struct estimate_design design = {.n_clusters = 6};

/* The drawing in the header, and a second stack that is always on. */
static const struct estimate_cell drawn[] = {
	{.stack = 1, .bytes = 64, .weight = 50, .cluster = 0, .size_class = 3},
	{.stack = 1, .bytes = 128, .weight = 50, .cluster = 3, .size_class = 3},
	{.stack = 1, .bytes = 320, .weight = 1, .cluster = ESTIMATE_EXACT, .size_class = 3},
	{.stack = 2, .bytes = 1000, .weight = 1, .cluster = ESTIMATE_EXACT, .size_class = 9},
};
#define N_DRAWN (sizeof(drawn) / sizeof(*drawn))

static void the_drawing_in_the_header_is_true(void **state)
{
	struct estimate estimates[2];
	size_t n;

	(void)state;
	assert_int_equal(estimate_stacks(drawn, N_DRAWN, &design, NULL, estimates, 2, &n), 0);
	assert_int_equal(n, 2);
	assert_near(estimates[0].total.value, 9920, 1e-6);
	assert_near(estimates[0].exact_bytes, 320, 0);
	assert_int_equal(estimates[0].windows, 2);
	/* What was seen is certain. */
	assert_true(estimates[0].total.low >= 320 + 64 + 128);
	assert_true(estimates[0].total.high > 20000);
	assert_near(estimates[1].total.low, 1000, 1e-9);
	assert_near(estimates[1].total.high, 1000, 1e-9);
}

static void a_windows_classes_are_one_cluster(void **state)
{
	const struct estimate_cell split[] = {
		{.stack = 1, .bytes = 10, .weight = 50, .cluster = 2, .size_class = 1},
		{.stack = 1, .bytes = 54, .weight = 50, .cluster = 2, .size_class = 2},
	};
	const struct estimate_cell whole = {
		.stack = 1, .bytes = 64, .weight = 50, .cluster = 2, .size_class = 1};
	struct estimate one, other;
	size_t n;

	(void)state;
	assert_int_equal(estimate_stacks(split, 2, &design, NULL, &one, 1, &n), 0);
	assert_int_equal(estimate_stacks(&whole, 1, &design, NULL, &other, 1, &n), 0);
	assert_int_equal(one.windows, 1);
	assert_near(one.total.high, other.total.high, 1e-6);
	assert_near(one.total.low, other.total.low, 1e-6);
}

static void thinned_always_on_samples_have_an_interval(void **state)
{
	const struct estimate_cell cell = {.stack = 1,
					   .bytes = 6400,
					   .weight = 1,
					   .thinning_variance = 100 * 64 * 64,
					   .cluster = ESTIMATE_EXACT};
	struct estimate estimate;
	size_t n;

	(void)state;
	assert_int_equal(estimate_stacks(&cell, 1, &design, NULL, &estimate, 1, &n), 0);
	assert_near(estimate.total.low, 6400 - 1.96 * 640, 0.1);
	assert_near(estimate.total.high, 6400 + 1.96 * 640, 0.1);
}

/* --- the census ------------------------------------------------------------------------------- */

static void census_of(struct estimate_class *classes, double live, double baseline, bool covered)
{
	for (size_t i = 0; i < ESTIMATE_CLASSES; i++)
		classes[i] = (struct estimate_class){.live_bytes = NAN, .gone_bytes = NAN};
	classes[3] = (struct estimate_class){.live_bytes = live,
					     .baseline_bytes = baseline,
					     .gone_bytes = NAN,
					     .covered = covered};
	assert_int_equal(estimate_classes(drawn, N_DRAWN, &design, classes), 0);
}

static void more_than_lives_is_pulled_down_to_what_lives(void **state)
{
	struct estimate_class classes[ESTIMATE_CLASSES];
	struct estimate estimates[2];
	struct estimate_interval plain;
	size_t n;

	(void)state;
	assert_int_equal(estimate_stacks(drawn, N_DRAWN, &design, NULL, estimates, 2, &n), 0);
	plain = estimates[0].total;
	census_of(classes, 4320, 0, false);
	assert_near(classes[3].exact_bytes, 320, 0);
	assert_near(classes[3].sampled.value, 9600, 1e-6);
	assert_near(classes[3].calibrated_bytes, 4000, 0.01);
	assert_near(classes[3].uncovered_bytes, 0, 0.01);
	assert_int_equal(estimate_stacks(drawn, N_DRAWN, &design, classes, estimates, 2, &n), 0);
	assert_near(estimates[0].total.value, 4320, 0.01);
	assert_true(estimates[0].total.high <= 4320 + 0.01);
	/* The lower end comes along, down to what was seen for certain. */
	assert_near(estimates[0].total.low,
		    fmax(320 + (plain.low - 320) * 4000 / 9600, 320 + 64 + 128), 1);
	/* The always-on stack is of a class that the census does not know. */
	assert_near(estimates[1].total.value, 1000, 1e-9);
}

static void what_is_missing_is_uncovered_and_not_scaled(void **state)
{
	struct estimate_class classes[ESTIMATE_CLASSES];

	(void)state;
	census_of(classes, 100000, 0, false);
	assert_near(classes[3].calibrated_bytes, 9600, 1e-6);
	assert_near(classes[3].uncovered_bytes, 100000 - 320 - 9600, 1e-6);
	/* Where the plan covers all, up to the interval's end. */
	census_of(classes, 12320, 0, true);
	assert_near(classes[3].calibrated_bytes, 12000, 0.01);
	census_of(classes, 1e6, 0, true);
	assert_near(classes[3].calibrated_bytes, classes[3].sampled.high, 0.01);
	assert_near(classes[3].uncovered_bytes, 1e6 - 320 - classes[3].sampled.high, 0.01);
}

static void within_the_range_nothing_is_changed(void **state)
{
	struct estimate_class classes[ESTIMATE_CLASSES];

	(void)state;
	census_of(classes, 50000, 45000, true);
	assert_true(classes[3].pull == 0);
	assert_near(classes[3].calibrated_bytes, 9600, 1e-6);
	assert_true(classes[3].uncovered_bytes == 0);
}

/* --- growth ----------------------------------------------------------------------------------- */

static void growth_is_what_windows_gained_less_what_they_lost(void **state)
{
	const struct estimate_cell before[] = {
		{.stack = 1, .bytes = 64, .weight = 50, .cluster = 0},
		{.stack = 1, .bytes = 64, .weight = 50, .cluster = 1},
		{.stack = 3, .bytes = 500, .weight = 1, .cluster = ESTIMATE_EXACT},
	};
	const struct estimate_cell after[] = {
		{.stack = 1, .bytes = 64, .weight = 50, .cluster = 0},
		{.stack = 1, .bytes = 192, .weight = 50, .cluster = 4},
		{.stack = 2, .bytes = 700, .weight = 1, .cluster = ESTIMATE_EXACT},
	};
	struct estimate growth[3];
	size_t n;

	(void)state;
	assert_int_equal(estimate_growth(before, 3, after, 3, &design, NULL, 10, growth, 3, &n), 0);
	assert_int_equal(n, 3);
	assert_near(growth[0].total.value, (192 - 64) * 50 / 10.0, 1e-9);
	assert_true(growth[0].total.low < 0 && growth[0].total.high > growth[0].total.value);
	assert_int_equal(growth[0].windows, 2);
	assert_int_equal(growth[1].stack, 2);
	assert_near(growth[1].total.value, 70, 1e-9);
	assert_near(growth[1].total.low, 70, 1e-9);
	assert_near(growth[2].total.value, -50, 1e-9);
}

/* --- what is refused -------------------------------------------------------------------------- */

static void cells_out_of_bounds_are_refused(void **state)
{
	const struct estimate_cell wrong[] = {
		{.bytes = 1, .weight = 1, .cluster = 6},
		{.bytes = NAN, .weight = 1},
		{.bytes = 1, .weight = -1},
		{.bytes = INFINITY, .weight = 1},
		{.bytes = 1e300, .weight = 1e300},
		{.bytes = 1, .weight = 1, .size_class = ESTIMATE_CLASSES},
	};
	struct estimate_class classes[ESTIMATE_CLASSES] = {0};
	struct estimate estimate;
	size_t n = 77;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_int_equal(estimate_stacks(&wrong[i], 1, &design, NULL, &estimate, 1, &n),
				 -EINVAL);
		assert_int_equal(estimate_classes(&wrong[i], 1, &design, classes), -EINVAL);
	}
	assert_int_equal(estimate_growth(NULL, 0, drawn, 1, &design, NULL, 0, &estimate, 1, &n),
			 -EINVAL);
	assert_int_equal(estimate_stacks(drawn, N_DRAWN, &design, NULL, &estimate, 1, &n), -ENOSPC);
	assert_int_equal(n, 77);
}

static void without_memory_it_says_so(void **state)
{
	struct estimate_class classes[ESTIMATE_CLASSES] = {0};
	struct estimate estimates[2];
	size_t n = 77;

	(void)state;
	for (unsigned int i = 1; i <= 2; i++) {
		failing_allocation = n_allocations + i;
		assert_int_equal(estimate_classes(drawn, N_DRAWN, &design, classes), -ENOMEM);
		failing_allocation = n_allocations + i;
		assert_int_equal(estimate_stacks(drawn, N_DRAWN, &design, NULL, estimates, 2, &n),
				 -ENOMEM);
		failing_allocation = n_allocations + i;
		assert_int_equal(estimate_growth(drawn, N_DRAWN, drawn, N_DRAWN, &design, NULL, 1,
						 estimates, 2, &n),
				 -ENOMEM);
	}
	failing_allocation = 0;
	assert_int_equal(n, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gamma_quantiles_are_those_of_the_tables),
		cmocka_unit_test(quantile_and_distribution_are_each_others_inverse),
		cmocka_unit_test(events_of_equal_weight_have_the_poisson_interval),
		cmocka_unit_test(what_is_the_same_in_all_windows_is_well_known),
		cmocka_unit_test(no_windows_and_one_window_give_an_interval),
		cmocka_unit_test(the_clock_weighs_by_progress_pooled_over_strata),
		cmocka_unit_test(the_drawing_in_the_header_is_true),
		cmocka_unit_test(a_windows_classes_are_one_cluster),
		cmocka_unit_test(thinned_always_on_samples_have_an_interval),
		cmocka_unit_test(more_than_lives_is_pulled_down_to_what_lives),
		cmocka_unit_test(what_is_missing_is_uncovered_and_not_scaled),
		cmocka_unit_test(within_the_range_nothing_is_changed),
		cmocka_unit_test(growth_is_what_windows_gained_less_what_they_lost),
		cmocka_unit_test(cells_out_of_bounds_are_refused),
		cmocka_unit_test(without_memory_it_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
