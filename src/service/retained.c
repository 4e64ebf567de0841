/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/retained.h"

#include <string.h>

#include "judge/growth.h"

void retained_series_add(struct retained_series *series, double time_seconds, double bytes)
{
	if (series->n == RETAINED_POINTS) {
		memmove(series->points, series->points + 1,
			(RETAINED_POINTS - 1) * sizeof(*series->points));
		series->n--;
	}
	series->points[series->n++] = (struct point){time_seconds, bytes};
}

static bool grows(const struct retained_series *series, double bytes_min, double *ret_growth)
{
	struct point points[RETAINED_POINTS]; /* used up */
	struct judgement judgement;

	if (series->n < JUDGE_INTERVALS_MIN)
		return false;
	memcpy(points, series->points, series->n * sizeof(*points));
	growth_judge(points, series->n, &judgement);
	*ret_growth = judgement.growth_bytes_per_second;
	return judgement.verdict >= VERDICT_GROWING &&
	       series->points[series->n - 1].value - series->points[0].value >= bytes_min;
}

void retained_observe(struct retained *retained, double time_seconds, double heap_bytes,
		      double resident_bytes)
{
	bool is_long = retained->intervals++ % RETAINED_SCALE == 0;
	double heap_growth[2] = {0}, resident_growth[2] = {0};

	retained->growing = false;
	for (size_t scale = 0; scale < 2; scale++) {
		if (scale == 0 || is_long) {
			retained_series_add(&retained->heap[scale], time_seconds, heap_bytes);
			retained_series_add(&retained->resident[scale], time_seconds,
					    resident_bytes);
		}
		retained->growing |=
			grows(&retained->heap[scale], RETAINED_HEAP_BYTES_MIN, &heap_growth[scale]);
		retained->growing |= grows(&retained->resident[scale], RETAINED_RESIDENT_BYTES_MIN,
					   &resident_growth[scale]);
	}
	retained->growth_bytes_per_second = heap_growth[0];
	retained->resident_growth_bytes_per_second = resident_growth[0];
}
