/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The governor's life, its steps, and what it is told. */
#include "capture/governor.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "capture/governor_private.h"

/* Nothing happens for so long: look again. */
#define WAIT_MAX 1.0

static double or_default(double value, double otherwise)
{
	return value > 0 ? value : otherwise;
}

static bool options_are_valid(const struct governor_options *options)
{
	return options->budget_ratio > 0 && options->budget_ratio < 1 &&
	       options->always_on_share >= 0 && options->always_on_share < 1 &&
	       options->window_delay_seconds >= 0 && options->full_window_share >= 0 &&
	       options->host_share >= 0 && options->hit_seconds > 0 && options->hit_seconds < 1 &&
	       options->n_sites <= GOVERNOR_SITES_MAX &&
	       (options->n_sites == 0 || options->site_kinds);
}

void governor_free(struct governor *governor)
{
	if (!governor)
		return;
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		free(governor->groups[i].sites);
	free(governor->streams[SLICES].deck);
	free(governor->unit_of);
	free(governor->members);
	free(governor->last_hits);
	free(governor->units);
	free(governor->order);
	free(governor);
}

static int allocate(struct governor *governor, size_t n)
{
	n = n > 0 ? n : 1;
	governor->unit_of = calloc(n, sizeof(*governor->unit_of));
	governor->members = calloc(n, sizeof(*governor->members));
	governor->last_hits = calloc(n, sizeof(*governor->last_hits));
	governor->units = calloc(n, sizeof(*governor->units));
	governor->order = calloc(n, sizeof(*governor->order));
	governor->streams[SLICES].deck = calloc(n, sizeof(*governor->streams[SLICES].deck));
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++) {
		governor->groups[i].sites = calloc(n, sizeof(*governor->groups[i].sites));
		if (!governor->groups[i].sites)
			return -ENOMEM;
	}
	if (!governor->unit_of || !governor->members || !governor->last_hits || !governor->units ||
	    !governor->order || !governor->streams[SLICES].deck)
		return -ENOMEM;
	return 0;
}

static void begin(struct governor *governor, const struct governor_options *options, double now)
{
	governor->budget = governor->budget_running = options->budget_ratio;
	governor->always_on_share = or_default(options->always_on_share, ALWAYS_ON_SHARE);
	governor->delay = or_default(options->window_delay_seconds, WINDOW_DELAY);
	governor->full_share = or_default(options->full_window_share, FULL_WINDOW_SHARE);
	governor->host_share = or_default(options->host_share, HOST_SHARE);
	governor->n_sharing = 1;
	governor->hit = options->hit_seconds;
	governor->n_sites = options->n_sites;
	governor->random = hash_u64(options->seed);
	governor->began = governor->last_note = governor->account.began = now;
	governor->other_noted = now;
	governor->account.burst_from = governor->account.burst_until = now - BURST_INTERVAL;
	governor->climbing = true;
	governor->next_regroup = now + REGROUP_INTERVAL;
	governor->last_trip = now - MINUTE;
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		governor->groups[i].last_trip = governor->last_trip;
	for (int kind = 0; kind < STREAMS; kind++) {
		struct stream *stream = &governor->streams[kind];

		stream->attach_seconds = or_default(options->attach_seconds, ATTACH_SECONDS);
		stream->detach_seconds = or_default(options->detach_seconds, DETACH_SECONDS);
		stream->idle_stretch = 1;
	}
}

int governor_new(const struct governor_options *options, double now, struct governor **ret)
{
	struct governor *governor;
	int r;

	if (!options_are_valid(options))
		return -EINVAL;
	governor = calloc(1, sizeof(*governor));
	if (!governor)
		return -ENOMEM;
	begin(governor, options, now);
	r = allocate(governor, options->n_sites);
	if (r == 0)
		r = units_make(governor, options);
	if (r < 0) {
		governor_free(governor);
		return r;
	}
	learning_plan(governor, now);
	units_admit(governor, now);
	streams_share(governor);
	*ret = governor;
	return 0;
}

/* --- steps ---------------------------------------------------------------------------------- */

static bool is_window(unsigned group)
{
	return group >= GOVERNOR_GROUP_CREATIONS;
}

/*
 * Closes what has to be; false: nothing has. *ret_window: one is open and goes on.
 * What makes an always-on group trip is likely to be in an open window too, and
 * a detach takes long: the window goes first.
 */
