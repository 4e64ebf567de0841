/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What is always on, and targets that change, on targets whose truth is known. */
#include "governor_runs.h"

#include <errno.h>

static void options_out_of_bounds_are_refused(void **state)
{
	struct governor *governor = NULL;

	(void)state;
	world_init(&world, 3, 0, 1);
	assert_int_equal(governor_new(&world.options, 0, &governor), -EINVAL);
	world_init(&world, 3, 0.01, 1);
	world.options.hit_seconds = 0;
	assert_int_equal(governor_new(&world.options, 0, &governor), -EINVAL);
	world_init(&world, 3, 0.01, 1);
	world.options.n_sites = GOVERNOR_SITES_MAX + 1;
	assert_int_equal(governor_new(&world.options, 0, &governor), -EINVAL);
	assert_null(governor);
	governor_free(NULL);
}

static void no_site_means_waiting(void **state)
{
	(void)state;
	world_init(&world, 0, 0.01, 1);
	run(100);
	assert_int_equal(world.n_openings, 0);
	world_done(&world);
}

/* Once each, in parts that are short and cut by their hits, whatever the target is like. */
static void each_creation_site_is_in_one_window_of_the_learning(void **state)
{
	size_t seen[SITES_MAX] = {0};
	size_t least = SITES_MAX, most = 0;

	(void)state;
	world_init(&world, 271, 0.01, 3);
	heavy_tailed(&world);
	world.kinds[270] = SITE_ALLOC;
	world_begin(&world, 60);
	world_run_until(&world, 30);
	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];

		if (opening->group < GOVERNOR_GROUP_CREATIONS || !opening->learning)
			continue;
		assert_false(opening->complete);
		assert_true(opening->seconds <= 0.005);
		/* 4000 hits, the way to the detach, both edges. */
		assert_true(opening->delay <= 0.004 + 0.0015 + 0.2 * (0.015 + 0.040));
		least = opening->n_sites < least ? opening->n_sites : least;
		most = opening->n_sites > most ? opening->n_sites : most;
		for (size_t j = 0; j < 271; j++)
			seen[j] += opening_has(opening, j);
	}
	for (size_t j = 0; j < 270; j++)
		assert_int_equal(seen[j], 1);
	assert_int_equal(seen[270], 0);
	assert_true(most <= least + 1);
	world_done(&world);
}

static void cold_sites_are_on_within_four_seconds(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 5; seed++) {
		struct governor_status status;

		world_init(&world, 270, 0.01, 60 + seed);
		heavy_tailed(&world);
		run(4);
		governor_status(world.governor, world.now, &status);
		assert_true((double)status.sites_always_on >=
			    0.6 * (double)sites_that_fit(&world, 0.5));
		world_done(&world);
	}
}

static void cheapest_first_while_the_sum_fits(void **state)
{
	static const double budgets[] = {0.001, 0.01, 0.05, 0.2};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct governor_status status;

		world_init(&world, 270, budgets[i], 10 + i);
		heavy_tailed(&world);
		run(240);
		governor_status(world.governor, world.now, &status);
		assert_true((double)status.sites_always_on >=
			    0.95 * (double)sites_that_fit(&world, 0.5));
		assert_int_equal(status.sites_always_on + status.sites_lukewarm + status.sites_hot,
				 270);
		world_done(&world);
	}
}

static void a_known_heat_is_not_learned_again(void **state)
{
	struct governor_status status;

	(void)state;
	world_init(&world, 270, 0.01, 5);
	heavy_tailed(&world);
	memcpy(world.known, world.rates, sizeof(world.known));
	world.options.known_rates = world.known;
	world_begin(&world, 60);
	world_run_until(&world, 6);
	for (size_t i = 0; i < world.n_openings; i++)
		assert_false(world.openings[i].group >= GOVERNOR_GROUP_CREATIONS &&
			     world.openings[i].learning);
	governor_status(world.governor, world.now, &status);
	assert_true((double)status.sites_always_on >= 0.95 * (double)sites_that_fit(&world, 0.5));
	world_done(&world);
}

