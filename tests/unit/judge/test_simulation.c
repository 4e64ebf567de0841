/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Simulated programs whose truth is known, each at several lengths: how often
 * is what does not leak called a leak, how often is a leak missed.  The rates
 * are printed; the bounds are what the verdicts promise.
 */
#include "series.h"

#define RUNS 500
#define LENGTH_MAX 400

static uint64_t seed = 20260401;

typedef void simulation(double *values, size_t n);

struct rates {
	double growing, leak; /* shares of the runs */
};

static struct rates run(simulation *simulate, size_t n)
{
	double values[LENGTH_MAX];
	unsigned int counts[4] = {0};

	for (int i = 0; i < RUNS; i++) {
		memset(values, 0, sizeof(values));
		simulate(values, n);
		counts[judge_values(values, n).verdict]++;
	}
	assert_int_equal(counts[VERDICT_WARMING], 0);
	return (struct rates){counts[VERDICT_GROWING] / (double)RUNS,
			      counts[VERDICT_LEAK] / (double)RUNS};
}

static const size_t lengths[] = {5, 6, 8, 12, 20, 30, 60, 120, 250, 400};
#define N_LENGTHS (sizeof(lengths) / sizeof(*lengths))

static void show(const char *name, size_t n, struct rates rates)
{
	if ((rates.leak > 0 && rates.leak < 1) || rates.growing > 0)
		print_message("%-22s %3zu intervals: leak %.3f growing %.3f\n", name, n, rates.leak,
			      rates.growing);
}

/* At each length: leaks at most, flagged at all at most. */
static void expect_innocent(const char *name, simulation *simulate, double leak_max,
			    double flagged_max)
{
	for (size_t i = 0; i < N_LENGTHS; i++) {
		struct rates rates = run(simulate, lengths[i]);

		show(name, lengths[i], rates);
		assert_true(rates.leak <= leak_max);
		assert_true(rates.leak + rates.growing <= flagged_max);
	}
}

/* From a length on: called a leak at least so often, flagged at least so often. */
static void expect_leak(const char *name, simulation *simulate, size_t from, double leak_min,
			double flagged_min)
{
	for (size_t i = 0; i < N_LENGTHS; i++) {
		struct rates rates = run(simulate, lengths[i]);

		show(name, lengths[i], rates);
		if (lengths[i] < from)
			continue;
		assert_true(rates.leak >= leak_min);
		assert_true(rates.leak + rates.growing >= flagged_min);
	}
}

static void noise(double *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		values[i] = 5e6 + 1e6 * random_normal(&seed);
}

static void correlated_noise(double *values, size_t n)
{
	double state = 3 * random_normal(&seed);

	for (size_t i = 0; i < n; i++) {
		state = 0.9 * state + random_normal(&seed);
		values[i] = 5e6 + 1e5 * state;
	}
}

static void random_walk(double *values, size_t n)
{
	double level = 5e7;

	for (size_t i = 0; i < n; i++) {
		level += 1e5 * random_normal(&seed);
		values[i] = level;
	}
}

/* A job that is on or off: its memory with it, changing every 20 intervals or so. */
static void switching(double *values, size_t n)
{
	double level = 1e6 * random_uniform(&seed);

	for (size_t i = 0; i < n; i++) {
		if (random_uniform(&seed) < 0.05)
			level = 1e6 * random_uniform(&seed);
		values[i] = level + 1e4 * random_normal(&seed);
	}
}

/* Between collections, starting anywhere in the cycle. */
static void saw_tooth(double *values, size_t n)
{
	double period = 2.3 + 1.5 * random_uniform(&seed);
	double phase = random_uniform(&seed);

	for (size_t i = 0; i < n; i++)
		values[i] = 1e6 * fmod((double)i / period + phase, 1);
}

/* Fills within the first intervals, each a random share of what is left. */
static void warm_up(double *values, size_t n)
{
	double constant = 0.3 + 0.7 * random_uniform(&seed);

	for (size_t i = 0; i < n; i++)
		values[i] =
			1e6 * (1 - exp(-(double)(i + 1) / constant)) + 1e3 * random_normal(&seed);
}

/* A cache with a bound: full after a third of the session. */
static void filled_cache(double *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		double share = 3 * (double)(i + 1) / (double)n;

		values[i] = 1e6 * fmin(share, 1) + 2e3 * random_normal(&seed);
	}
}

/* The same, so slow that a third of it is still to come after six intervals. */
static void slow_warm_up(double *values, size_t n)
{
	double constant = 1 + 2 * random_uniform(&seed);

	for (size_t i = 0; i < n; i++)
		values[i] =
			1e6 * (1 - exp(-(double)(i + 1) / constant)) + 1e3 * random_normal(&seed);
}

