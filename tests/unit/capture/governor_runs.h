/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* One target at a time, its run, and what is asked of it afterwards. */
#ifndef PYLEAKD_TESTS_GOVERNOR_RUNS_H
#define PYLEAKD_TESTS_GOVERNOR_RUNS_H

#include "governor_target.h"

static struct world world;

/* Most sites cold, some lukewarm, a few hot: what FACTS call heavy-tailed. */
static inline void heavy_tailed(struct world *found)
{
	for (size_t i = 0; i < found->options.n_sites; i++) {
		double tail = world_random(found);

		found->rates[i] = world_random(found) < 0.7 ? 0 : pow(5e6, tail * tail);
	}
}

static inline void run(double seconds)
{
	world_begin(&world, seconds);
	world_run_until(&world, seconds);
}

static inline size_t windows_of(unsigned group)
{
	size_t n = 0;

	for (size_t i = 0; i < world.n_openings; i++)
		n += world.openings[i].group == group && !world.openings[i].learning;
	return n;
}

/* Seconds in which a site was in, in windows of a kind that opened in [from, until). */
static inline double seconds_in(unsigned group, size_t site, double from, double until)
{
	double sum = 0;

	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];

		if (opening->group == group && opening->at >= from && opening->at < until &&
		    opening_has(opening, site))
			sum += opening->seconds;
	}
	return sum;
}

/* What windows of a kind that opened in [from, until) took. */
static inline double cost_of(unsigned group, double from, double until)
{
	double sum = 0;

	for (size_t i = 0; i < world.n_openings; i++)
		if (world.openings[i].group == group && world.openings[i].at >= from &&
		    world.openings[i].at < until)
			sum += world.openings[i].delay;
	return sum;
}

static inline double cost_between(double from, double until)
{
	double sum = 0;

	for (size_t i = (size_t)(from / BUCKET); i < (size_t)(until / BUCKET); i++)
		sum += world.costs[i];
	return sum;
}

/* --- uniform places ------------------------------------------------------------------------- */

#define BINS 10
/* Of chi-square with nine degrees of freedom, the 99th percentile. */
#define CHI_SQUARE_9_99 21.67

/* Of the windows of a kind that hold the site and opened from then on. */
static inline void expect_uniform(unsigned group, size_t site, double from)
{
	size_t counts[BINS] = {0}, n = 0;
	double chi_square = 0;

	for (size_t i = 0; i < world.n_openings; i++) {
		const struct opening *opening = &world.openings[i];
		double room = opening->stratum_seconds - opening->seconds - world.attach_seconds -
			      world.detach_seconds;
		double place = (opening->at - opening->stratum_began) / room;

		if (opening->group != group || opening->learning || opening->at < from ||
		    !opening_has(opening, site))
			continue;
		counts[(size_t)fmin(place * BINS, BINS - 1)]++;
		n++;
	}
	assert_true(n >= 200);
	for (size_t i = 0; i < BINS; i++) {
		double expected = (double)n / BINS;

		chi_square +=
			((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
	}
	print_message("group %u: %zu windows, chi-square %.1f\n", group, n, chi_square);
	assert_true(chi_square < CHI_SQUARE_9_99);
}

#endif
