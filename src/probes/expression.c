/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Expressions: a hash-consed arena with the few simplifications that make equal things equal. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "probes/symbolic.h"

#define UNKNOWN_BIT UINT32_C(0x80000000)
#define NODES_MAX 8192	      /* a walk of 400 steps makes about as many */
#define SLOTS (2 * NODES_MAX) /* a power of two */
#define CONTAINS_DEPTH_MAX 24

struct node {
	uint32_t slot; /* in the table, to empty it again */
	expr a, b;
	uint8_t kind;
	int64_t value;
};

struct symbols {
	uint32_t n_nodes;
	uint32_t n_unknown;
	struct node nodes[NODES_MAX];
	uint16_t slots[SLOTS]; /* index of the node; 0 (a register's) is empty */
};

_Static_assert(NODES_MAX <= UINT16_MAX, "slots hold 16 bits");

int symbols_new(struct symbols **ret)
{
	struct symbols *symbols = calloc(1, sizeof(*symbols));

	if (!symbols)
		return -ENOMEM;
	for (unsigned reg = 0; reg < CODE_REGISTERS; reg++)
		symbols->nodes[reg] = (struct node){
			.kind = EXPR_INITIAL,
			.a = EXPR_NONE,
			.b = EXPR_NONE,
			.value = reg,
		};
	symbols->n_nodes = CODE_REGISTERS;
	*ret = symbols;
	return 0;
}

void symbols_free(struct symbols *symbols)
{
	free(symbols);
}

void symbols_reset(struct symbols *symbols)
{
	for (uint32_t i = CODE_REGISTERS; i < symbols->n_nodes; i++)
		symbols->slots[symbols->nodes[i].slot] = 0;
	symbols->n_nodes = CODE_REGISTERS;
	symbols->n_unknown = 0;
}

expr symbols_unknown(struct symbols *symbols)
{
	return UNKNOWN_BIT | symbols->n_unknown++;
}

/* When the arena is full, whatever is new is unknown: that can't make two things equal. */
static expr intern(struct symbols *symbols, enum expr_kind kind, expr a, expr b, int64_t value)
{
	const uint64_t operands = (uint64_t)a << 32 | b;
	const uint64_t hash = hash_combine(hash_combine(kind, operands), (uint64_t)value);
	uint32_t slot = hash & (SLOTS - 1);
	struct node *node;

	for (; symbols->slots[slot] > 0; slot = (slot + 1) & (SLOTS - 1)) {
		node = &symbols->nodes[symbols->slots[slot]];
		if (node->kind == kind && node->a == a && node->b == b && node->value == value)
			return symbols->slots[slot];
	}
	if (symbols->n_nodes == NODES_MAX)
		return symbols_unknown(symbols);
	symbols->nodes[symbols->n_nodes] = (struct node){
		.slot = slot,
		.a = a,
		.b = b,
		.kind = kind,
		.value = value,
	};
	symbols->slots[slot] = (uint16_t)symbols->n_nodes;
	return symbols->n_nodes++;
}

enum expr_kind expr_kind(const struct symbols *symbols, expr e)
{
	if (e & UNKNOWN_BIT || e == EXPR_NONE)
		return EXPR_UNKNOWN;
	return symbols->nodes[e].kind;
}

expr expr_a(const struct symbols *symbols, expr e)
{
	return e & UNKNOWN_BIT || e == EXPR_NONE ? EXPR_NONE : symbols->nodes[e].a;
}

int64_t expr_value(const struct symbols *symbols, expr e)
{
	return e & UNKNOWN_BIT || e == EXPR_NONE ? 0 : symbols->nodes[e].value;
}

bool expr_is_constant(const struct symbols *symbols, expr e, int64_t value)
{
	return expr_kind(symbols, e) == EXPR_CONSTANT && symbols->nodes[e].value == value;
}

static bool contains(const struct symbols *symbols, expr e, expr part, unsigned depth)
{
	if (e == part)
		return true;
	if (e & UNKNOWN_BIT || e == EXPR_NONE || depth == CONTAINS_DEPTH_MAX)
		return false;
	return contains(symbols, symbols->nodes[e].a, part, depth + 1) ||
	       contains(symbols, symbols->nodes[e].b, part, depth + 1);
}

bool expr_contains(const struct symbols *symbols, expr e, expr part)
{
	return contains(symbols, e, part, 0);
}

void expr_split(const struct symbols *symbols, expr e, expr *ret_base, int64_t *ret_offset)
{
	const bool sum = expr_kind(symbols, e) == EXPR_SUM;

	*ret_base = sum ? symbols->nodes[e].a : e;
	*ret_offset = sum ? symbols->nodes[e].value : 0;
}