/* The cache says that all is cold, and all is hot: counted, and dropped. */
static void a_known_heat_is_verified_by_counts(void **state)
{
	struct governor_status status;

	(void)state;
	world_init(&world, 50, 0.01, 6);
	for (size_t i = 0; i < 50; i++) {
		world.rates[i] = 1e5;
		world.known[i] = 0;
	}
	world.options.known_rates = world.known;
	run(120);
	governor_status(world.governor, world.now, &status);
	assert_int_equal(status.sites_always_on, 0);
	assert_true(worst_share(&world, 0, 60) <= 0.01);
	world_done(&world);
}

static void rates_are_told_at_full_speed(void **state)
{
	double rates[SITES_MAX];

	(void)state;
	world_init(&world, 100, 0.01, 8);
	for (size_t i = 0; i < 100; i++)
		world.rates[i] = i < 90 ? (double)i / 2 : 1e6;
	run(120);
	governor_rates(world.governor, rates);
	for (size_t i = 1; i < 90; i++)
		assert_true(fabs(rates[i] - world.rates[i]) <= 0.2 * world.rates[i] + 1);
	for (size_t i = 90; i < 100; i++)
		assert_true(rates[i] > 2e5);
	world_done(&world);
}

/* A tenth of the target's time goes to hits: they are counted against what is left. */
static void rates_are_those_of_the_targets_own_time(void **state)
{
	double rates[SITES_MAX];

	(void)state;
	world_init(&world, 20, 0.2, 12);
	for (size_t i = 0; i < 20; i++)
		world.rates[i] = 5e3;
	run(60);
	governor_rates(world.governor, rates);
	for (size_t i = 0; i < 20; i++) {
		assert_true(governor_site_duty(world.governor, (uint16_t)i) == 1);
		assert_true(fabs(rates[i] - 5e3) < 100);
	}
	world_done(&world);
}

static void one_constructors_sites_are_hot_or_cold_together(void **state)
{
	(void)state;
	world_init(&world, 40, 0.01, 9);
	for (size_t i = 0; i < 40; i++) {
		world.constructors[i] = (uint16_t)(i / 2);
		world.rates[i] = i % 2 && i > 20 ? 1e5 : 1;
	}
	world_begin(&world, 60);
	for (double until = 1; until <= 60; until++) {
		world_run_until(&world, until);
		for (size_t i = 0; i < 40; i += 2)
			assert_int_equal(governor_site_duty(world.governor, (uint16_t)i) == 1,
					 governor_site_duty(world.governor, (uint16_t)(i + 1)) ==
						 1);
	}
	assert_true(governor_site_duty(world.governor, 0) == 1);
	assert_true(governor_site_duty(world.governor, 38) < 1);
	world_done(&world);
}

static void frees_and_unknown_kinds_are_never_opened(void **state)
{
	(void)state;
	world_init(&world, 8, 0.01, 10);
	world.kinds[0] = SITE_FREE;
	world.kinds[1] = SITE_DESTROY;
	world.kinds[2] = SITE_NATIVE_FREE;
	world.kinds[3] = GOVERNOR_NOT_GOVERNED;
	for (size_t i = 0; i < 8; i++)
		world.rates[i] = i < 4 ? 1e5 : 10;
	run(60);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(world.hits[i] > 0, i >= 4);
	world_done(&world);
}

/* --- behaviour that changes ----------------------------------------------------------------- */

static double switch_at;

static void all_turns_hot(struct world *changing)
{
	for (size_t i = 0; i < changing->options.n_sites; i++)
		changing->rates[i] = changing->now < switch_at ? 2 : 1e5;
}

static double cost_of_all_turning_hot(double hit_seconds, uint64_t seed, double before_count)
{
	struct governor_status status;
	double cost;

	world_init(&world, 270, 0.01, seed);
	world_edges_at_worst(&world);
	world.options.hit_seconds = hit_seconds;
	world.behave = all_turns_hot;
	switch_at = HUGE_VAL;
	world_begin(&world, 100);
	world_run_until(&world, 30);
	governor_status(world.governor, world.now, &status);
	assert_true(status.sites_always_on >= 200);
	world_run_until(&world, world.next_note + 0.001);
	switch_at = world.next_note - before_count;
	world_run_until(&world, 100);
	cost = cost_between(switch_at - BUCKET, switch_at + 0.3);
	assert_true(worst_share(&world, 0, 60) <= 0.01);
	assert_true(worst_window_delay(&world) <= 0.025);
	world_done(&world);
	return cost;
}

/*
 * From cold to its hottest at once, everything on: what that adds until all are
 * dropped stays within a window's bound, and the minute's budget.  A count that
 * falls into it, which knows no better, allows as many hits once more.
 */
