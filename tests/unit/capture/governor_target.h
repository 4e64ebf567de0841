/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A target that exists in arithmetic only, and the loop that a daemon would run
 * over it: sites with rates at full speed, slowed by what is attached, edges of
 * attaching and detaching, limits in the probes, late wake-ups.
 */
#ifndef PYLEAKD_TESTS_GOVERNOR_TARGET_H
#define PYLEAKD_TESTS_GOVERNOR_TARGET_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "capture/governor.h"
#include "pyleakd/wire.h"

#define SITES_MAX 512
#define BUCKET 0.01 /* seconds of the cost's history */
#define OPENINGS_MAX 65536

struct opening {
	double at, seconds, stratum_began, stratum_seconds;
	double delay; /* that its own sites added */
	unsigned group;
	bool learning, complete, limited;
	size_t n_sites;
	uint64_t sites[SITES_MAX / 64]; /* a bit each */
};

struct world {
	struct governor_options options;
	uint8_t kinds[SITES_MAX];
	uint16_t constructors[SITES_MAX];
	double known[SITES_MAX];
	double rates[SITES_MAX];
	/* Changes rates as time goes by; may be NULL. */
	void (*behave)(struct world *);
	double attach_seconds, detach_seconds, wake_seconds, note_seconds;
	/* The share of an attach and a detach in which its sites are as if in; else it is none. */
	double attach_edge, detach_edge, edge_probability;
	double late_every, late_seconds; /* the daemon isn't woken for so long, every so often */
	uint64_t random;

	double now, own_time, next_note, next_late;
	uint8_t in[SITES_MAX]; /* 1 + group, 0: out */
	double exact[SITES_MAX];
	uint64_t hits[SITES_MAX];
	double group_hits[GOVERNOR_GROUPS], allowance[GOVERNOR_GROUPS];
	double limit_at[GOVERNOR_GROUPS]; /* when the daemon hears of it; 0: it has not been reached
					   */
	bool open[GOVERNOR_GROUPS], limited[GOVERNOR_GROUPS];
	double total, learning; /* seconds of the target that traps took */
	double *costs, *learning_costs;
	size_t n_buckets;
	struct opening *openings;
	size_t n_openings;
	size_t opening_of[GOVERNOR_GROUPS];
	uint64_t limits;
	struct governor *governor;
};

static double world_random(struct world *world)
{
	world->random += 0x9e3779b97f4a7c15ULL;
	return (double)(hash_u64(world->random) >> 11) * 0x1p-53;
}

static void world_init(struct world *world, size_t n_sites, double budget, uint64_t seed)
{
	memset(world, 0, sizeof(*world));
	world->options = (struct governor_options){
		.budget_ratio = budget,
		.hit_seconds = 1e-6,
		.n_sites = n_sites,
		.site_kinds = world->kinds,
		.site_constructors = world->constructors,
		.seed = seed,
	};
	for (size_t i = 0; i < n_sites; i++) {
		world->kinds[i] = SITE_CREATE;
		world->constructors[i] = GOVERNOR_CONSTRUCTOR_NONE;
		world->known[i] = NAN;
	}
	world->attach_seconds = 0.015;
	world->detach_seconds = 0.040;
	/* Nothing as a rule, a twentieth in the mean (docs/BENCHMARKS.md, Windows). */
	world->attach_edge = world->detach_edge = 0.2;
	world->edge_probability = 0.25;
	world->wake_seconds = 0.001;
	world->note_seconds = 0.1;
	world->random = seed + 1;
}

/* Each attach and detach is the worst that was seen. */
static inline void world_edges_at_worst(struct world *world)
{
	world->attach_edge = 0.5;
	world->edge_probability = 1;
}

static inline bool opening_has(const struct opening *opening, size_t site)
{
	return opening->sites[site / 64] >> site % 64 & 1;
}

static void world_done(struct world *world)
{
	governor_free(world->governor);
	free(world->costs);
	free(world->learning_costs);
	free(world->openings);
}

static void book_true_cost(struct world *world, double cost)
{
	size_t bucket = (size_t)(world->now / BUCKET);
	bool learning = world->open[GOVERNOR_GROUP_CREATIONS] &&
			world->openings[world->opening_of[GOVERNOR_GROUP_CREATIONS]].learning;

	world->total += cost;
	world->learning += learning ? cost : 0;
	if (bucket < world->n_buckets) {
		world->costs[bucket] += cost;
		world->learning_costs[bucket] += learning ? cost : 0;
	}
}

