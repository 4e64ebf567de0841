/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "ledger/state.h"

void account_lose(struct ledger *ledger, enum reason reason)
{
	ledger->totals.losses[reason]++;
}

static void table_remap(const struct blocks *table, const uint32_t *map)
{
	for (size_t i = 0; i < table->capacity; i++) {
		if (table->slots[i].address)
			table->slots[i].stack = map[table->slots[i].stack];
	}
}

/* Makes room for stacks.  Walks all that is held, but frees a quarter of the places each time. */
static bool stacks_make_room(struct ledger *ledger)
{
	uint32_t before = ledger->stacks.count;
	uint32_t *map;

	if (stacks_merge_smallest(&ledger->stacks, &map) < 0)
		return false;
	ledger->totals.merged_stacks += before - ledger->stacks.count;
	table_remap(&ledger->blocks, map);
	table_remap(&ledger->elders, map);
	for (size_t i = 0; i < ledger->mappings.count; i++)
		ledger->mappings.items[i].stack = map[ledger->mappings.items[i].stack];
	free(map);
	return true;
}

uint32_t account_stack(struct ledger *ledger, uint64_t id)
{
	uint32_t index;
	int error = stacks_intern(&ledger->stacks, id, &index);

	if (error == -ENOSPC && stacks_make_room(ledger))
		error = stacks_intern(&ledger->stacks, id, &index);
	return error ? STACK_OTHER : index;
}

static size_t held_blocks(const struct ledger *ledger)
{
	return ledger->blocks.count + ledger->elders.count + ledger->mappings.count;
}

struct entry *account_insert(struct ledger *ledger, struct blocks *table, uint64_t address)
{
	struct entry *entry = NULL;

	if (held_blocks(ledger) < ledger->max_blocks)
		entry = blocks_insert(table, address);
	if (!entry)
		account_lose(ledger, REASON_LEDGER_FULL);
	return entry;
}

/* sign: 1 or -1, as unsigned numbers wrap. */
static void account_sum(struct ledger *ledger, const struct entry *entry, uint64_t sign)
{
	struct stack *stack = &ledger->stacks.items[entry->stack];
	struct ledger_totals *totals = &ledger->totals;
	uint64_t bytes = sign * entry_size(entry);

	if (!entry->allocated) {
		totals->elder_bytes += bytes;
		totals->elder_blocks += sign;
	}
	if (entry->parked) {
		stack->parked.bytes += bytes;
		stack->parked.blocks += sign;
		totals->parked_bytes += bytes;
		totals->parked_blocks += sign;
		return;
	}
	stack->outstanding.bytes += bytes;
	stack->outstanding.blocks += sign;
	stack->domain_bytes[entry->domain] += bytes;
	totals->outstanding_bytes += bytes;
	totals->outstanding_blocks += sign;
	if (entry->pool) {
		totals->pool_bytes += bytes;
		totals->pool_blocks += sign;
	} else {
		totals->native_bytes += bytes;
		totals->native_blocks += sign;
	}
}

void account_charge(struct ledger *ledger, const struct entry *entry)
{
	account_sum(ledger, entry, 1);
}

void account_discharge(struct ledger *ledger, const struct entry *entry)
{
	account_sum(ledger, entry, UINT64_MAX);
}

void account_give(struct ledger *ledger, uint32_t index, uint64_t bytes, uint64_t blocks)
{
	struct stack *stack = &ledger->stacks.items[index];

	stack->given.bytes += bytes;
	stack->given.blocks += blocks;
	if (!stack->first_sequence)
		stack->first_sequence = ledger->sequence;
	stack->last_sequence = ledger->sequence;
}

void account_take(struct ledger *ledger, uint32_t index, uint64_t bytes, uint64_t blocks)
{
	struct stack *stack = &ledger->stacks.items[index];

	stack->freed.bytes += bytes;
	stack->freed.blocks += blocks;
}

void account_move(struct ledger *ledger, struct entry *entry, uint32_t index)
{
	struct stack *from = &ledger->stacks.items[entry->stack];
	struct stack *to = &ledger->stacks.items[index];

	if (from == to)
		return;
	from->away.bytes += entry_size(entry);
	from->away.blocks++;
	to->here.bytes += entry_size(entry);
	to->here.blocks++;
	if (!to->first_sequence)
		to->first_sequence = ledger->sequence;
	to->last_sequence = ledger->sequence;
	entry->stack = index;
}

void account_drop(struct ledger *ledger, struct blocks *table, struct entry *entry)
{
	account_discharge(ledger, entry);
	account_take(ledger, entry->stack, entry_size(entry), 1);
	blocks_remove(table, entry);
}

static void map_bytes(struct ledger *ledger, uint32_t index, uint64_t bytes, uint64_t blocks)
{
	struct stack *stack = &ledger->stacks.items[index];

	account_give(ledger, index, bytes, blocks);
	stack->outstanding.bytes += bytes;
	stack->outstanding.blocks += blocks;
	stack->domain_bytes[LEDGER_MAPPED] += bytes;
	ledger->totals.outstanding_bytes += bytes;
	ledger->totals.outstanding_blocks += blocks;
	ledger->totals.mapped_bytes += bytes;
}

void account_unmap_bytes(struct ledger *ledger, uint32_t index, uint64_t bytes, uint64_t blocks)
{
	struct stack *stack = &ledger->stacks.items[index];

	account_take(ledger, index, bytes, blocks);
	stack->outstanding.bytes -= bytes;
	stack->outstanding.blocks -= blocks;
	stack->domain_bytes[LEDGER_MAPPED] -= bytes;
	ledger->totals.outstanding_bytes -= bytes;
	ledger->totals.outstanding_blocks -= blocks;
	ledger->totals.mapped_bytes -= bytes;
}

static bool insert_mapping(struct ledger *ledger, const struct mapping *mapping)
{
	if (held_blocks(ledger) < ledger->max_blocks && mappings_insert(&ledger->mappings, mapping))
		return true;
	account_lose(ledger, REASON_LEDGER_FULL);
	return false;
}

void account_map(struct ledger *ledger, const struct mapping *mapping)
{
	if (insert_mapping(ledger, mapping))
		map_bytes(ledger, mapping->stack, mapping->end - mapping->start, 1);
}

void account_split(struct ledger *ledger, const struct mapping *rest)
{
	if (insert_mapping(ledger, rest))
		map_bytes(ledger, rest->stack, 0, 1);
	else
		account_unmap_bytes(ledger, rest->stack, rest->end - rest->start, 0);
}