static void cold_turning_hottest_at_once_is_bounded(void **state)
{
	static const double hits[] = {0.5e-6, 1e-6, 6e-6};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_true(cost_of_all_turning_hot(hits[i], 20 + i, 0.09) <= 0.025);
		assert_true(cost_of_all_turning_hot(hits[i], 20 + i, 0.01) <= 0.025 + 0.0125);
	}
}

static void one_turns_hot(struct world *changing)
{
	if (changing->now >= switch_at)
		changing->rates[7] = 1e6;
}

static void the_site_that_turned_hot_is_dropped_and_the_rest_comes_back(void **state)
{
	struct governor_status status;

	(void)state;
	world_init(&world, 270, 0.01, 30);
	for (size_t i = 0; i < 270; i++)
		world.rates[i] = 1;
	world.behave = one_turns_hot;
	switch_at = 30;
	world_begin(&world, 60);
	world_run_until(&world, 29);
	assert_true(governor_site_duty(world.governor, 7) == 1);
	world_run_until(&world, 31);
	assert_true(governor_site_duty(world.governor, 7) < 1);
	assert_int_equal(world.in[7], 0);
	governor_status(world.governor, world.now, &status);
	assert_int_equal(status.sites_always_on, 269);
	assert_int_equal(status.sites_dropped, 1);
	for (size_t i = 0; i < 270; i++)
		assert_true(i == 7 || world.in[i]);
	world_done(&world);
}

static void a_limit_closes_the_group_in_the_next_step(void **state)
{
	struct governor_step step;
	unsigned group = GOVERNOR_GROUPS;

	(void)state;
	world_init(&world, 10, 0.01, 31);
	for (size_t i = 0; i < 10; i++)
		world.rates[i] = 1;
	run(10);
	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++)
		group = world.open[i] ? i : group;
	assert_true(group < GOVERNOR_GROUPS);
	governor_note_limit(world.governor, group, world.now);
	governor_step(world.governor, world.now, &step);
	assert_int_equal(step.act, GOVERNOR_CLOSE);
	assert_int_equal(step.group, group);
	world_done(&world);
}

static void on_and_off(struct world *changing)
{
	changing->rates[3] = fmod(changing->now, 20) < 10 ? 0 : 1e6;
}

static void a_site_that_comes_and_goes_is_tried_ever_more_rarely(void **state)
{
	struct governor_status status;

	(void)state;
	world_init(&world, 30, 0.01, 32);
	world.behave = on_and_off;
	run(1800);
	governor_status(world.governor, world.now, &status);
	/* 30, 60, 120 … 960 seconds: 7 or 8 in half an hour. */
	assert_in_range(status.sites_dropped, 1, 12);
	assert_true(worst_share(&world, 0, 60) <= 0.01);
	world_done(&world);
}

static void hot_when_nobody_looks(struct world *changing)
{
	changing->rates[3] = fmod(changing->now, 37) < 0.3 ? 1e6 : 0;
}

/* Windows, which seldom meet its spells, say that it is cold: 30 s, 60, 120 … of back-off. */
static void trials_that_fail_become_rare(void **state)
{
	struct governor_status status;

	(void)state;
	world_init(&world, 30, 0.01, 37);
	world.behave = hot_when_nobody_looks;
	run(3000);
	governor_status(world.governor, world.now, &status);
	assert_in_range(status.sites_dropped, 3, 9);
	world_done(&world);
}

static void other_probes_are_booked_and_made_room_for(void **state)
{
	struct governor_status before, after;

	(void)state;
	world_init(&world, 100, 0.01, 38);
	for (size_t i = 0; i < 100; i++)
		world.rates[i] = 45;
	world_begin(&world, 120);
	world_run_until(&world, 30);
	governor_status(world.governor, world.now, &before);
	assert_int_equal(before.sites_always_on, 100);
	for (double until = 31; until <= 120; until++) {
		world_run_until(&world, until);
		governor_note_other(world.governor, world.now, 0.003);
	}
	governor_status(world.governor, world.now, &after);
	assert_true(after.sites_always_on < 60);
	assert_true(after.sites_always_on > 0);
	assert_true(governor_overhead(world.governor, world.now) >= 0.003);
	assert_true(governor_overhead(world.governor, world.now) <= 0.01);
	world_done(&world);
}

