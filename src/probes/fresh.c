/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * allocate_from_new_pool (Objects/obmalloc.c, 3.8-3.15), by emulated jumps.
 *
 *	pool->ref.count = 1;
 *	if (pool->szidx == size) {		Z: the first block is the head of
 *		bp = pool->freeblock; ...	   the pool's old list, if ZF
 *	}
 *	pool->szidx = size; ...			P: otherwise the block behind the
 *	pool->nextoffset = ...;			   pool's header
 *	pool->freeblock = bp + size;
 *	*(block **)(pool->freeblock) = NULL;
 *
 * P is recognised by what it stores, but none of it is emulated; so the sites
 * are the conditional jumps that lead to P, each arm of its own, with the pool
 * named where the jump is.  Compilers thread the case of a pool just carved
 * from an arena past Z: that is one such arm more.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "probes/match.h"
#include "probes/walk.h"

/* struct pool_header */
#define FREEBLOCK 0x08
#define SIZE_CLASS 0x24
#define NEXT_OFFSET 0x28
#define MAX_NEXT_OFFSET 0x2c

#define INITIALISATION_STEPS 40
#define WAYS_IN_MAX 64	  /* conditional jumps that lead to one P */
#define BACKWARDS_MAX 300 /* instructions walked back from one P */
#define Z_BACK 14

struct fresh {
	struct code *code;
	struct symbols *symbols;
	struct matches *matches;
	uint32_t unresolved;
};

DEFINE_CLEANUP(struct symbols *, symbols_free)

static bool ends_straight_line(uint8_t flow)
{
	return flow == FLOW_STOP || flow == FLOW_JUMP_INDIRECT || flow == FLOW_CALL ||
	       flow == FLOW_CALL_INDIRECT;
}

/*
 * Executes from index along the straight line: direct jumps followed,
 * conditional ones not taken; up to, not including, until (CODE_NONE: as far
 * as it goes).  *ret_address: the memory operand of the instruction at watch,
 * if it was passed.  False: until was not reached.
 */
static bool run_straight(struct fresh *fresh, struct state *state, size_t index, size_t until,
			 size_t watch, expr *ret_address)
{
	for (unsigned step = 0; step < INITIALISATION_STEPS && index != CODE_NONE; step++) {
		const uint8_t flow = code_at(fresh->code, index)->flow;

		if (index == until)
			return true;
		if (flow == FLOW_JUMP) {
			index = code_target(fresh->code, index);
			continue;
		}
		if (ends_straight_line(flow))
			break;
		if (flow == FLOW_NEXT) {
			const struct code_operation *operation = code_operation(fresh->code, index);

			if (!operation)
				return false;
			if (index == watch)
				*ret_address = state_address(fresh->symbols, state,
							     &operation->operands[0]);
			if (state_step(fresh->symbols, state, fresh->code, index))
				return false;
		}
		index = code_next(fresh->code, index);
	}
	return until == CODE_NONE;
}

/* Do the stores after index, together with those of state, make pool a new one? */
static bool initialises(struct fresh *fresh, const struct state *state, expr pool)
{
	struct symbols *symbols = fresh->symbols;
	static const int fields[] = {SIZE_CLASS, NEXT_OFFSET, MAX_NEXT_OFFSET};
	const struct state_store *freeblock, *end;

	/* Stack frames have stores everywhere. */
	if (expr_contains(symbols, pool, symbols_initial(CODE_RSP)))
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
		if (!state_store_find(state, symbols_sum(symbols, pool, fields[i]), 4))
			return false;
	freeblock = state_store_find(state, symbols_sum(symbols, pool, FREEBLOCK), 8);
	if (!freeblock || freeblock->value == pool ||
	    !expr_contains(symbols, freeblock->value, pool))
		return false;
	end = state_store_find(state, freeblock->value, 8);
	return end && expr_is_constant(symbols, end->value, 0);
}

