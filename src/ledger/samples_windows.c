/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Windows: the guard at their end, their weights, and what becomes of the old ones. */
#include <errno.h>
#include <stdlib.h>

#include "ledger/allocate.h"
#include "ledger/samples_state.h"

struct window_order {
	uint32_t window, index;
};

static int compare_windows(const void *a, const void *b)
{
	const struct window_order *one = a, *other = b;

	return (one->window > other->window) - (one->window < other->window);
}

static void window_drop_unused(struct samples *samples, uint16_t index)
{
	struct window_record *record = &samples->windows[index];

	if (!index || record->users || !record->ended)
		return;
	table_remove(&samples->by_window, record->window, NULL);
	*record = (struct window_record){.position = samples->free_window};
	samples->free_window = index;
}

void samples_window_unref(struct samples *samples, uint16_t index)
{
	if (!index)
		return;
	samples->windows[index].users--;
	window_drop_unused(samples, index);
}

/*
 * Of two windows one stays, drawn in proportion to their weights, and stands
 * for both: in the mean (w1 / (w1 + w2)) (w1 + w2) x1 + … = w1 x1 + w2 x2.
 * What is in the other goes; true: the first stays.
 */
static bool draw_survivor(struct samples *samples, struct window_record *first,
			  struct window_record *second)
{
	double both = first->weight + second->weight;
	bool first_stays = (double)(samples_draw(samples) >> 11) * 0x1p-53 * both < first->weight;

	(first_stays ? first : second)->weight = both;
	(first_stays ? second : first)->weight = -1; /* to go */
	samples->totals.merged_windows++;
	return first_stays;
}

static void remove_of_gone_windows(struct samples *samples)
{
	for (size_t i = 0; i < samples->n_slots; i++) {
		struct slot *slot = &samples->slots[i];

		if (slot->state == SLOT_FREE || !slot->window ||
		    samples->windows[slot->window].weight >= 0)
			continue;
		if (slot->tier == SAMPLE_ALWAYS_ON && slot->unproven) {
			/* By itself it may still count, should its type be made here alone. */
			samples_window_unref(samples, slot->window);
			slot->window = 0;
		} else {
			samples->totals.thinned++;
			samples_remove(samples, slot);
		}
	}
}

/* The older half of each stream's windows with a weight, in pairs of neighbours. */
static void merge_windows(struct samples *samples)
{
	struct window_order *order = ledger_allocate(samples->n_windows, sizeof(*order));

	if (!order)
		return;
	for (unsigned int stream = 0; stream < SAMPLES_STREAMS; stream++) {
		size_t n = 0;

		for (uint32_t i = 1; i < samples->n_windows; i++) {
			const struct window_record *record = &samples->windows[i];

			if (record->window && record->ended && record->weight > 0 &&
			    record->stream == stream)
				order[n++] = (struct window_order){record->window, i};
		}
		qsort(order, n, sizeof(*order), compare_windows);
		for (size_t i = 0; i + 1 < n / 2 + 1; i += 2)
			draw_survivor(samples, &samples->windows[order[i].index],
				      &samples->windows[order[i + 1].index]);
	}
	free(order);
	remove_of_gone_windows(samples);
}

uint16_t samples_window_index(struct samples *samples, uint32_t window)
{
	uint64_t held;
	uint32_t index;

	if (!window)
		return 0;
	if (table_get(&samples->by_window, window, &held) == 0)
		return (uint16_t)held;
	if (samples->free_window == NO_INDEX && samples->n_windows >= SAMPLES_WINDOWS_MAX)
		merge_windows(samples);
	index = samples->free_window;
	if (index == NO_INDEX) {
		if (samples_grow((void **)&samples->windows, &samples->windows_capacity,
				 samples->n_windows, SAMPLES_WINDOWS_MAX,
				 sizeof(*samples->windows)) < 0)
			return 0;
		index = (uint32_t)samples->n_windows;
	}
	if (table_put(&samples->by_window, window, index) < 0)
		return 0;
	if (index == samples->n_windows)
		samples->n_windows++;
	else
		samples->free_window = (uint32_t)samples->windows[index].position;
	samples->windows[index] = (struct window_record){.window = window};
	return (uint16_t)index;
}

