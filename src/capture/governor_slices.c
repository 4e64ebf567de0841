/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Windows that hold some sites only: learning, slices of the lukewarm, and the focus. */
#include <math.h>

#include "capture/governor_private.h"

static void shuffle(struct governor *governor, uint32_t *items, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t other = (size_t)(governor_random(governor) * (double)i);
		uint32_t moved = items[i - 1];

		items[i - 1] = items[other];
		items[other] = moved;
	}
}

/* --- slices: a deck of the lukewarm, dealt a slice at a time -------------------------------- */

/* A site that is hotter than is known costs so much more at most. */
static void limit_gentle(const struct governor *governor, struct stream *stream)
{
	double after = WAKE_SECONDS + DETACH_EDGE * stream->detach_seconds;
	uint64_t hits = (uint64_t)(fmax(SLICE_DELAY_MAX - after, SLICE_DELAY) / governor->hit);

	if (hits < stream->hits_max)
		stream->hits_max = hits > HITS_MIN ? hits : HITS_MIN;
}

/* How long a gentle window is, by its loss and its limit. */
static double gentle_length(const struct governor *governor, const struct stream *stream)
{
	double length =
		fmin(SLICE_SECONDS, stream_length_before_limit(governor, stream, LIMIT_USED));

	length = fmin(length, SLICE_DELAY / fmax(stream->loss, 1e-9));
	return fmax(length, WINDOW_MIN);
}

static double deck_loss(const struct governor *governor, size_t at)
{
	const struct stream *slices = &governor->streams[SLICES];

	return governor->units[slices->deck[at]].rate * governor->hit;
}

/* Where the slice that begins at a place of the deck ends: at least one unit is in it. */
static size_t slice_end(const struct governor *governor, size_t at)
{
	const struct stream *slices = &governor->streams[SLICES];
	double loss = deck_loss(governor, at), allowed;
	size_t end = at + 1;

	allowed = LIMIT_USED * (double)slices->hits_max * governor->hit /
		  (SLICE_SECONDS + ATTACH_EDGE * slices->attach_seconds);
	allowed = fmin(allowed, SLICE_LOSS);
	while (end < slices->n_deck && loss + deck_loss(governor, end) <= allowed)
		loss += deck_loss(governor, end++);
	return end;
}

/* A site that may be lukewarm, if the guess is right: one of them in a round. */
static bool is_tried(const struct governor *governor, const struct unit *unit, size_t *tried)
{
	if (unit->group != NO_GROUP || unit->state == UNIT_UNKNOWN || unit->counted ||
	    unit->caller || unit->focused || unit->sliced ||
	    unit->rate * governor->hit > GENTLE_LOSS ||
	    *tried == TRIED_A_ROUND)
		return false;
	(*tried)++;
	return true;
}

/* A new round: shuffled, so that each unit's slice is at a random place of it. */
static void deck_shuffle(struct governor *governor)
{
	struct stream *slices = &governor->streams[SLICES];
	size_t tried = 0;

	slices->n_deck = 0;
	for (size_t i = 0; i < governor->n_units; i++) {
		governor->units[i].in_deck = unit_is_lukewarm(governor, &governor->units[i]) ||
					     is_tried(governor, &governor->units[i], &tried);
		if (governor->units[i].in_deck)
			slices->deck[slices->n_deck++] = (uint32_t)i;
	}
	shuffle(governor, slices->deck, slices->n_deck);
	slices->n_slices = 0;
	for (size_t at = 0; at < slices->n_deck; at = slice_end(governor, at))
		slices->n_slices++;
	slices->slice = 0;
	slices->deck_at = slices->deck_end = 0;
}

void stream_plan_slice(struct governor *governor, double began)
{
	struct stream *slices = &governor->streams[SLICES];
	double rate = 0;

	/* First: a round's slices are counted by the limit that they are dealt by. */
	limit_gentle(governor, slices);
	if (slices->deck_end >= slices->n_deck) {
		deck_shuffle(governor);
		slices->deck_began = began;
	}
	if (slices->n_deck == 0) /* a window of no site: missed */
		return;
	slices->deck_at = slices->deck_end;
	slices->deck_end = slice_end(governor, slices->deck_at);
	slices->slice++;
	for (size_t i = slices->deck_at; i < slices->deck_end; i++)
		rate += deck_loss(governor, i) / governor->hit;
	slices->loss = stream_loss_of_rate(governor, rate);
	slices->length = gentle_length(governor, slices);
	slices->cost = (slices->length + stream_edge_seconds(slices)) * slices->loss;
}

/* --- the focus: what makes the types that grow ---------------------------------------------- */

