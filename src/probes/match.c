/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "probes/match.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

void matches_done(struct matches *matches)
{
	free(matches->items);
	free(matches->slots);
	*matches = (struct matches){0};
}

static uint32_t *slot_of(const struct matches *matches, size_t at, unsigned kind)
{
	size_t slot = hash_combine(at, kind) & (matches->n_slots - 1);

	for (; matches->slots[slot] > 0; slot = (slot + 1) & (matches->n_slots - 1)) {
		const struct match *item = &matches->items[matches->slots[slot] - 1];

		if (item->at == at && item->kind == kind)
			break;
	}
	return &matches->slots[slot];
}

struct match *matches_find(const struct matches *matches, size_t at, unsigned kind)
{
	const uint32_t *slot;

	if (matches->n_slots == 0)
		return NULL;
	slot = slot_of(matches, at, kind);
	return *slot > 0 ? &matches->items[*slot - 1] : NULL;
}

static int grow(struct matches *matches)
{
	const size_t capacity = matches->capacity ? matches->capacity * 2 : 512;
	struct match *items;
	uint32_t *slots;

	if (capacity > MATCHES_MAX)
		return -E2BIG;
	items = realloc(matches->items, capacity * sizeof(*items));
	if (!items)
		return -ENOMEM;
	matches->items = items;
	slots = calloc(2 * capacity, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(matches->slots);
	matches->slots = slots;
	matches->n_slots = 2 * capacity;
	matches->capacity = capacity;
	for (size_t i = 0; i < matches->n; i++)
		*slot_of(matches, items[i].at, items[i].kind) = (uint32_t)i + 1;
	return 0;
}

static bool name_equal(const struct state_name *a, const struct state_name *b)
{
	return a->reg == b->reg && a->memory == b->memory && a->displacement == b->displacement;
}

static void meet(struct match *match, const struct match *other)
{
	match->registers &= other->registers;
	if (match->size_register != other->size_register)
		match->size_register = 0;
	match->named = match->named && other->named && name_equal(&match->name, &other->name);
	match->pool_named =
		match->pool_named && other->pool_named && name_equal(&match->pool, &other->pool);
}

void matches_add(struct matches *matches, const struct match *match)
{
	struct match *known = matches_find(matches, match->at, match->kind);

	if (known) {
		meet(known, match);
		return;
	}
	if (matches->n == matches->capacity) {
		int error = grow(matches);

		if (error) {
			matches->error = matches->error ? matches->error : error;
			return;
		}
	}
	matches->items[matches->n++] = *match;
	*slot_of(matches, match->at, match->kind) = (uint32_t)matches->n;
}