bool samples_window_is_over(const struct samples *samples, uint32_t window)
{
	uint64_t index;

	for (size_t i = 0; window && i < OVER_WINDOWS; i++)
		if (samples->over[i] == window)
			return true;
	return table_get(&samples->by_window, window, &index) == 0 && samples->windows[index].ended;
}

/* Each type is sampled in one way at a time: in slices with its makers, or in complete windows. */
static bool is_for_others(const struct samples *samples, const struct slot *slot, bool complete,
			  uint32_t now)
{
	return samples->sites_told &&
	       samples_type_is_sliced(samples, slot->type, slot->site, now) == complete;
}

/* Candidates of the window that are older than the guard become due, the others go. */
static void guard_candidates(struct samples *samples, uint16_t index, uint64_t last_position,
			     double closed)
{
	bool complete = samples->windows[index].complete;
	uint32_t now = ticks_of(closed);

	for (size_t i = 0; i < samples->n_slots; i++) {
		struct slot *slot = &samples->slots[i];
		bool others;

		if (slot->state != SLOT_CANDIDATE || slot->window != index)
			continue;
		others = is_for_others(samples, slot, complete, now);
		if (slot->position <= last_position && !others) {
			slot->due = now;
		} else if (slot->tier == SAMPLE_ALWAYS_ON && slot->unproven) {
			/* Not for this window; by itself it may count. */
			samples_window_unref(samples, slot->window);
			slot->window = 0;
			slot->due = now + TICKS_PER_SECOND;
		} else {
			*(others ? &samples->totals.other_windows : &samples->totals.too_young) +=
				1;
			samples_remove(samples, slot);
			continue;
		}
		samples->next_due = slot->due < samples->next_due ? slot->due : samples->next_due;
	}
}

/* How many of n sightings are old enough. */
static uint64_t guard_keeps(uint64_t n)
{
	return n - n / SAMPLES_GUARD_SHARE - (n % SAMPLES_GUARD_SHARE != 0);
}

int samples_window_end(struct samples *samples, const struct window_facts *facts)
{
	uint64_t keeps = facts->learning ? 0 : guard_keeps(facts->sightings_before_detach);
	uint16_t index;

	if (!facts->window || facts->stream >= SAMPLES_STREAMS)
		return -EINVAL;
	if (samples_window_is_over(samples, facts->window))
		return -EINVAL;
	index = samples_window_index(samples, facts->window);
	if (!index)
		return -ENOSPC;
	samples->over[samples->totals.windows % OVER_WINDOWS] = facts->window;
	samples->windows[index].ended = true;
	samples->windows[index].complete = facts->complete;
	samples->windows[index].stream = facts->stream;
	samples->windows[index].kept_ratio = 1;
	if (keeps)
		samples->windows[index].kept_ratio =
			(double)keeps / (double)facts->sightings_before_detach;
	samples->windows[index].ordinal = samples->stream_windows[facts->stream]++;
	samples->totals.windows++;
	samples->totals.complete_windows += facts->complete;
	samples_types_learn(samples, facts);
	samples_sites_window_end(samples, facts);
	/* It must outlive the last of its candidates here. */
	samples->windows[index].users++;
	guard_candidates(samples, index, keeps, facts->closed);
	if (facts->progress > 0 && !facts->learning)
		samples_window_weight(samples, facts->window,
				      facts->stratum_progress / facts->progress);
	samples_window_unref(samples, index);
	return 0;
}

void samples_window_weight(struct samples *samples, uint32_t window, double weight)
{
	uint64_t index;

	if (!(weight > 0) || table_get(&samples->by_window, window, &index) < 0 ||
	    !samples->windows[index].ended)
		return;
	samples->windows[index].weight = weight / samples->windows[index].kept_ratio;
}

uint32_t samples_stream_windows(const struct samples *samples, unsigned int stream)
{
	return stream < SAMPLES_STREAMS ? samples->stream_windows[stream] : 0;
}
