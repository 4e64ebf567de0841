/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Is the estimate right in the mean, and how often is the truth in its interval?
 * Workloads are drawn at random (workload.h); seeds are fixed.  The rates are
 * printed; docs/estimator.md quotes them.
 *
 * What Monte Carlo itself leaves open is allowed for: four standard errors of
 * the mean for the bias, three of a share for coverage.
 */
#include <stdbool.h>
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
static struct estimate_cell cells[8 * WINDOWS_MAX], earlier_cells[WINDOWS_MAX];

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

#define ONE_RUNS 2000
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

/* --- several leaks at once, held against the census ------------------------------------------- */

#define LEAKS 5
#define LEAKS_RUNS 500

static const struct {
	double rate; /* of the largest */
	uint8_t size_class;
	double object_bytes;
} leaks[LEAKS] = {
	{0.0625, 3, 64}, {0.25, 3, 64}, {0.125, 7, 128}, {1, 7, 128}, {0.5, 20, 336},
};

/* All cells, in the order of stacks; truths by leak. Returns how many. */
static size_t draw_leaks(double *truths)
{
	struct workload w = workload_draw(&seed, (enum pattern)(random_next(&seed) % N_PATTERNS));
	size_t n_cells = 0;

	w.calls_seen = random_scale(&seed, 5, 150);
	w.call_max = fmin(w.call_max, 20);
	experiment_begin(&seed, &w, &experiment);
	for (size_t i = 0; i < LEAKS; i++) {
		size_t n = calls_draw(&seed, &experiment, experiment.calls * leaks[i].rate, calls,
				      CALLS_MAX);

		truths[i] = leaks[i].object_bytes * calls_living(calls, n, experiment.progress);
		n_cells += cells_fill(&experiment, calls, n, experiment.progress, i,
				      leaks[i].size_class, leaks[i].object_bytes, cells + n_cells);
	}
	return n_cells;
}

/* What the pools say; gone_known: a sample of the elders is followed. */
static void take_census(const double *truths, bool gone_known, struct estimate_class *classes)
{
	for (size_t i = 0; i < ESTIMATE_CLASSES; i++)
		classes[i] = (struct estimate_class){.gone_bytes = NAN, .covered = true};
	for (size_t i = 0; i < LEAKS; i++)
		classes[leaks[i].size_class].live_bytes += truths[i];
	for (size_t i = 0; i < ESTIMATE_CLASSES; i++) {
		double elders = classes[i].live_bytes * random_between(&seed, 0, 0.5);
		double gone = elders * random_uniform(&seed);

		classes[i].baseline_bytes = elders;
		classes[i].live_bytes += elders - gone;
		if (gone_known)
			classes[i].gone_bytes = gone;
	}
}

struct leaks_score {
	struct score plain[LEAKS], calibrated[LEAKS];
	double plain_squares, calibrated_squares;
};

static void score_leaks(struct leaks_score *score, const struct estimate_class *classes,
			size_t n_cells, const double *truths)
{
	const struct estimate_design design = experiment_design(&experiment);
	struct estimate plain[LEAKS], held[LEAKS];
	size_t n;

	assert_int_equal(estimate_stacks(cells, n_cells, &design, NULL, plain, LEAKS, &n), 0);
	assert_int_equal(estimate_stacks(cells, n_cells, &design, classes, held, LEAKS, &n), 0);
	for (size_t i = 0; i < n; i++) {
		double truth = truths[plain[i].stack];

		score_add(&score->plain[plain[i].stack], plain[i].total, truth);
		score_add(&score->calibrated[plain[i].stack], held[i].total, truth);
		if (truth <= 0)
			continue;
		score->plain_squares += pow(plain[i].total.value / truth - 1, 2);
		score->calibrated_squares += pow(held[i].total.value / truth - 1, 2);
	}
}

static void run_leaks(struct leaks_score *score, bool gone_known, double weights_wrong_by)
{
	struct estimate_class classes[ESTIMATE_CLASSES];
	struct estimate_design design;
	double truths[LEAKS];

	for (int i = 0; i < LEAKS_RUNS; i++) {
		size_t n_cells = draw_leaks(truths);

		take_census(truths, gone_known, classes);
		for (size_t k = 0; k < n_cells; k++)
			cells[k].weight *= weights_wrong_by;
		design = experiment_design(&experiment);
		assert_int_equal(estimate_classes(cells, n_cells, &design, classes), 0);
		score_leaks(score, classes, n_cells, truths);
	}
	print_message("relative errors, root mean square: %.3f, calibrated %.3f\n",
		      sqrt(score->plain_squares / LEAKS_RUNS / LEAKS),
		      sqrt(score->calibrated_squares / LEAKS_RUNS / LEAKS));
}

static void show_leaks(const char *what, const struct leaks_score *score)
{
	char name[64];

	for (size_t i = 0; i < LEAKS; i++) {
		snprintf(name, sizeof(name), "%s, leak of %.3f, plain", what, leaks[i].rate);
		score_show(name, &score->plain[i]);
		snprintf(name, sizeof(name), "%s, leak of %.3f, calibrated", what, leaks[i].rate);
		score_show(name, &score->calibrated[i]);
	}
}

