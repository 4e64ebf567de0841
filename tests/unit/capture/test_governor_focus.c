/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Windows of the focus: of what makes the types that grow. */
#include "governor_runs.h"

#define SITES 100
#define LUKEWARM 40 /* the first one */
#define HOT 80
#define LEARNED 60.0
/* A slice's bound, and what a detach's edge may take beyond its mean. */
#define GENTLE_DELAY_MAX (0.010 + 0.15 * 0.040)

static const uint16_t gentle[] = {45, 46};
static const uint16_t hot[] = {85, 86, 87, 88, 89};
static const uint16_t mixed[] = {45, 60, 85};

static void target(uint64_t seed, double seconds)
{
	world_init(&world, SITES, 0.01, seed);
	for (size_t i = 0; i < SITES; i++)
		world.rates[i] = i < LUKEWARM ? 0.5 : i < HOT ? 3e4 : 2e5;
	world_begin(&world, seconds);
}

static bool focus(const uint16_t *sites, size_t n)
{
	return governor_focus(world.governor, world.now, sites, n);
}

static bool is_among(size_t site, const uint16_t *sites, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (sites[i] == site)
			return true;
	return false;
}

/* Windows that opened in [from, until) hold of the focus what they should; how many of its own. */
static size_t expect_focus(const uint16_t *sites, size_t n, double from, double until)
{
	size_t windows = 0, complete = 0;

	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];
		bool own = opening->group == GOVERNOR_GROUP_FOCUS;

		if (opening->at < from || opening->at >= until ||
		    opening->group < GOVERNOR_GROUP_CREATIONS)
			continue;
		windows += own;
		complete += opening->group == GOVERNOR_GROUP_CREATIONS;
		assert_int_equal(opening->complete, opening->group == GOVERNOR_GROUP_CREATIONS);
		for (size_t site = LUKEWARM; site < SITES; site++) {
			bool focused = is_among(site, sites, n), in = opening_has(opening, site);

			if (opening->group == GOVERNOR_GROUP_SLICES)
				assert_false(focused && in);
			else
				assert_int_equal(in, !own || focused);
		}
	}
	assert_true(complete > 0);
	return windows;
}

static void focused_sites_are_in_its_windows_and_complete_ones_and_in_no_slice(void **state)
{
	(void)state;
	target(1, 600);
	world_run_until(&world, LEARNED);
	assert_true(focus(mixed, 3));
	assert_false(focus(mixed, 3));
	world_run_until(&world, 600);
	assert_true(expect_focus(mixed, 3, LEARNED + 1, 600) >= 30);
	assert_true(windows_of(GOVERNOR_GROUP_SLICES) > 0);
	world_done(&world);
}

/* Whatever is going on when it is told: an open slice, a round that is dealt, trials. */
static void no_slice_holds_what_is_in_the_focus_from_the_instant_it_is(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		double told;
		uint16_t sites[HOT - LUKEWARM];

		target(100 + seed, 30);
		for (uint16_t i = 0; i < HOT - LUKEWARM; i++)
			sites[i] = LUKEWARM + i;
		world_run_until(&world, 3 + 0.2 * (double)seed);
		told = world.now;
		focus(sites, HOT - LUKEWARM);
		world_run_until(&world, 30);
		for (size_t i = 0; i < world.n_openings; i++) {
			const struct opening *opening = &world.openings[i];

			if (opening->group != GOVERNOR_GROUP_SLICES || opening->at < told)
				continue;
			for (size_t site = LUKEWARM; site < HOT; site++)
				assert_false(opening_has(opening, site));
		}
		world_done(&world);
	}
}

struct used {
	size_t windows;
	double cost, full_seconds, site_seconds;
};

/* What windows that opened in [from, until) took; group GOVERNOR_GROUPS: all of them. */
static struct used used_by(unsigned group, size_t site, double from, double until)
{
	struct used used = {0};

	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];

		if (opening->group < GOVERNOR_GROUP_CREATIONS || opening->at < from ||
		    opening->at >= until || (group < GOVERNOR_GROUPS && opening->group != group))
			continue;
		used.windows++;
		used.cost += opening->delay;
		used.full_seconds +=
			opening->delay > 0.25 * opening->seconds ? opening->seconds : 0;
		used.site_seconds += opening_has(opening, site) ? opening->seconds : 0;
	}
	return used;
}

