/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The statistics against tables and examples of textbooks. */
#include "series.h"

#include "judge/trend.h"

static size_t points_of(const double *values, size_t n, struct point *ret)
{
	for (size_t i = 0; i < n; i++)
		ret[i] = (struct point){.time = (double)i + 1, .value = values[i]};
	return n;
}

/* Cloud seeding, years 1 to 5: Hollander and Wolfe, example 9.1 and comment; β = −0.056. */
static void the_slope_is_that_of_the_textbooks_example(void **state)
{
	static const double ratios[] = {1.26, 1.27, 1.12, 1.16, 1.03};
	struct point points[5];
	struct trend trend;

	(void)state;
	points_of(ratios, 5, points);
	trend = trend_estimate(points, 5);
	assert_true(fabs(trend.slope + 0.05625) < 1e-9);
	/* S = −6: P(S ≥ −6) = 1 − P(S ≥ 8) = 1 − 0.042 */
	assert_true(fabs(trend.confidence - (5.0 / 120)) < 1e-9);
	/* C = 8 for five points: the first and the last slope (98.3 %). */
	assert_true(fabs(trend.low + 0.15) < 1e-9);
	assert_true(fabs(trend.high - 0.04) < 1e-9);
}

/* Hollander and Wolfe, table A.30, n = 8: P(S ≥ 16) = 0.031, P(S ≥ 18) = 0.016. */
static void small_samples_use_kendalls_exact_distribution(void **state)
{
	static const double six_inversions[] = {3, 2, 1, 6, 5, 4, 7, 8};  /* S = 28 − 12 */
	static const double five_inversions[] = {3, 2, 1, 5, 6, 4, 7, 8}; /* S = 28 − 10 */
	struct point points[8];

	(void)state;
	points_of(six_inversions, 8, points);
	assert_true(fabs(1 - trend_estimate(points, 8).confidence - 0.031) < 0.0005);
	points_of(five_inversions, 8, points);
	assert_true(fabs(1 - trend_estimate(points, 8).confidence - 0.016) < 0.0005);
}

static void five_rising_points_say_as_much_as_five_can(void **state)
{
	static const double values[] = {1, 2, 4, 8, 16};
	struct point points[5];
	struct trend trend;

	(void)state;
	points_of(values, 5, points);
	trend = trend_estimate(points, 5);
	assert_true(fabs(trend.confidence - (1 - 1.0 / 120)) < 1e-9);
	assert_true(trend.low > 0);
	/* Four can't: at best 1/24. */
	trend = trend_estimate(points, 4);
	assert_true(trend.low < 0 && isinf(trend.low));
}

/* Ties: n = 5, values 1 1 2 3 3: S = 8, 18 Var = 300 − 2 · 18, z = 7 / 3.83 = 1.828. */
static void ties_are_corrected_for(void **state)
{
	static const double values[] = {1, 1, 2, 3, 3};
	struct point points[5];

	(void)state;
	points_of(values, 5, points);
	assert_true(fabs(trend_estimate(points, 5).confidence - 0.9662) < 0.0005);
}

static void equal_values_have_no_trend(void **state)
{
	static const double values[] = {5, 5, 5, 5, 5, 5};
	struct point points[6];
	struct trend trend;

	(void)state;
	points_of(values, 6, points);
	trend = trend_estimate(points, 6);
	assert_true(trend.slope == 0 && trend.low == 0 && trend.high == 0);
	assert_true(trend.confidence == 0.5);
}

static void one_outlier_does_not_bend_the_slope(void **state)
{
	struct point points[20];
	struct trend trend;

	(void)state;
	for (int i = 0; i < 20; i++)
		points[i] = (struct point){.time = i, .value = 3.0 * i};
	points[7].value = 1e9;
	trend = trend_estimate(points, 20);
	assert_true(fabs(trend.slope - 3) < 1e-9);
}

/* Student's quantiles, from any table. */
static void students_distribution_is_that_of_the_tables(void **state)
{
	static const struct {
		double t, p;
		unsigned int degrees;
	} rows[] = {
		{31.821, 0.99, 1}, {6.965, 0.99, 2}, {4.541, 0.99, 3},	 {3.747, 0.99, 4},
		{3.365, 0.99, 5},  {2.821, 0.99, 9}, {2.228, 0.975, 10}, {1.697, 0.95, 30},
		{-2.353, 0.05, 3}, {0, 0.5, 7},	     {2.390, 0.99, 60},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_true(fabs(student_cdf(rows[i].t, rows[i].degrees) - rows[i].p) < 5e-5);
}

static void condensing_takes_the_median_of_each_group(void **state)
{
	struct point points[7];
	static const double values[] = {1, 9, 2, 8, 3, 7, 5};

	(void)state;
	points_of(values, 7, points);
	assert_int_equal(points_condense(points, 7, 7), 7);
	assert_int_equal(points_condense(points, 7, 2), 2);
	assert_true(points[0].value == 2 && points[0].time == 2);   /* 1 9 2 */
	assert_true(points[1].value == 6 && points[1].time == 5.5); /* 8 3 7 5 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_slope_is_that_of_the_textbooks_example),
		cmocka_unit_test(small_samples_use_kendalls_exact_distribution),
		cmocka_unit_test(five_rising_points_say_as_much_as_five_can),
		cmocka_unit_test(ties_are_corrected_for),
		cmocka_unit_test(equal_values_have_no_trend),
		cmocka_unit_test(one_outlier_does_not_bend_the_slope),
		cmocka_unit_test(students_distribution_is_that_of_the_tables),
		cmocka_unit_test(condensing_takes_the_median_of_each_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
