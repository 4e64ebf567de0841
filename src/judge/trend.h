/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The statistics that a verdict rests on, on plain arrays, without memory of
 * their own.  At most TREND_POINTS_MAX points: condense longer series first.
 */
#ifndef PYLEAKD_JUDGE_TREND_H
#define PYLEAKD_JUDGE_TREND_H

#include <stddef.h>

#define TREND_POINTS_MAX 40 /* 780 slopes to sort: the cost of a judgement is here */
#define TREND_PAIRS_MAX (TREND_POINTS_MAX * (TREND_POINTS_MAX - 1) / 2)

struct point {
	double time, value;
};

struct trend {
	double slope;	   /* Theil–Sen: the median of all pairs' slopes */
	double low, high;  /* its 95 % interval; -INFINITY and INFINITY where n is too small */
	double confidence; /* 1 − p of Mann and Kendall's one-sided test for an increase */
};

/* n from 2 to TREND_POINTS_MAX, times rising. */
struct trend trend_estimate(const struct point *points, size_t n);

/* The median of n values (n > 0), which are put in another order. */
double median_of(double *values, size_t n);
/* In place: groups of as equal size as possible become their medians. The new n (at most max). */
size_t points_condense(struct point *points, size_t n, size_t max);
/* P(T ≤ t) of Student's distribution, degrees ≥ 1. */
double student_cdf(double t, unsigned int degrees);

#endif
