/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which sites grow.  Pure: the history of a site's outstanding bytes in, a
 * verdict with its evidence out; time is an argument.
 *
 *	bytes   ╭──────  bounded          ╱  leak           ╱│ ╱│  between
 *	      ╭─╯                       ╱                 ╱ │╱ │╱  collections
 *	     ╱      STABLE            ╱     LEAK        ╱  STABLE
 *
 * A trend test alone does not tell a leak from a level that wanders: both
 * trend.  So growth must pass two tests that fail in different ways (growth.h):
 * Mann and Kendall's, which noise around a line can't fool, and one of the
 * steps between blocks of the history, which a random walk can't.  And it must
 * not have slowed down: what fills up is not a leak.
 */
#ifndef PYLEAKD_JUDGE_JUDGE_H
#define PYLEAKD_JUDGE_JUDGE_H

#include <stddef.h>
#include <stdint.h>

#define JUDGE_HISTORY_MAX 256 /* points kept a site; older ones are thinned out */
#define JUDGE_INTERVALS_MIN 5 /* below, everything is still warming */
#define JUDGE_SITES_DEFAULT (64u << 10)

enum verdict { VERDICT_WARMING, VERDICT_STABLE, VERDICT_GROWING, VERDICT_LEAK };
const char *verdict_name(enum verdict verdict); /* as in the JSON report */

struct judge;
/* max_sites 0: JUDGE_SITES_DEFAULT. 0, or -ENOMEM. */
int judge_new(size_t max_sites, struct judge **ret);
void judge_free(struct judge *judge);

/*
 * One site's outstanding bytes at a time (seconds from the session's start).
 * All sites share one time line: a time later than the last begins a new
 * interval.  Sites that were never told about at an interval have had 0 bytes;
 * told twice, the second counts.  When JUDGE_HISTORY_MAX intervals are kept,
 * every second one is dropped, so that the rest covers the whole session.
 *
 * 0; -EINVAL: the time is not a number or earlier than the last; -ENOSPC: more
 * than max_sites; -ENOMEM. After an error nothing has changed for the site.
 */
int judge_observe(struct judge *judge, uint64_t site, double time_seconds,
		  uint64_t outstanding_bytes, uint64_t outstanding_objects);

struct judgement {
	enum verdict verdict;
	double growth_bytes_per_second; /* Theil-Sen */
	double growth_low, growth_high; /* its 95 % interval; infinite where points are too few */
	double confidence_ratio; /* that it grows at all: the less certain of the two tests */
	size_t points;
};
/* 0, or -ENOENT: it was never told about. Up to 0.1 ms where the history is long. */
int judge_site(const struct judge *judge, uint64_t site, struct judgement *ret);

#endif
