/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * pymalloc's two fast paths, recognised by what they do to a pool's header
 * (CPython 3.8-3.15, Objects/obmalloc.c, struct pool_header: ref.count at 0,
 * freeblock at 8).  X is the pool.
 *
 *	allocate   v = [X+8]; z = [v]; [X+8] = z; 32 bits at X + 1; jump on z == 0
 *	free       z = [X+8]; [Q] = z; [X+8] = P; 32 bits at X - 1; jump on z == 0
 *
 * The jump is where the probe goes: v, or P, is the block.  Compilers keep the
 * count apart (a load, a subtraction and a store anywhere around), overwrite
 * the block's register, let the jump have either sense, and in 3.8 change the
 * count after it, on both arms.  The link is not always stored through the
 * same expression as the block (PyObject_GC_Del frees op - 16 computed beyond
 * a call), so Q is any address.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "probes/match.h"
#include "probes/walk.h"

#define FREEBLOCK 8 /* offset in struct pool_header */
#define BACK 12	    /* instructions before the load of freeblock */

static const struct walk_limits limits = {
	.path_steps = 48,
	.path_forks = 3,
	.path_branches = 4,
	.steps = 400,
};

DEFINE_CLEANUP(struct walk *, walk_free)

/* Is there a store of exactly load4(pool) + delta to the pool's count? */
static bool count_changed(struct walk *walk, const struct walk_path *path, expr pool, int delta)
{
	const expr count = symbols_load(walk->symbols, pool, 4);
	const expr changed = symbols_sum32(walk->symbols, count, delta);

	for (unsigned i = path->state.n_stores; i-- > 0;) {
		const struct state_store *store = &path->state.stores[i];

		if (store->address == pool && store->size_bytes == 4 && store->value == changed)
			return true;
	}
	return false;
}

/* Is value stored anywhere but at address, in a frame or at a fixed place? */
static bool stored_elsewhere(const struct walk *walk, const struct state *state, expr value,
			     expr address)
{
	for (unsigned i = 0; i < state->n_stores; i++) {
		const struct state_store *store = &state->stores[i];

		if (store->value == value && store->size_bytes == 8 && store->address != address &&
		    !expr_is_stack(walk->symbols, store->address) &&
		    expr_kind(walk->symbols, store->address) != EXPR_CONSTANT)
			return true;
	}
	return false;
}

static void add_match(struct matches *matches, const struct walk_pending *seen)
{
	matches_add(matches, &(struct match){
				     .at = (uint32_t)seen->at,
				     .kind = (uint8_t)seen->kind,
				     .condition = WIRE_CONDITION_ALWAYS,
				     .registers = seen->registers,
				     .named = seen->named,
				     .name = seen->name,
				     .pool_named = seen->other_named,
				     .pool = seen->other,
			     });
}

static int delta_of(unsigned kind)
{
	return kind == SITE_ALLOC ? 1 : -1;
}

/* Notes the block's names at the jump; confirmed now, or by a count that is changed later. */
static void seen_at_jump(struct walk *walk, struct walk_path *path, unsigned kind, expr block,
			 expr freeblock, struct matches *matches)
{
	struct walk_pending seen = {
		.at = path->index,
		.kind = kind,
		.key = symbols_sum(walk->symbols, freeblock, -FREEBLOCK),
		.registers = state_registers_of(&path->state, block),
	};

	seen.named = state_name_of(walk->symbols, &path->state, block, &seen.name) == 0;
	if (kind == SITE_FREE &&
	    state_name_of(walk->symbols, &path->state, freeblock, &seen.other) == 0 &&
	    !seen.other.memory)
		seen.other_named = true;
	if (count_changed(walk, path, seen.key, delta_of(kind)))
		add_match(matches, &seen);
	else if (path->n_pending < WALK_PENDING_MAX)
		path->pending[path->n_pending++] = seen;
}

