/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/samples.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "ledger/allocate.h"
#include "ledger/samples_state.h"

#define FIRST_CAPACITY 256
#define SPLITMIX_STEP 0x9e3779b97f4a7c15ULL
#define SLOTS_MAX (1u << 24)
/* Always-on candidates are looked at when they are so old: what was in flight is gone by then. */
#define FIRST_LOOK_SECONDS 1.0
/* Out for so long at most: its group has changed. */
#define MOMENT_TICKS TICKS_PER_SECOND

DEFINE_CLEANUP(struct samples *, samples_free)

int samples_grow(void **array, size_t *capacity, size_t n, size_t max, size_t size)
{
	size_t larger = *capacity ? *capacity * 2 : FIRST_CAPACITY;
	void *grown;

	if (n < *capacity)
		return 0;
	if (n >= max)
		return -ENOSPC;
	if (larger > max)
		larger = max;
	grown = ledger_allocate(larger, size);
	if (!grown)
		return -ENOMEM;
	if (*array)
		memcpy(grown, *array, n * size);
	free(*array);
	*array = grown;
	*capacity = larger;
	return 0;
}

/* The records at index 0 stand for "no window" and "any other type". */
static int samples_reserve_first(struct samples *samples)
{
	int r = samples_grow((void **)&samples->windows, &samples->windows_capacity, 0,
			     SAMPLES_WINDOWS_MAX, sizeof(*samples->windows));

	if (r < 0)
		return r;
	r = samples_grow((void **)&samples->types, &samples->types_capacity, 0, SAMPLES_TYPES_MAX,
			 sizeof(*samples->types));
	if (r < 0)
		return r;
	samples->n_windows = samples->n_types = 1;
	samples->sites = ledger_allocate(SAMPLES_SITES_MAX, sizeof(*samples->sites));
	return samples->sites ? 0 : -ENOMEM;
}

int samples_new(const struct samples_limits *limits, struct samples **ret)
{
	CLEANUP(samples_free) struct samples *samples = ledger_allocate(1, sizeof(*samples));
	int r;

	if (!samples)
		return -ENOMEM;
	if (limits)
		samples->limits = *limits;
	if (!samples->limits.max_samples)
		samples->limits.max_samples = SAMPLES_DEFAULT;
	if (!samples->limits.max_candidates)
		samples->limits.max_candidates = SAMPLES_CANDIDATES_DEFAULT;
	if (!samples->limits.max_stacks)
		samples->limits.max_stacks = SAMPLES_STACKS_DEFAULT;
	if (samples->limits.max_samples > SLOTS_MAX / 2 ||
	    samples->limits.max_candidates > SLOTS_MAX / 2 ||
	    samples->limits.max_stacks > SLOTS_MAX)
		return -EINVAL;
	/* One of each may be over its limit before it is thinned. */
	samples->slots_max = samples->limits.max_samples + samples->limits.max_candidates + 2;
	samples->by_address = table_init(samples->slots_max);
	samples->by_stack = table_init(samples->limits.max_stacks);
	samples->by_type = table_init(SAMPLES_TYPES_MAX);
	samples->by_window = table_init(SAMPLES_WINDOWS_MAX);
	samples->free_slot = samples->free_stack = samples->free_window = NO_INDEX;
	samples->next_due = TICKS_NEVER;
	r = samples_reserve_first(samples);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(samples);
	return 0;
}

void samples_free(struct samples *samples)
{
	if (!samples)
		return;
	table_done(&samples->by_address);
	table_done(&samples->by_stack);
	table_done(&samples->by_type);
	table_done(&samples->by_window);
	free(samples->slots);
	free(samples->stacks);
	free(samples->types);
	free(samples->windows);
	free(samples->sites);
	free(samples);
}

uint64_t samples_draw(struct samples *samples)
{
	/* splitmix64, from a start that near seeds don't share. */
	return hash_u64(hash_u64(samples->limits.seed + SPLITMIX_STEP) +
			++samples->draws * SPLITMIX_STEP);
}

/* --- stacks: a record lives as long as something of it does ----------------------------------- */

