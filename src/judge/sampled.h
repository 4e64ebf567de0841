/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The verdict on a site of which samples are known: survivors name, growth
 * decides.  A line whose objects live on may be a cache that is full; a heap
 * that grows has a line to blame.  Both are asked for.
 */
#ifndef PYLEAKD_JUDGE_SAMPLED_H
#define PYLEAKD_JUDGE_SAMPLED_H

#include <stdbool.h>

#include "judge/judge.h"

#define SAMPLED_SLICES 16

struct sampled_evidence {
	/* Of what grows if this site does, from counters without a sampling error. */
	struct judgement whole;
	struct judgement own; /* of the site's own estimates */
	/*
	 * What lives by when it was made: the session in equal parts, oldest first.  With weights:
	 * a site that was always on and then in windows has few samples of the later half, not
	 * little that was made in it.
	 */
	double counts[SAMPLED_SLICES];
	/* Where in them it could be seen first, and last, in slices; until 0: to their end. */
	double since, until;
	unsigned draws; /* parts of the session in which it was met */
	bool exact; /* it was seen whole, all the time: its own series has no sampling error */
	double seconds; /* of the session */
	double outstanding_bytes;
	double growth_bytes_per_second, growth_low, growth_high; /* NAN: not known */
	/*
	 * Where most of it is of one type: its objects; those of the line that has most of that
	 * type; and what the heap has gained of it since it had least, at most.  0, 0, INFINITY:
	 * not known.
	 */
	double objects, objects_of_first, objects_gained;
};

/*
 * Survivors of the older half of the time in which they could be seen among all: a leak has a half,
 * what lives for a while only has none, what was made at the start only has all.  Few draws say no
 * more than that there are some of either half.
 */
#define SAMPLED_OLDER_MIN 0.2
#define SAMPLED_OLDER_MAX 0.9
#define SAMPLED_DRAWS_LEAK 4
#define SAMPLED_DRAWS_GROWING 2
/* What fills up when a program starts looks like a leak for as long; before that it grows. */
#define SAMPLED_LEAK_SECONDS 15
/* Less of the whole's growth than this is not worth a verdict. */
#define SAMPLED_SHARE_MIN 0.01
/*
 * A place that an object leaves is taken by another of its type: a few of the samples stand for
 * what another line has made.  Less than this share of that line's is not told from them.
 */
#define SAMPLED_OF_FIRST_MIN 0.03
/* Lines can't keep what the heap does not have: estimates that are so much too high are noise. */
#define SAMPLED_OVER_GAINED 4

void sampled_judge(const struct sampled_evidence *evidence, struct judgement *ret);

#endif