static bool step_close(struct governor *governor, double now, struct governor_step *ret,
		       bool *ret_window)
{
	bool tripped = false;

	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		tripped |= governor->groups[i].open && governor->groups[i].tripped;
	for (unsigned i = GOVERNOR_GROUPS; i-- > 0;) {
		const struct group *group = &governor->groups[i];

		if (!group->open)
			continue;
		if (group->tripped || now < governor->paused_until || (is_window(i) && tripped) ||
		    (is_window(i) && now >= group->closes_at)) {
			*ret = (struct governor_step){GOVERNOR_CLOSE, .at = now, .group = i};
			return true;
		}
		if (is_window(i)) {
			*ret_window = true;
			ret->at = fmin(ret->at, group->closes_at);
		}
	}
	return false;
}

static void ask_always_on(const struct governor *governor, double now, unsigned group,
			  struct governor_step *ret)
{
	*ret = (struct governor_step){.act = GOVERNOR_OPEN,
				      .at = now,
				      .group = group,
				      .sites = governor->groups[group].sites,
				      .n_sites = governor->groups[group].n_sites,
				      .hits_max = governor_allowance(governor, group),
				      .seconds = INFINITY,
				      .learning = governor->climbing};
}

/*
 * Brings always-on groups to what they should hold; false: nothing to do now.
 * All that change are closed before one is opened: sites move between them.
 */
static bool step_always_on(struct governor *governor, double now, struct governor_step *ret)
{
	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++) {
		const struct group *group = &governor->groups[i];

		if (group->dirty && group->open && !group->tripped) {
			*ret = (struct governor_step){GOVERNOR_CLOSE, .at = now, .group = i};
			return true;
		}
	}
	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++) {
		struct group *group = &governor->groups[i];

		if (!group->dirty || group->tripped)
			continue;
		group_fill_always_on(governor, i);
		if (group->n_sites == 0) {
			group->dirty = false;
			continue;
		}
		if (now < fmax(group->not_before, governor->next_opening)) {
			ret->at = fmin(ret->at, fmax(group->not_before, governor->next_opening));
			continue;
		}
		/* It may trip again: that has to be there, before windows are. */
		if (now < group->last_trip + MINUTE && !trip_can_be_paid(governor, now)) {
			ret->at = fmin(ret->at, now + CELL_SECONDS);
			return true;
		}
		ask_always_on(governor, now, i, ret);
		return true;
	}
	return false;
}

void governor_step(struct governor *governor, double now, struct governor_step *ret)
{
	bool window = false;

	*ret = (struct governor_step){.act = GOVERNOR_WAIT, .at = now + WAIT_MAX};
	if (step_close(governor, now, ret, &window) || window)
		return;
	if (now < governor->paused_until) {
		ret->at = governor->paused_until;
		return;
	}
	if (!step_always_on(governor, now, ret))
		streams_step(governor, now, ret);
}

/* --- notes ---------------------------------------------------------------------------------- */

static struct stream *stream_of_group(struct governor *governor, unsigned group)
{
	return &governor->streams[group - GOVERNOR_GROUP_CREATIONS];
}

static double smoothed(double old, double seen)
{
	return 0.7 * old + 0.3 * seen;
}

void governor_note_opened(struct governor *governor, unsigned group, double now,
			  double attach_seconds)
{
	struct group *found = &governor->groups[group];

	found->open = true;
	found->dirty = false;
	found->tripped = false;
	found->opened_at = now;
	found->limited_at = 0;
	found->seen = 0;
	found->refusals = 0;
	for (size_t i = 0; i < found->n_sites; i++) {
		struct unit *unit = &governor->units[governor->unit_of[found->sites[i]]];

		unit->in = unit->last_in = (uint8_t)group;
		unit->window_hits = 0;
	}
	if (is_window(group)) {
		struct stream *stream = stream_of_group(governor, group);

		found->closes_at = now + stream->length;
		stream->attach_seconds = smoothed(stream->attach_seconds, attach_seconds);
	} else {
		governor->next_opening = now + OPENING_SPACING;
	}
}

void governor_note_refused(struct governor *governor, unsigned group, double now)
{
	struct group *found = &governor->groups[group];

	found->not_before =
		now + fmin(REFUSED_FIRST * exp2(fmin(found->refusals, 20)), REFUSED_MAX);
	found->refusals++;
	if (!is_window(group))
		return;
	governor->learning_at = fmax(governor->learning_at, found->not_before);
	stream_of_group(governor, group)->done = true;
}

