/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * From a series to a verdict.  Every threshold is named here, with its reason;
 * what they add up to is measured by tests/unit/judge/test_simulation.c.
 */
#ifndef PYLEAKD_JUDGE_GROWTH_H
#define PYLEAKD_JUDGE_GROWTH_H

#include "judge/judge.h"
#include "judge/trend.h"

/*
 * Both tests' level for a leak: a service has hundreds of sites, so one in a
 * hundred would be too often were it not for the other conditions.  Five rising
 * points reach 1 − 1/120 in Kendall's exact test, the most that five can say.
 */
#define LEAK_CONFIDENCE_MIN 0.99
#define GROWING_CONFIDENCE_MIN 0.95

/*
 * The later half's median step against the earlier's.  A leak at a steady load has 1;
 * what fills up exponentially has less than this as soon as three quarters of
 * a time constant have passed.
 */
#define LEAK_PACE_MIN 0.5
#define GROWING_PACE_MIN 0.4

/* The last fifth's growth against the slope: nothing may have stopped just now. */
#define TAIL_PACE_MIN 0.3
#define TAIL_SHARE 5

/* The floor (minimum) of the later half is this share of the whole growth higher; a line: 1/2. */
#define FLOOR_RISE_MIN 0.25
/* The end is in the upper part of what was ever reached. */
#define LEVEL_MIN 0.8

/*
 * The whole growth against what is left around the line, as a normal deviation
 * (1.4826 times the median of the distances).  Medians of saw-teeth beat slowly
 * against the intervals; that stays below their height, and leaves the floor.
 */
#define GROWTH_OVER_NOISE_MIN 3
#define DEVIATION_OF_MEDIAN 1.4826

/* Less is an interned string or a cache line here and there; a page or more is worth a look. */
#define LEAK_BYTES_MIN 4096
#define GROWING_BYTES_MIN 1024
/* One jump, or two, are a table that doubles or a module that is loaded. */
#define RISES_MIN 4

/* Steps are taken between blocks of the history, as many as give a median some weight. */
#define STEPS_BLOCKS 10
#define STEPS_BLOCKS_FROM 16 /* points; with fewer, each point is a block */

/* points is used up. n > 0; n ≤ JUDGE_HISTORY_MAX. */
void growth_judge(struct point *points, size_t n, struct judgement *ret);

#endif
