/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* At which sites a type is made, learned from complete windows. */
#include <math.h>

#include "ledger/samples_state.h"

/* When so many sightings of a type are in the books, both counts are halved: programs change. */
#define SIGHTINGS_FADE 4096
/*
 * Both bounds of Wilson's interval decide (95 %), so that a few sightings change
 * nothing.  Sightings of one call are no independent draws: counted as if each
 * stood for SIGHTINGS_A_DRAW of them.
 */
#define WILSON_Z 1.96
#define SIGHTINGS_A_DRAW 4
/* Seconds, or whatever progress is counted in: shorter than any, so that no few sightings say much.
 */
#define LEARNING_PROGRESS 0.001
/* A slice at a random place of each stratum: two of them lie less than two strata apart. */
#define SLICED_STRATA 2.5

uint32_t samples_type_index(struct samples *samples, uint64_t type)
{
	uint64_t held;

	if (table_get(&samples->by_type, type, &held) == 0)
		return (uint32_t)held;
	if (samples_grow((void **)&samples->types, &samples->types_capacity, samples->n_types,
			 SAMPLES_TYPES_MAX, sizeof(*samples->types)) < 0 ||
	    table_put(&samples->by_type, type, samples->n_types) < 0)
		return 0;
	samples->types[samples->n_types] = (struct type_record){.key = type};
	return (uint32_t)samples->n_types++;
}

/* The end of Wilson's interval on the side of sign, for hot of n draws. */
static double wilson_bound(double hot, double n, int sign)
{
	double share = hot / n, z2 = WILSON_Z * WILSON_Z;
	double middle = share + z2 / (2 * n);
	double half = WILSON_Z * sqrt(share * (1 - share) / n + z2 / (4 * n * n));

	return (middle + sign * half) / (1 + z2 / n);
}

/* Of n sightings, so many are sure to be more than this share of all. */
static bool is_more_than_ratio(double part, double n, double ratio)
{
	double draws = n / SIGHTINGS_A_DRAW;

	return n >= SAMPLES_MIXED_SIGHTINGS_MIN &&
	       wilson_bound(part / SIGHTINGS_A_DRAW, draws, -1) > ratio;
}

static double sightings_of(const struct type_record *type)
{
	double n = 0;

	for (size_t i = 0; i < MAKERS_MAX; i++)
		n += (double)type->makers[i].count;
	return n;
}

bool samples_type_is_known(const struct samples *samples, uint32_t type)
{
	return sightings_of(&samples->types[type]) >= SAMPLES_MIXED_SIGHTINGS_MIN;
}

bool samples_type_is_made_below(const struct samples *samples, uint32_t type,
				enum sample_site state)
{
	const struct type_record *record = &samples->types[type];
	double ratio = SAMPLES_MIXED_RATIO, below = 0;

	if (!type) /* nothing is known of them */
		return true;
	for (size_t i = 0; i < MAKERS_MAX; i++) {
		const struct maker *maker = &record->makers[i];

		if (samples->sites[maker->site].state < state)
			below += (double)maker->count;
		if (samples->sites[maker->site].finer && maker->count > 0)
			ratio = SAMPLES_FINER_RATIO;
	}
	return below > 0 && is_more_than_ratio(below, sightings_of(record), ratio);
}

/* In a window what was seen outside of them weighs nothing: it is of sites that are seldom hit. */
static float worth_of(const struct maker *maker, bool window)
{
	return (float)maker->pending + maker->count + (window ? 0 : maker->alone);
}

/* The site's place among the makers: its own, an empty one, or that of whoever makes least. */
static struct maker *maker_of(struct type_record *type, uint16_t site, bool window)
{
	struct maker *least = &type->makers[0];

	for (size_t i = 0; i < MAKERS_MAX; i++) {
		struct maker *maker = &type->makers[i];

		if (maker->site == site && worth_of(maker, false) > 0)
			return maker;
		if (worth_of(maker, window) < worth_of(least, window))
			least = maker;
	}
	if (least->pending || worth_of(least, window) > 1)
		return NULL;
	*least = (struct maker){.site = site};
	return least;
}