/* A gentle window is as a slice; one at full speed loss is short. */
void stream_plan_focus(struct governor *governor)
{
	struct stream *focus = &governor->streams[FOCUS];

	stream_plan_length(governor, FOCUS);
	focus->length = fmin(focus->length, FOCUS_WINDOW_MAX);
	if (focus->loss <= GENTLE_LOSS) {
		limit_gentle(governor, focus);
		focus->length = gentle_length(governor, focus);
	}
	focus->cost = (focus->length + stream_edge_seconds(focus)) * focus->loss;
}

static void focus_unit(struct governor *governor, uint16_t site)
{
	struct unit *unit;

	if (site >= governor->n_sites || governor->unit_of[site] == UINT16_MAX)
		return;
	unit = &governor->units[governor->unit_of[site]];
	unit->focused = unit->stream == CREATIONS && !unit->caller;
}

bool governor_focus(struct governor *governor, double now, const uint16_t *sites, size_t n)
{
	struct stream *focus = &governor->streams[FOCUS];
	bool changed = false;

	for (size_t i = 0; i < governor->n_units; i++) {
		governor->units[i].was_focused = governor->units[i].focused;
		governor->units[i].focused = false;
	}
	for (size_t i = 0; i < n; i++)
		focus_unit(governor, sites[i]);
	for (size_t i = 0; i < governor->n_units; i++)
		changed |= governor->units[i].focused != governor->units[i].was_focused;
	if (!changed)
		return false;
	/* Its strata stand for other sites from now on; slices and shares, too. */
	focus->planned = false;
	focus->cost_seen = 0;
	focus->windows = 0;
	focus->missed_seconds = 0;
	streams_share(governor);
	streams_cut(governor, now);
	return true;
}

/* --- learning ------------------------------------------------------------------------------- */

static size_t least_part(const size_t *sites)
{
	size_t least = 0;

	for (size_t i = 1; i < LEARNING_PARTS; i++)
		if (sites[i] < sites[least])
			least = i;
	return least;
}

/* Parts of about as many sites, drawn at random: what is hot is rarely side by side. */
static void deal_parts(struct governor *governor)
{
	size_t sites[LEARNING_PARTS] = {0}, n = governor->n_units;

	for (size_t i = 0; i < n; i++)
		governor->order[i] = (uint32_t)i;
	shuffle(governor, governor->order, n);
	for (size_t i = 0; i < n; i++) {
		struct unit *unit = &governor->units[governor->order[i]];

		if (unit->stream != CREATIONS)
			continue;
		unit->part = (uint8_t)least_part(sites);
		sites[unit->part] += unit->n_members;
	}
}

void learning_plan(struct governor *governor, double now)
{
	bool unknown = false;

	for (size_t i = 0; i < governor->n_units; i++)
		unknown |= governor->units[i].stream == CREATIONS &&
			   governor->units[i].state == UNIT_UNKNOWN;
	governor->learning_left = unknown ? LEARNING_PARTS : 0;
	governor->learning_at = now + LEARNING_SPACING * governor_random(governor);
	deal_parts(governor);
}

static void fill_part(struct governor *governor)
{
	struct group *group = &governor->groups[GOVERNOR_GROUP_CREATIONS];

	group->n_sites = 0;
	for (size_t i = 0; i < governor->n_units; i++) {
		const struct unit *unit = &governor->units[i];

		if (unit->stream == CREATIONS && unit->in == NO_GROUP &&
		    unit->part == governor->learning_left - 1)
			group_add_unit(governor, group, unit);
	}
}

void learning_step(struct governor *governor, double now, struct governor_step *ret)
{
	struct group *group = &governor->groups[GOVERNOR_GROUP_CREATIONS];
	struct stream *stream = &governor->streams[CREATIONS];
	double hits;

	ret->at = fmin(ret->at, governor->learning_at);
	if (now < governor->learning_at)
		return;
	fill_part(governor);
	if (group->n_sites == 0) {
		governor->learning_left--;
		ret->at = now;
		return;
	}
	stream_limit_hits(governor, stream);
	hits = LEARNING_SHARE * governor->budget * MINUTE / LEARNING_PARTS / governor->hit;
	hits = fmax(fmin(hits, LEARNING_HITS), HITS_MIN);
	stream->hits_max = stream->hits_max < (uint64_t)hits ? stream->hits_max : (uint64_t)hits;
	stream->length = LEARNING_SECONDS;
	group->learning = true;
	*ret = (struct governor_step){
		.act = GOVERNOR_OPEN,
		.at = now,
		.group = GOVERNOR_GROUP_CREATIONS,
		.sites = group->sites,
		.n_sites = group->n_sites,
		.hits_max = stream->hits_max,
		.seconds = stream->length,
		.stratum_began = now,
		.learning = true,
	};
}

void learning_closed(struct governor *governor, double now)
{
	if (governor->learning_left > 0)
		governor->learning_left--;
	governor->learning_at = now + LEARNING_SPACING * (1 + governor_random(governor));
	governor->streams[CREATIONS].planned = false;
	if (governor->learning_left > 0)
		governor->quiet_until = now;
}
