/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/findings.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "ledger/allocate.h"

/* Counts are equal within 1 and this share: a look comes between two objects of a call. */
#define EQUAL_RATIO 0.002
/* Of the slices in which either line has any, so many must be equal. */
#define EQUAL_SLICES_RATIO 0.75
/* Of the fewer objects of two lines, so many must hang on the other's. */
#define HELD_RATIO 0.5
/* One registry that holds whatever leaks is no line of the leak: so few must an owner have. */
#define HELD_AN_OWNER_MAX 16

struct order {
	const struct finding_line *line;
	uint32_t index;
};

static int compare_bytes(const void *a, const void *b)
{
	const struct order *one = a, *other = b;

	if (one->line->bytes != other->line->bytes)
		return one->line->bytes < other->line->bytes ? 1 : -1;
	return (one->index > other->index) - (one->index < other->index);
}

static bool is_equal(uint64_t a, uint64_t b)
{
	uint64_t larger = a > b ? a : b, difference = a > b ? a - b : b - a;

	return (double)difference <= 1 + EQUAL_RATIO * (double)larger;
}

/*
 * Small counts are equal by chance: in slices with one or two objects a
 * difference of 1 says nothing.  So what must be equal there is the count itself.
 */
static bool slices_are_equal(uint32_t a, uint32_t b)
{
	return a + b < 8 ? a == b : is_equal(a, b);
}

static bool cohorts_are_equal(const struct finding_line *a, const struct finding_line *b,
			      size_t n_slices)
{
	uint64_t sum_a = 0, sum_b = 0;
	size_t said = 0, equal = 0;

	if (a->vantage != b->vantage)
		return false;
	for (size_t i = 0; i < n_slices; i++) {
		sum_a += a->counts[i];
		sum_b += b->counts[i];
		if (!is_equal(sum_a, sum_b))
			return false;
		if (!a->counts[i] && !b->counts[i])
			continue;
		said++;
		equal += slices_are_equal(a->counts[i], b->counts[i]);
	}
	return said >= FINDING_SLICES_MIN && (double)equal >= EQUAL_SLICES_RATIO * (double)said;
}

/* --- sets of lines ---------------------------------------------------------------------------- */

static uint32_t root_of(uint32_t *parents, uint32_t line)
{
	while (parents[line] != line) {
		parents[line] = parents[parents[line]];
		line = parents[line];
	}
	return line;
}

static void join(uint32_t *parents, uint32_t a, uint32_t b)
{
	parents[root_of(parents, b)] = root_of(parents, a);
}

static uint64_t count_of(const struct finding_line *line, size_t n_slices)
{
	uint64_t count = 0;

	for (size_t i = 0; i < n_slices; i++)
		count += line->counts[i];
	return count;
}

/*
 * Each line is compared with the largest of each set only, never with its other
 * members: a chain of lines, each nearly like the next, is no leak.
 */
static void join_equal(const struct finding_line *lines, const struct order *order, size_t n,
		       size_t n_slices, uint32_t *parents)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < i; k++) {
			if (parents[order[k].index] != order[k].index ||
			    !cohorts_are_equal(&lines[order[k].index], &lines[order[i].index],
					       n_slices))
				continue;
			parents[order[i].index] = order[k].index;
			break;
		}
	}
}

static bool is_part(const struct finding_hold *hold, const struct finding_line *owner,
		    const struct finding_line *member, size_t n_slices)
{
	uint64_t owners = count_of(owner, n_slices), members = count_of(member, n_slices);
	uint64_t fewer = owners < members ? owners : members;

	/* Counts of different vantages don't compare. */
	if (owner->vantage == member->vantage ? members > owners * HELD_AN_OWNER_MAX : owners < 2)
		return false;
	return hold->count && (double)hold->count >= HELD_RATIO * (double)fewer;
}

static void join_held(const struct finding_line *lines, size_t n_slices,
		      const struct finding_hold *holds, size_t n_holds, uint32_t *parents)
{
	for (size_t i = 0; i < n_holds; i++)
		if (is_part(&holds[i], &lines[holds[i].owner], &lines[holds[i].member], n_slices))
			join(parents, holds[i].owner, holds[i].member);
}

/* How much more a line holds than it is held, within its own set. */
static void weigh_holds(const struct finding_hold *holds, size_t n_holds, uint32_t *parents,
			int64_t *ret)
{
	for (size_t i = 0; i < n_holds; i++) {
		if (root_of(parents, holds[i].owner) != root_of(parents, holds[i].member))
			continue;
		ret[holds[i].owner] += holds[i].count;
		ret[holds[i].member] -= holds[i].count;
	}
}

/* The lines come by falling bytes: where the holds say nothing, the first stays the head. */
static void choose_heads(const struct order *order, size_t n, uint32_t *parents,
			 const int64_t *holding, uint32_t *heads)
{
	for (size_t i = 0; i < n; i++)
		heads[i] = UINT32_MAX;
	for (size_t i = 0; i < n; i++) {
		uint32_t line = order[i].index, root = root_of(parents, line);

		if (heads[root] == UINT32_MAX || holding[line] > holding[heads[root]])
			heads[root] = line;
	}
}

static void number_findings(const struct order *order, size_t n, uint32_t *parents,
			    const uint32_t *heads, struct finding_place *ret)
{
	uint32_t n_findings = 0;

	for (size_t i = 0; i < n; i++)
		ret[i] = (struct finding_place){.finding = UINT32_MAX};
	for (size_t i = 0; i < n; i++) {
		uint32_t head = heads[root_of(parents, order[i].index)];

		if (head == order[i].index)
			ret[head] = (struct finding_place){n_findings++, head};
	}
	for (uint32_t line = 0; line < n; line++)
		ret[line] = ret[heads[root_of(parents, line)]];
}

int findings_group(const struct finding_line *lines, size_t n, size_t n_slices,
		   const struct finding_hold *holds, size_t n_holds, struct finding_place *ret)
{
	_cleanup_free_ struct order *order = NULL;
	_cleanup_free_ uint32_t *parents = NULL, *heads = NULL;
	_cleanup_free_ int64_t *holding = NULL;

	if (n > FINDING_LINES_MAX || n_slices > FINDING_SLICES_MAX)
		return -E2BIG;
	for (size_t i = 0; i < n_holds; i++)
		if (holds[i].owner >= n || holds[i].member >= n)
			return -EINVAL;
	order = ledger_allocate(n + 1, sizeof(*order));
	parents = ledger_allocate(n + 1, sizeof(*parents));
	heads = ledger_allocate(n + 1, sizeof(*heads));
	holding = ledger_allocate(n + 1, sizeof(*holding));
	if (!order || !parents || !heads || !holding)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		order[i] = (struct order){&lines[i], i};
		parents[i] = i;
	}
	qsort(order, n, sizeof(*order), compare_bytes);
	join_equal(lines, order, n, n_slices, parents);
	join_held(lines, n_slices, holds, n_holds, parents);
	weigh_holds(holds, n_holds, parents, holding);
	choose_heads(order, n, parents, holding, heads);
	number_findings(order, n, parents, heads, ret);
	return 0;
}