/* So short a while that rates don't change in it. */
static void run_shortly(struct world *world, double seconds)
{
	size_t n = world->options.n_sites;
	double rate = 0, own;

	if (world->behave)
		world->behave(world);
	for (size_t i = 0; i < n; i++)
		rate += world->in[i] ? world->rates[i] : 0;
	own = seconds / (1 + rate * world->options.hit_seconds);
	for (size_t i = 0; i < n; i++) {
		double hits = own * world->rates[i];

		if (!world->in[i] || hits == 0)
			continue;
		world->exact[i] += hits;
		world->group_hits[world->in[i] - 1] += hits;
		world->openings[world->opening_of[world->in[i] - 1]].delay +=
			hits * world->options.hit_seconds;
		if (world->exact[i] >= (double)world->hits[i] + 1)
			world->hits[i] = (uint64_t)world->exact[i];
	}
	book_true_cost(world, own * rate * world->options.hit_seconds);
	world->own_time += own;
	world->now += seconds;
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		if (world->open[i] && !world->limited[i] &&
		    world->group_hits[i] >= world->allowance[i]) {
			world->limited[i] = true;
			world->limit_at[i] = world->now + world->wake_seconds;
			world->limits++;
		}
}

static void run_for(struct world *world, double seconds)
{
	double until = world->now + seconds;

	while (until - world->now > 1e-9)
		run_shortly(world, fmin(until - world->now, 0.0005));
}

static void world_note_hits(struct world *world)
{
	governor_note_hits(world->governor, world->now, world->hits);
	world->next_note = world->now + world->note_seconds;
	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++) {
		if (!world->open[i] || world->limited[i])
			continue;
		world->allowance[i] =
			world->group_hits[i] + (double)governor_allowance(world->governor, i);
	}
}

static double edge_seconds(struct world *world, double seconds, double share)
{
	return world_random(world) < world->edge_probability ? seconds * share : 0;
}

static void world_open(struct world *world, const struct governor_step *step)
{
	unsigned group = step->group;
	struct opening *opening = &world->openings[world->n_openings];
	double edge = edge_seconds(world, world->attach_seconds, world->attach_edge);
	uint16_t sites[SITES_MAX];

	assert_true(step->n_sites > 0 && step->n_sites <= SITES_MAX);
	assert_true(world->n_openings < OPENINGS_MAX);
	memcpy(sites, step->sites, step->n_sites * sizeof(*sites));
	world->opening_of[group] = world->n_openings++;
	*opening = (struct opening){.at = world->now,
				    .seconds = step->seconds,
				    .stratum_began = step->stratum_began,
				    .stratum_seconds = step->stratum_seconds,
				    .group = group,
				    .learning = step->learning,
				    .complete = step->complete,
				    .n_sites = step->n_sites};
	for (size_t i = 0; i < step->n_sites; i++)
		opening->sites[sites[i] / 64] |= 1ull << sites[i] % 64;
	run_for(world, world->attach_seconds - edge);
	world->open[group] = true;
	world->limited[group] = false;
	world->group_hits[group] = 0;
	world->allowance[group] = (double)step->hits_max;
	for (size_t i = 0; i < step->n_sites; i++) {
		assert_int_equal(world->in[sites[i]], 0);
		world->in[sites[i]] = (uint8_t)(group + 1);
	}
	run_for(world, edge);
	governor_note_opened(world->governor, group, world->now, world->attach_seconds);
}

static void world_close(struct world *world, unsigned group)
{
	double edge = edge_seconds(world, world->detach_seconds, world->detach_edge);

	assert_true(world->open[group]);
	run_for(world, edge);
	for (size_t i = 0; i < world->options.n_sites; i++)
		if (world->in[i] == group + 1)
			world->in[i] = 0;
	world->open[group] = false;
	run_for(world, world->detach_seconds - edge);
	world->openings[world->opening_of[group]].limited = world->limited[group];
	governor_note_closed(world->governor, group, world->now, world->detach_seconds,
			     (uint64_t)world->group_hits[group], world->limited[group]);
	world_note_hits(world);
}

