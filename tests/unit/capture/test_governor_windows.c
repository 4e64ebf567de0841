/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Windows, and the daemon's own troubles, on targets whose truth is known. */
#include "governor_runs.h"

#define HOUR 3600.0
#define SLICE_DELAY_MAX_SECONDS 0.010
/* Of a detach as worlds have them: a fifth at most, a twentieth in the mean. */
#define EDGE_BEYOND_MEAN (0.15 * 0.040)

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

/* Sites go in and out at the cost of the whole host: a hundred sessions share what one may take. */
static void what_windows_take_of_the_host_is_shared(void **state)
{
	size_t alone = 0, shared = 0;

	(void)state;
	for (int i = 0; i < 2; i++) {
		world_init(&world, 100, 0.2, 43);
		for (size_t j = 0; j < 100; j++)
			world.rates[j] = 2000;
		world_begin(&world, 300);
		if (i == 1)
			governor_note_sharing(world.governor, 100);
		world_run_until(&world, 300);
		*(i == 0 ? &alone : &shared) = windows_of(GOVERNOR_GROUP_CREATIONS);
		world_done(&world);
	}
	assert_true(alone >= 20);
	assert_in_range(shared, 1, alone / 2);
}

static void goes_idle(struct world *changing)
{
	for (size_t i = 0; i < 20; i++)
		changing->rates[i] = changing->now < 60 ? 1e6 : 0;
}

/* Hot sites that are hit no more: ever fewer windows, or always on again. */
static void who_goes_idle_is_left_alone(void **state)
{
	size_t busy;

	(void)state;
	world_init(&world, 20, 0.01, 46);
	world.behave = goes_idle;
	world_begin(&world, 300);
	world_run_until(&world, 60);
	busy = windows_of(GOVERNOR_GROUP_CREATIONS);
	world_run_until(&world, 300);
	assert_true(busy >= 5);
	assert_true(windows_of(GOVERNOR_GROUP_CREATIONS) - busy <= 4 * busy / 2);
	world_done(&world);
}

static void reallocs_two_ends_go_together(void **state)
{
	(void)state;
	world_init(&world, 2, 0.01, 47);
	world.kinds[0] = SITE_REALLOC_ENTER;
	world.kinds[1] = SITE_REALLOC_RETURN;
	world.rates[0] = 1;
	world.rates[1] = 1e6;
	run(60);
	for (size_t i = 0; i < world.n_openings; i++)
		assert_int_equal(world.openings[i].n_sites, 2);
	assert_true(windows_of(GOVERNOR_GROUP_NATIVE) >= 2);
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
	/* Each of the hot ones may be tried in a slice once. */
	assert_true(windows_of(GOVERNOR_GROUP_SLICES) <= 30);
	for (size_t i = 0; i < world.n_openings; i++)
		if (world.openings[i].group >= GOVERNOR_GROUP_CREATIONS &&
		    world.openings[i].group != GOVERNOR_GROUP_SLICES && world.openings[i].at > 60) {
			assert_true(world.openings[i].complete);
			assert_int_equal(world.openings[i].n_sites, 10);
		}
	for (uint16_t i = 0; i < 90; i++)
		assert_true(governor_site_duty(world.governor, i) > 0);
	world_done(&world);
}

