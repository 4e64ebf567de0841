/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Windows for what is hot: a stratum after the other, a window at a random place in each. */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "capture/governor_private.h"

/* How the windows' budget is shared before anything is known of survivors. */
static const double base_shares[STREAMS] = {
	[CREATIONS] = 0.5, [RAW] = 0.2, [NATIVE] = 0.1, [SLICES] = 0.2, [FOCUS] = 0};

double governor_random(struct governor *governor)
{
	governor->random += 0x9e3779b97f4a7c15ULL;
	return (double)(hash_u64(governor->random) >> 11) * 0x1p-53;
}

/* Callers are in windows to learn their heat, and never again. */
static bool has_windows(const struct governor *governor, const struct unit *unit)
{
	return !unit->caller || governor->learning_left > 0;
}

static bool unit_in_stream(const struct governor *governor, const struct unit *unit,
			   enum stream_kind kind)
{
	if (kind == SLICES)
		return unit_is_lukewarm(governor, unit);
	if (kind == FOCUS)
		return unit->focused && unit->group == NO_GROUP && !isnan(unit->rate);
	return unit->stream == kind && unit->group == NO_GROUP && has_windows(governor, unit);
}

/* Of a window's attach and detach, the time in which the target meets breakpoints (FACTS.md). */
double stream_edge_seconds(const struct stream *stream)
{
	return ATTACH_EDGE * stream->attach_seconds + DETACH_EDGE * stream->detach_seconds;
}

double stream_loss_of_rate(const struct governor *governor, double rate)
{
	if (isnan(rate))
		return LOSS_MAX;
	return fmin(rate * governor->hit / (1 + rate * governor->hit), LOSS_MAX);
}

/* A window's delay at most: a small budget's minute has to pay for more than one. */
static double delay_allowed(const struct governor *governor)
{
	double a_minute = governor->budget * MINUTE * (1 - governor->always_on_share);

	return fmin(governor->delay * DELAY_USED, a_minute / WINDOWS_A_MINUTE);
}

/*
 * The limit holds whatever the target does: the hits up to it (those of the
 * attach are counted too), the daemon's way to the detach, and the detach's edge.
 */
void stream_limit_hits(const struct governor *governor, struct stream *stream)
{
	double delay = delay_allowed(governor);
	double after = WAKE_SECONDS + DETACH_EDGE_MAX * stream->detach_seconds;
	double hits = fmax(delay - after, delay / 4) / governor->hit;

	stream->hits_max = (uint64_t)fmax(hits, HITS_MIN);
	stream->cost_max = (double)stream->hits_max * governor->hit + after;
}

/* As long as the limit, with room for a rate that wanders, isn't what ends it. */
double stream_length_before_limit(const struct governor *governor, const struct stream *stream,
				  double used)
{
	double seconds = used * (double)stream->hits_max * governor->hit;

	return stream->loss > 0 ? seconds / stream->loss - ATTACH_EDGE * stream->attach_seconds
				: WINDOW_MAX;
}

/* hits/s of all that a window of this kind holds; NAN: not known. */
static double rate_inside(const struct governor *governor, enum stream_kind kind)
{
	double rate = 0;

	for (size_t i = 0; i < governor->n_units; i++)
		if (unit_in_stream(governor, &governor->units[i], kind))
			rate += governor->units[i].rate;
	return rate;
}

/* (length + edges) × loss is the delay: as long as that stays within what is allowed. */
void stream_plan_length(struct governor *governor, enum stream_kind kind)
{
	struct stream *stream = &governor->streams[kind];
	double edge = stream_edge_seconds(stream);

	stream->loss = stream_loss_of_rate(governor, rate_inside(governor, kind));
	stream->length = WINDOW_MAX;
	if (stream->loss > 0)
		stream->length = delay_allowed(governor) / stream->loss - edge;
	stream->length =
		fmin(stream->length, stream_length_before_limit(governor, stream, LIMIT_USED));
	stream->length = fmin(fmax(stream->length, WINDOW_MIN), WINDOW_MAX);
	stream->cost = (stream->length + edge) * stream->loss;
}

