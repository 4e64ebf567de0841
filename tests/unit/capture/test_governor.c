/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Each of the governor's rules, on targets whose truth is known. */
#include "governor_target.h"

#include <errno.h>

#define HOUR 3600.0

static struct world world;

/* Most sites cold, some lukewarm, a few hot: what FACTS call heavy-tailed. */
static void heavy_tailed(struct world *found)
{
	for (size_t i = 0; i < found->options.n_sites; i++) {
		double tail = world_random(found);

		found->rates[i] = world_random(found) < 0.7 ? 0 : pow(5e6, tail * tail);
	}
}

static void run(double seconds)
{
	world_begin(&world, seconds);
	world_run_until(&world, seconds);
}

static size_t windows_of(unsigned group)
{
	size_t n = 0;

	for (size_t i = 0; i < world.n_openings; i++)
		n += world.openings[i].group == group && !world.openings[i].learning;
	return n;
}

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

/* Learning: short windows on all creation sites, then the cold ones at once. */
static void cold_sites_are_on_within_two_seconds(void **state)
{
	struct governor_status status;

	(void)state;
	world_init(&world, 270, 0.01, 3);
	heavy_tailed(&world);
	world_begin(&world, 60);
	world_run_until(&world, 2.5);
	for (size_t i = 0; i < 3; i++) {
		assert_true(world.openings[i].learning);
		assert_true(world.openings[i].complete);
		assert_int_equal(world.openings[i].n_sites, 270);
		assert_true(world.openings[i].seconds >= 0.005 &&
			    world.openings[i].seconds <= 0.010);
	}
	governor_status(world.governor, world.now, &status);
	assert_true((double)status.sites_always_on >= 0.6 * (double)sites_that_fit(&world, 0.5));
	world_done(&world);
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

/* --- behaviour that changes ---------------------------------------------------------------------
 */

static double switch_at;

static void all_turns_hot(struct world *changing)
{
	for (size_t i = 0; i < changing->options.n_sites; i++)
		changing->rates[i] = changing->now < switch_at ? 2 : 1e5;
}

static double cost_between(double from, double until)
{
	double sum = 0;

	for (size_t i = (size_t)(from / BUCKET); i < (size_t)(until / BUCKET); i++)
		sum += world.costs[i];
	return sum;
}

/*
 * From cold to its hottest at once, everything on: what that adds until all are
 * dropped stays within a window's bound, and the minute's budget.
 */
static void cold_turning_hottest_at_once_is_bounded(void **state)
{
	static const double hits[] = {0.5e-6, 1e-6, 6e-6};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct governor_status status;

		world_init(&world, 270, 0.01, 20 + i);
		world.options.hit_seconds = hits[i];
		world.behave = all_turns_hot;
		switch_at = 30.013;
		world_begin(&world, 100);
		world_run_until(&world, switch_at);
		governor_status(world.governor, world.now, &status);
		assert_true(status.sites_always_on >= 200);
		world_run_until(&world, 100);
		assert_true(cost_between(switch_at - BUCKET, switch_at + 0.3) <= 0.025);
		assert_true(worst_share(&world, 0, 60) <= 0.01);
		assert_true(worst_window_delay(&world) <= 0.025);
		world_done(&world);
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
	/* Three of learning, and one or two groups: all are on, no window is due. */
	assert_true(early <= 6);
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

/* --- windows
 * -------------------------------------------------------------------------------------- */

static void full_windows_take_their_share_of_time_at_most(void **state)
{
	struct governor_status status;

	(void)state;
	world_init(&world, 100, 0.2, 40);
	for (size_t i = 0; i < 100; i++)
		world.rates[i] = 1e6;
	world_begin(&world, 300);
	for (double until = 10; until <= 300; until += 10) {
		world_run_until(&world, until);
		governor_status(world.governor, world.now, &status);
		/* One more window at most. */
		assert_true(status.full_share <= 0.006 + 0.04 / 60);
	}
	assert_true(windows_of(GOVERNOR_GROUP_CREATIONS) >= 20);
	assert_true(world.total / world.now <= 0.006);
	world_done(&world);
}

static void quiet_targets_get_longer_windows(void **state)
{
	double quiet = 0, busy = 0;

	(void)state;
	for (int i = 0; i < 2; i++) {
		world_init(&world, 20, 0.001, 41);
		for (size_t j = 0; j < 20; j++)
			world.rates[j] = i == 0 ? 500 : 1e6;
		run(120);
		for (size_t j = 0; j < world.n_openings; j++)
			if (world.openings[j].group == GOVERNOR_GROUP_CREATIONS &&
			    !world.openings[j].learning)
				*(i == 0 ? &quiet : &busy) = world.openings[j].seconds;
		world_done(&world);
	}
	assert_true(quiet == 0.1);
	assert_true(busy > 0 && busy <= 0.020);
}

static void every_kind_has_windows_with_all_that_is_not_on(void **state)
{
	(void)state;
	world_init(&world, 90, 0.01, 42);
	for (size_t i = 0; i < 90; i++) {
		world.kinds[i] = i % 3 == 0   ? SITE_CREATE
				 : i % 3 == 1 ? SITE_ALLOC
					      : SITE_NATIVE_ALLOC;
		world.rates[i] = i < 60 ? 1 : 1e6;
	}
	run(300);
	for (unsigned i = GOVERNOR_GROUP_CREATIONS; i <= GOVERNOR_GROUP_NATIVE; i++)
		assert_true(windows_of(i) >= 5);
	assert_int_equal(windows_of(GOVERNOR_GROUP_SLICES), 0);
	for (size_t i = 0; i < world.n_openings; i++)
		if (world.openings[i].group >= GOVERNOR_GROUP_CREATIONS &&
		    world.openings[i].at > 60) {
			assert_true(world.openings[i].complete);
			assert_int_equal(world.openings[i].n_sites, 10);
		}
	for (uint16_t i = 0; i < 90; i++)
		assert_true(governor_site_duty(world.governor, i) > 0);
	world_done(&world);
}

/* Too hot to be on, cheap enough for longer: each has its turn in every round. */
static void lukewarm_sites_have_slices(void **state)
{
	(void)state;
	world_init(&world, 40, 0.01, 43);
	for (size_t i = 0; i < 40; i++)
		world.rates[i] = i < 20 ? 0.5 : 3e4;
	run(300);
	assert_true(windows_of(GOVERNOR_GROUP_SLICES) >= 40);
	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];

		if (opening->group != GOVERNOR_GROUP_SLICES)
			continue;
		assert_false(opening->complete);
		assert_true(opening->seconds == 0.1);
		assert_true(opening->n_sites <= 2);
		assert_true(opening->at + 0.001 >= opening->stratum_began);
		assert_true(opening->at <= opening->stratum_began + opening->stratum_seconds);
		assert_true(opening->delay <= 0.015);
	}
	world_done(&world);
}