bool expr_is_stack(const struct symbols *symbols, expr e)
{
	expr base;
	int64_t offset;

	expr_split(symbols, e, &base, &offset);
	return base == CODE_RSP;
}

expr symbols_initial(unsigned reg)
{
	return reg;
}

expr symbols_constant(struct symbols *symbols, int64_t value)
{
	return intern(symbols, EXPR_CONSTANT, EXPR_NONE, EXPR_NONE, value);
}

/* Wraps like the machine does. */
static int64_t wrapping_sum(int64_t a, int64_t b)
{
	return (int64_t)((uint64_t)a + (uint64_t)b);
}

expr symbols_sum(struct symbols *symbols, expr a, int64_t value)
{
	const enum expr_kind kind = expr_kind(symbols, a);

	if (value == 0)
		return a;
	if (kind == EXPR_CONSTANT)
		return symbols_constant(symbols, wrapping_sum(symbols->nodes[a].value, value));
	if (kind == EXPR_SUM) {
		value = wrapping_sum(symbols->nodes[a].value, value);
		a = symbols->nodes[a].a;
	}
	return value == 0 ? a : intern(symbols, EXPR_SUM, a, EXPR_NONE, value);
}

expr symbols_index(struct symbols *symbols, expr a, expr b, unsigned scale)
{
	int64_t offset = 0, more = 0;

	expr_split(symbols, a, &a, &offset);
	if (scale == 1)
		expr_split(symbols, b, &b, &more);
	offset = wrapping_sum(offset, more);
	if (expr_kind(symbols, b) == EXPR_CONSTANT)
		return symbols_sum(symbols, a,
				   wrapping_sum(offset, symbols->nodes[b].value * (int)scale));
	if (scale == 1 && expr_kind(symbols, a) == EXPR_CONSTANT)
		return symbols_sum(symbols, b, wrapping_sum(offset, symbols->nodes[a].value));
	if (scale == 1 && b < a) { /* one order, so that a + b and b + a are the same */
		expr swap = a;

		a = b;
		b = swap;
	}
	return symbols_sum(symbols, intern(symbols, EXPR_INDEX, a, b, scale), offset);
}

expr symbols_load(struct symbols *symbols, expr address, unsigned size_bytes)
{
	return intern(symbols, EXPR_LOAD, address, EXPR_NONE, size_bytes);
}

/* Has it at most 32 bits that are not zero? */
static bool is_narrow(const struct symbols *symbols, expr e)
{
	switch (expr_kind(symbols, e)) {
	case EXPR_LOW:
	case EXPR_SUM32:
	case EXPR_PART:
		return true;
	case EXPR_LOAD:
		return symbols->nodes[e].value <= 4;
	case EXPR_CONSTANT:
		return symbols->nodes[e].value >= 0 && symbols->nodes[e].value <= UINT32_MAX;
	default:
		return false;
	}
}

expr symbols_low(struct symbols *symbols, expr a)
{
	if (is_narrow(symbols, a))
		return a;
	if (expr_kind(symbols, a) == EXPR_CONSTANT)
		return symbols_constant(symbols, (uint32_t)symbols->nodes[a].value);
	return intern(symbols, EXPR_LOW, a, EXPR_NONE, 0);
}

expr symbols_sum32(struct symbols *symbols, expr a, int64_t value)
{
	int32_t sum = (int32_t)value;

	a = symbols_low(symbols, a);
	if (expr_kind(symbols, a) == EXPR_CONSTANT)
		return symbols_constant(symbols, (uint32_t)(symbols->nodes[a].value + sum));
	if (expr_kind(symbols, a) == EXPR_SUM32) {
		sum = (int32_t)((uint32_t)symbols->nodes[a].value + (uint32_t)sum);
		a = symbols->nodes[a].a;
	}
	return sum == 0 ? a : intern(symbols, EXPR_SUM32, a, EXPR_NONE, sum);
}

expr symbols_part(struct symbols *symbols, expr a, unsigned which)
{
	return intern(symbols, EXPR_PART, a, EXPR_NONE, which);
}

expr symbols_and(struct symbols *symbols, expr a, int64_t mask)
{
	if (expr_kind(symbols, a) == EXPR_CONSTANT)
		return symbols_constant(symbols, symbols->nodes[a].value & mask);
	return intern(symbols, EXPR_AND, a, EXPR_NONE, mask);
}

expr symbols_segment(struct symbols *symbols, expr a, bool gs)
{
	return intern(symbols, EXPR_SEGMENT, a, EXPR_NONE, gs);
}