static double windows_budget(const struct governor *governor, double now)
{
	double always = units_on_rate(governor) * governor->hit;
	double budget = account_budget(&governor->account, now, governor->budget);

	return fmax(budget * BUDGET_USED - always - governor->other_loss, budget * STREAM_FLOOR);
}

/* What the full streams leave to the slices beyond their own share; while something grows, that. */
static double slices_budget(const struct governor *governor, double now)
{
	double budget = windows_budget(governor, now), others = 0;

	if (governor->streams[FOCUS].active)
		return budget * governor->streams[SLICES].share;
	for (int i = 0; i < SLICES; i++)
		if (governor->streams[i].active && governor->streams[i].planned)
			others += fmax(governor->streams[i].cost, governor->streams[i].cost_seen) /
				  governor->streams[i].seconds;
	return fmax(budget - others, budget * governor->streams[SLICES].share);
}

/* Nothing is known of some site: the first window comes as soon as it can be paid. */
static bool order_is_unknown(const struct governor *governor, enum stream_kind kind)
{
	for (size_t i = 0; i < governor->n_units; i++)
		if (governor->units[i].stream == kind && governor->units[i].state == UNIT_UNKNOWN)
			return true;
	return false;
}

/* The host's time that a window's attach and detach take. */
static double host_seconds(const struct governor *governor, enum stream_kind kind)
{
	const struct stream *slices = &governor->streams[SLICES];
	size_t n_sites = 0;

	if (kind == SLICES)
		for (size_t i = slices->deck_at; i < slices->deck_end; i++)
			n_sites += governor->units[slices->deck[i]].n_members;
	else
		for (size_t i = 0; i < governor->n_units; i++)
			if (unit_in_stream(governor, &governor->units[i], kind))
				n_sites += governor->units[i].n_members;
	return HOST_WINDOW_SECONDS + HOST_SITE_SECONDS * (double)n_sites;
}

static double stratum_seconds(const struct governor *governor, enum stream_kind kind, double now)
{
	const struct stream *stream = &governor->streams[kind];
	double wall = stream->length + stream->attach_seconds + stream->detach_seconds;
	double budget = kind == SLICES ? slices_budget(governor, now)
				       : windows_budget(governor, now) * stream->share;
	double seconds = fmax(stream->cost, stream->cost_seen) / budget;

	if (order_is_unknown(governor, kind))
		return fmax(STRATUM_MIN, 2 * wall);
	if (stream->loss > GENTLE_LOSS)
		seconds =
			fmax(seconds, (stream->length + stream_edge_seconds(stream)) /
					      (governor->full_share * BUDGET_USED * stream->share));
	seconds = fmax(seconds,
		       host_seconds(governor, kind) * governor->n_sharing /
			       (governor->host_share * stream->share));
	seconds = fmax(seconds, fmax(kind == SLICES ? SLICES_STRATUM_MIN : STRATUM_MIN, 2 * wall));
	seconds *= stream->idle_stretch;
	return fmin(seconds, STRATUM_MAX);
}

/* --- strata --------------------------------------------------------------------------------- */

static void stream_miss(struct governor *governor, struct stream *stream)
{
	stream->done = true;
	stream->missed_seconds += stream->seconds;
	governor->windows_missed++;
}

static void plan_stratum(struct governor *governor, enum stream_kind kind, double now)
{
	struct stream *stream = &governor->streams[kind];
	double began = stream->planned ? stream->began + stream->seconds : now;

	/* Other kinds' windows have taken its place: their time, and the quiet behind it. */
	if (stream->planned && !stream->done)
		stream_miss(governor, stream);
	/* Woken so late that whole strata have gone: they are missed. */
	if (now > began + stream->seconds) {
		stream->missed_seconds += now - began;
		governor->windows_missed++;
		began = now;
	}
	stream_limit_hits(governor, stream);
	if (kind == SLICES)
		stream_plan_slice(governor, began);
	else if (kind == FOCUS)
		stream_plan_focus(governor);
	else
		stream_plan_length(governor, kind);
	if (kind != SLICES || !stream->planned || stream->slice == 1)
		stream->seconds = stratum_seconds(governor, kind, now);
	stream->began = began;
	stream->at = began + governor_random(governor) *
				     fmax(stream->seconds - stream->length -
						  stream->attach_seconds - stream->detach_seconds,
					  0);
	stream->planned = true;
	stream->done = false;
}