void samples_types_see(struct samples *samples, uint32_t type, const struct sighting *sighting)
{
	struct type_record *record = &samples->types[type];
	struct maker *maker;

	if (sighting->site >= SAMPLES_SITES_MAX)
		return;
	if (!samples->sites_told)
		samples->sites[sighting->site].state = sighting->tier == SAMPLE_ALWAYS_ON
							       ? SAMPLE_SITE_ALWAYS
							       : SAMPLE_SITE_WINDOW;
	if (record->pending_window != sighting->window) {
		record->pending_window = sighting->window;
		for (size_t i = 0; i < MAKERS_MAX; i++)
			record->makers[i].pending = 0;
	}
	samples->sites[sighting->site].finer = sighting->refines;
	maker = maker_of(record, sighting->site, true);
	if (maker && maker->pending < UINT16_MAX)
		maker->pending++;
}

static double alone_sightings_of(const struct type_record *type)
{
	double n = 0;

	for (size_t i = 0; i < MAKERS_MAX; i++)
		n += (double)type->makers[i].alone;
	return n;
}

void samples_types_see_alone(struct samples *samples, uint32_t type, uint16_t site)
{
	struct type_record *record = &samples->types[type];
	bool known = type && site < SAMPLES_SITES_MAX;
	struct maker *maker = known ? maker_of(record, site, false) : NULL;

	if (!maker)
		return;
	maker->alone++;
	if (alone_sightings_of(record) > SIGHTINGS_FADE)
		for (size_t i = 0; i < MAKERS_MAX; i++)
			record->makers[i].alone /= 2;
}

void samples_types_unsee(struct samples *samples, const struct slot *slot)
{
	struct type_record *record = &samples->types[slot->type];

	if (slot->state != SLOT_CANDIDATE ||
	    record->pending_window != samples->windows[slot->window].window)
		return;
	for (size_t i = 0; i < MAKERS_MAX; i++)
		if (record->makers[i].site == slot->site && record->makers[i].pending > 0)
			record->makers[i].pending--;
}

/* factor: what a sighting counts. */
static void take_pending(struct type_record *type, float factor)
{
	bool fades = sightings_of(type) > SIGHTINGS_FADE;

	type->pending_window = 0;
	for (size_t i = 0; i < MAKERS_MAX; i++) {
		struct maker *maker = &type->makers[i];

		maker->count += factor * (float)maker->pending;
		if (fades)
			maker->count /= 2;
		maker->pending = 0;
	}
}

/* Whether all sites that are known to make the type were in. */
static bool was_whole(const struct samples *samples, const struct type_record *type)
{
	bool known = false;

	for (size_t i = 0; i < MAKERS_MAX; i++) {
		const struct site_record *site = &samples->sites[type->makers[i].site];

		if (!(type->makers[i].count > 0))
			continue;
		if (!site->was_in && site->state != SAMPLE_SITE_ALWAYS)
			return false;
		known = true;
	}
	return known;
}

/*
 * Each sighting counts where all that makes the type was in; of windows that learn as many as in
 * so much progress.
 */
static float learning_factor(const struct samples *samples, const struct type_record *type,
			     const struct window_facts *facts)
{
	if (facts->learning)
		return facts->progress > 0 ? (float)(LEARNING_PROGRESS / facts->progress) : 0;
	return facts->complete || was_whole(samples, type);
}

void samples_types_learn(struct samples *samples, const struct window_facts *facts)
{
	for (size_t i = 1; i < samples->n_types; i++) {
		struct type_record *type = &samples->types[i];

		if (type->pending_window == facts->window)
			take_pending(type, learning_factor(samples, type, facts));
	}
}

/* Of the makers that are not always on, the one that makes most; NULL: none is known. */
static const struct maker *chief_maker(const struct samples *samples,
				       const struct type_record *type)
{
	const struct maker *chief = NULL;

	for (size_t i = 0; i < MAKERS_MAX; i++) {
		const struct maker *maker = &type->makers[i];

		if (maker->count > 0 && samples->sites[maker->site].state != SAMPLE_SITE_ALWAYS &&
		    (!chief || maker->count > chief->count))
			chief = maker;
	}
	return chief;
}

