/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/mappings.h"

#include <stdlib.h>
#include <string.h>

#include "ledger/allocate.h"

#define MAPPINGS_CAPACITY_FIRST 64u

size_t mappings_after(const struct mappings *mappings, uint64_t address)
{
	size_t low = 0, high = mappings->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (mappings->items[middle].end > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

struct mapping *mappings_find(const struct mappings *mappings, uint64_t address)
{
	size_t index = mappings_after(mappings, address);

	if (index == mappings->count || mappings->items[index].start > address)
		return NULL;
	return &mappings->items[index];
}

static bool mappings_grow(struct mappings *mappings)
{
	size_t capacity = mappings->capacity ? mappings->capacity * 2 : MAPPINGS_CAPACITY_FIRST;
	struct mapping *items;

	if (mappings->count >= MAPPINGS_MAX)
		return false;
	items = ledger_allocate(capacity, sizeof(*items));
	if (!items)
		return false;
	if (mappings->count)
		memcpy(items, mappings->items, mappings->count * sizeof(*items));
	free(mappings->items);
	mappings->items = items;
	mappings->capacity = capacity;
	return true;
}

bool mappings_insert(struct mappings *mappings, const struct mapping *mapping)
{
	size_t index = mappings_after(mappings, mapping->start);

	if (mappings->count == mappings->capacity && !mappings_grow(mappings))
		return false;
	memmove(&mappings->items[index + 1], &mappings->items[index],
		(mappings->count - index) * sizeof(*mappings->items));
	mappings->items[index] = *mapping;
	mappings->count++;
	return true;
}

void mappings_remove(struct mappings *mappings, size_t index)
{
	mappings->count--;
	memmove(&mappings->items[index], &mappings->items[index + 1],
		(mappings->count - index) * sizeof(*mappings->items));
}

void mappings_done(struct mappings *mappings)
{
	free(mappings->items);
	*mappings = (struct mappings){0};
}
