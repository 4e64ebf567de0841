/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "judge/trend.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define NORMAL_975 1.959963984540054 /* the normal distribution's 97.5 % quantile */
#define PI 3.141592653589793

static int double_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double middle_of(const double *sorted, size_t n)
{
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double median_of(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), double_compare);
	return middle_of(values, n);
}

static struct point point_median(const struct point *points, size_t n)
{
	double values[TREND_POINTS_MAX];
	size_t step = (n + TREND_POINTS_MAX - 1) / TREND_POINTS_MAX;
	size_t kept = 0;

	for (size_t i = 0; i < n; i += step)
		values[kept++] = points[i].value;
	return (struct point){.time = (points[0].time + points[n - 1].time) / 2,
			      .value = median_of(values, kept)};
}

size_t points_condense(struct point *points, size_t n, size_t max)
{
	if (n <= max)
		return n;
	for (size_t i = 0; i < max; i++) {
		size_t first = i * n / max, end = (i + 1) * n / max;

		points[i] = point_median(&points[first], end - first);
	}
	return max;
}

/*
 * Kendall's S: rising pairs less falling ones; and its variance without a
 * trend, corrected for ties (Kendall, Rank Correlation Methods, 1975, chapter
 * 4; Hollander and Wolfe, Nonparametric Statistical Methods, 2nd edition, 1999,
 * equation 8.17):
 *
 *	18 Var S = n (n − 1) (2n + 5) − Σ t (t − 1) (2t + 5), over groups of t ties
 */
struct kendall {
	double s, variance;
	size_t n_tied; /* pairs */
};

static double variance_term(double t)
{
	return t * (t - 1) * (2 * t + 5) / 18;
}

static struct kendall kendall_count(const struct point *points, size_t n)
{
	struct kendall kendall = {.variance = variance_term((double)n)};
	double sorted[TREND_POINTS_MAX];
	size_t run = 1;

	for (size_t i = 0; i < n; i++) {
		sorted[i] = points[i].value;
		for (size_t j = i + 1; j < n; j++)
			kendall.s += (points[j].value > points[i].value) -
				     (points[j].value < points[i].value);
	}
	qsort(sorted, n, sizeof(*sorted), double_compare);
	for (size_t i = 1; i <= n; i++) {
		if (i < n && sorted[i] == sorted[i - 1]) {
			run++;
			continue;
		}
		kendall.variance -= variance_term((double)run);
		kendall.n_tied += run * (run - 1) / 2;
		run = 1;
	}
	return kendall;
}

#define EXACT_POINTS_MAX 10
#define EXACT_INVERSIONS_MAX (EXACT_POINTS_MAX * (EXACT_POINTS_MAX - 1) / 2)

/*
 * P(S ≥ s) without ties, exactly: the share of n!'s orders with at most
 * (pairs − s) / 2 inversions, counted by inserting one element after the other
 * (Kendall 1938, "A new measure of rank correlation").
 */
static double kendall_exact_p(size_t n, double s)
{
	double shares[EXACT_INVERSIONS_MAX + 1] = {1};
	size_t pairs = n * (n - 1) / 2;
	double p = 0;

	for (size_t k = 2; k <= n; k++) {
		double next[EXACT_INVERSIONS_MAX + 1] = {0};

		for (size_t i = 0; i <= k * (k - 1) / 2; i++) {
			for (size_t added = 0; added < k && added <= i; added++)
				next[i] += shares[i - added] / (double)k;
		}
		for (size_t i = 0; i <= EXACT_INVERSIONS_MAX; i++)
			shares[i] = next[i];
	}
	for (size_t i = 0; i <= pairs && (double)pairs - 2 * (double)i >= s; i++)
		p += shares[i];
	return p;
}

static bool is_exact(const struct kendall *kendall, size_t n)
{
	return !kendall->n_tied && n <= EXACT_POINTS_MAX;
}

/* One-sided; the normal approximation is corrected for continuity. */
static double kendall_confidence(const struct kendall *kendall, size_t n)
{
	if (is_exact(kendall, n))
		return 1 - kendall_exact_p(n, kendall->s);
	return 1 - erfc((kendall->s - 1) / sqrt(2 * kendall->variance)) / 2;
}

/*
 * C of Sen's interval: k − 2, where k is the least S that 2.5 % of the orders
 * reach at most; for more points the normal quantile times S's deviation.
 */
static double sen_width(const struct kendall *kendall, size_t n)
{
	double k = (double)n * (double)(n - 1) / 2; /* S, when all pairs rise */

	if (!is_exact(kendall, n))
		return NORMAL_975 * sqrt(fmax(kendall->variance, 0));
	if (kendall_exact_p(n, k) > 0.025)
		return INFINITY;
	while (kendall_exact_p(n, k - 2) <= 0.025)
		k -= 2;
	return k - 2;
}

/*
 * Sen's interval: the order statistics of the N slopes at (N − C) / 2 and
 * (N + C) / 2 + 1 (Sen 1968, "Estimates of the regression coefficient based on
 * Kendall's tau"; Hollander and Wolfe, section 9.3).
 */
static void sen_interval(const double *sorted, size_t pairs, double c, struct trend *trend)
{
	double low = floor(((double)pairs - c) / 2), high = ceil(((double)pairs + c) / 2) + 1;

	trend->low = low >= 1 ? sorted[(size_t)low - 1] : -INFINITY;
	trend->high = high <= (double)pairs ? sorted[(size_t)high - 1] : INFINITY;
}

struct trend trend_estimate(const struct point *points, size_t n)
{
	struct kendall kendall = kendall_count(points, n);
	double slopes[TREND_PAIRS_MAX];
	struct trend trend;
	size_t pairs = 0;

	if (kendall.variance <= 0) /* all equal, as most sites' are */
		return (struct trend){.confidence = 0.5};
	for (size_t i = 0; i < n; i++) {
		for (size_t j = i + 1; j < n; j++)
			slopes[pairs++] = (points[j].value - points[i].value) /
					  (points[j].time - points[i].time);
	}
	trend.slope = median_of(slopes, pairs);
	trend.confidence = kendall_confidence(&kendall, n);
	sen_interval(slopes, pairs, sen_width(&kendall, n), &trend);
	return trend;
}

/* Finite sums for whole degrees: Abramowitz and Stegun, 26.7.3 and 26.7.4. */
double student_cdf(double t, unsigned int degrees)
{
	double theta = atan(t / sqrt(degrees));
	double cosine = cos(theta), sine = sin(theta);
	double term = degrees % 2 ? cosine : 1, sum = 0, inside;

	for (unsigned int i = degrees % 2 ? 3 : 2; i <= degrees; i += 2) {
		sum += term;
		term *= cosine * cosine * (i - 1) / i;
	}
	if (degrees % 2)
		inside = 2 / PI * (theta + sine * sum);
	else
		inside = sine * sum;
	return (1 + inside) / 2;
}
