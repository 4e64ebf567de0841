/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/type_sums.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/table.h"

/* Blocks without a type: what they are by whoever gave them out. */
static const char *const untyped[LEDGER_DOMAINS] = {
	[LEDGER_OBJECT] = "(unknown type)", [LEDGER_MEM] = "(raw buffer)",
	[LEDGER_RAW] = "(raw memory)",	    [LEDGER_NATIVE] = "(native memory)",
	[LEDGER_MAPPED] = "(mapping)",
};

struct adding {
	const struct stacks *stacks;
	struct type_cache *types;
	struct table by_pair; /* site and name → index of sums */
	struct type_sum *sums;
	size_t n, room;
	int error;
};

static const char *name_of(struct adding *adding, const struct ledger_block *block)
{
	const char *name;

	if (block->type && type_cache_name(adding->types, block->type, &name, NULL) == 0)
		return name;
	return untyped[block->type ? LEDGER_OBJECT : block->domain];
}

static struct type_sum *new_sum(struct adding *adding, uint64_t pair)
{
	struct type_sum *sums;
	size_t room;

	if (adding->n == adding->room) {
		room = adding->room ? adding->room * 2 : 256;
		sums = reallocarray(adding->sums, room, sizeof(*sums));
		if (!sums)
			return NULL;
		adding->sums = sums;
		adding->room = room;
	}
	if (table_put(&adding->by_pair, pair, adding->n) < 0)
		return NULL;
	return &adding->sums[adding->n++];
}

static int add_block(const struct ledger_block *block, void *context)
{
	struct adding *adding = context;
	uint32_t site = stacks_site_of(adding->stacks, block->stack);
	struct type_sum *sum;
	const char *name;
	uint64_t *index;
	uint64_t pair;

	if (block->parked)
		return 0;
	name = name_of(adding, block);
	pair = hash_combine(hash_string(name), site);
	index = table_find(&adding->by_pair, pair);
	sum = index ? &adding->sums[*index] : new_sum(adding, pair);
	if (!sum)
		return -ENOMEM;
	if (!index)
		*sum = (struct type_sum){ .site = site, .name = name };
	sum->objects++;
	sum->bytes += block->size_bytes;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct type_sum *one = a, *other = b;

	if (one->site != other->site)
		return one->site < other->site ? -1 : 1;
	if (one->bytes != other->bytes)
		return one->bytes > other->bytes ? -1 : 1;
	return 0;
}

int type_sums(const struct ledger *ledger, const struct stacks *stacks, struct type_cache *types,
	      struct type_sum **ret, size_t *ret_n)
{
	struct adding adding = {
		.stacks = stacks,
		.types = types,
		.by_pair = table_init(TYPE_SUMS_MAX),
	};
	int r;

	r = ledger_blocks_visit(ledger, add_block, &adding);
	table_done(&adding.by_pair);
	if (r < 0) {
		free(adding.sums);
		return r;
	}
	if (adding.n)
		qsort(adding.sums, adding.n, sizeof(*adding.sums), compare);
	*ret = adding.sums;
	*ret_n = adding.n;
	return 0;
}