static bool can_be_paid(const struct governor *governor, const struct stream *stream, double now)
{
	const struct account *account = &governor->account;
	bool climbs = governor->climbing && admission_can_be_paid(governor, now);
	/* What is on will go on costing that, or has cost more; while it grows, all of its share.
	 */
	double always = fmax(
		account_spent(account, now, ALWAYS),
		(climbs ? units_on_rate_allowed(governor) : units_on_rate(governor)) *
			governor->hit * MINUTE);
	double spent = always + account_spent(account, now, WINDOWS) +
		       account_spent(account, now, LEARNING) + account_spent(account, now, OTHER) +
		       (now < governor->last_trip + MINUTE ? trip_cost(governor) : 0);
	double allowed = account_allowed(account, now, governor->budget) * BUDGET_USED;

	if (spent + stream->cost_max > allowed)
		return false;
	/* The strata see to this share; here it is only the windows' crowding that is bounded. */
	return stream->loss <= GENTLE_LOSS ||
	       account_full(account, now) < governor->full_share * MINUTE;
}

/*
 * It can't be paid now: another place is drawn from what is left of the stratum,
 * which hangs on what was spent, never on what the target does now.
 */
static void put_off(struct governor *governor, struct stream *stream, double now)
{
	double left = stream->began + stream->seconds - now - stream->length -
		      stream->attach_seconds - stream->detach_seconds;

	if (left <= PUT_OFF_MIN)
		stream_miss(governor, stream);
	else
		stream->at = now + PUT_OFF_MIN + governor_random(governor) * (left - PUT_OFF_MIN);
}

void group_add_unit(const struct governor *governor, struct group *group, const struct unit *unit)
{
	memcpy(group->sites + group->n_sites, governor->members + unit->members,
	       unit->n_members * sizeof(*group->sites));
	group->n_sites += unit->n_members;
}

/* What is in no open group, so that with those that are the window is complete. */
static size_t fill_window(struct governor *governor, enum stream_kind kind)
{
	struct group *group = &governor->groups[GOVERNOR_GROUP_CREATIONS + kind];
	const struct stream *stream = &governor->streams[kind];

	group->n_sites = 0;
	if (kind == SLICES) {
		for (size_t i = stream->deck_at; i < stream->deck_end; i++)
			if (governor->units[stream->deck[i]].in == NO_GROUP &&
			    !governor->units[stream->deck[i]].focused)
				group_add_unit(governor, group, &governor->units[stream->deck[i]]);
		return group->n_sites;
	}
	for (size_t i = 0; i < governor->n_units; i++)
		if (governor->units[i].in == NO_GROUP &&
		    (kind == FOCUS ? unit_in_stream(governor, &governor->units[i], FOCUS)
				   : governor->units[i].stream == kind &&
					     has_windows(governor, &governor->units[i])))
			group_add_unit(governor, group, &governor->units[i]);
	return group->n_sites;
}

static void open_window(struct governor *governor, enum stream_kind kind, double now,
			struct governor_step *ret)
{
	struct stream *stream = &governor->streams[kind];
	struct group *group = &governor->groups[GOVERNOR_GROUP_CREATIONS + kind];

	*ret = (struct governor_step){
		.act = GOVERNOR_OPEN,
		.at = now,
		.group = GOVERNOR_GROUP_CREATIONS + kind,
		.sites = group->sites,
		.n_sites = group->n_sites,
		.hits_max = stream->hits_max,
		.seconds = stream->length,
		.stratum_seconds = stream->seconds + stream->missed_seconds,
		.stratum_began = stream->began - stream->missed_seconds,
		.active_since = stream->active_since,
		.complete = kind != SLICES && kind != FOCUS,
	};
	if (kind == SLICES) {
		ret->stratum_seconds = stream->seconds * (double)stream->n_slices;
		ret->stratum_began = stream->deck_began;
	}
	group->learning = false;
}