/* What a caller shows in a window its creation shows as well: it is on, or it is out. */
static void callers_are_in_windows_while_heat_is_learned_alone(void **state)
{
	size_t learned_with[SITES_MAX] = {0};

	(void)state;
	world_init(&world, 100, 0.01, 44);
	for (size_t i = 0; i < 100; i++) {
		world.kinds[i] = i == 0 ? SITE_CREATE : SITE_CALLER;
		world.rates[i] = i == 0 ? 1e6 : i < 10 ? 1e5 : i < 15 ? 3e4 : i < 20 ? 500 : 1;
	}
	run(120);
	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];

		if (opening->group < GOVERNOR_GROUP_CREATIONS)
			continue;
		for (size_t j = 0; j < 100 && opening->learning; j++)
			learned_with[j] += opening_has(opening, j);
		if (!opening->learning)
			assert_true(opening->n_sites == 1 && opening_has(opening, 0));
	}
	for (size_t j = 0; j < 100; j++)
		assert_int_equal(learned_with[j], 1);
	assert_true(windows_of(GOVERNOR_GROUP_CREATIONS) >= 10);
	for (uint16_t i = 1; i < 100; i++)
		assert_true(governor_site_duty(world.governor, i) == (i < 20 ? 0 : 1));
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
		assert_true(opening->seconds <= 0.1);
		/* At first by guessed rates. */
		assert_true(opening->at < 30 || opening->seconds > 0.05);
		assert_true(opening->at < 30 || opening->n_sites <= 2);
		assert_true(opening->at + 0.001 >= opening->stratum_began);
		assert_true(opening->at <= opening->stratum_began + opening->stratum_seconds);
		assert_true(opening->delay <= SLICE_DELAY_MAX_SECONDS + EDGE_BEYOND_MEAN);
	}
	for (size_t i = 20; i < 40; i++)
		assert_true(seconds_in(GOVERNOR_GROUP_SLICES, i, 60, 300) > 0);
	world_done(&world);
}

static void turn_hot_in_slices(struct world *changing)
{
	for (size_t i = 0; i < changing->options.n_sites; i++)
		changing->rates[i] = changing->now < 60 || i < 20 ? 3e4 : 1e7;
}

/* All that a slice holds is hundreds of times hotter than it was the last time. */
static void a_slice_that_turns_hot_stays_within_its_own_bound(void **state)
{
	double worst = 0;

	(void)state;
	world_init(&world, 40, 0.01, 48);
	world.behave = turn_hot_in_slices;
	run(120);
	for (size_t i = 0; i < world.n_openings; i++)
		if (world.openings[i].group == GOVERNOR_GROUP_SLICES && world.openings[i].at > 60)
			worst = fmax(worst, world.openings[i].delay);
	assert_true(worst > 0.005);
	assert_true(worst <= SLICE_DELAY_MAX_SECONDS + EDGE_BEYOND_MEAN);
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

/*
 * Strata touch: what one window stands for ends where the next one's begins, also
 * where slices have taken the last place that was left of one.
 */
static void strata_cover_the_time_without_gap_or_overlap(void **state)
{
	double end = -1;
	size_t n = 0;

	(void)state;
	world_init(&world, 60, 0.05, 45);
	for (size_t i = 0; i < 60; i++)
		world.rates[i] = i < 30 ? 1e6 : 3e4;
	run(1200);
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
	assert_true(windows_of(GOVERNOR_GROUP_SLICES) > 200);
	world_done(&world);
}

/* --- the daemon's own troubles -------------------------------------------------------------- */

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
	bool was_in[SITES_MAX];
	double paused;
	size_t n = 0, n_back = 0;

	(void)state;
	world_init(&world, 270, 0.01, 51);
	heavy_tailed(&world);
	world_begin(&world, 60);
	world_run_until(&world, 20);
	for (size_t i = 0; i < 270; i++) {
		was_in[i] = world.in[i] && world.in[i] <= GOVERNOR_ALWAYS_ON_GROUPS;
		n += was_in[i];
	}
	assert_true((double)n >= 0.9 * (double)sites_that_fit(&world, 0.5));
	governor_pause(world.governor, world.now, 5);
	paused = world.now;
	world_run_until(&world, paused + 0.5);
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		assert_false(world.open[i]);
	world_run_until(&world, paused + 4.9);
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		assert_false(world.open[i]);
	world_run_until(&world, paused + 7);
	for (uint16_t i = 0; i < 270; i++) {
		bool on = governor_site_duty(world.governor, i) == 1;

		assert_true(!on || world.in[i]);
		n_back += was_in[i] && on;
	}
	/* One or two that were counted to be too hot may have gone. */
	assert_true(n_back + 2 >= n);
	world_done(&world);
}