static void at_conditional(struct walk *walk, struct walk_path *path, void *context)
{
	const struct state *state = &path->state;
	const uint8_t condition = code_at(walk->code, path->index)->condition;
	struct matches *matches = context;
	const expr z = state->flags_a;

	if (state->flags != FLAGS_ZERO || state->flags_size_bytes != 8 ||
	    (condition != CONDITION_EQUAL && condition != CONDITION_NOT_EQUAL) ||
	    expr_kind(walk->symbols, z) != EXPR_LOAD)
		return;
	for (unsigned i = 0; i < state->n_stores; i++) {
		const struct state_store *store = &state->stores[i];
		const expr freeblock = store->address;
		expr old;

		if (store->size_bytes != 8 || expr_kind(walk->symbols, freeblock) != EXPR_SUM ||
		    expr_value(walk->symbols, freeblock) != FREEBLOCK ||
		    expr_is_stack(walk->symbols, freeblock) ||
		    state_store_find(state, freeblock, 8) != store)
			continue;
		old = symbols_load(walk->symbols, freeblock, 8);
		if (store->value == z && expr_a(walk->symbols, z) == old)
			seen_at_jump(walk, path, SITE_ALLOC, old, freeblock, matches);
		else if (z == old && store->value != z &&
			 stored_elsewhere(walk, state, z, freeblock))
			seen_at_jump(walk, path, SITE_FREE, store->value, freeblock, matches);
	}
}

static void at_store(struct walk *walk, struct walk_path *path, void *context)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < path->n_pending; i++) {
		struct walk_pending *pending = &path->pending[i];

		if (count_changed(walk, path, pending->key, delta_of(pending->kind)))
			add_match(context, pending);
		else
			path->pending[kept++] = *pending;
	}
	path->n_pending = kept;
}

/* A path without symbols. */
struct bare_path {
	size_t index;
	unsigned steps, branches;
};

struct bare_walk {
	const struct code *code;
	size_t pivot;
	bool passed;
	uint8_t hints; /* of all instructions seen */
	unsigned n_waiting;
	struct bare_path path;
	struct bare_path waiting[WALK_DEPTH_MAX];
};

/* As walk.c's conditional(). */
static size_t bare_conditional(struct bare_walk *walk)
{
	struct bare_path *path = &walk->path;
	const size_t target = code_target(walk->code, path->index);

	if (walk->passed && target != CODE_NONE && path->branches < limits.path_forks &&
	    walk->n_waiting < WALK_DEPTH_MAX)
		walk->waiting[walk->n_waiting++] = (struct bare_path){
			.index = target,
			.steps = path->steps,
			.branches = path->branches + 1,
		};
	path->branches += walk->passed;
	if (path->branches > limits.path_branches)
		return CODE_NONE;
	return code_next(walk->code, path->index);
}

static void bare_step(struct bare_walk *walk)
{
	struct bare_path *path = &walk->path;
	const struct code_instruction *instruction = code_at(walk->code, path->index);

	path->steps++;
	walk->passed = walk->passed || path->index == walk->pivot;
	walk->hints |= instruction->hints;
	switch (instruction->flow) {
	case FLOW_JUMP:
		path->index = code_target(walk->code, path->index);
		break;
	case FLOW_STOP:
	case FLOW_JUMP_INDIRECT:
		path->index = CODE_NONE;
		break;
	case FLOW_CONDITIONAL:
	case FLOW_CONDITIONAL_OTHER:
		path->index = bare_conditional(walk);
		break;
	default:
		path->index = code_next(walk->code, path->index);
		break;
	}
}

/*
 * The same paths without symbols: is freeblock stored and a count written on
 * them?  Nine in ten loads of [r+8] are not followed by both.
 */
static bool worth_walking(const struct code *code, size_t start, size_t pivot)
{
	const uint8_t wanted = HINT_STORE_8 | HINT_WRITE_0;
	struct bare_walk walk;
	unsigned steps = 0;

	walk.code = code;
	walk.pivot = pivot;
	walk.passed = false;
	walk.hints = 0;
	walk.n_waiting = 0;
	walk.path = (struct bare_path){.index = start};
	for (;;) {
		while (walk.path.index != CODE_NONE && walk.path.steps < limits.path_steps) {
			bare_step(&walk);
			steps++;
			if ((walk.hints & wanted) == wanted)
				return true;
		}
		if (walk.n_waiting == 0 || steps > limits.steps)
			return false;
		walk.path = walk.waiting[--walk.n_waiting];
	}
}

int match_pymalloc(struct code *code, struct matches *matches)
{
	static const struct walk_visitor visitor = {
		.conditional = at_conditional,
		.stored = at_store,
	};
	CLEANUP(walk_free) struct walk *walk = NULL;
	int error = walk_new(code, &walk);

	if (error)
		return error;
	for (size_t i = code_hinted(code, 0, HINT_LOAD_8); i != CODE_NONE;
	     i = code_hinted(code, i + 1, HINT_LOAD_8)) {
		const size_t start = walk_start_before(code, i, BACK);

		if (!worth_walking(code, start, i))
			continue;
		error = walk_run(walk, start, i, &limits, &visitor, matches);
		if (error || matches->error)
			return error ? error : matches->error;
	}
	return 0;
}
