/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What can be asked of the governor. */
#include <math.h>

#include "capture/governor_private.h"

double expected_hits(const struct governor *governor, unsigned group)
{
	double rate = 0;

	for (size_t i = 0; i < governor->n_units; i++)
		if (governor->units[i].group == group)
			rate += governor->units[i].rate;
	return rate * REFILL_SECONDS;
}

static unsigned groups_in_use(const struct governor *governor)
{
	bool used[GOVERNOR_GROUPS] = {false};
	unsigned n = 0;

	for (size_t i = 0; i < governor->n_units; i++)
		if (governor->units[i].group != NO_GROUP)
			used[governor->units[i].group] = true;
	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++)
		n += used[i];
	return n > 0 ? n : 1;
}

double allowance_delay(const struct governor *governor)
{
	return fmin(governor->delay * ALLOWANCE_DELAY_SHARE,
		    governor->budget * MINUTE * ALLOWANCE_BUDGET_SHARE);
}

uint64_t governor_allowance(const struct governor *governor, unsigned group)
{
	double delay = allowance_delay(governor);
	double equal = delay / governor->hit / groups_in_use(governor);

	/* Twice what it is known for, lest a large budget's own hits trip it. */
	equal = fmax(equal, fmin(2 * expected_hits(governor, group), delay / governor->hit));
	return (uint64_t)fmax(equal, ALLOWANCE_MIN);
}

double governor_overhead(const struct governor *governor, double now)
{
	double seconds = fmin(now - governor->began, MINUTE), spent = 0;

	for (int i = 0; i < PURPOSES; i++)
		spent += account_spent(&governor->account, now, (enum purpose)i);
	return seconds > 0 ? spent / seconds : 0;
}

double governor_overhead_total(const struct governor *governor, double now)
{
	double seconds = now - governor->began;

	return seconds > 0 ? governor->account.total / seconds : 0;
}

void governor_rates(const struct governor *governor, double *ret)
{
	for (size_t i = 0; i < governor->n_sites; i++) {
		const struct unit *unit;

		ret[i] = NAN;
		if (governor->unit_of[i] == UINT16_MAX)
			continue;
		unit = &governor->units[governor->unit_of[i]];
		if (unit->state != UNIT_UNKNOWN && (unit->counted || unit->windows_seen > 0))
			ret[i] = unit->rate / unit->n_members;
	}
}

double governor_site_duty(const struct governor *governor, uint16_t site)
{
	const struct stream *stream, *slices = &governor->streams[SLICES];
	const struct stream *focus = &governor->streams[FOCUS];
	const struct unit *unit;
	double duty = 0;

	if (site >= governor->n_sites || governor->unit_of[site] == UINT16_MAX)
		return 0;
	unit = &governor->units[governor->unit_of[site]];
	if (unit->group != NO_GROUP)
		return 1;
	stream = &governor->streams[unit->stream];
	if (stream->planned && !unit->caller)
		duty = stream->length / stream->seconds;
	if (unit->in_deck && !unit->focused && slices->planned)
		duty += slices->length / (slices->seconds * (double)slices->n_slices);
	if (unit->focused && focus->planned)
		duty += focus->length / focus->seconds;
	return fmin(duty, 1);
}

void governor_status(const struct governor *governor, double now, struct governor_status *ret)
{
	*ret = (struct governor_status){
		.learning = governor->learning_left > 0 || governor->climbing,
		.paused = now < governor->paused_until,
		.windows = governor->windows,
		.windows_limited = governor->windows_limited,
		.windows_missed = governor->windows_missed,
		.sites_dropped = governor->sites_dropped,
		.always_on_hits_per_second = units_on_rate(governor),
		.full_share = account_full(&governor->account, now) / MINUTE,
	};
	for (size_t i = 0; i < governor->n_units; i++) {
		const struct unit *unit = &governor->units[i];

		if (unit->group != NO_GROUP)
			ret->sites_always_on += unit->n_members;
		else if (unit_is_lukewarm(governor, unit))
			ret->sites_lukewarm += unit->n_members;
		else if (!unit->caller)
			ret->sites_hot += unit->n_members;
	}
}