/* Is the store to [X+0x24] at index P? */
static bool is_initialisation(struct fresh *fresh, size_t index)
{
	static const unsigned backs[] = {0, 4, 8, 14};

	for (unsigned i = 0; i < ARRAY_SIZE(backs); i++) {
		const size_t start = walk_start_before(fresh->code, index, backs[i]);
		struct state state;
		expr address = EXPR_NONE;

		symbols_reset(fresh->symbols);
		state_begin(&state);
		if (!run_straight(fresh, &state, start, CODE_NONE, index, &address) ||
		    address == EXPR_NONE)
			continue;
		if (initialises(fresh, &state, symbols_sum(fresh->symbols, address, -SIZE_CLASS)))
			return true;
	}
	return false;
}

/* An arm of a conditional jump, and where it leads. */
struct way_in {
	size_t jump;
	bool taken;
	size_t entry; /* the first instruction of the arm */
};

struct ways {
	struct code *code;
	size_t n, n_waiting, n_seen;
	bool incomplete; /* a way in that isn't a conditional jump, or too many */
	struct way_in ways[WAYS_IN_MAX];
	size_t waiting[BACKWARDS_MAX];
	size_t seen[BACKWARDS_MAX];
};

static void add_way(struct ways *ways, size_t jump, bool taken, size_t entry)
{
	if (ways->n == WAYS_IN_MAX) {
		ways->incomplete = true;
		return;
	}
	ways->ways[ways->n++] = (struct way_in){jump, taken, entry};
}

static void add_waiting(struct ways *ways, size_t index)
{
	for (size_t i = 0; i < ways->n_seen; i++)
		if (ways->seen[i] == index)
			return;
	if (ways->n_seen == BACKWARDS_MAX) {
		ways->incomplete = true;
		return;
	}
	ways->seen[ways->n_seen++] = index;
	ways->waiting[ways->n_waiting++] = index;
}

struct arrival {
	struct ways *ways;
	size_t entry;
};

static int arrive_by_branch(size_t branch, void *context)
{
	struct arrival *arrival = context;
	struct ways *ways = arrival->ways;

	switch (code_at(ways->code, branch)->flow) {
	case FLOW_JUMP:
		add_waiting(ways, branch);
		break;
	case FLOW_CONDITIONAL:
		add_way(ways, branch, true, arrival->entry);
		break;
	default: /* a call: the function's entry */
		ways->incomplete = true;
		break;
	}
	return 0;
}

static void arrive_from_above(struct ways *ways, size_t index)
{
	const size_t before = code_previous(ways->code, index);

	if (before == CODE_NONE)
		return;
	switch (code_at(ways->code, before)->flow) {
	case FLOW_JUMP:
	case FLOW_JUMP_INDIRECT:
	case FLOW_STOP:
		return;
	case FLOW_CONDITIONAL:
		add_way(ways, before, false, index);
		return;
	case FLOW_NEXT:
		add_waiting(ways, before);
		return;
	default:
		ways->incomplete = true;
		return;
	}
}

/* All conditional jumps from which control runs straight to index. */
static int ways_to(struct ways *ways, struct code *code, size_t index)
{
	ways->code = code;
	ways->n = ways->n_waiting = ways->n_seen = 0;
	ways->incomplete = false;
	add_waiting(ways, index);
	while (ways->n_waiting > 0) {
		struct arrival arrival = {ways, ways->waiting[--ways->n_waiting]};
		int error = code_branches_to_visit(code, arrival.entry, arrive_by_branch, &arrival);

		if (error)
			return error;
		arrive_from_above(ways, arrival.entry);
	}
	return 0;
}

/* 1 + the register that holds what is stored as the pool's size class; 0: none does. */
static uint8_t size_register(const struct symbols *symbols, expr size_class)
{
	if (expr_kind(symbols, size_class) == EXPR_LOW)
		size_class = expr_a(symbols, size_class);
	if (expr_kind(symbols, size_class) != EXPR_INITIAL)
		return 0;
	return (uint8_t)(expr_value(symbols, size_class) + 1);
}

/*
 * Names the pool that P initialises, and the register with its size class, by
 * what is in the registers at entry, which leads there; -ENOENT.
 */
