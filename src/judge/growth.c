/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "judge/growth.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/*
 * The steps between the medians of neighbouring blocks of a random walk are not
 * independent: adjacent ones correlate by 1/4 (Working 1960, "Note on the
 * correlation of first differences of averages in a random chain"), so that the
 * variance of their sum is 3/2 of what it would be.
 */
#define WORKING_VARIANCE 1.5

struct evidence {
	struct trend trend;
	double steps_confidence;
	size_t rises; /* steps upwards */
	double pace;  /* slope of the later half / slope of the earlier */
	bool late_grows, tail_grows, floor_rises, level_is_high, over_noise;
	double growth_bytes;
};

/*
 * Student's test that the mean step is above zero, which holds for a random
 * walk as well.  The largest step upwards is left out: a single jump (a module
 * loaded, a table doubled) is no growth; leaving out a large step downwards
 * would make a saw-tooth a leak.
 */
static double steps_test(const double *steps, size_t n, bool blocks)
{
	double sum = 0, squares = 0, mean, error;
	size_t largest = 0;

	for (size_t i = 1; i < n; i++)
		largest = steps[i] > steps[largest] ? i : largest;
	for (size_t i = 0; i < n; i++)
		sum += i == largest ? 0 : steps[i];
	mean = sum / (double)(n - 1);
	for (size_t i = 0; i < n; i++)
		squares += i == largest ? 0 : (steps[i] - mean) * (steps[i] - mean);
	n--;
	error = sqrt(squares / (double)(n - 1) / (double)n);
	if (blocks)
		error *= sqrt(WORKING_VARIANCE);
	if (error <= fabs(mean) * 1e-9)
		return mean > 0 ? 1 : mean < 0 ? 0 : 0.5;
	return student_cdf(mean / error, (unsigned int)n - 1);
}

/* Halves that share the middle one if n is odd; puts the steps in another order. */
static double pace_of(double *steps, size_t n)
{
	size_t half = (n + 1) / 2;
	double late[TREND_POINTS_MAX], early;

	memcpy(late, steps + n - half, half * sizeof(*late));
	early = median_of(steps, half);
	return early > 0 ? median_of(late, half) / early : INFINITY;
}

static void look_at_steps(const struct point *points, size_t n, struct evidence *evidence)
{
	struct point blocks[TREND_POINTS_MAX];
	double steps[TREND_POINTS_MAX];
	double low = points[0].value, high = low;
	bool condensed = n >= STEPS_BLOCKS_FROM;

	memcpy(blocks, points, n * sizeof(*points));
	if (condensed)
		n = points_condense(blocks, n, STEPS_BLOCKS);
	for (size_t i = 1; i < n; i++) {
		steps[i - 1] = (blocks[i].value - blocks[i - 1].value) /
			       (blocks[i].time - blocks[i - 1].time);
		evidence->rises += steps[i - 1] > 0;
		low = fmin(low, blocks[i].value);
		high = fmax(high, blocks[i].value);
	}
	evidence->steps_confidence = steps_test(steps, n - 1, condensed);
	evidence->pace = pace_of(steps, n - 1);
	evidence->level_is_high = blocks[n - 1].value >= low + LEVEL_MIN * (high - low);
}

static void look_at_late_half(const struct point *points, size_t n, struct evidence *evidence)
{
	size_t half = n / 2 + 1;
	struct trend late = trend_estimate(points + n - half, half);

	/* An interval needs some points to say anything; below that the slope has to do. */
	evidence->late_grows = half < 8 ? late.slope > 0 : late.low > 0;
}

static void look_at_noise(const struct point *points, size_t n, struct evidence *evidence)
{
	double rest[JUDGE_HISTORY_MAX], middle;

	for (size_t i = 0; i < n; i++)
		rest[i] = points[i].value - evidence->trend.slope * points[i].time;
	middle = median_of(rest, n);
	for (size_t i = 0; i < n; i++)
		rest[i] = fabs(rest[i] - middle);
	evidence->over_noise = evidence->growth_bytes >=
			       GROWTH_OVER_NOISE_MIN * DEVIATION_OF_MEDIAN * median_of(rest, n);
}

static struct point window_median(const struct point *points, size_t n)
{
	struct point window[TREND_POINTS_MAX];

	memcpy(window, points, n * sizeof(*points));
	points_condense(window, n, 1);
	if (n == 1)
		return points[0];
	return window[0];
}

static void look_at_tail(const struct point *points, size_t n, struct evidence *evidence)
{
	size_t width = n / TAIL_SHARE > 2 ? n / TAIL_SHARE : 2;
	struct point before = window_median(points + n - 2 * width, width);
	struct point tail = window_median(points + n - width, width);

	evidence->tail_grows = tail.value - before.value >=
			       TAIL_PACE_MIN * evidence->trend.slope * (tail.time - before.time);
}

static double minimum_of(const struct point *points, size_t n)
{
	double minimum = points[0].value;

	for (size_t i = 1; i < n; i++)
		minimum = fmin(minimum, points[i].value);
	return minimum;
}

static void look_at_floor(const struct point *points, size_t n, struct evidence *evidence)
{
	double rise = minimum_of(points + n / 2, n - n / 2) - minimum_of(points, n / 2);

	evidence->floor_rises = rise >= FLOOR_RISE_MIN * evidence->growth_bytes;
}

static bool is_growing(const struct evidence *evidence)
{
	return evidence->trend.low > 0 && evidence->steps_confidence >= GROWING_CONFIDENCE_MIN &&
	       evidence->pace >= GROWING_PACE_MIN && evidence->late_grows && evidence->tail_grows &&
	       evidence->over_noise && evidence->rises >= RISES_MIN &&
	       evidence->growth_bytes >= GROWING_BYTES_MIN;
}

static bool is_leak(const struct evidence *evidence)
{
	return is_growing(evidence) && evidence->trend.confidence >= LEAK_CONFIDENCE_MIN &&
	       evidence->steps_confidence >= LEAK_CONFIDENCE_MIN &&
	       evidence->pace >= LEAK_PACE_MIN && evidence->floor_rises &&
	       evidence->level_is_high && evidence->growth_bytes >= LEAK_BYTES_MIN;
}

static void judge_warming(const struct point *points, size_t n, struct judgement *ret)
{
	struct trend trend = {.low = -INFINITY, .high = INFINITY};

	if (n > 1)
		trend = trend_estimate(points, n);
	*ret = (struct judgement){.verdict = VERDICT_WARMING,
				  .growth_bytes_per_second = trend.slope,
				  .growth_low = trend.low,
				  .growth_high = trend.high,
				  .confidence_ratio = n > 1 ? trend.confidence : 0,
				  .points = n};
}

void growth_judge(struct point *points, size_t n, struct judgement *ret)
{
	struct point all[JUDGE_HISTORY_MAX];
	struct evidence evidence = {0};
	size_t kept;

	if (n < JUDGE_INTERVALS_MIN) {
		judge_warming(points, n, ret);
		return;
	}
	memcpy(all, points, n * sizeof(*points));
	kept = points_condense(points, n, TREND_POINTS_MAX);
	evidence.trend = trend_estimate(points, kept);
	evidence.growth_bytes = evidence.trend.slope * (points[kept - 1].time - points[0].time);
	look_at_steps(points, kept, &evidence);
	if (evidence.trend.low > 0) { /* else it does not grow, whatever they say */
		look_at_late_half(points, kept, &evidence);
		look_at_noise(all, n, &evidence);
		look_at_tail(points, kept, &evidence);
		look_at_floor(all, n, &evidence);
	}
	*ret = (struct judgement){
		.verdict = is_leak(&evidence)	   ? VERDICT_LEAK
			   : is_growing(&evidence) ? VERDICT_GROWING
						   : VERDICT_STABLE,
		.growth_bytes_per_second = evidence.trend.slope,
		.growth_low = evidence.trend.low,
		.growth_high = evidence.trend.high,
		.confidence_ratio = fmin(evidence.trend.confidence, evidence.steps_confidence),
		.points = n,
	};
}
