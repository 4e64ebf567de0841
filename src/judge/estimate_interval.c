/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Gamma quantiles, the interval of a sum over windows, and the progress clock. */
#include <math.h>
#include <stdbool.h>

#include "judge/estimate.h"

/* Beyond this Wilson and Hilferty's cube is exact to 1e-6, and the series would be long. */
#define SHAPE_LARGE 1e5
#define SERIES_MAX 10000
#define PRECISION 1e-12
#define TINY 1e-300
#define BISECTIONS 100

/* Lower incomplete gamma function by its power series: for x < shape + 1 (Abramowitz 6.5.29). */
static double gamma_series(double shape, double x)
{
	double term = 1 / shape, sum = term;

	for (int i = 1; i < SERIES_MAX && term > sum * PRECISION; i++) {
		term *= x / (shape + i);
		sum += term;
	}
	return sum * exp(-x + shape * log(x) - lgamma(shape));
}

/* The upper one by its continued fraction (6.5.31), evaluated by Lentz's method. */
static double gamma_fraction(double shape, double x)
{
	double b = x + 1 - shape, c = 1 / TINY, d = 1 / b, h = d;

	for (int i = 1; i < SERIES_MAX; i++) {
		double a = -i * (i - shape), step;

		b += 2;
		d = a * d + b;
		d = 1 / (fabs(d) < TINY ? TINY : d);
		c = b + a / c;
		c = fabs(c) < TINY ? TINY : c;
		step = c * d;
		h *= step;
		if (fabs(step - 1) < PRECISION)
			break;
	}
	return h * exp(-x + shape * log(x) - lgamma(shape));
}

double gamma_cdf(double shape, double x)
{
	if (!(x > 0))
		return 0;
	if (shape > SHAPE_LARGE) {
		double z = (cbrt(x / shape) - 1 + 1 / (9 * shape)) * sqrt(9 * shape);

		return erfc(-z * M_SQRT1_2) / 2;
	}
	return x < shape + 1 ? gamma_series(shape, x) : 1 - gamma_fraction(shape, x);
}

/* Ends: the bracket is halved, at most BISECTIONS times; Newton's step where it stays inside. */
double gamma_quantile(double shape, double p)
{
	double low = 0, high = shape + 10 * sqrt(shape) + 10;
	/* The distribution is x^shape / Γ(shape + 1) near 0. */
	double x = fmin(shape, exp((log(p) + lgamma(shape + 1)) / shape));

	while (gamma_cdf(shape, high) < p)
		high *= 2;
	for (int i = 0; i < BISECTIONS && high - low > high * PRECISION; i++) {
		double error = gamma_cdf(shape, x) - p;
		double density = exp((shape - 1) * log(x) - x - lgamma(shape)), next;

		if (error > 0)
			high = x;
		else
			low = x;
		next = x - error / density;
		if (fabs(next - x) < x * PRECISION)
			break;
		x = next > low && next < high ? next : (low + high) / 2;
	}
	return x;
}

/* Quantile of a gamma distribution by mean and variance. */
static double gamma_by_moments(double mean, double variance, double p)
{
	return gamma_quantile(mean * mean / variance, p) * variance / mean;
}

/* Σ (z_h − z_{h−1})² over all n, of which only the k given are not 0. */
static double successive_squares(const struct estimate_cluster *clusters, size_t k, uint32_t n)
{
	double sum = 0, last = 0;
	uint32_t expected = 0; /* the ordinal right behind the last one */

	for (size_t i = 0; i < k; i++) {
		double z = clusters[i].sum;

		if (clusters[i].ordinal == expected)
			sum += expected ? (z - last) * (z - last) : 0;
		else
			sum += last * last + z * z;
		last = z;
		expected = clusters[i].ordinal + 1;
	}
	return expected < n ? sum + last * last : sum;
}

struct estimate_interval estimate_interval_of(const struct estimate_cluster *clusters, size_t k,
					      uint32_t n, double relative_error)
{
	struct estimate_interval interval = {0};
	double squares = 0, largest = 0, variance;

	for (size_t i = 0; i < k; i++) {
		interval.value += clusters[i].sum;
		squares += clusters[i].sum * clusters[i].sum;
		largest = fmax(largest, clusters[i].sum);
	}
	if (!(interval.value > 0))
		return interval;
	variance = n > 1 ? successive_squares(clusters, k, n) * n / (2.0 * (n - 1)) : squares;
	variance = fmax(variance, squares / n);
	variance += pow(interval.value * relative_error, 2);
	interval.low = gamma_by_moments(interval.value, variance, ESTIMATE_TAIL_LOW);
	interval.high = gamma_by_moments(interval.value + largest, variance + largest * largest,
					 1 - ESTIMATE_TAIL_HIGH);
	return interval;
}

double estimate_unseen_high(double weight, double event_bytes)
{
	return -log(ESTIMATE_TAIL_HIGH) * weight * event_bytes;
}

struct estimate_interval estimate_add(struct estimate_interval a, struct estimate_interval b)
{
	double value = a.value + b.value;

	return (struct estimate_interval){
		.value = value,
		.low = value - hypot(a.value - a.low, b.value - b.low),
		.high = value + hypot(a.high - a.value, b.high - b.value),
	};
}

struct estimate_interval estimate_subtract(struct estimate_interval a, struct estimate_interval b)
{
	double value = a.value - b.value;

	return (struct estimate_interval){
		.value = value,
		.low = value - hypot(a.value - a.low, b.high - b.value),
		.high = value + hypot(a.high - a.value, b.value - b.low),
	};
}

void estimate_clock_add(struct estimate_clock *clock, double stratum_progress, double design_weight,
			double window_progress, double hits)
{
	if (clock->n >= ESTIMATE_CLOCK_STRATA) {
		clock->n /= 2;
		clock->strata /= 2;
		clock->windows /= 2;
		clock->hits /= 2;
	}
	clock->n++;
	clock->strata += stratum_progress;
	clock->windows += design_weight * window_progress;
	clock->hits += hits;
}

double estimate_clock_weight(const struct estimate_clock *clock, double design_weight)
{
	if (!(clock->strata > 0) || !(clock->windows > 0))
		return design_weight;
	/* E 1 / (N + 1) is all but 1 / mean for a Poisson number N of hits; E 1 / N is more. */
	return design_weight * clock->strata / clock->windows * clock->hits / (clock->hits + 1);
}

double estimate_clock_relative_error(const struct estimate_clock *clock)
{
	return clock->hits > 1 ? 1 / sqrt(clock->hits) : 1;
}