static int name_pool(struct fresh *fresh, size_t entry, size_t initialisation,
		     struct state_name *ret, uint8_t *ret_size_register)
{
	const struct code_operation *operation = code_operation(fresh->code, initialisation);
	struct symbols *symbols = fresh->symbols;
	struct state state;
	expr pool, base;
	int64_t offset;

	symbols_reset(symbols);
	state_begin(&state);
	if (!operation || !run_straight(fresh, &state, entry, initialisation, CODE_NONE, NULL))
		return -ENOENT;
	pool = symbols_sum(symbols, state_address(symbols, &state, &operation->operands[0]),
			   -SIZE_CLASS);
	if (expr_kind(symbols, pool) == EXPR_LOAD && expr_value(symbols, pool) == 8) {
		expr_split(symbols, expr_a(symbols, pool), &base, &offset);
		ret->memory = true;
	} else {
		expr_split(symbols, pool, &base, &offset);
		ret->memory = false;
	}
	if (expr_kind(symbols, base) != EXPR_INITIAL || offset < INT16_MIN || offset > INT16_MAX)
		return -ENOENT;
	ret->reg = (uint8_t)expr_value(symbols, base);
	ret->displacement = (int16_t)offset;
	*ret_size_register =
		size_register(symbols, state_operand(symbols, &state, &operation->operands[1]));
	return 0;
}

static expr named_value(struct fresh *fresh, const struct state *state,
			const struct state_name *name)
{
	expr value = symbols_sum(fresh->symbols, state->registers[name->reg], name->displacement);

	return name->memory ? state_memory(fresh->symbols, state, value, 8) : value;
}

/* Is the named pool's count set to 1 before the jump, and something of 32 bits compared? */
static bool is_behind_count(struct fresh *fresh, size_t jump, const struct state_name *name)
{
	for (unsigned back = 2; back <= Z_BACK; back++) {
		const struct state_store *count;
		struct state state;

		symbols_reset(fresh->symbols);
		state_begin(&state);
		if (!run_straight(fresh, &state, walk_start_before(fresh->code, jump, back), jump,
				  CODE_NONE, NULL))
			continue;
		count = state_store_find(&state, named_value(fresh, &state, name), 4);
		if (count && expr_is_constant(fresh->symbols, count->value, 1) &&
		    state.flags == FLAGS_COMPARE && state.flags_size_bytes == 4)
			return true;
	}
	return false;
}

/* Does the arm that begins at entry take the first block off the named pool's old list? */
static bool takes_first_block(struct fresh *fresh, size_t entry, const struct state_name *name)
{
	struct symbols *symbols = fresh->symbols;
	struct state state, before;
	const struct state_store *store;
	expr freeblock, block;

	symbols_reset(symbols);
	state_begin(&state);
	state_begin(&before);
	if (entry == CODE_NONE || !run_straight(fresh, &state, entry, CODE_NONE, CODE_NONE, NULL))
		return false;
	freeblock = symbols_sum(symbols, named_value(fresh, &before, name), FREEBLOCK);
	block = symbols_load(symbols, freeblock, 8);
	store = state_store_find(&state, freeblock, 8);
	return store && store->value == symbols_load(symbols, block, 8);
}

/*
 * Is it Z, whose other arm hands out a block as well?  The size class that is
 * compared may have been loaded long before, and on one of several ways, so
 * the comparison itself is no criterion.
 */
static bool is_z(struct fresh *fresh, const struct way_in *way, const struct state_name *name)
{
	const size_t other = way->taken ? code_next(fresh->code, way->jump)
					: code_target(fresh->code, way->jump);

	return takes_first_block(fresh, other, name) || is_behind_count(fresh, way->jump, name);
}

