/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which types are made at hot sites too, learned from complete windows. */
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

/* Between the bounds what was decided before stays. */
static void type_decide(struct type_record *type)
{
	double sightings = (double)type->hot + (double)type->cold;
	double draws = sightings / SIGHTINGS_A_DRAW, hot = (double)type->hot / SIGHTINGS_A_DRAW;

	if (!type->key || sightings < SAMPLES_MIXED_SIGHTINGS_MIN)
		return;
	if (wilson_bound(hot, draws, -1) > SAMPLES_MIXED_RATIO)
		type->mixed = true;
	else if (wilson_bound(hot, draws, 1) < SAMPLES_MIXED_RATIO)
		type->mixed = false;
}

void samples_types_learn(struct samples *samples, uint32_t window, bool complete)
{
	for (size_t i = 1; i < samples->n_types; i++) {
		struct type_record *type = &samples->types[i];

		if (type->pending_window != window)
			continue;
		type->pending_window = 0;
		if (!complete)
			continue;
		type->hot += (float)type->pending_hot;
		type->cold += (float)type->pending_cold;
		type_decide(type);
		if (type->hot + type->cold > SIGHTINGS_FADE) {
			type->hot /= 2;
			type->cold /= 2;
		}
	}
}

bool samples_type_is_mixed(const struct samples *samples, uint64_t type)
{
	uint64_t held;

	return table_get(&samples->by_type, type, &held) == 0 && samples->types[held].mixed;
}

bool samples_counts(const struct samples *samples, const struct slot *slot, uint16_t *ret_window)
{
	const struct window_record *window = &samples->windows[slot->window];
	bool mixed = samples->types[slot->type].mixed;

	if (slot->tier == SAMPLE_ALWAYS_ON && !mixed) {
		*ret_window = 0;
		return true;
	}
	if (!slot->window || (mixed && !window->complete) || !(window->weight > 0))
		return false;
	*ret_window = slot->window;
	return true;
}