/* The target forks often: nothing is in between windows, and all sites are still seen. */
static void with_windows_only_nothing_stays_in(void **state)
{
	struct governor_status before, status;
	size_t windows;

	(void)state;
	world_init(&world, 270, 0.01, 53);
	heavy_tailed(&world);
	world_begin(&world, 60);
	world_run_until(&world, 20);
	governor_status(world.governor, world.now, &before);
	assert_true(before.sites_always_on > 0);
	governor_windows_only(world.governor, world.now, true);
	world_run_until(&world, 22);
	windows = before.windows;
	for (int i = 0; i < 180; i++) {
		world_run_until(&world, 22 + i);
		governor_status(world.governor, world.now, &status);
		assert_int_equal(status.sites_always_on, 0);
		for (unsigned group = 0; group < GOVERNOR_ALWAYS_ON_GROUPS; group++)
			assert_false(world.open[group]);
	}
	assert_true(status.windows > windows);
	assert_true(governor_overhead(world.governor, world.now) <= 0.0105);
	governor_windows_only(world.governor, world.now, false);
	world_run_until(&world, 300);
	governor_status(world.governor, world.now, &status);
	assert_in_range(status.sites_always_on, before.sites_always_on / 2, 270);
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
	/* 5, 10, 20, 40, 60, 60 … seconds. */
	assert_in_range(refused, 30, 64);
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

static void a_burst_ends_where_it_is_told_to(void **state)
{
	(void)state;
	world_init(&world, 100, 0.001, 54);
	for (size_t i = 0; i < 100; i++)
		world.rates[i] = i < 80 ? 1e4 : 1e6;
	world_begin(&world, 300);
	world_run_until(&world, 120);
	governor_burst_end(world.governor, world.now); /* there is none */
	assert_true(governor_burst(world.governor, world.now, 0.05, 60) == 60);
	world_run_until(&world, 130);
	governor_burst_end(world.governor, world.now);
	/* A minute later its own minute has nothing of it left. */
	world_run_until(&world, 300);
	assert_true(cost_between(130, 190) <= 0.001 * 60 + 0.05);
	assert_true(cost_between(190, 300) <= 0.001 * 110);
	world_done(&world);
}

/* As all of the budget: of the time that it runs. */
static void a_burst_is_of_the_time_that_the_target_runs(void **state)
{
	(void)state;
	world_init(&world, 100, 0.001, 55);
	for (size_t i = 0; i < 100; i++)
		world.rates[i] = i < 80 ? 1e4 : 1e6;
	world_begin(&world, 200);
	governor_note_running(world.governor, 0.2);
	world_run_until(&world, 120);
	assert_true(governor_burst(world.governor, world.now, 0.05, 60) == 60);
	world_run_until(&world, 180);
	assert_true(cost_between(120, 180) > 0.001 * 60);
	assert_true(cost_between(120, 180) <= 0.2 * 0.05 * 60 + 0.001 * 60);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(full_windows_take_their_share_of_time_at_most),
		cmocka_unit_test(what_windows_take_of_the_host_is_shared),
		cmocka_unit_test(who_goes_idle_is_left_alone),
		cmocka_unit_test(reallocs_two_ends_go_together),
		cmocka_unit_test(quiet_targets_get_longer_windows),
		cmocka_unit_test(every_kind_has_windows_with_all_that_is_not_on),
		cmocka_unit_test(callers_are_in_windows_while_heat_is_learned_alone),
		cmocka_unit_test(lukewarm_sites_have_slices),
		cmocka_unit_test(a_slice_that_turns_hot_stays_within_its_own_bound),
		cmocka_unit_test(windows_move_to_where_survivors_come_from),
		cmocka_unit_test(strata_cover_the_time_without_gap_or_overlap),
		cmocka_unit_test(late_wake_ups_are_booked_as_they_were),
		cmocka_unit_test(the_overhead_told_is_the_one_that_was),
		cmocka_unit_test(a_pause_closes_everything_and_it_comes_back),
		cmocka_unit_test(with_windows_only_nothing_stays_in),
		cmocka_unit_test(a_refused_group_is_tried_ever_more_rarely),
		cmocka_unit_test(a_burst_is_a_minute_in_ten),
		cmocka_unit_test(a_burst_ends_where_it_is_told_to),
		cmocka_unit_test(a_burst_is_of_the_time_that_the_target_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