/* Ten minutes with and ten without a focus on some sites. */
static void run_with_and_without(const uint16_t *sites, size_t n, struct used *ret_before,
				 struct used *ret_own, struct used *ret_all)
{
	target(2, 1260);
	world_run_until(&world, 660);
	focus(sites, n);
	world_run_until(&world, 1260);
	*ret_before = used_by(GOVERNOR_GROUPS, sites[0], LEARNED, 660);
	*ret_own = used_by(GOVERNOR_GROUP_FOCUS, sites[0], 660, 1260);
	*ret_all = used_by(GOVERNOR_GROUPS, sites[0], 660, 1260);
	print_message("focus: %.2f of the windows' cost, %.2f of full loss; site %u in for %.2f s, "
		      "then %.2f, in %zu windows\n",
		      ret_own->cost / ret_all->cost, ret_own->full_seconds / ret_all->full_seconds,
		      sites[0], ret_before->site_seconds, ret_all->site_seconds, ret_own->windows);
	assert_true(used_by(GOVERNOR_GROUP_CREATIONS, sites[0], 660, 1260).windows > 0);
	assert_true(worst_share(&world, 0, 60) <= 0.01);
	assert_true(worst_window_delay(&world) <= 0.025);
}

/* What is gentle is paid from the budget: seven tenths of what windows take, about. */
static void a_gentle_focus_has_its_share_of_the_budget(void **state)
{
	struct used before, own, all;

	(void)state;
	run_with_and_without(gentle, 2, &before, &own, &all);
	assert_true(own.cost >= 0.55 * all.cost && own.cost <= 0.8 * all.cost);
	assert_true(all.site_seconds >= 5 * before.site_seconds);
	world_done(&world);
}

/* What is hot has as much of the time at full speed loss, whose bound stays. */
static void a_hot_focus_has_its_share_of_full_speed_loss(void **state)
{
	struct used before, own, all;

	(void)state;
	run_with_and_without(hot, 5, &before, &own, &all);
	assert_true(own.full_seconds >= 0.6 * all.full_seconds);
	assert_true(own.full_seconds <= 0.85 * all.full_seconds);
	assert_true(all.full_seconds <= 0.006 * 600);
	/* Each is one draw: one in half a minute at least, more than complete ones were. */
	assert_true(own.windows >= 600 / 30);
	assert_true(own.windows > used_by(GOVERNOR_GROUP_CREATIONS, 0, LEARNED, 660).windows);
	world_done(&world);
}

static void windows_of_the_focus_are_uniform_within_their_strata(void **state)
{
	(void)state;
	target(3, 7200);
	world_run_until(&world, LEARNED);
	focus(hot, 5);
	world_run_until(&world, 7200);
	expect_uniform(GOVERNOR_GROUP_FOCUS, hot[0], LEARNED);
	world_done(&world);
}

/*
 * In strata of a second, the shortest, what lies between two windows takes from
 * a stratum's beginning; each part of it has its windows all the same, and none
 * goes without.
 */
static void each_part_of_the_shortest_strata_has_its_windows(void **state)
{
	size_t counts[BINS] = {0}, n = 0;

	(void)state;
	target(3, 3600);
	world_run_until(&world, LEARNED);
	focus(gentle, 2);
	world_run_until(&world, 3600);
	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];
		double room = opening->stratum_seconds - opening->seconds - world.attach_seconds -
			      world.detach_seconds;

		if (opening->group != GOVERNOR_GROUP_FOCUS)
			continue;
		n++;
		counts[(size_t)fmin((opening->at - opening->stratum_began) / room * BINS,
				    BINS - 1)]++;
	}
	assert_true((double)n >= 0.98 * (3600 - LEARNED));
	for (size_t i = 0; i < BINS; i++)
		assert_true(fabs((double)counts[i] * BINS / (double)n - 1) <= 1.0 / 3);
	world_done(&world);
}