static void add_fresh(struct fresh *fresh, const struct way_in *way, const struct state_name *name,
		      uint8_t size)
{
	const uint8_t jump_condition = code_at(fresh->code, way->jump)->condition;
	struct match match = {
		.at = (uint32_t)way->jump,
		.kind = SITE_FRESH,
		.value = name->memory ? VALUE_POOL_FIRST_MEMORY : VALUE_POOL_FIRST,
		.condition = way->taken ? jump_condition : jump_condition ^ 1,
		.named = true,
		.name = *name,
		.size_register = size,
	};
	struct match *known = matches_find(fresh->matches, way->jump, SITE_FRESH);

	if (match.condition == CONDITION_NOT_EQUAL && is_z(fresh, way, name)) {
		match.value = name->memory ? VALUE_POOL_BY_ZF_MEMORY : VALUE_POOL_BY_ZF;
		match.condition = WIRE_CONDITION_ALWAYS;
	} else if (known && known->condition == (match.condition ^ 1)) {
		known->condition = WIRE_CONDITION_ALWAYS; /* both arms lead to P */
	}
	matches_add(fresh->matches, &match);
}

/* Does the straight line from entry to P pass through index? */
static bool leads_through(const struct fresh *fresh, size_t entry, size_t index,
			  size_t initialisation)
{
	for (unsigned step = 0; step < INITIALISATION_STEPS; step++) {
		if (entry == CODE_NONE || entry == initialisation)
			return false;
		if (entry == index)
			return true;
		entry = code_at(fresh->code, entry)->flow == FLOW_JUMP
				? code_target(fresh->code, entry)
				: code_next(fresh->code, entry);
	}
	return false;
}

/*
 * Where the pool's address is still computed behind the conditional jump (3.8
 * aligns a new arena there), a direct jump further on, which is emulated as
 * well, may have it: if no other way in passes through that.
 */
static bool add_later_jump(struct fresh *fresh, const struct ways *ways, const struct way_in *way,
			   size_t initialisation)
{
	size_t index = way->entry;

	for (unsigned step = 0; step < INITIALISATION_STEPS; step++) {
		struct match match = {
			.kind = SITE_FRESH,
			.condition = WIRE_CONDITION_ALWAYS,
			.named = true,
		};
		size_t shared = 0;

		if (index == CODE_NONE || index == initialisation)
			return false;
		if (code_at(fresh->code, index)->flow != FLOW_JUMP) {
			index = code_next(fresh->code, index);
			continue;
		}
		for (size_t i = 0; i < ways->n; i++)
			shared += leads_through(fresh, ways->ways[i].entry, index, initialisation);
		if (shared == 1 && name_pool(fresh, index, initialisation, &match.name,
					     &match.size_register) == 0) {
			match.at = (uint32_t)index;
			match.value =
				match.name.memory ? VALUE_POOL_FIRST_MEMORY : VALUE_POOL_FIRST;
			matches_add(fresh->matches, &match);
			return true;
		}
		index = code_target(fresh->code, index);
	}
	return false;
}

static int resolve(struct fresh *fresh, struct ways *ways, size_t initialisation)
{
	int error = ways_to(ways, fresh->code, initialisation);

	if (error)
		return error;
	if (ways->incomplete)
		fresh->unresolved++;
	for (size_t i = 0; i < ways->n; i++) {
		const struct way_in *way = &ways->ways[i];
		struct state_name name;
		uint8_t size;

		if (name_pool(fresh, way->entry, initialisation, &name, &size) == 0)
			add_fresh(fresh, way, &name, size);
		else if (!add_later_jump(fresh, ways, way, initialisation))
			fresh->unresolved++;
	}
	return fresh->matches->error;
}

int match_fresh_pools(struct code *code, struct matches *matches, uint32_t *ret_unresolved)
{
	CLEANUP(symbols_free) struct symbols *symbols = NULL;
	_cleanup_free_ struct ways *ways = malloc(sizeof(*ways));
	struct fresh fresh = {.code = code, .matches = matches};
	int error = symbols_new(&symbols);

	if (error || !ways)
		return -ENOMEM;
	fresh.symbols = symbols;
	for (size_t i = code_hinted(code, 0, HINT_STORE_24); i != CODE_NONE;
	     i = code_hinted(code, i + 1, HINT_STORE_24)) {
		if (!is_initialisation(&fresh, i))
			continue;
		error = resolve(&fresh, ways, i);
		if (error)
			return error;
	}
	*ret_unresolved = fresh.unresolved;
	return 0;
}
