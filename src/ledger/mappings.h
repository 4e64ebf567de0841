/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Address ranges that don't overlap, in the order of their addresses: mapped
 * memory, of which any part can be unmapped.  A sorted array: there are tens
 * of thousands at most (vm.max_map_count is 65,530 by default).
 */
#ifndef PYLEAKD_LEDGER_MAPPINGS_H
#define PYLEAKD_LEDGER_MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAPPINGS_MAX (1u << 17)

struct mapping {
	uint64_t start, end; /* end: the first address behind it */
	uint64_t allocated; /* sequence number */
	uint32_t stack;
};

struct mappings {
	struct mapping *items;
	size_t count, capacity;
};

void mappings_done(struct mappings *mappings);

/* Index of the first one that ends behind this address; count: none. */
size_t mappings_after(const struct mappings *mappings, uint64_t address);
/* The one that contains this address, or NULL. */
struct mapping *mappings_find(const struct mappings *mappings, uint64_t address);
/* False: no memory, or MAPPINGS_MAX. It may not overlap any. */
bool mappings_insert(struct mappings *mappings, const struct mapping *mapping);
void mappings_remove(struct mappings *mappings, size_t index);

#endif