/* A kind has windows as long as any of its sites isn't always on. */
void streams_share(struct governor *governor)
{
	double sum = 0, survivors = 0, base = 0, floors = 0, others;
	bool active[STREAMS] = {false};

	for (size_t i = 0; i < governor->n_units; i++)
		for (int kind = 0; kind < STREAMS; kind++)
			active[kind] |= unit_in_stream(governor, &governor->units[i],
						       (enum stream_kind)kind);
	for (int kind = 0; kind < STREAMS; kind++) {
		struct stream *stream = &governor->streams[kind];

		/* A deck that has begun is dealt to its end. */
		if (active[kind] && !stream->active) {
			stream->planned = false;
			stream->missed_seconds = 0;
			stream->active_since = governor->last_note;
		}
		stream->active = active[kind];
		base += active[kind] ? base_shares[kind] : 0;
		survivors += active[kind] ? stream->survivors : 0;
		floors += active[kind] && kind != FOCUS ? STREAM_FLOOR : 0;
	}
	governor->streams[FOCUS].share = 0;
	for (int kind = 0; kind < FOCUS; kind++) {
		struct stream *stream = &governor->streams[kind];
		double wanted = base > 0 ? base_shares[kind] / base : 0;

		if (survivors > 0)
			wanted = (wanted + stream->survivors / survivors) / 2;
		stream->share = active[kind] ? STREAM_FLOOR + (1 - floors) * wanted : 0;
		sum += stream->share;
	}
	others = active[FOCUS] && sum > 0 ? 1 - FOCUS_SHARE : 1;
	for (int kind = 0; kind < FOCUS; kind++)
		governor->streams[kind].share *= sum > 0 ? others / sum : 0;
	if (active[FOCUS])
		governor->streams[FOCUS].share = sum > 0 ? FOCUS_SHARE : 1;
}

void streams_step(struct governor *governor, double now, struct governor_step *ret)
{
	struct stream *due = NULL;

	if (now < governor->quiet_until) {
		ret->at = fmin(ret->at, governor->quiet_until);
		return;
	}
	if (governor->learning_left > 0) {
		learning_step(governor, now, ret);
		return;
	}
	for (int kind = 0; kind < STREAMS; kind++) {
		struct stream *stream = &governor->streams[kind];

		if (!stream->active)
			continue;
		if (now < governor->groups[GOVERNOR_GROUP_CREATIONS + kind].not_before) {
			ret->at =
				fmin(ret->at,
				     governor->groups[GOVERNOR_GROUP_CREATIONS + kind].not_before);
			continue;
		}
		if (!stream->planned || now >= stream->began + stream->seconds)
			plan_stratum(governor, (enum stream_kind)kind, now);
		if (!stream->done && now >= stream->at && !can_be_paid(governor, stream, now))
			put_off(governor, stream, now);
		if (!stream->done && now >= stream->at && (!due || stream->at < due->at))
			due = stream;
		ret->at =
			fmin(ret->at, stream->done ? stream->began + stream->seconds : stream->at);
	}
	if (!due)
		return;
	if (fill_window(governor, (enum stream_kind)(due - governor->streams)) > 0)
		open_window(governor, (enum stream_kind)(due - governor->streams), now, ret);
	else
		stream_miss(governor, due);
}

/* --- what came of it ------------------------------------------------------------------------ */

