/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Targets that wait a part of their time: the budget is of the rest. */
#include "governor_runs.h"

#define BUDGET 0.01
#define NOTE_SECONDS 2.0
/* What one that hardly runs is taken to run (docs/governor.md). */
#define RUNNING_LEAST 0.1

static double awake[SITES_MAX]; /* rates while it runs */
static double (*runs_at)(double now);

static void runs_and_waits(struct world *changing)
{
	for (size_t i = 0; i < changing->options.n_sites; i++)
		changing->rates[i] = awake[i] * runs_at(changing->now);
}

/* Of any length; told every two seconds how much it ran in them. */
static void run_waiting(double (*running_at)(double now), double seconds, uint64_t seed)
{
	double ran = 0;

	runs_at = running_at;
	world_init(&world, 270, BUDGET, seed);
	heavy_tailed(&world);
	memcpy(awake, world.rates, sizeof(awake));
	world.behave = runs_and_waits;
	world_begin(&world, seconds);
	governor_note_running(world.governor, runs_at(0));
	for (double until = NOTE_SECONDS; until <= seconds; until += NOTE_SECONDS) {
		ran = 0;
		for (double at = until - NOTE_SECONDS; at < until; at += BUCKET)
			ran += runs_at(at) * BUCKET;
		world_run_until(&world, until);
		governor_note_running(world.governor, ran / NOTE_SECONDS);
	}
}

/* Seconds that it ran, of those within. */
static double ran_between(double from, double until)
{
	double sum = 0;

	for (double at = from + BUCKET / 2; at < until; at += BUCKET)
		sum += fmin(fmax(runs_at(at), RUNNING_LEAST), 1) * BUCKET;
	return sum;
}

/* The dearest minute that begins within, by what may be spent in it. */
static double worst_minute(double from, double until)
{
	double worst = 0;

	for (double at = from; at <= until; at += 0.5)
		worst = fmax(worst,
			     cost_between(at, at + 60) / (BUDGET * ran_between(at, at + 60)));
	return worst;
}

static double share; /* of those that stay as they are */

static double steadily(double now)
{
	(void)now;
	return share;
}

#define CHANGES_AT 120

static double falling(double now)
{
	return now < CHANGES_AT ? 1 : share;
}

static double rising(double now)
{
	return now < CHANGES_AT ? share : 1;
}

#define SECONDS 240.0
#define SEEDS 2

/* Of what it may spend in the last minute, this part is spent. */
static double used_in_the_end(void)
{
	return cost_between(SECONDS - 60, SECONDS) / (BUDGET * ran_between(SECONDS - 60, SECONDS));
}

/* However little it runs: of the time that it does it loses what is promised, and no less. */
static void one_that_waits_has_as_much_less_to_lose(void **state)
{
	/* Two threads; all the time; … ; so little that it is taken for a tenth. */
	static const double shares[] = {2, 1, 0.5, 0.2, 0.1, 0.03};

	(void)state;
	for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++)
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			share = shares[i];
			run_waiting(steadily, SECONDS, seed);
			print_message("runs %.2f: worst minute %.2f of its budget, the last %.2f\n",
				      share, worst_minute(0, SECONDS - 60), used_in_the_end());
			assert_true(worst_minute(0, SECONDS - 60) <= 1);
			assert_true(used_in_the_end() >= 0.4);
			world_done(&world);
		}
}

/* What learning and the climb have taken of a small budget is not kept back once more for it. */
static void a_small_budget_has_windows_in_the_first_minute(void **state)
{
	size_t all = 0;

	(void)state;
	share = RUNNING_LEAST;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		size_t windows = 0;

		run_waiting(steadily, 60, seed);
		for (unsigned group = GOVERNOR_GROUP_CREATIONS; group < GOVERNOR_GROUPS; group++)
			windows += windows_of(group);
		all += windows;
		world_done(&world);
	}
	print_message("%.1f windows a minute\n", (double)all / 20);
	assert_true(all >= 3 * 20);
}

/* Any minute, also one that began before: what was spent then was allowed then. */
static void one_that_begins_to_wait_stays_within_it(void **state)
{
	static const double shares[] = {0.5, 0.2, 0.03};

	(void)state;
	for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++)
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			share = shares[i];
			run_waiting(falling, SECONDS, seed);
			print_message(
				"falls to %.2f: worst minute %.2f of its budget, the last %.2f\n",
				share, worst_minute(0, SECONDS - 60), used_in_the_end());
			assert_true(worst_minute(0, SECONDS - 60) <= 1);
			assert_true(used_in_the_end() >= 0.2);
			world_done(&world);
		}
}

/* All its sites are hotter at once: a trip or two can't be paid in advance. */
static void one_that_waits_no_more_has_its_budget_back(void **state)
{
	static const double shares[] = {0.5, 0.2, 0.03};

	(void)state;
	for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++)
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			share = shares[i];
			run_waiting(rising, SECONDS, seed);
			print_message(
				"rises from %.2f: worst minute %.2f of its budget, the last %.2f\n",
				share, worst_minute(0, SECONDS - 60), used_in_the_end());
			assert_true(worst_minute(0, SECONDS - 60) <= 1.05);
			assert_true(used_in_the_end() >= 0.5);
			world_done(&world);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_waits_has_as_much_less_to_lose),
		cmocka_unit_test(a_small_budget_has_windows_in_the_first_minute),
		cmocka_unit_test(one_that_begins_to_wait_stays_within_it),
		cmocka_unit_test(one_that_waits_no_more_has_its_budget_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
