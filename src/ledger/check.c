/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Sums against blocks without memory of its own: each stack's sums are weighed
 * by a number of its own, and so is each block; the weighed sums are equal if
 * every stack's are, and by chance in one of 2^64 cases if not.
 */
#include "ledger/state.h"

enum weighed { WEIGHED_OUTSTANDING, WEIGHED_PARKED, WEIGHED_DOMAIN };

/* Odd, and unlike for each stack and kind of sum (splitmix64; Steele, Lea and Flood, 2014). */
static uint64_t weight(uint32_t stack, unsigned int kind)
{
	uint64_t z = ((uint64_t)stack << 8 | kind) * 0x9e3779b97f4a7c15ull + 1;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) | 1;
}

struct weighing {
	uint64_t bytes, blocks, domains;
};

static void weigh(struct weighing *sum, uint32_t stack, uint64_t bytes, unsigned int domain,
		  bool parked)
{
	uint64_t w = weight(stack, parked ? WEIGHED_PARKED : WEIGHED_OUTSTANDING);

	sum->bytes += w * bytes;
	sum->blocks += w;
	if (!parked)
		sum->domains += weight(stack, WEIGHED_DOMAIN + domain) * bytes;
}

static void weigh_table(struct weighing *sum, const struct blocks *table)
{
	for (size_t i = 0; i < table->capacity; i++) {
		const struct entry *entry = &table->slots[i];

		if (entry->address)
			weigh(sum, entry->stack, entry_size(entry), entry->domain, entry->parked);
	}
}

static struct weighing weigh_held(const struct ledger *ledger)
{
	struct weighing sum = {0};

	weigh_table(&sum, &ledger->blocks);
	weigh_table(&sum, &ledger->elders);
	for (size_t i = 0; i < ledger->mappings.count; i++) {
		const struct mapping *mapping = &ledger->mappings.items[i];

		weigh(&sum, mapping->stack, mapping->end - mapping->start, LEDGER_MAPPED, false);
	}
	return sum;
}

static struct weighing weigh_sums(const struct ledger *ledger)
{
	struct weighing sum = {0};

	for (uint32_t i = 0; i < ledger->stacks.count; i++) {
		const struct stack *stack = &ledger->stacks.items[i];
		uint64_t outstanding = weight(i, WEIGHED_OUTSTANDING);
		uint64_t parked = weight(i, WEIGHED_PARKED);

		sum.bytes += outstanding * stack->outstanding.bytes + parked * stack->parked.bytes;
		sum.blocks +=
			outstanding * stack->outstanding.blocks + parked * stack->parked.blocks;
		for (unsigned int domain = 0; domain < LEDGER_DOMAINS; domain++)
			sum.domains +=
				weight(i, WEIGHED_DOMAIN + domain) * stack->domain_bytes[domain];
	}
	return sum;
}

static bool is_conserved(const struct stack *stack)
{
	return stack->given.bytes - stack->freed.bytes + stack->here.bytes - stack->away.bytes ==
		       stack->outstanding.bytes + stack->parked.bytes &&
	       stack->given.blocks - stack->freed.blocks + stack->here.blocks -
			       stack->away.blocks ==
		       stack->outstanding.blocks + stack->parked.blocks;
}

static bool totals_agree(const struct ledger *ledger)
{
	const struct ledger_totals *totals = &ledger->totals;
	struct amount outstanding = {0}, parked = {0};

	for (uint32_t i = 0; i < ledger->stacks.count; i++) {
		const struct stack *stack = &ledger->stacks.items[i];

		if (!is_conserved(stack))
			return false;
		outstanding.bytes += stack->outstanding.bytes;
		outstanding.blocks += stack->outstanding.blocks;
		parked.bytes += stack->parked.bytes;
		parked.blocks += stack->parked.blocks;
	}
	return outstanding.bytes == totals->outstanding_bytes &&
	       outstanding.blocks == totals->outstanding_blocks &&
	       parked.bytes == totals->parked_bytes && parked.blocks == totals->parked_blocks &&
	       totals->pool_bytes + totals->native_bytes + totals->mapped_bytes ==
		       totals->outstanding_bytes &&
	       totals->pool_blocks + totals->native_blocks + ledger->mappings.count ==
		       totals->outstanding_blocks &&
	       outstanding.blocks + parked.blocks ==
		       ledger->blocks.count + ledger->elders.count + ledger->mappings.count;
}

bool ledger_check(const struct ledger *ledger)
{
	struct weighing held = weigh_held(ledger);
	struct weighing sums = weigh_sums(ledger);

	return held.bytes == sums.bytes && held.blocks == sums.blocks &&
	       held.domains == sums.domains && totals_agree(ledger);
}
