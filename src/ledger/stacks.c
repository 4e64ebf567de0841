/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/stacks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/allocate.h"

#define STACKS_CAPACITY_FIRST 64u
#define STACKS_MAX (1u << 28)

/* Ids are hashes, but of somebody else's making: spread them once more (Fibonacci hashing). */
static uint32_t id_slot(const struct stacks *stacks, uint64_t id)
{
	return (uint32_t)(id * 0x9e3779b97f4a7c15ull >> 32) & (stacks->n_slots - 1);
}

/* The slot of this id, or the empty one where it goes: at most half of them are in use. */
static uint32_t *slot_of(const struct stacks *stacks, uint64_t id)
{
	uint32_t slot = id_slot(stacks, id);

	while (stacks->slots[slot] && stacks->items[stacks->slots[slot] - 1].id != id)
		slot = (slot + 1) & (stacks->n_slots - 1);
	return &stacks->slots[slot];
}

static void slots_fill(struct stacks *stacks)
{
	memset(stacks->slots, 0, stacks->n_slots * sizeof(*stacks->slots));
	for (uint32_t i = 0; i < stacks->count; i++)
		*slot_of(stacks, stacks->items[i].id) = i + 1;
}

/* Both arrays or none. */
static int stacks_grow(struct stacks *stacks, uint32_t capacity)
{
	struct stack *items = ledger_allocate(capacity, sizeof(*items));
	uint32_t *slots = ledger_allocate((size_t)capacity * 2, sizeof(*slots));

	if (!items || !slots) {
		free(items);
		free(slots);
		return -ENOMEM;
	}
	if (stacks->count)
		memcpy(items, stacks->items, stacks->count * sizeof(*items));
	free(stacks->items);
	free(stacks->slots);
	stacks->items = items;
	stacks->slots = slots;
	stacks->capacity = capacity;
	stacks->n_slots = capacity * 2;
	slots_fill(stacks);
	return 0;
}

int stacks_init(struct stacks *stacks, size_t max)
{
	int error;

	*stacks = (struct stacks){.max = max < STACKS_MAX ? (uint32_t)max + 1 : STACKS_MAX};
	error = stacks_grow(stacks, STACKS_CAPACITY_FIRST);
	if (error)
		return error;
	stacks->items[STACK_OTHER].id = STACK_OTHER_ID;
	stacks->count = 1;
	slots_fill(stacks);
	return 0;
}

int stacks_intern(struct stacks *stacks, uint64_t id, uint32_t *ret)
{
	uint32_t *slot = slot_of(stacks, id);

	if (*slot) {
		*ret = *slot - 1;
		return 0;
	}
	if (stacks->count >= stacks->max)
		return -ENOSPC;
	if (stacks->count == stacks->capacity) {
		int error = stacks_grow(stacks, stacks->capacity * 2);

		if (error)
			return error;
		slot = slot_of(stacks, id);
	}
	stacks->items[stacks->count] = (struct stack){.id = id};
	*ret = stacks->count++;
	*slot = stacks->count;
	return 0;
}

struct rank {
	uint64_t bytes, last_sequence;
	uint32_t index;
};

/* Fewest bytes first; of equals, the one that was used longest ago. */
static int rank_compare(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? -1 : 1;
	if (x->last_sequence != y->last_sequence)
		return x->last_sequence < y->last_sequence ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

static void amount_add(struct amount *sum, const struct amount *amount)
{
	sum->bytes += amount->bytes;
	sum->blocks += amount->blocks;
}

static void stack_add(struct stack *sum, const struct stack *stack)
{
	amount_add(&sum->outstanding, &stack->outstanding);
	amount_add(&sum->parked, &stack->parked);
	amount_add(&sum->given, &stack->given);
	amount_add(&sum->freed, &stack->freed);
	amount_add(&sum->here, &stack->here);
	amount_add(&sum->away, &stack->away);
	for (int i = 0; i < LEDGER_DOMAINS; i++)
		sum->domain_bytes[i] += stack->domain_bytes[i];
	if (!sum->first_sequence ||
	    (stack->first_sequence && stack->first_sequence < sum->first_sequence))
		sum->first_sequence = stack->first_sequence;
	if (stack->last_sequence > sum->last_sequence)
		sum->last_sequence = stack->last_sequence;
}

/* Marks the smallest quarter in map, at least one: 1 there, 0 elsewhere. */
static void smallest_mark(const struct stacks *stacks, struct rank *ranks, uint32_t *map)
{
	uint32_t n = stacks->count - 1; /* "other" stays */
	uint32_t merged = n / 4 ? n / 4 : 1;

	for (uint32_t i = 0; i < n; i++) {
		const struct stack *stack = &stacks->items[i + 1];

		ranks[i] = (struct rank){stack->outstanding.bytes + stack->parked.bytes,
					 stack->last_sequence, i + 1};
	}
	qsort(ranks, n, sizeof(*ranks), rank_compare);
	for (uint32_t i = 0; i < merged && i < n; i++)
		map[ranks[i].index] = 1;
}

int stacks_merge_smallest(struct stacks *stacks, uint32_t **ret_map)
{
	struct rank *ranks = ledger_allocate(stacks->count, sizeof(*ranks));
	uint32_t *map = ledger_allocate(stacks->count, sizeof(*map));
	uint32_t kept = 1;

	if (!ranks || !map) {
		free(ranks);
		free(map);
		return -ENOMEM;
	}
	smallest_mark(stacks, ranks, map);
	free(ranks);
	for (uint32_t i = 1; i < stacks->count; i++) {
		if (map[i]) {
			stack_add(&stacks->items[STACK_OTHER], &stacks->items[i]);
			map[i] = STACK_OTHER;
		} else {
			stacks->items[kept] = stacks->items[i];
			map[i] = kept++;
		}
	}
	stacks->count = kept;
	slots_fill(stacks);
	*ret_map = map;
	return 0;
}

void stacks_done(struct stacks *stacks)
{
	free(stacks->items);
	free(stacks->slots);
	*stacks = (struct stacks){0};
}