static size_t creation_windows(bool survivors)
{
	size_t n;

	world_init(&world, 60, 0.01, 44);
	for (size_t i = 0; i < 60; i++) {
		world.kinds[i] = i % 2 ? SITE_CREATE : SITE_ALLOC;
		world.rates[i] = 1e6;
	}
	world_begin(&world, 600);
	for (double until = 1; until <= 600; until++) {
		world_run_until(&world, until);
		if (survivors)
			governor_note_survivors(world.governor, 0, 3);
	}
	n = windows_of(GOVERNOR_GROUP_CREATIONS);
	assert_true(windows_of(GOVERNOR_GROUP_RAW) > 0);
	world_done(&world);
	return n;
}

static void windows_move_to_where_survivors_come_from(void **state)
{
	size_t without = creation_windows(false), with = creation_windows(true);

	(void)state;
	assert_true((double)with < 0.8 * (double)without);
	assert_true((double)with > 0.1 * (double)without);
}

/* Strata touch: what one window stands for ends where the next one's begins. */
static void strata_cover_the_time_without_gap_or_overlap(void **state)
{
	double end = -1;
	size_t n = 0;

	(void)state;
	world_init(&world, 60, 0.01, 45);
	for (size_t i = 0; i < 60; i++)
		world.rates[i] = 1e6;
	run(600);
	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];

		if (opening->group != GOVERNOR_GROUP_CREATIONS || opening->learning)
			continue;
		assert_true(opening->at + 1e-9 >= opening->stratum_began);
		assert_true(opening->at <= opening->stratum_began + opening->stratum_seconds);
		if (end >= 0)
			assert_true(fabs(opening->stratum_began - end) < 1e-6);
		end = opening->stratum_began + opening->stratum_seconds;
		n++;
	}
	assert_true(n > 50);
	world_done(&world);
}

/* --- the daemon's own troubles
 * --------------------------------------------------------------------- */

/* Woken 200 ms late: the window was longer, is booked as it was, and the next ones wait for it. */
static void late_wake_ups_are_booked_as_they_were(void **state)
{
	double told;

	(void)state;
	world_init(&world, 100, 0.01, 50);
	for (size_t i = 0; i < 100; i++)
		world.rates[i] = 1e6;
	world.late_every = 3;
	world.late_seconds = 0.2;
	run(600);
	told = governor_overhead_total(world.governor, world.now);
	assert_true(fabs(told - world.total / world.now) <= 0.1 * told);
	/* One window may be in flight when the minute is full. */
	assert_true(worst_share(&world, 0, 60) <= 0.01 + 0.25 / 60);
	assert_true(world.total / world.now <= 0.011);
	world_done(&world);
}