static void book(struct governor *governor, double now, enum purpose purpose, double cost)
{
	account_book(&governor->account, now, purpose, cost);
	governor->last_cost += cost;
}

static enum purpose purpose_of(const struct governor *governor, unsigned group)
{
	if (!is_window(group))
		return ALWAYS;
	return governor->groups[group].learning ? LEARNING : WINDOWS;
}

void governor_note_closed(struct governor *governor, unsigned group, double now,
			  double detach_seconds, uint64_t hits, bool limited)
{
	struct group *found = &governor->groups[group];
	double told = (double)found->seen * governor->hit;
	double cost = (double)hits * governor->hit;
	enum purpose purpose = purpose_of(governor, group);

	found->open = false;
	for (size_t i = 0; i < governor->n_units; i++)
		if (governor->units[i].in == group)
			governor->units[i].in = NO_GROUP;
	if (is_window(group)) {
		struct stream *stream = stream_of_group(governor, group);
		double open_seconds = fmax(now - detach_seconds - found->opened_at, 0);
		double silent;

		stream->detach_seconds = smoothed(stream->detach_seconds, detach_seconds);
		silent = found->limited_at > 0 ? now - detach_seconds - found->limited_at : 0;
		cost = stream_note_closed(governor, stream, now, open_seconds, fmax(silent, 0),
					  hits, limited);
		found->tripped = false;
		governor->windows++;
		governor->windows_limited += limited;
		governor->quiet_until = fmax(governor->quiet_until, now + WINDOW_SPACING);
		if (found->learning)
			learning_closed(governor, now);
	}
	cost = fmax(cost - told, 0);
	book(governor, now, purpose, cost);
	governor->ahead[purpose == ALWAYS ? ALWAYS : WINDOWS] +=
		fmin(cost, fmax((double)hits * governor->hit - told, 0));
}

/* It was refilled late, and had no more than was to be expected by now: the next note refills. */
static bool is_late(const struct governor *governor, unsigned group, double now)
{
	double refills = (now - governor->last_note) / REFILL_SECONDS;

	return refills > 2 && (double)governor_allowance(governor, group) <
				      2 * expected_hits(governor, group) * refills;
}

void governor_note_limit(struct governor *governor, unsigned group, double now)
{
	struct group *found = &governor->groups[group];

	if (!found->open || (!is_window(group) && is_late(governor, group, now)))
		return;
	found->tripped = true;
	found->limited_at = now;
	if (!is_window(group))
		found->not_before = governor->quiet_until = now + TRIAL_SECONDS;
}

static uint64_t site_delta(struct governor *governor, size_t site, uint64_t hits)
{
	uint64_t last = governor->last_hits[site];

	governor->last_hits[site] = hits;
	return hits >= last ? hits - last : hits;
}

/* What the sites' counts add to units, groups and books. */
static void count_deltas(struct governor *governor, double now, const uint64_t *site_hits)
{
	double cost[2] = {0};

	for (size_t i = 0; i < governor->n_units; i++) {
		struct unit *unit = &governor->units[i];
		bool window = unit->last_in != NO_GROUP && is_window(unit->last_in);

		unit->delta = 0;
		for (uint32_t j = 0; j < unit->n_members; j++) {
			uint16_t site = governor->members[unit->members + j];

			unit->delta += site_delta(governor, site, site_hits[site]);
		}
		unit->recent = unit->recent / 2 + (double)unit->delta;
		cost[window ? WINDOWS : ALWAYS] += (double)unit->delta * governor->hit;
		if (unit->in != NO_GROUP)
			governor->groups[unit->in].seen += unit->delta;
		if (window)
			unit->window_hits += unit->delta;
	}
	for (int i = ALWAYS; i <= WINDOWS; i++) {
		enum purpose purpose = (enum purpose)i;

		if (purpose == WINDOWS && governor->groups[GOVERNOR_GROUP_CREATIONS].learning)
			purpose = LEARNING;
		book(governor, now, purpose, fmax(cost[i] - governor->ahead[i], 0));
		governor->ahead[i] = 0;
	}
}