bool samples_type_is_sliced(const struct samples *samples, uint32_t type, uint16_t site,
			    uint32_t now)
{
	const struct type_record *record = &samples->types[type];
	const struct maker *chief = chief_maker(samples, record);
	const struct site_record *home;
	double elsewhere = 0;

	site = chief ? chief->site : site;
	if (!type || site >= SAMPLES_SITES_MAX)
		return false;
	home = &samples->sites[site];
	if (!home->slice || home->sliced_until < now)
		return false;
	for (size_t i = 0; i < MAKERS_MAX; i++) {
		const struct site_record *maker = &samples->sites[record->makers[i].site];

		if (maker->state != SAMPLE_SITE_ALWAYS && maker->slice != home->slice)
			elsewhere += (double)record->makers[i].count;
	}
	return !(elsewhere > 0 &&
		 is_more_than_ratio(elsewhere, sightings_of(record), SAMPLES_MIXED_RATIO));
}

void samples_sites_window_end(struct samples *samples, const struct window_facts *facts)
{
	uint32_t until = ticks_of(facts->closed + SLICED_STRATA * facts->stratum_progress);

	for (size_t i = 0; i < SAMPLES_SITES_MAX; i++) {
		struct site_record *site = &samples->sites[i];

		if (site->was_in && !facts->learning)
			samples_site_seen(site, ticks_of(facts->opened), ticks_of(facts->closed));
		if (site->was_in && !facts->complete && !facts->learning) {
			site->slice = facts->window;
			site->sliced_until = until;
		}
		site->was_in = site->state == SAMPLE_SITE_WINDOW;
	}
}

size_t samples_type_makers(const struct samples *samples, uint64_t type,
			   uint16_t ret[static SAMPLES_MAKERS_MAX])
{
	uint64_t index;
	size_t n = 0;

	if (table_get(&samples->by_type, type, &index) < 0 || !index)
		return 0;
	for (size_t i = 0; i < MAKERS_MAX; i++)
		if (samples->types[index].makers[i].count > 0)
			ret[n++] = samples->types[index].makers[i].site;
	return n;
}

bool samples_type_is_mixed(const struct samples *samples, uint64_t type)
{
	uint64_t held;

	return table_get(&samples->by_type, type, &held) == 0 &&
	       samples_type_is_made_below(samples, (uint32_t)held, SAMPLE_SITE_ALWAYS);
}

/* Sites that nobody tells of are on. */
static bool was_on(const struct samples *samples, uint16_t site, uint32_t when)
{
	const struct site_record *record = &samples->sites[site];

	return !samples->sites_told ||
	       (record->state == SAMPLE_SITE_ALWAYS && when >= record->on_since) ||
	       (when >= record->first_on && when < record->off_since);
}

/*
 * Whether all that makes a good part of the type was on when this was seen, as is known by now:
 * else it may stand for an object that one of them made, though they all are on since.
 */
static bool makers_were_on(const struct samples *samples, const struct slot *slot)
{
	const struct type_record *type = &samples->types[slot->type];
	double least = SAMPLES_MIXED_RATIO * sightings_of(type);
	double least_alone = SAMPLES_MIXED_RATIO * alone_sightings_of(type);

	for (size_t i = 0; i < MAKERS_MAX; i++)
		if (((double)type->makers[i].count > least ||
		     (double)type->makers[i].alone > least_alone) &&
		    !was_on(samples, type->makers[i].site, slot->seen))
			return false;
	return true;
}

bool samples_counts(const struct samples *samples, const struct slot *slot, uint16_t *ret_window)
{
	const struct window_record *window = &samples->windows[slot->window];
	bool mixed = samples_type_is_made_below(samples, slot->type, SAMPLE_SITE_ALWAYS);

	/* What was proven by itself has no window any more. */
	if (slot->tier == SAMPLE_ALWAYS_ON &&
	    (slot->unproven ? !mixed && makers_were_on(samples, slot) : !slot->window)) {
		*ret_window = 0;
		return true;
	}
	if (!slot->window || !(window->weight > 0) || (mixed && !window->complete && !slot->whole))
		return false;
	*ret_window = slot->window;
	return true;
}
