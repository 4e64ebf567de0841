/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the heap reader tells of blocks that are held. */
#include "ledger/state.h"

static bool is_newer(const struct entry *entry, uint64_t sequence)
{
	/* An owned buffer's created is its owner's. */
	return entry->allocated > sequence || (!entry->owner && entry->created > sequence);
}

static bool drop_mapping(struct ledger *ledger, uint64_t address, uint64_t sequence)
{
	struct mapping *mapping = mappings_find(&ledger->mappings, address);

	if (!mapping || mapping->start != address || mapping->allocated > sequence)
		return false;
	account_lose(ledger, REASON_FREE_MISSED);
	ledger_forget_mapping(ledger, mapping->start, mapping->end - mapping->start);
	return true;
}

bool ledger_drop_dead(struct ledger *ledger, uint64_t address, uint64_t sequence)
{
	struct blocks *table;
	struct entry *entry = search_held(ledger, address, &table);

	if (!entry)
		return drop_mapping(ledger, address, sequence);
	if (is_newer(entry, sequence))
		return false;
	account_lose(ledger, REASON_FREE_MISSED);
	account_drop(ledger, table, entry);
	return true;
}

void ledger_set_parked(struct ledger *ledger, uint64_t address, bool parked)
{
	struct blocks *table;
	struct entry *entry = search_held(ledger, address, &table);

	if (!entry || entry->parked == parked)
		return;
	account_discharge(ledger, entry);
	entry->parked = parked;
	account_charge(ledger, entry);
}

void ledger_adopt(struct ledger *ledger, uint64_t raw_address, uint64_t object_address)
{
	struct entry *raw = search_containing(ledger, raw_address);
	const struct entry *object = search_object(ledger, object_address);

	if (!raw || raw == object || raw->object_step || !object_address)
		return;
	if (object && entry_object(object) != object_address)
		object = NULL; /* another one lives there */
	if (raw->owner == object_address && object && raw->created == object->created &&
	    !raw->parked)
		return; /* known */
	account_discharge(ledger, raw);
	raw->owner = object_address;
	raw->created = object ? object->created : 0;
	raw->type = object ? object->type : 0;
	raw->parked = 0;
	if (raw->domain == LEDGER_RAW)
		raw->domain = LEDGER_MEM;
	if (object && raw->allocated < object->created)
		account_move(ledger, raw, object->stack);
	account_charge(ledger, raw);
}

void ledger_set_raw_type(struct ledger *ledger, uint64_t raw_address, uint64_t type)
{
	struct entry *raw = search_containing(ledger, raw_address);

	if (!raw || raw->object_step || raw->owner || raw->type)
		return;
	account_discharge(ledger, raw);
	raw->type = type;
	if (raw->domain == LEDGER_RAW)
		raw->domain = LEDGER_MEM;
	account_charge(ledger, raw);
}

static void set_extent(struct ledger *ledger, uint64_t object_address, uint64_t start,
		       uint64_t size_bytes, bool pool)
{
	struct entry *elder = blocks_find(&ledger->elders, object_address);
	struct entry *entry;
	struct entry was;

	if (!elder || !start || start > object_address || object_address - start >= size_bytes ||
	    object_address - start > ENTRY_OBJECT_REACH)
		return;
	was = *elder;
	account_discharge(ledger, elder);
	blocks_remove(&ledger->elders, elder);
	entry = blocks_find(&ledger->blocks, start) ? NULL : blocks_insert(&ledger->blocks, start);
	if (!entry) { /* given out since, so that the elder is dead; or no memory for it */
		account_take(ledger, was.stack, 0, 1);
		account_lose(ledger, blocks_find(&ledger->blocks, start) ? REASON_FREE_MISSED
									 : REASON_LEDGER_FULL);
		return;
	}
	was.address = start;
	was.startless = 0;
	was.pool = pool;
	entry_set_object(&was, object_address);
	entry_set_size(&was, size_bytes);
	*entry = was;
	account_give(ledger, entry->stack, entry_size(entry), 0);
	account_charge(ledger, entry);
}

void ledger_set_block(struct ledger *ledger, uint64_t object_address, uint64_t start,
		      uint64_t size_bytes)
{
	set_extent(ledger, object_address, start, size_bytes, true);
}

void ledger_set_chunk(struct ledger *ledger, uint64_t object_address, uint64_t start,
		      uint64_t size_bytes)
{
	set_extent(ledger, object_address, start, size_bytes, false);
}
