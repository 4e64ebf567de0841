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

static inline double cost_between(double from, double until)
{
	double sum = 0;

	for (size_t i = (size_t)(from / BUCKET); i < (size_t)(until / BUCKET); i++)
		sum += world.costs[i];
	return sum;
}

#endif