static void each_of_several_leaks_is_covered_and_the_census_helps(void **state)
{
	(void)state;
	for (int known = 0; known < 2; known++) {
		struct leaks_score score = {0};

		run_leaks(&score, known, 1);
		show_leaks(known ? "census, elders known" : "census", &score);
		for (size_t i = 0; i < LEAKS; i++) {
			expect_covered(&score.plain[i], COVERAGE_MIN, 0.98);
			expect_covered(&score.calibrated[i], COVERAGE_MIN, 1);
		}
		assert_true(score.calibrated_squares < score.plain_squares);
	}
}

static void weights_that_are_twice_too_high_are_pulled_down(void **state)
{
	struct leaks_score score = {0};

	(void)state;
	run_leaks(&score, true, 2);
	show_leaks("weights twice too high", &score);
	assert_true(score.calibrated_squares < score.plain_squares / 2);
	for (size_t i = 0; i < LEAKS; i++)
		expect_covered(&score.calibrated[i], 0.9, 1);
}

/* --- growth ----------------------------------------------------------------------------------- */

#define GROWTH_RUNS 2500

/* Between the middle of the session and its end. */
static void run_growth(double lifetime_ratio, struct score *score)
{
	struct workload w = workload_draw(&seed, (enum pattern)(random_next(&seed) % N_PATTERNS));
	struct estimate_design design;
	struct estimate growth = {0};
	double truth, middle;
	size_t n, n_earlier, n_cells, n_growth;

	w.lifetime = lifetime_ratio * w.seconds;
	experiment_begin(&seed, &w, &experiment);
	middle = experiment.progress / 2;
	n = calls_draw(&seed, &experiment, experiment.calls, calls, CALLS_MAX);
	truth = calls_living(calls, n, experiment.progress) - calls_living(calls, n, middle);
	n_earlier = cells_fill(&experiment, calls, n, middle, 1, 3, 1, earlier_cells);
	n_cells = cells_fill(&experiment, calls, n, experiment.progress, 1, 3, 1, cells);
	design = experiment_design(&experiment);
	assert_int_equal(estimate_growth(earlier_cells, n_earlier, cells, n_cells, &design, NULL,
					 10, &growth, 1, &n_growth),
			 0);
	score_error(score, (growth.total.value * 10 - truth) / experiment.calls,
		    experiment.calls_seen);
	if (growth.windows)
		score_add(score,
			  (struct estimate_interval){growth.total.value, growth.total.low * 10,
						     growth.total.high * 10},
			  truth);
}

static void growth_is_unbiased_and_covered(void **state)
{
	static const struct {
		const char *name;
		double lifetime_ratio;
	} kinds[] = {{"growth, a leak", 0}, {"growth, entries that live for a while", 0.1}};

	(void)state;
	for (size_t kind = 0; kind < 2; kind++) {
		struct score score = {0};

		for (int i = 0; i < GROWTH_RUNS; i++)
			run_growth(kinds[kind].lifetime_ratio, &score);
		expect_unbiased(kinds[kind].name, &score);
		score_show(kinds[kind].name, &score);
		expect_covered(&score, COVERAGE_MIN, kind ? 0.99 : COVERAGE_MAX);
	}
}

/* --- what no window has seen ------------------------------------------------------------------ */

#define UNSEEN_RUNS 4000
#define UNSEEN_PROBABILITY 0.01

/* Whatever the number of events, the bound fails in 1.5 % at most. */
static void what_no_window_saw_is_below_the_bound(void **state)
{
	static const double events[] = {10, 100, 300, 420, 500, 1000};

	(void)state;
	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
		unsigned int wrong = 0;

		for (int run = 0; run < UNSEEN_RUNS; run++)
			wrong += random_poisson(&seed, events[i] * UNSEEN_PROBABILITY) == 0 &&
				 events[i] * OBJECT_BYTES >
					 estimate_unseen_high(1 / UNSEEN_PROBABILITY, OBJECT_BYTES);
		print_message("%4.0f events, one in %.0f seen: unseen and above the bound %.4f\n",
			      events[i], 1 / UNSEEN_PROBABILITY, wrong / (double)UNSEEN_RUNS);
		assert_true(wrong / (double)UNSEEN_RUNS <=
			    ESTIMATE_TAIL_HIGH +
				    COVERAGE_ERRORS * sqrt(ESTIMATE_TAIL_HIGH / UNSEEN_RUNS));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_leak_is_unbiased_and_covered),
		cmocka_unit_test(each_of_several_leaks_is_covered_and_the_census_helps),
		cmocka_unit_test(weights_that_are_twice_too_high_are_pulled_down),
		cmocka_unit_test(growth_is_unbiased_and_covered),
		cmocka_unit_test(what_no_window_saw_is_below_the_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
