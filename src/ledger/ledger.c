/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/ledger.h"

#include <errno.h>
#include <stdlib.h>

#include "ledger/allocate.h"
#include "ledger/state.h"

int ledger_new(const struct ledger_limits *limits, struct ledger **ret)
{
	struct ledger *ledger = ledger_allocate(1, sizeof(*ledger));
	size_t max_blocks = limits ? limits->max_blocks : 0;
	size_t max_stacks = limits ? limits->max_stacks : 0;
	int error;

	if (!ledger)
		return -ENOMEM;
	ledger->max_blocks = max_blocks ? max_blocks : LEDGER_BLOCKS_DEFAULT;
	error = stacks_init(&ledger->stacks, max_stacks ? max_stacks : LEDGER_STACKS_DEFAULT);
	if (error) {
		free(ledger);
		return error;
	}
	*ret = ledger;
	return 0;
}

void ledger_free(struct ledger *ledger)
{
	if (!ledger)
		return;
	blocks_done(&ledger->blocks);
	blocks_done(&ledger->elders);
	mappings_done(&ledger->mappings);
	stacks_done(&ledger->stacks);
	free(ledger);
}

uint64_t ledger_sequence(const struct ledger *ledger)
{
	return ledger->sequence;
}

/* The owner lives where it did, and is the one that was created then. */
static bool owner_lives(const struct ledger *ledger, const struct entry *raw)
{
	const struct entry *owner = search_object(ledger, raw->owner);

	if (!owner || entry_object(owner) != raw->owner)
		return !raw->created; /* older than the attach, and nothing came in its place */
	return owner->created == raw->created;
}

static struct ledger_block block_of(const struct ledger *ledger, const struct entry *entry)
{
	bool owned = entry->owner && owner_lives(ledger, entry);

	return (struct ledger_block){
		.address = entry->address,
		.size_bytes = entry_size(entry),
		.stack = ledger->stacks.items[entry->stack].id,
		.allocated = entry->allocated,
		.created = entry->owner ? 0 : entry->created,
		.object = entry_object(entry),
		.type = entry->owner && !owned ? 0 : entry->type,
		.owner = owned ? entry->owner : 0,
		.domain = entry_domain(entry),
		.pool = entry->pool,
		.parked = entry->parked,
		.elder = !entry->allocated,
	};
}

static struct ledger_block block_of_mapping(const struct ledger *ledger,
					    const struct mapping *mapping)
{
	return (struct ledger_block){
		.address = mapping->start,
		.size_bytes = mapping->end - mapping->start,
		.stack = ledger->stacks.items[mapping->stack].id,
		.allocated = mapping->allocated,
		.domain = LEDGER_MAPPED,
	};
}

int ledger_find(const struct ledger *ledger, uint64_t address, struct ledger_block *ret)
{
	const struct entry *entry = search_containing(ledger, address);
	const struct mapping *mapping;

	if (entry) {
		*ret = block_of(ledger, entry);
		return 0;
	}
	mapping = mappings_find(&ledger->mappings, address);
	if (!mapping)
		return -ENOENT;
	*ret = block_of_mapping(ledger, mapping);
	return 0;
}

static int visit_table(const struct ledger *ledger, const struct blocks *table,
		       int (*visit)(const struct ledger_block *block, void *context), void *context)
{
	for (size_t i = 0; i < table->capacity; i++) {
		struct ledger_block block;
		int r;

		if (!table->slots[i].address)
			continue;
		block = block_of(ledger, &table->slots[i]);
		r = visit(&block, context);
		if (r)
			return r;
	}
	return 0;
}

int ledger_blocks_visit(const struct ledger *ledger,
			int (*visit)(const struct ledger_block *block, void *context),
			void *context)
{
	int r = visit_table(ledger, &ledger->blocks, visit, context);

	if (!r)
		r = visit_table(ledger, &ledger->elders, visit, context);
	for (size_t i = 0; !r && i < ledger->mappings.count; i++) {
		struct ledger_block block = block_of_mapping(ledger, &ledger->mappings.items[i]);

		r = visit(&block, context);
	}
	return r;
}

static bool was_used(const struct stack *stack)
{
	return stack->given.blocks || stack->given.bytes || stack->here.blocks;
}

int ledger_stacks(const struct ledger *ledger, struct ledger_stack **ret, size_t *ret_n)
{
	struct ledger_stack *stacks = ledger_allocate(ledger->stacks.count, sizeof(*stacks));
	size_t n = 0;

	if (!stacks)
		return -ENOMEM;
	for (uint32_t i = 0; i < ledger->stacks.count; i++) {
		const struct stack *stack = &ledger->stacks.items[i];

		if (!was_used(stack))
			continue;
		stacks[n] = (struct ledger_stack){
			.stack = stack->id,
			.outstanding_bytes = stack->outstanding.bytes,
			.outstanding_blocks = stack->outstanding.blocks,
			.total_bytes = stack->given.bytes,
			.total_blocks = stack->given.blocks,
			.first_sequence = stack->first_sequence,
			.last_sequence = stack->last_sequence,
		};
		for (int domain = 0; domain < LEDGER_DOMAINS; domain++)
			stacks[n].domain_bytes[domain] = stack->domain_bytes[domain];
		n++;
	}
	*ret = stacks;
	*ret_n = n;
	return 0;
}

void ledger_totals(const struct ledger *ledger, struct ledger_totals *ret)
{
	*ret = ledger->totals;
}