static int stack_index(struct samples *samples, uint64_t key, uint32_t *ret)
{
	uint64_t held;
	uint32_t index = samples->free_stack;
	int r;

	if (table_get(&samples->by_stack, key, &held) == 0) {
		*ret = (uint32_t)held;
		return 0;
	}
	if (index == NO_INDEX) {
		r = samples_grow((void **)&samples->stacks, &samples->stacks_capacity,
				 samples->n_stacks, samples->limits.max_stacks,
				 sizeof(*samples->stacks));
		if (r < 0)
			return r;
		index = (uint32_t)samples->n_stacks;
	}
	r = table_put(&samples->by_stack, key, index);
	if (r < 0)
		return r;
	if (index == samples->n_stacks)
		samples->n_stacks++;
	else
		samples->free_stack = (uint32_t)samples->stacks[index].key;
	samples->stacks[index] = (struct stack_record){.key = key};
	*ret = index;
	return 0;
}

static void stack_drop_unused(struct samples *samples, uint32_t index)
{
	struct stack_record *stack = &samples->stacks[index];

	if (stack->candidates || stack->samples)
		return;
	table_remove(&samples->by_stack, stack->key, NULL);
	stack->key = samples->free_stack;
	samples->free_stack = index;
}

/* --- slots ------------------------------------------------------------------------------------ */

static void count_state(struct samples *samples, const struct slot *slot, int step)
{
	struct stack_record *stack = &samples->stacks[slot->stack];

	if (slot->state == SLOT_CANDIDATE) {
		stack->candidates += (uint32_t)step;
		samples->totals.candidates += (size_t)step;
	} else if (slot->state == SLOT_SAMPLE) {
		stack->samples += (uint32_t)step;
		samples->totals.samples += (size_t)step;
	}
}

void samples_set_state(struct samples *samples, struct slot *slot, enum slot_state state)
{
	count_state(samples, slot, -1);
	slot->state = state;
	count_state(samples, slot, 1);
}

void samples_remove(struct samples *samples, struct slot *slot)
{
	uint32_t stack = slot->stack;

	table_remove(&samples->by_address, slot->address, NULL);
	samples_window_unref(samples, slot->window);
	samples_set_state(samples, slot, SLOT_FREE);
	stack_drop_unused(samples, stack);
	*slot = (struct slot){.stack = samples->free_slot};
	samples->free_slot = (uint32_t)(slot - samples->slots);
}

static struct slot *slot_find(const struct samples *samples, uint64_t address)
{
	uint64_t index;

	return table_get(&samples->by_address, address, &index) == 0 ? &samples->slots[index]
								     : NULL;
}

/* A slot for this address, not yet counted for anything; NULL: no room or no memory. */
static struct slot *slot_take(struct samples *samples, uint64_t address)
{
	uint32_t index = samples->free_slot;

	if (index == NO_INDEX) {
		if (samples_grow((void **)&samples->slots, &samples->slots_capacity,
				 samples->n_slots, samples->slots_max, sizeof(*samples->slots)) < 0)
			return NULL;
		index = (uint32_t)samples->n_slots;
	}
	if (table_put(&samples->by_address, address, index) < 0)
		return NULL;
	if (index == samples->n_slots)
		samples->n_slots++;
	else
		samples->free_slot = samples->slots[index].stack;
	samples->slots[index] = (struct slot){.address = address};
	return &samples->slots[index];
}

/* --- sightings -------------------------------------------------------------------------------- */

static uint32_t steps_of(uint64_t bytes)
{
	uint64_t steps = bytes / SAMPLE_STEP + (bytes % SAMPLE_STEP != 0);

	return steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX;
}

void samples_site_is(struct samples *samples, uint16_t site, enum sample_site state)
{
	uint32_t now = samples->latest ? samples->latest + 1 : 0;
	struct site_record *record;

	if (site >= SAMPLES_SITES_MAX)
		return;
	record = &samples->sites[site];
	if (state == SAMPLE_SITE_ALWAYS && record->state != state) {
		record->on_since = now;
		samples_site_seen(record, now, now);
	} else if (record->state == SAMPLE_SITE_ALWAYS && record->state != state) {
		/* A moment's absence goes on with what was before, a longer one doesn't. */
		if (!record->off_since || record->on_since > record->off_since + MOMENT_TICKS)
			record->first_on = record->on_since;
		record->off_since = now;
		samples_site_seen(record, now, now);
	}
	record->state = (uint8_t)state;
	record->was_in |= state == SAMPLE_SITE_WINDOW;
	samples->sites_told = true;
}

/*
 * By itself, or as one of its window's?  Where it can be neither, it is
 * displaced, and not kept.
 */
