/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Is the estimate right in the mean, and how often is the truth in its interval?
 * Workloads are drawn at random (workload.h); seeds are fixed.  The rates are
 * printed; docs/estimator.md quotes them.
 *
 * What Monte Carlo itself leaves open is allowed for: four standard errors of
 * the mean for the bias, three of a share for coverage.
 */
#include <stdio.h>

#include "workload.h"

#define OBJECT_BYTES 64
#define BIAS_ERRORS 4
#define COVERAGE_ERRORS 3
#define COVERAGE_MIN 0.93
#define COVERAGE_MAX 0.97

static uint64_t seed = 20261130;
static struct experiment experiment;
static struct call calls[CALLS_MAX];
static struct estimate_cell cells[8 * WINDOWS_MAX];

/* What a class of runs came to. */
struct score {
	unsigned int n, covered, below, above; /* below: the truth is below the interval */
	double weights, errors, squares;       /* of relative errors; the better known weigh more */
};

static void score_add(struct score *score, struct estimate_interval interval, double truth)
{
	score->n++;
	score->below += truth < interval.low * (1 - 1e-9);
	score->above += truth > interval.high * (1 + 1e-9);
	score->covered = score->n - score->below - score->above;
}

static void score_error(struct score *score, double error, double weight)
{
	score->weights += weight;
	score->errors += weight * error;
	score->squares += weight * weight * error * error;
}

static double coverage(const struct score *score)
{
	return score->n ? score->covered / (double)score->n : 0;
}

static void score_show(const char *what, const struct score *score)
{
	print_message("%-44s %5u runs: covered %.3f, truth below %.3f, above %.3f\n", what,
		      score->n, coverage(score), score->below / (double)score->n,
		      score->above / (double)score->n);
}

static void expect_unbiased(const char *what, const struct score *score)
{
	double mean = score->errors / score->weights;
	double error = sqrt(score->squares) / score->weights;

	print_message("%-44s mean relative error %+.4f ± %.4f\n", what, mean, error);
	assert_true(fabs(mean) <= BIAS_ERRORS * error);
}

static void expect_covered(const struct score *score, double low, double high)
{
	double error = sqrt(0.95 * 0.05 / score->n);

	assert_true(coverage(score) >= low - COVERAGE_ERRORS * error);
	assert_true(coverage(score) <= high + COVERAGE_ERRORS * error);
}

/* The one stack's estimate, all zero where nothing was seen. */
static struct estimate estimate_one(const struct estimate_cell *of, size_t n,
				    const struct estimate_class *classes)
{
	const struct estimate_design design = experiment_design(&experiment);
	struct estimate estimate = {0};
	size_t n_estimates;

	assert_int_equal(estimate_stacks(of, n, &design, classes, &estimate, 1, &n_estimates), 0);
	return estimate;
}

/* --- one leak --------------------------------------------------------------------------------- */

#define ONE_RUNS 2500
static const char *const pattern_names[] = {"steady", "bursty", "on and off"};
static const unsigned int window_bounds[] = {1, 2, 3, 5, 10, 20, 50, 100, UINT32_MAX};
#define N_BOUNDS (sizeof(window_bounds) / sizeof(*window_bounds))

static unsigned int bound_of(unsigned int windows)
{
	unsigned int i = 0;

	while (windows >= window_bounds[i])
		i++;
	return i; /* 0: none */
}

/* Effective number of calls that windows see, on average over where they fall. */
static double expected_events(size_t n)
{
	double sum = 0, squares = 0;

	for (size_t i = 0; i < n; i++) {
		if (calls[i].until <= experiment.progress)
			continue;
		sum += calls[i].objects;
		squares += calls[i].objects * calls[i].objects;
	}
	return experiment.calls_seen / experiment.calls * sum * sum / squares;
}

static void run_one(enum pattern pattern, struct score *all, struct score *by_windows)
{
	struct workload w = workload_draw(&seed, pattern);
	struct estimate estimate;
	double truth;
	size_t n, n_cells;

	/* A third of them caches: what is old is gone. */
	if (random_uniform(&seed) < 1.0 / 3)
		w.lifetime = w.seconds * random_between(&seed, 0.05, 0.5);
	experiment_begin(&seed, &w, &experiment);
	if (!(experiment.calls > 0))
		return;
	n = calls_draw(&seed, &experiment, experiment.calls, calls, CALLS_MAX);
	truth = OBJECT_BYTES * calls_living(calls, n, experiment.progress);
	n_cells = cells_fill(&experiment, calls, n, experiment.progress, 1, 3, OBJECT_BYTES, cells);
	estimate = estimate_one(cells, n_cells, NULL);
	if (truth > 0)
		score_error(all, estimate.total.value / truth - 1, expected_events(n));
	if (!estimate.windows)
		return;
	score_add(all, estimate.total, truth);
	score_add(&by_windows[bound_of(estimate.windows)], estimate.total, truth);
}

static void one_leak_is_unbiased_and_covered(void **state)
{
	struct score overall = {0}, by_windows[N_BOUNDS] = {0};

	(void)state;
	for (enum pattern pattern = 0; pattern < N_PATTERNS; pattern++) {
		struct score score = {0};

		for (int i = 0; i < ONE_RUNS; i++)
			run_one(pattern, &score, by_windows);
		expect_unbiased(pattern_names[pattern], &score);
		score_show(pattern_names[pattern], &score);
		expect_covered(&score, COVERAGE_MIN, COVERAGE_MAX);
		overall.n += score.n;
		overall.covered += score.covered;
		overall.below += score.below;
		overall.above += score.above;
	}
	score_show("all", &overall);
	expect_covered(&overall, COVERAGE_MIN, COVERAGE_MAX);
	for (size_t i = 1; i < N_BOUNDS; i++) {
		char name[64];

		snprintf(name, sizeof(name), "seen in %u windows and more", window_bounds[i - 1]);
		score_show(name, &by_windows[i]);
		if (by_windows[i].n >= 100)
			expect_covered(&by_windows[i], COVERAGE_MIN, 0.99);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_leak_is_unbiased_and_covered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
