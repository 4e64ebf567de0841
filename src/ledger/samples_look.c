/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* When samples are looked at, and what the answers make of them. */
#include <math.h>
#include <string.h>

#include "ledger/samples_state.h"

/*
 * A sample of age a is looked at again after a: at 1, 2, 4 … seconds; at least
 * so often.  One of a window sooner, after a quarter of its age: what comes and
 * goes at one address, always with the same value, is told by the moments in
 * which it is not there.
 */
#define LOOK_WINDOW_SHARE 4
#define LOOK_WINDOW_TICKS_MIN (TICKS_PER_SECOND / 10)
#define LOOK_SECONDS_MIN 1
#define LOOK_SECONDS_MAX 60

static uint32_t next_look(uint32_t now, uint32_t seen)
{
	uint32_t age = now > seen ? now - seen : 0;

	if (age < LOOK_SECONDS_MIN * TICKS_PER_SECOND)
		age = LOOK_SECONDS_MIN * TICKS_PER_SECOND;
	if (age > LOOK_SECONDS_MAX * TICKS_PER_SECOND)
		age = LOOK_SECONDS_MAX * TICKS_PER_SECOND;
	return age < TICKS_NEVER - 1 - now ? now + age : TICKS_NEVER - 1;
}

static uint32_t next_look_of(const struct slot *slot, uint32_t now)
{
	uint32_t next = next_look(now, slot->changes ? now : slot->seen), soon;

	if (slot->tier == SAMPLE_ALWAYS_ON)
		return next;
	soon = (now > slot->seen ? now - slot->seen : 0) / LOOK_WINDOW_SHARE;
	if (soon < LOOK_WINDOW_TICKS_MIN)
		soon = LOOK_WINDOW_TICKS_MIN;
	return now + soon < next ? now + soon : next;
}

static void next_round(struct samples *samples)
{
	samples->round = samples->round < ROUND_MAX ? samples->round + 1 : 1;
}

/* The slot has its place in this round. */
static void due_fill(const struct samples *samples, struct slot *slot, uint32_t now,
		     struct sample_due *ret)
{
	slot->round = samples->round;
	/* Should no answer come. */
	slot->due = now + LOOK_SECONDS_MIN * TICKS_PER_SECOND;
	*ret = (struct sample_due){
		.address = slot->address,
		.type = samples->types[slot->type].key,
		.handle = (uint64_t)samples->round << 32 | (uint64_t)(slot - samples->slots),
		.kind = slot->kind,
		.has_fingerprint = slot->state == SLOT_SAMPLE,
		.size_class = (uint8_t)slot->size_class,
	};
	if (ret->has_fingerprint)
		memcpy(ret->fingerprint, slot->fingerprint, sizeof(ret->fingerprint));
}

size_t samples_due(struct samples *samples, double time, struct sample_due *ret, size_t max)
{
	uint32_t now = ticks_of(time), next = TICKS_NEVER;
	size_t n = 0, scanned = 0;

	next_round(samples);
	if (samples->next_due > now)
		return 0;
	for (; scanned < samples->n_slots && n < max; scanned++) {
		struct slot *slot;

		samples->cursor = samples->cursor + 1 < samples->n_slots ? samples->cursor + 1 : 0;
		slot = &samples->slots[samples->cursor];
		if (slot->state == SLOT_FREE)
			continue;
		if (slot->due <= now)
			due_fill(samples, slot, now, &ret[n++]);
		next = slot->due < next ? slot->due : next;
	}
	samples->next_due = scanned < samples->n_slots ? now : next;
	return n;
}

size_t samples_due_of_window(struct samples *samples, uint32_t window, double time,
			     struct sample_due *ret, size_t max)
{
	uint32_t now = ticks_of(time);
	uint64_t index;
	size_t n = 0;

	next_round(samples);
	if (!window || table_get(&samples->by_window, window, &index) < 0)
		return 0;
	for (size_t i = 0; i < samples->n_slots && n < max; i++) {
		struct slot *slot = &samples->slots[i];

		if (slot->state == SLOT_CANDIDATE && slot->window == index && slot->due <= now)
			due_fill(samples, slot, now, &ret[n++]);
	}
	return n;
}