static void one_spike(double *values, size_t n)
{
	size_t at = random_next(&seed) % n;

	noise(values, n);
	values[at] += 5e7;
}

static void two_jumps(double *values, size_t n)
{
	size_t first = random_next(&seed) % n, second = random_next(&seed) % n;

	for (size_t i = 0; i < n; i++)
		values[i] = 1e6 + (i >= first ? 1e6 : 0) + (i >= second ? 2e6 : 0);
}

/* Almost always nothing in flight, sometimes some blocks. */
static void in_flight(double *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		values[i] = 512.0 * (double)(random_next(&seed) % 4);
}

static void constant(double *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		values[i] = 1e6;
}

static void shrinking(double *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		values[i] = 1e8 - 1e5 * (double)i + 1e4 * random_normal(&seed);
}

/* 200 requests an interval, give or take their square root. */
static void steady_leak(double *values, size_t n)
{
	double level = 0;

	for (size_t i = 0; i < n; i++) {
		level += 1000 * fmax(200 + sqrt(200) * random_normal(&seed), 0);
		values[i] = level;
	}
}

/* The load varies by half from interval to interval. */
static void uneven_leak(double *values, size_t n)
{
	double level = 0;

	for (size_t i = 0; i < n; i++) {
		level += 2e5 * (0.5 + random_uniform(&seed));
		values[i] = level;
	}
}

/* Warm-up of ten intervals' worth in the first one, then a steady leak. */
static void leak_after_warm_up(double *values, size_t n)
{
	steady_leak(values, n);
	for (size_t i = 1; i < n; i++)
		values[i] += 2e6;
}

/* Behind the saw-teeth of collections that are as high as five intervals of the leak. */
static void leak_behind_saw_teeth(double *values, size_t n)
{
	saw_tooth(values, n);
	for (size_t i = 0; i < n; i++)
		values[i] += 2e5 * (double)i;
}

/* Behind noise three times what an interval leaks. */
static void leak_behind_noise(double *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		values[i] = 1e7 + 1e5 * (double)i + 3e5 * random_normal(&seed);
}

/* Begins after half of the session. */
static void late_leak(double *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		values[i] = 1e6 + 1e3 * random_normal(&seed) +
			    (i > n / 2 ? 1e5 * (double)(i - n / 2) : 0);
}

static void what_does_not_leak_is_not_called_a_leak(void **state)
{
	(void)state;
	expect_innocent("constant", constant, 0, 0);
	expect_innocent("shrinking", shrinking, 0, 0);
	expect_innocent("noise", noise, 0.01, 0.02);
	expect_innocent("in flight", in_flight, 0.01, 0.02);
	expect_innocent("one spike", one_spike, 0.01, 0.02);
	expect_innocent("two jumps", two_jumps, 0, 0.01);
	expect_innocent("warm-up", warm_up, 0.01, 0.02);
	expect_innocent("slow warm-up", slow_warm_up, 0.08, 0.7);
	expect_innocent("filled cache", filled_cache, 0.01, 0.02);
	expect_innocent("saw-tooth", saw_tooth, 0.01, 0.02);
	expect_innocent("switching job", switching, 0.01, 0.03);
	expect_innocent("correlated noise", correlated_noise, 0.01, 0.04);
	expect_innocent("random walk", random_walk, 0.02, 0.06);
}

static void leaks_are_found(void **state)
{
	(void)state;
	expect_leak("steady leak", steady_leak, 5, 0.95, 0.99);
	expect_leak("uneven leak", uneven_leak, 6, 0.9, 0.95);
	expect_leak("leak after warm-up", leak_after_warm_up, 6, 0.95, 0.99);
	expect_leak("late leak", late_leak, 30, 0, 0.95); /* half of it says no */
	expect_leak("leak behind saw-teeth", leak_behind_saw_teeth, 60, 0.9, 0.95);
	expect_leak("leak behind noise", leak_behind_noise, 60, 0.85, 0.9);
}

/* How often the 95 % interval holds the true slope, with independent noise. */
static void the_interval_covers_the_true_slope(void **state)
{
	(void)state;
	for (size_t i = 1; i < N_LENGTHS; i++) {
		double values[LENGTH_MAX];
		unsigned int covered = 0;

		for (int r = 0; r < RUNS; r++) {
			struct judgement judgement;

			leak_behind_noise(values, lengths[i]);
			judgement = judge_values(values, lengths[i]);
			covered += judgement.growth_low <= 2e4 && judgement.growth_high >= 2e4;
		}
		print_message("interval of %3zu points covers %.3f\n", lengths[i],
			      covered / (double)RUNS);
		assert_true(covered >= 0.92 * RUNS);
		assert_true(covered <= RUNS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_does_not_leak_is_not_called_a_leak),
		cmocka_unit_test(leaks_are_found),
		cmocka_unit_test(the_interval_covers_the_true_slope),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
