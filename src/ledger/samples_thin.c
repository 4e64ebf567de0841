/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What is done when there are too many: see the header's paragraph on weights. */
#include "ledger/samples_state.h"

#define COUNT_BITS 32
#define ROUNDS_MAX 64
#define THINNED_SHARE 8 /* at least so much of the limit is to be gained, if it can be */

static uint32_t count_of(const struct stack_record *stack, enum slot_state state)
{
	return state == SLOT_CANDIDATE ? stack->candidates : stack->samples;
}

static unsigned int bits_of(uint32_t count)
{
	return count ? COUNT_BITS - (unsigned int)__builtin_clz(count) : 0;
}

/* Stacks with so many bits in their count are enough; at least 2 of them in each stack. */
static unsigned int choose_bits(const struct samples *samples, enum slot_state state)
{
	size_t by_bits[COUNT_BITS + 1] = {0}, gained = 0;
	size_t all = state == SLOT_CANDIDATE ? samples->totals.candidates : samples->totals.samples;
	unsigned int bits = COUNT_BITS;

	for (size_t i = 0; i < samples->n_stacks; i++) {
		uint32_t count = count_of(&samples->stacks[i], state);

		by_bits[bits_of(count)] += count;
	}
	for (; bits > 1; bits--) {
		gained += by_bits[bits] / 2;
		if (gained > all / THINNED_SHARE)
			return bits;
	}
	return 1;
}

/* In each stack's mark: the lowest level of its slots. */
static void mark_lowest_levels(struct samples *samples, enum slot_state state)
{
	for (size_t i = 0; i < samples->n_stacks; i++)
		samples->stacks[i].mark = LEVEL_MAX;
	for (size_t i = 0; i < samples->n_slots; i++) {
		const struct slot *slot = &samples->slots[i];

		if (slot->state == state && slot->level < samples->stacks[slot->stack].mark)
			samples->stacks[slot->stack].mark = slot->level;
	}
}

/* bits is that of the counts before anything is removed: it must not depend on the coins. */
static void halve(struct samples *samples, enum slot_state state, unsigned int bits)
{
	for (size_t i = 0; i < samples->n_stacks; i++)
		if (bits_of(count_of(&samples->stacks[i], state)) < bits)
			samples->stacks[i].mark = NO_INDEX;
	for (size_t i = 0; i < samples->n_slots; i++) {
		struct slot *slot = &samples->slots[i];

		if (slot->state != state || slot->level != samples->stacks[slot->stack].mark ||
		    slot->level == LEVEL_MAX)
			continue;
		if (samples_draw(samples) & 1) {
			slot->level++;
			continue;
		}
		samples->totals.thinned++;
		samples_remove(samples, slot);
	}
}

/*
 * A round may gain little: of a stack whose samples are of high levels only the
 * few new ones go.  Ends: each round raises the lowest level of a stack that has
 * at least two, or loses samples.
 */
void samples_thin(struct samples *samples, enum slot_state state)
{
	const size_t *held =
		state == SLOT_CANDIDATE ? &samples->totals.candidates : &samples->totals.samples;
	size_t limit = state == SLOT_CANDIDATE ? samples->limits.max_candidates
					       : samples->limits.max_samples;

	for (int round = 0; round<ROUNDS_MAX && * held> limit - limit / THINNED_SHARE; round++) {
		mark_lowest_levels(samples, state);
		halve(samples, state, choose_bits(samples, state));
	}
}