static void hot_for_two_seconds(struct world *changing)
{
	changing->rates[7] = changing->now >= 30 && changing->now < 32 ? 1e6 : 1;
}

static void what_was_dropped_is_tried_again(void **state)
{
	(void)state;
	world_init(&world, 100, 0.01, 39);
	world.behave = hot_for_two_seconds;
	world_begin(&world, 300);
	world_run_until(&world, 33);
	assert_true(governor_site_duty(world.governor, 7) < 1);
	world_run_until(&world, 300);
	assert_true(governor_site_duty(world.governor, 7) == 1);
	assert_int_not_equal(world.in[7], 0);
	world_done(&world);
}

static void cools_down(struct world *changing)
{
	changing->rates[3] = changing->now < 60 ? 1e5 : 1;
}

static void what_has_cooled_down_comes_back(void **state)
{
	(void)state;
	world_init(&world, 30, 0.01, 33);
	world.behave = cools_down;
	world_begin(&world, 600);
	world_run_until(&world, 59);
	assert_true(governor_site_duty(world.governor, 3) < 1);
	world_run_until(&world, 600);
	assert_true(governor_site_duty(world.governor, 3) == 1);
	world_done(&world);
}

static void bursts(struct world *changing)
{
	bool burst = fmod(changing->now, 7) < 0.7;

	for (size_t i = 0; i < changing->options.n_sites; i++)
		changing->rates[i] = burst ? (double)(i % 10) * 5e3 : 1;
}

static void bursts_stay_within_the_budget(void **state)
{
	(void)state;
	world_init(&world, 200, 0.01, 34);
	world.behave = bursts;
	run(600);
	assert_true(worst_share(&world, 0, 60) <= 0.01);
	assert_true(worst_window_delay(&world) <= 0.025);
	world_done(&world);
}

static void an_idle_target_costs_nothing_and_is_left_alone(void **state)
{
	size_t early;

	(void)state;
	world_init(&world, 200, 0.01, 35);
	run(300);
	assert_true(world.total == 0);
	assert_true(governor_overhead_total(world.governor, world.now) == 0);
	early = world.n_openings;
	/* Eight of learning, and one or two groups: all are on, no window is due. */
	assert_true(early <= 10);
	world_done(&world);
}

static void the_hottest_target_is_bounded(void **state)
{
	(void)state;
	world_init(&world, 100, 0.01, 36);
	for (size_t i = 0; i < 100; i++)
		world.rates[i] = 1e7;
	run(300);
	assert_true(worst_share(&world, 0, 60) <= 0.01);
	assert_true(worst_window_delay(&world) <= 0.025);
	assert_true(windows_of(GOVERNOR_GROUP_CREATIONS) >= 30);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_out_of_bounds_are_refused),
		cmocka_unit_test(no_site_means_waiting),
		cmocka_unit_test(each_creation_site_is_in_one_window_of_the_learning),
		cmocka_unit_test(cold_sites_are_on_within_four_seconds),
		cmocka_unit_test(cheapest_first_while_the_sum_fits),
		cmocka_unit_test(a_known_heat_is_not_learned_again),
		cmocka_unit_test(a_known_heat_is_verified_by_counts),
		cmocka_unit_test(rates_are_told_at_full_speed),
		cmocka_unit_test(rates_are_those_of_the_targets_own_time),
		cmocka_unit_test(one_constructors_sites_are_hot_or_cold_together),
		cmocka_unit_test(frees_and_unknown_kinds_are_never_opened),
		cmocka_unit_test(cold_turning_hottest_at_once_is_bounded),
		cmocka_unit_test(the_site_that_turned_hot_is_dropped_and_the_rest_comes_back),
		cmocka_unit_test(a_limit_closes_the_group_in_the_next_step),
		cmocka_unit_test(a_site_that_comes_and_goes_is_tried_ever_more_rarely),
		cmocka_unit_test(trials_that_fail_become_rare),
		cmocka_unit_test(other_probes_are_booked_and_made_room_for),
		cmocka_unit_test(what_was_dropped_is_tried_again),
		cmocka_unit_test(what_has_cooled_down_comes_back),
		cmocka_unit_test(bursts_stay_within_the_budget),
		cmocka_unit_test(an_idle_target_costs_nothing_and_is_left_alone),
		cmocka_unit_test(the_hottest_target_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
