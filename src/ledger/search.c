/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/state.h"

/* Blocks of pymalloc (3.8 and later) and of the C library begin at multiples of this. */
#define BLOCK_ALIGNMENT 16

/*
 * From an object back to its block: nothing; the collector's head (16); before
 * that the words of a managed dict and weak references (16; CPython 3.11 to
 * 3.13, _PyType_PreHeaderSize); before that the debug hooks' size and id (16).
 */
static struct entry *search_back(const struct ledger *ledger, uint64_t address, uint64_t reach)
{
	struct entry *unsized = NULL;

	for (uint64_t back = 0; back <= reach && back < address; back += BLOCK_ALIGNMENT) {
		struct entry *entry = blocks_find(&ledger->blocks, address - back);

		if (!entry)
			continue;
		if (back == 0 || entry_size(entry) > back)
			return entry;
		/* One of unknown size contains it only if no other does. */
		if (!entry_size(entry) && !unsized)
			unsized = entry;
	}
	return unsized;
}

struct entry *search_object(const struct ledger *ledger, uint64_t object)
{
	struct entry *entry = search_back(ledger, object, LEDGER_CREATE_REACH);

	return entry ? entry : blocks_find(&ledger->elders, object);
}

struct entry *search_held(struct ledger *ledger, uint64_t address, struct blocks **ret_table)
{
	struct entry *entry = blocks_find(&ledger->blocks, address);

	*ret_table = &ledger->blocks;
	if (entry)
		return entry;
	entry = search_back(ledger, address, LEDGER_CREATE_REACH);
	if (entry && entry_object(entry) == address)
		return entry;
	*ret_table = &ledger->elders;
	return blocks_find(&ledger->elders, address);
}

struct entry *search_containing(const struct ledger *ledger, uint64_t address)
{
	struct entry *entry =
		search_back(ledger, address & ~(BLOCK_ALIGNMENT - 1ull), LEDGER_FIND_REACH);

	if (entry && (!entry_size(entry) || address - entry->address < entry_size(entry)))
		return entry;
	return blocks_find(&ledger->elders, address);
}

/* Types are 16-aligned at least, static ones 32. */
static size_t header_index(uint64_t type)
{
	return (size_t)((type >> 4) * 0x9e3779b97f4a7c15ull >> 32) % HEADERS_CACHED;
}

void search_learn_header(struct ledger *ledger, uint64_t type, uint64_t bytes)
{
	struct type_header *header = &ledger->headers[header_index(type)];

	header->type = type;
	header->bytes = bytes;
}

/* Whether objects of this type may be that far from their block's start. */
static bool header_may_be(const struct ledger *ledger, uint64_t type, uint64_t bytes)
{
	const struct type_header *header = &ledger->headers[header_index(type)];

	return !type || header->type != type || header->bytes == bytes;
}

struct entry *search_elder(const struct ledger *ledger, uint64_t start, uint64_t size)
{
	if (!ledger->elders.count)
		return NULL;
	for (uint64_t back = 0; back <= LEDGER_CREATE_REACH && back < size;
	     back += BLOCK_ALIGNMENT) {
		struct entry *entry = blocks_find(&ledger->elders, start + back);

		if (entry && header_may_be(ledger, entry->type, back))
			return entry;
	}
	return NULL;
}