/* Gentle ones are as slices, those at full speed loss are short. */
static void windows_of_the_focus_are_gentle_or_short(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		target(4, 600);
		world_run_until(&world, LEARNED);
		focus(i ? hot : gentle, i ? 5 : 2);
		world_run_until(&world, 600);
		assert_true(windows_of(GOVERNOR_GROUP_FOCUS) >= 30);
		for (size_t j = 0; j < world.n_openings; j++) {
			const struct opening *opening = &world.openings[j];

			if (opening->group != GOVERNOR_GROUP_FOCUS)
				continue;
			if (i)
				assert_true(opening->seconds <= 0.012);
			else
				assert_true(opening->seconds > 0.05 && opening->seconds <= 0.1 &&
					    opening->delay <= 0.010);
		}
		world_done(&world);
	}
}

/* Windows before the change stand for their sites until then, those behind it from then on. */
static void a_change_of_the_focus_begins_new_strata(void **state)
{
	double changed;

	(void)state;
	for (uint64_t seed = 5; seed < 15; seed++) {
		double end = -1;

		target(seed, 600);
		world_run_until(&world, LEARNED);
		focus(gentle, 2);
		world_run_until(&world, 300 + 0.31 * (double)seed);
		changed = world.now;
		assert_true(focus(hot, 5));
		world_run_until(&world, 600);
		assert_true(expect_focus(gentle, 2, LEARNED + 1, changed) > 10);
		assert_true(expect_focus(hot, 5, changed, 600) > 10);
		for (size_t i = 0; i < world.n_openings; i++) {
			const struct opening *opening = &world.openings[i];

			if (opening->group == GOVERNOR_GROUP_FOCUS && opening->at >= changed)
				assert_true(opening->stratum_began >= changed);
			if (opening->group != GOVERNOR_GROUP_CREATIONS || opening->learning)
				continue;
			/* One that was cut short says so by where the next begins; no gap. */
			if (end >= 0)
				assert_true(opening->stratum_began <= end + 1e-6);
			end = opening->stratum_began + opening->stratum_seconds;
		}
		world_done(&world);
	}
}

static void a_focus_on_what_is_always_on_changes_nothing(void **state)
{
	static const uint16_t cold[] = {1, 2, 3};
	struct governor_status status;

	(void)state;
	target(16, 300);
	world_run_until(&world, LEARNED);
	focus(cold, 3);
	world_run_until(&world, 300);
	governor_status(world.governor, world.now, &status);
	assert_int_equal(windows_of(GOVERNOR_GROUP_FOCUS), 0);
	assert_int_equal(status.sites_always_on, LUKEWARM);
	for (size_t i = 0; i < 3; i++)
		assert_true(world.in[cold[i]] && world.in[cold[i]] <= GOVERNOR_ALWAYS_ON_GROUPS);
	expect_focus(cold, 0, LEARNED + 1, 300);
	world_done(&world);
}

static void a_focus_on_what_has_no_windows_changes_nothing(void **state)
{
	static const uint16_t sites[] = {1, 2, 3, SITES, UINT16_MAX};

	(void)state;
	world_init(&world, SITES, 0.01, 17);
	for (size_t i = 0; i < SITES; i++)
		world.rates[i] = 1e5;
	world.kinds[1] = SITE_ALLOC;
	world.kinds[2] = SITE_CALLER;
	world.kinds[3] = SITE_FREE;
	world_begin(&world, 120);
	world_run_until(&world, LEARNED);
	assert_false(focus(sites, 5));
	world_run_until(&world, 120);
	assert_int_equal(windows_of(GOVERNOR_GROUP_FOCUS), 0);
	world_done(&world);
}

static void turns_hot(struct world *changing)
{
	changing->rates[45] = changing->now < LEARNED ? 3e4 : 1e7;
}

/* Hundreds of times hotter than was known: its limit is a slice's, and it is known the next time.
 */