double stream_note_closed(struct governor *governor, struct stream *stream, double now,
			  double open_seconds, double silent_seconds, uint64_t hits, bool limited)
{
	double inside = open_seconds + stream_edge_seconds(stream);
	double trapped = (double)hits * governor->hit, cost = trapped;

	/*
	 * Probes that stop counting at their limit: what was lost up to it goes on being lost, or
	 * half as much again, for it was rising.
	 */
	if (limited && hits <= stream->hits_max + stream->hits_max / 50) {
		double detach = DETACH_EDGE_MAX * stream->detach_seconds;
		double until = fmax(inside - silent_seconds - detach, trapped);

		cost += fmin(1.5 * trapped / until, LOSS_MAX) * (silent_seconds + detach);
	}
	if (cost > GENTLE_LOSS * inside)
		account_book_full(&governor->account, now, inside);
	/* Most edges are none: with them a full window's sites seem many times colder. */
	stream->own_seconds = fmax(open_seconds - trapped, (1 - LOSS_MAX) * inside);
	stream->loss_seen = inside > 0 ? cost / inside : 0;
	stream->to_tell = true;
	stream->cost_seen = stream->windows == 0 ? cost : 0.7 * stream->cost_seen + 0.3 * cost;
	stream->windows++;
	stream->done = true;
	stream->missed_seconds = 0;
	if (hits > 0)
		stream->idle_stretch = 1;
	else if (stream->idle_stretch < IDLE_STRETCH_MAX)
		stream->idle_stretch *= 2;
	return cost;
}

static void unit_note_window(struct governor *governor, struct unit *unit,
			     const struct stream *stream, bool learning)
{
	double rate = (double)unit->window_hits / stream->own_seconds;
	double weight = fmax(1.0 / (unit->windows_seen + 1), 0.3);
	/* It was nearly alone: what was counted is the target's own pace. */
	bool few = learning || stream == &governor->streams[FOCUS];
	bool slice = stream == &governor->streams[SLICES] ||
		     (few && stream->loss_seen <= GENTLE_LOSS);

	unit->windows_seen++;
	if (slice && !unit->sliced) {
		unit->sliced = true;
		unit->rate = rate;
	}
	/* Full windows don't speak against slices, unless the site has gone cold. */
	if (slice || !unit->sliced || rate < SLICED_LOW_RATIO * unit->rate)
		unit->rate = isnan(unit->rate) ? rate : unit->rate + weight * (rate - unit->rate);
	unit->window_hits = 0;
	if (unit->state == UNIT_UNKNOWN && (learning || governor->learning_left == 0)) {
		unit->state = UNIT_WAITING;
		governor->climbing = true;
	}
}

/* The sites' counts of windows that have closed are here: rates, at what was the target's own time.
 */
void streams_note_hits(struct governor *governor)
{
	for (unsigned kind = 0; kind < STREAMS; kind++) {
		struct stream *stream = &governor->streams[kind];
		unsigned group = GOVERNOR_GROUP_CREATIONS + kind;

		if (!stream->to_tell || governor->groups[group].open)
			continue;
		stream->to_tell = false;
		for (size_t i = 0; i < governor->n_units; i++) {
			struct unit *unit = &governor->units[i];

			if (unit->last_in == group && unit->in == NO_GROUP)
				unit_note_window(governor, unit, stream,
						 governor->groups[group].learning);
			if (unit->last_in == group && unit->in == NO_GROUP)
				unit->last_in = NO_GROUP;
		}
	}
}

/* What is going on has changed: the stratum ends here, and the next is planned anew. */
void streams_cut(struct governor *governor, double now)
{
	for (int kind = 0; kind < STREAMS; kind++) {
		struct stream *stream = &governor->streams[kind];

		if (!stream->planned || now >= stream->began + stream->seconds ||
		    governor->groups[GOVERNOR_GROUP_CREATIONS + kind].open)
			continue;
		stream->seconds = now - stream->began;
		if (!stream->done)
			stream->missed_seconds += stream->seconds;
		stream->done = true;
		stream->deck_end = stream->n_deck;
	}
}

/* A pause until then: windows that would fall into it are missed, not put off. */
void streams_pause(struct governor *governor, double until)
{
	for (int kind = 0; kind < STREAMS; kind++) {
		struct stream *stream = &governor->streams[kind];

		if (stream->planned && !stream->done && stream->at < until &&
		    !governor->groups[GOVERNOR_GROUP_CREATIONS + kind].open)
			stream_miss(governor, stream);
	}
}