static bool is_displaced(const struct samples *samples, const struct sighting *sighting,
			 uint32_t type, uint16_t *window)
{
	if (sighting->tier == SAMPLE_ALWAYS_ON &&
	    !samples_type_is_made_below(samples, type, SAMPLE_SITE_ALWAYS)) {
		/* What is not known yet may turn out to be made elsewhere too. */
		if (samples_type_is_known(samples, type))
			*window = 0;
		return false;
	}
	return !*window;
}

static void keep_candidate(struct samples *samples, const struct sighting *sighting, uint32_t type,
			   uint16_t window)
{
	struct slot *slot;
	uint32_t stack;

	if (stack_index(samples, sighting->stack, &stack) < 0) {
		samples->totals.refused_sightings++;
		return;
	}
	slot = slot_take(samples, sighting->address);
	if (!slot) {
		stack_drop_unused(samples, stack);
		samples->totals.refused_sightings++;
		return;
	}
	slot->stack = stack;
	slot->type = type;
	slot->window = window;
	slot->site = sighting->site;
	slot->kind = sighting->kind;
	slot->tier = sighting->tier;
	slot->unproven = sighting->refines || !samples_type_is_known(samples, type);
	slot->whole = samples->sites_told &&
		      !samples_type_is_made_below(samples, type, SAMPLE_SITE_WINDOW);
	slot->size_class = SAMPLES_CLASS_NONE;
	slot->seen = ticks_of(sighting->time);
	slot->own_steps = steps_of(sighting->size_bytes);
	slot->due = TICKS_NEVER; /* until the window's end */
	if (window) {
		slot->position = samples->windows[window].position;
		samples->windows[window].users++;
	} else {
		slot->due = ticks_of(sighting->time + FIRST_LOOK_SECONDS);
		samples->next_due = slot->due < samples->next_due ? slot->due : samples->next_due;
	}
	samples_set_state(samples, slot, SLOT_CANDIDATE);
	if (samples->totals.candidates > samples->limits.max_candidates)
		samples_thin(samples, SLOT_CANDIDATE);
}

void samples_see(struct samples *samples, const struct sighting *sighting)
{
	uint32_t type = samples_type_index(samples, sighting->type);
	bool late = samples_window_is_over(samples, sighting->window);
	uint16_t window = late ? 0 : samples_window_index(samples, sighting->window);
	struct slot *held = slot_find(samples, sighting->address);

	samples->totals.sightings++;
	if (sighting->refines) {
		/* In windows the hot site itself shows as much, with the same stack. */
		if (sighting->tier == SAMPLE_WINDOW) {
			if (window)
				samples->windows[window].position++;
			return;
		}
		if (held && window && held->window == window && held->type == type)
			samples_types_unsee(samples, held);
	}
	if (held) {
		samples_remove(samples, held);
		samples->totals.replaced++;
	}
	samples->latest = ticks_of(sighting->time);
	if (window) {
		samples->windows[window].position++;
		samples_types_see(samples, type, sighting);
	} else if (sighting->tier == SAMPLE_ALWAYS_ON) {
		samples_types_see_alone(samples, type, sighting->site);
	}
	if (!sighting->address)
		return;
	if (sighting->tier == SAMPLE_WINDOW && late)
		samples->totals.too_young++;
	else if (sighting->tier == SAMPLE_WINDOW && !window)
		samples->totals.refused_sightings++;
	else if (is_displaced(samples, sighting, type, &window))
		samples->totals.displaced++;
	else
		keep_candidate(samples, sighting, type, window);
}

void samples_free_seen(struct samples *samples, uint64_t address)
{
	struct slot *held = slot_find(samples, address);

	if (!held)
		return;
	samples_remove(samples, held);
	samples->totals.freed++;
}

void samples_totals(const struct samples *samples, struct samples_totals *ret)
{
	*ret = samples->totals;
	ret->zombies = ret->unknown_now = 0;
	for (size_t i = 0; i < samples->n_slots; i++) {
		ret->zombies += samples->slots[i].zombie;
		ret->unknown_now += samples->slots[i].unknown;
	}
	ret->memory_bytes =
		sizeof(*samples) + samples->slots_capacity * sizeof(*samples->slots) +
		samples->stacks_capacity * sizeof(*samples->stacks) +
		samples->types_capacity * sizeof(*samples->types) +
		samples->windows_capacity * sizeof(*samples->windows) +
		SAMPLES_SITES_MAX * sizeof(*samples->sites) +
		table_memory_bytes(&samples->by_address) + table_memory_bytes(&samples->by_stack) +
		table_memory_bytes(&samples->by_type) + table_memory_bytes(&samples->by_window);
}
