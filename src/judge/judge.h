/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which sites grow.  Pure: the history of a site's outstanding bytes in, a
 * verdict with its evidence out; time is an argument.
 */
#ifndef PYLEAKD_JUDGE_JUDGE_H
#define PYLEAKD_JUDGE_JUDGE_H

#include <stddef.h>
#include <stdint.h>

#define JUDGE_HISTORY_MAX 256 /* points kept a site; older ones are thinned out */
#define JUDGE_INTERVALS_MIN 5 /* below, everything is still warming */

enum verdict { VERDICT_WARMING, VERDICT_STABLE, VERDICT_GROWING, VERDICT_LEAK };
const char *verdict_name(enum verdict verdict); /* as in the JSON report */

struct judge;
int judge_new(size_t max_sites, struct judge **ret);
void judge_free(struct judge *judge);

/*
 * One site's outstanding bytes at a time (seconds from the session's start).
 * Sites that were never told about at an interval have had 0 bytes.
 */
int judge_observe(struct judge *judge, uint64_t site, double time_seconds,
		  uint64_t outstanding_bytes, uint64_t outstanding_objects);

struct judgement {
	enum verdict verdict;
	double growth_bytes_per_second; /* Theil-Sen */
	double growth_low, growth_high; /* its 95 % interval */
	double confidence_ratio; /* that it grows at all */
	size_t points;
};
int judge_site(const struct judge *judge, uint64_t site, struct judgement *ret);

#endif