static void world_wait(struct world *world, double until)
{
	bool window = false;
	double step;

	if (world->late_every > 0 && world->now >= world->next_late) {
		world->next_late = world->now + world->late_every;
		run_for(world, world->late_seconds);
		return;
	}
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		window |= world->open[i] && (i >= GOVERNOR_GROUP_CREATIONS || world->limited[i]);
	step = fmin(until, world->next_note) - world->now;
	step = fmin(fmax(step, 0.0001), window ? 0.0005 : 0.002);
	run_shortly(world, step);
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		if (world->open[i] && world->limited[i] && world->now >= world->limit_at[i])
			governor_note_limit(world->governor, i, world->now);
	if (world->now >= world->next_note)
		world_note_hits(world);
}

static void world_begin(struct world *world, double seconds)
{
	world->n_buckets = (size_t)(seconds / BUCKET) + 1;
	world->costs = calloc(world->n_buckets, sizeof(*world->costs));
	world->learning_costs = calloc(world->n_buckets, sizeof(*world->learning_costs));
	world->openings = calloc(OPENINGS_MAX, sizeof(*world->openings));
	assert_non_null(world->costs);
	assert_non_null(world->learning_costs);
	assert_non_null(world->openings);
	if (world->behave)
		world->behave(world);
	assert_int_equal(governor_new(&world->options, world->now, &world->governor), 0);
}

static void world_run_until(struct world *world, double until)
{
	struct governor_step step;

	while (world->now < until) {
		governor_step(world->governor, world->now, &step);
		if (step.act == GOVERNOR_OPEN)
			world_open(world, &step);
		else if (step.act == GOVERNOR_CLOSE)
			world_close(world, step.group);
		else
			world_wait(world, step.at);
	}
}

/* The dearest stretch of so many seconds that begins after from, as a share; without learning. */
static double worst_share(const struct world *world, double from, double seconds)
{
	size_t first = (size_t)lround(from / BUCKET);
	size_t n = (size_t)lround(seconds / BUCKET);
	double sum = 0, worst = 0;

	for (size_t i = first; i < world->n_buckets; i++) {
		sum += world->costs[i] - world->learning_costs[i];
		if (i >= first + n)
			sum -= world->costs[i - n] - world->learning_costs[i - n];
		worst = fmax(worst, sum);
	}
	return worst / seconds;
}

static double worst_window_delay(const struct world *world)
{
	double worst = 0;

	for (size_t i = 0; i < world->n_openings; i++)
		if (world->openings[i].group >= GOVERNOR_GROUP_CREATIONS)
			worst = fmax(worst, world->openings[i].delay);
	return worst;
}

static int by_value(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

/* How many sites fit into a share of the budget, by the true rates, cheapest first. */
static inline size_t sites_that_fit(const struct world *world, double share)
{
	double rates[SITES_MAX], room = world->options.budget_ratio * share;
	size_t n = 0;

	memcpy(rates, world->rates, world->options.n_sites * sizeof(*rates));
	qsort(rates, world->options.n_sites, sizeof(*rates), by_value);
	while (n < world->options.n_sites && rates[n] * world->options.hit_seconds <= room)
		room -= rates[n++] * world->options.hit_seconds;
	return n;
}

static inline void world_show(const struct world *world, const char *name)
{
	struct governor_status status;
	size_t windows[GOVERNOR_GROUPS] = {0};

	governor_status(world->governor, world->now, &status);
	for (size_t i = 0; i < world->n_openings; i++)
		windows[world->openings[i].group]++;
	print_message(
		"%-18s on %zu of %zu lukewarm %zu hot %zu, %.0f hits/s on; total %.3f%% (learning "
		"%.1f ms) minute %.3f%%, told %.3f%%; delay %.1f ms; windows %zu %zu %zu %zu "
		"%zu missed %llu limits %llu dropped %llu openings %zu\n",
		name, status.sites_always_on, sites_that_fit(world, 0.5), status.sites_lukewarm,
		status.sites_hot, status.always_on_hits_per_second, world->total / world->now * 100,
		world->learning * 1000, worst_share(world, 0, 60) * 100,
		governor_overhead_total(world->governor, world->now) * 100,
		worst_window_delay(world) * 1000, windows[8], windows[9], windows[10], windows[11],
		windows[12], (unsigned long long)status.windows_missed,
		(unsigned long long)world->limits, (unsigned long long)status.sites_dropped,
		world->n_openings);
}

#endif
