/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/pace.h"

#include <math.h>

void pace_init(struct pace *pace, double now, double ratio)
{
	*pace = (struct pace){.at = now, .owed_seconds = -ratio * PACE_SAVED_SECONDS};
}

static double owed_at(const struct pace *pace, double now, double ratio)
{
	return fmax(pace->owed_seconds - ratio * fmax(now - pace->at, 0),
		    -ratio * PACE_SAVED_SECONDS);
}

void pace_spend(struct pace *pace, double now, double cpu_seconds, double ratio)
{
	pace->owed_seconds = owed_at(pace, now, ratio) + cpu_seconds;
	pace->average_ratio = pace_average(pace, now) + cpu_seconds / PACE_AVERAGE_SECONDS;
	pace->at = fmax(now, pace->at);
}

bool pace_is_over(const struct pace *pace, double now, double ratio)
{
	return owed_at(pace, now, ratio) > 0;
}

double pace_pause(const struct pace *pace, double now, double ratio)
{
	double owed_seconds = owed_at(pace, now, ratio);

	if (owed_seconds <= 0)
		return 0;
	return fmin(owed_seconds / ratio, PACE_PAUSE_SECONDS_MAX);
}

double pace_average(const struct pace *pace, double now)
{
	return pace->average_ratio * exp(-fmax(now - pace->at, 0) / PACE_AVERAGE_SECONDS);
}