void samples_make_due(struct samples *samples, double time)
{
	for (size_t i = 0; i < samples->n_slots; i++)
		if (samples->slots[i].state == SLOT_SAMPLE)
			samples->slots[i].due = ticks_of(time);
	samples->next_due = ticks_of(time);
}

double samples_next_due(const struct samples *samples)
{
	if (samples->next_due == TICKS_NEVER)
		return INFINITY;
	return (double)samples->next_due / TICKS_PER_SECOND;
}

static uint32_t steps_of(uint64_t bytes)
{
	uint64_t steps = bytes / SAMPLE_STEP + (bytes % SAMPLE_STEP != 0);

	return steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX;
}

static void look_fill(struct samples *samples, struct slot *slot, const struct sample_seen *seen)
{
	slot->zombie = seen->answer == SAMPLE_ZOMBIE;
	slot->unknown = 0;
	slot->size_class =
		seen->size_class < SAMPLES_CLASS_BUFFERS ? seen->size_class : SAMPLES_CLASS_NONE;
	slot->own_steps = steps_of(seen->size_bytes);
	slot->buffer_steps = steps_of(seen->buffer_bytes);
	memcpy(slot->fingerprint, seen->fingerprint, sizeof(slot->fingerprint));
	if (!samples->types[slot->type].key && seen->type)
		slot->type = samples_type_index(samples, seen->type);
}

/*
 * What lives on comes to rest sooner or later; what is made and freed at one
 * address, time and again, is another one at each look.  A first look proves
 * neither.
 */
static void count_changes(struct slot *slot, bool changed)
{
	if (slot->state == SLOT_CANDIDATE)
		slot->changes = 1;
	else if (!changed) /* what has changed often rests for as long before it is believed */
		slot->changes -= slot->changes > 0;
	else if (slot->changes < CHANGES_MAX)
		slot->changes++;
}

static void look_count_gone(struct samples *samples, enum sample_answer answer)
{
	switch (answer) {
	case SAMPLE_REUSED:
		samples->totals.reused++;
		break;
	case SAMPLE_PARKED:
		samples->totals.parked++;
		break;
	default:
		samples->totals.dead++;
	}
}

static void take_answer(struct samples *samples, uint32_t now, struct slot *slot,
			const struct sample_seen *seen)
{
	switch (seen->answer) {
	case SAMPLE_CHANGED:
		if (slot->tier == SAMPLE_WINDOW && slot->changes == CHANGES_MAX) {
			look_count_gone(samples, SAMPLE_REUSED);
			samples_remove(samples, slot);
			break;
		}
		/* fall through */
	case SAMPLE_LIVE:
	case SAMPLE_ZOMBIE:
		look_fill(samples, slot, seen);
		count_changes(slot, seen->answer == SAMPLE_CHANGED);
		slot->due = next_look_of(slot, now);
		samples->next_due = slot->due < samples->next_due ? slot->due : samples->next_due;
		if (slot->state == SLOT_SAMPLE)
			break;
		samples->totals.became_samples++;
		samples_set_state(samples, slot, SLOT_SAMPLE);
		if (samples->totals.samples > samples->limits.max_samples)
			samples_thin(samples, SLOT_SAMPLE);
		break;
	case SAMPLE_UNKNOWN:
		samples->totals.unknown++;
		if (slot->state == SLOT_CANDIDATE) {
			samples_remove(samples, slot);
			break;
		}
		slot->unknown = 1;
		slot->due = next_look(now, slot->seen);
		samples->next_due = slot->due < samples->next_due ? slot->due : samples->next_due;
		break;
	default:
		look_count_gone(samples, seen->answer);
		samples_remove(samples, slot);
	}
}

void samples_looked(struct samples *samples, double time, const struct sample_seen *seen, size_t n)
{
	uint32_t now = ticks_of(time);

	for (size_t i = 0; i < n; i++) {
		uint32_t index = (uint32_t)seen[i].handle;
		struct slot *slot = index < samples->n_slots ? &samples->slots[index] : NULL;

		/* What has been replaced since has no round. */
		if (!slot || slot->state == SLOT_FREE || !samples->round ||
		    slot->round != samples->round || seen[i].handle >> 32 != samples->round)
			continue;
		slot->round = 0;
		take_answer(samples, now, slot, &seen[i]);
	}
}