static void the_overhead_told_is_the_one_that_was(void **state)
{
	(void)state;
	for (uint64_t seed = 60; seed < 64; seed++) {
		double told;

		world_init(&world, 270, 0.01, seed);
		heavy_tailed(&world);
		run(300);
		told = governor_overhead_total(world.governor, world.now);
		assert_true(fabs(told - world.total / world.now) <= 0.1 * told);
		told = governor_overhead(world.governor, world.now);
		assert_true(fabs(told - cost_between(world.now - 60, world.now) / 60) <=
			    0.1 * told + 0.001);
		world_done(&world);
	}
}

static void a_pause_closes_everything_and_it_comes_back(void **state)
{
	struct governor_status before, after;
	double paused;

	(void)state;
	world_init(&world, 270, 0.01, 51);
	heavy_tailed(&world);
	world_begin(&world, 60);
	world_run_until(&world, 20);
	governor_status(world.governor, world.now, &before);
	governor_pause(world.governor, world.now, 5);
	paused = world.now;
	world_run_until(&world, paused + 0.5);
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		assert_false(world.open[i]);
	world_run_until(&world, paused + 4.9);
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		assert_false(world.open[i]);
	world_run_until(&world, paused + 7);
	governor_status(world.governor, world.now, &after);
	assert_int_equal(before.sites_always_on, after.sites_always_on);
	for (uint16_t i = 0; i < 270; i++)
		if (governor_site_duty(world.governor, i) == 1)
			assert_true(world.in[i]);
	world_done(&world);
}

static void a_refused_group_is_tried_ever_more_rarely(void **state)
{
	struct governor_step step;
	size_t refused = 0;
	double now = 0;

	(void)state;
	world_init(&world, 30, 0.01, 52);
	world_begin(&world, 1);
	while (now < HOUR) {
		governor_step(world.governor, now, &step);
		if (step.act == GOVERNOR_OPEN) {
			governor_note_refused(world.governor, step.group, now);
			refused++;
		}
		assert_int_not_equal(step.act, GOVERNOR_CLOSE);
		now = fmax(step.at, now + 0.001);
	}
	/* 5, 10, 20 … 2560 seconds. */
	assert_in_range(refused, 5, 12);
	world_done(&world);
}

static void a_burst_is_a_minute_in_ten(void **state)
{
	double before, during;

	(void)state;
	world_init(&world, 100, 0.001, 53);
	for (size_t i = 0; i < 100; i++)
		world.rates[i] = i < 80 ? 1e4 : 1e6;
	world_begin(&world, 300);
	world_run_until(&world, 120);
	before = cost_between(60, 120);
	assert_true(governor_burst(world.governor, world.now, 0.05, 120) == 60);
	assert_true(governor_burst(world.governor, world.now, 0.05, 60) == 0);
	world_run_until(&world, 180);
	during = cost_between(120, 180);
	assert_true(during > 3 * before);
	assert_true(during <= 0.05 * 60);
	assert_true(governor_burst(world.governor, world.now + 500, 0.05, 60) == 0);
	world_run_until(&world, 300);
	assert_true(cost_between(240, 300) <= 0.001 * 60);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_out_of_bounds_are_refused),
		cmocka_unit_test(no_site_means_waiting),
		cmocka_unit_test(cold_sites_are_on_within_two_seconds),
		cmocka_unit_test(cheapest_first_while_the_sum_fits),
		cmocka_unit_test(a_known_heat_is_not_learned_again),
		cmocka_unit_test(a_known_heat_is_verified_by_counts),
		cmocka_unit_test(rates_are_told_at_full_speed),
		cmocka_unit_test(one_constructors_sites_are_hot_or_cold_together),
		cmocka_unit_test(frees_and_unknown_kinds_are_never_opened),
		cmocka_unit_test(cold_turning_hottest_at_once_is_bounded),
		cmocka_unit_test(the_site_that_turned_hot_is_dropped_and_the_rest_comes_back),
		cmocka_unit_test(a_limit_closes_the_group_in_the_next_step),
		cmocka_unit_test(a_site_that_comes_and_goes_is_tried_ever_more_rarely),
		cmocka_unit_test(what_has_cooled_down_comes_back),
		cmocka_unit_test(bursts_stay_within_the_budget),
		cmocka_unit_test(an_idle_target_costs_nothing_and_is_left_alone),
		cmocka_unit_test(the_hottest_target_is_bounded),
		cmocka_unit_test(full_windows_take_their_share_of_time_at_most),
		cmocka_unit_test(quiet_targets_get_longer_windows),
		cmocka_unit_test(every_kind_has_windows_with_all_that_is_not_on),
		cmocka_unit_test(lukewarm_sites_have_slices),
		cmocka_unit_test(windows_move_to_where_survivors_come_from),
		cmocka_unit_test(strata_cover_the_time_without_gap_or_overlap),
		cmocka_unit_test(late_wake_ups_are_booked_as_they_were),
		cmocka_unit_test(the_overhead_told_is_the_one_that_was),
		cmocka_unit_test(a_pause_closes_everything_and_it_comes_back),
		cmocka_unit_test(a_refused_group_is_tried_ever_more_rarely),
		cmocka_unit_test(a_burst_is_a_minute_in_ten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