/* Rates of what is on, at the target's own speed: its time is what hits left of it. */
static void count_rates(struct governor *governor, double now)
{
	double seconds = now - governor->last_note;
	double own = fmax(seconds - governor->last_cost, seconds * (1 - LOSS_MAX));

	for (size_t i = 0; i < governor->n_units && seconds > 0; i++) {
		struct unit *unit = &governor->units[i];
		const struct group *group;

		if (unit->group == NO_GROUP || unit->in != unit->group)
			continue;
		group = &governor->groups[unit->in];
		if (group->opened_at > governor->last_note)
			continue;
		unit->counted_seconds += own;
		unit->rate += own / fmin(unit->counted_seconds, fmax(RATE_SECONDS, own)) *
			      ((double)unit->delta / own - unit->rate);
		unit->counted = unit->counted_seconds >= TRIAL_SECONDS / 2;
	}
	governor->last_cost = 0;
}

static void after_trips(struct governor *governor, double now)
{
	double seconds = fmax(now - governor->last_note, REFILL_SECONDS);

	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++) {
		if (!governor->groups[i].tripped || governor->groups[i].open)
			continue;
		for (size_t j = 0; j < governor->n_units; j++) {
			struct unit *unit = &governor->units[j];

			if (unit->group == i)
				unit->rate = fmax(unit->rate, unit->recent / 2 / seconds);
		}
		units_after_trip(governor, i, now);
	}
}

static void wake_from_idle(struct governor *governor, double now)
{
	bool stretched = false, hit = false;

	for (int kind = 0; kind < STREAMS; kind++)
		stretched |= governor->streams[kind].idle_stretch > 1;
	for (size_t i = 0; i < governor->n_units && stretched && !hit; i++)
		hit = governor->units[i].delta > 0;
	if (!hit)
		return;
	for (int kind = 0; kind < STREAMS; kind++)
		governor->streams[kind].idle_stretch = 1;
	streams_cut(governor, now);
}

void governor_note_other(struct governor *governor, double now, double seconds)
{
	double span = now - governor->other_noted;

	book(governor, now, OTHER, seconds);
	if (span <= 0)
		return;
	governor->other_loss +=
		fmin(span / RATE_SECONDS, 1) * (seconds / span - governor->other_loss);
	governor->other_noted = now;
}

void governor_note_hits(struct governor *governor, double now, const uint64_t *site_hits)
{
	account_note_budget(&governor->account, now, governor->budget);
	count_deltas(governor, now, site_hits);
	count_rates(governor, now);
	streams_note_hits(governor);
	after_trips(governor, now);
	units_trim(governor, now);
	units_admit(governor, now);
	streams_share(governor);
	wake_from_idle(governor, now);
	governor->last_note = now;
}

void governor_note_survivors(struct governor *governor, uint16_t site, uint32_t n)
{
	const struct unit *unit;

	if (site >= governor->n_sites || governor->unit_of[site] == UINT16_MAX)
		return;
	unit = &governor->units[governor->unit_of[site]];
	for (int kind = 0; kind < STREAMS; kind++)
		governor->streams[kind].survivors *= pow(SURVIVORS_FORGET, n);
	governor->streams[unit->stream].survivors += n;
	if (unit_is_lukewarm(governor, unit))
		governor->streams[SLICES].survivors += n;
}

void governor_pause(struct governor *governor, double now, double seconds)
{
	governor->paused_until = fmax(governor->paused_until, now + seconds);
	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++)
		governor->groups[i].dirty |= governor->groups[i].open;
	streams_pause(governor, governor->paused_until);
}

void governor_note_hit_seconds(struct governor *governor, double seconds)
{
	governor->hit = seconds;
}

void governor_note_sharing(struct governor *governor, unsigned n_sessions)
{
	governor->n_sharing = n_sessions ? n_sessions : 1;
}

void governor_note_running(struct governor *governor, double share)
{
	governor->budget = fmax(governor->budget_running * fmin(fmax(share, RUNNING_MIN), 1),
				fmin(governor->budget_running, BUDGET_MIN));
}

double governor_burst(struct governor *governor, double now, double ratio, double seconds)
{
	struct account *account = &governor->account;

	if (now < account->burst_from + BURST_INTERVAL || !(ratio > governor->budget_running) ||
	    ratio >= 1)
		return 0;
	ratio *= governor->budget / governor->budget_running;
	seconds = fmin(fmax(seconds, 0), BURST_SECONDS);
	account->burst_ratio = ratio;
	account->burst_from = now;
	account->burst_until = now + seconds;
	streams_cut(governor, now);
	return seconds;
}

void governor_burst_end(struct governor *governor, double now)
{
	struct account *account = &governor->account;

	if (now >= account->burst_until)
		return;
	account->burst_until = now;
	streams_cut(governor, now);
}