static void a_focus_that_is_hotter_than_guessed_stays_within_the_bound(void **state)
{
	double first = -1;

	(void)state;
	for (uint64_t seed = 18; seed < 28; seed++) {
		target(seed, 180);
		world.behave = turns_hot;
		world_run_until(&world, LEARNED - 1);
		focus(gentle, 2);
		world_run_until(&world, 180);
		for (size_t i = 0; i < world.n_openings; i++) {
			const struct opening *opening = &world.openings[i];

			if (opening->group != GOVERNOR_GROUP_FOCUS || opening->at < LEARNED)
				continue;
			assert_true(opening->delay <= 0.025);
			if (first < 0) {
				assert_true(opening->delay <= GENTLE_DELAY_MAX);
				first = opening->delay;
			}
		}
		assert_true(first > 0.005);
		assert_true(worst_window_delay(&world) <= 0.025);
		assert_true(worst_share(&world, 0, 60) <= 0.01);
		world_done(&world);
	}
}

static void without_a_focus_its_sites_are_in_slices_again(void **state)
{
	(void)state;
	target(28, 600);
	world_run_until(&world, LEARNED);
	focus(mixed, 3);
	world_run_until(&world, 300);
	assert_true(focus(NULL, 0));
	assert_false(focus(NULL, 0));
	world_run_until(&world, 600);
	assert_true(cost_of(GOVERNOR_GROUP_FOCUS, LEARNED, 300) > 0);
	assert_true(cost_of(GOVERNOR_GROUP_FOCUS, 300.1, 600) == 0);
	assert_true(seconds_in(GOVERNOR_GROUP_SLICES, 45, 300, 600) > 0);
	assert_true(seconds_in(GOVERNOR_GROUP_SLICES, 60, 300, 600) > 0);
	world_done(&world);
}

static void a_pause_is_one_for_the_focus_too(void **state)
{
	double paused;

	(void)state;
	target(29, 300);
	world_run_until(&world, LEARNED);
	focus(hot, 5);
	world_run_until(&world, 100);
	governor_pause(world.governor, world.now, 20);
	paused = world.now;
	world_run_until(&world, 300);
	for (size_t i = 0; i < world.n_openings; i++)
		assert_false(world.openings[i].at > paused + 0.001 &&
			     world.openings[i].at < paused + 20);
	assert_true(expect_focus(hot, 5, paused + 20, 300) > 5);
	world_done(&world);
}

static void goes_idle(struct world *changing)
{
	for (size_t i = 0; i < SITES && changing->now > 120; i++)
		changing->rates[i] = 0;
}

static void an_idle_focus_is_left_alone(void **state)
{
	size_t busy, idle;

	(void)state;
	target(30, 240);
	world.behave = goes_idle;
	world_run_until(&world, LEARNED);
	focus(gentle, 2);
	world_run_until(&world, 120);
	busy = windows_of(GOVERNOR_GROUP_FOCUS);
	world_run_until(&world, 240);
	idle = windows_of(GOVERNOR_GROUP_FOCUS) - busy;
	assert_true(busy >= 10);
	assert_true(idle <= busy / 2);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			focused_sites_are_in_its_windows_and_complete_ones_and_in_no_slice),
		cmocka_unit_test(no_slice_holds_what_is_in_the_focus_from_the_instant_it_is),
		cmocka_unit_test(a_gentle_focus_has_its_share_of_the_budget),
		cmocka_unit_test(a_hot_focus_has_its_share_of_full_speed_loss),
		cmocka_unit_test(windows_of_the_focus_are_uniform_within_their_strata),
		cmocka_unit_test(each_part_of_the_shortest_strata_has_its_windows),
		cmocka_unit_test(windows_of_the_focus_are_gentle_or_short),
		cmocka_unit_test(a_change_of_the_focus_begins_new_strata),
		cmocka_unit_test(a_focus_on_what_is_always_on_changes_nothing),
		cmocka_unit_test(a_focus_on_what_has_no_windows_changes_nothing),
		cmocka_unit_test(a_focus_that_is_hotter_than_guessed_stays_within_the_bound),
		cmocka_unit_test(without_a_focus_its_sites_are_in_slices_again),
		cmocka_unit_test(a_pause_is_one_for_the_focus_too),
		cmocka_unit_test(an_idle_focus_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
