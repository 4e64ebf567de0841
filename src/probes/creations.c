/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Creations: every object, from a free list or not, passes the tracing check
 * of _Py_NewReference, which is inlined everywhere.
 *
 *	3.8-3.12   if (tracing) _PyTraceMalloc_NewReference(op);  op->ob_refcnt = 1;
 *	3.13-      op->ob_refcnt = 1;  if (tracer != NULL) tracer(op, CREATE, data);
 *
 * The probe goes on the check's jump.  The object has two witnesses: the first
 * argument of the call on the slow arm, which is exact, since that arm begins
 * at the jump; and the address where the reference count is set to 1, on the
 * fast arm or before the check.  From 3.13 on _Py_Dealloc makes the same check
 * with the second argument DESTROY.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "probes/match.h"
#include "probes/tracing_flag.h"
#include "probes/walk.h"

#define BACK 8		   /* instructions before what touches the flag */
#define GC_HEADER_BYTES 16 /* also where ob_size lies behind ob_refcnt */
#define TRACER_CREATE 0	   /* PyRefTracer_CREATE (Include/cpython/object.h, 3.13) */
#define TRACER_DESTROY 1   /* PyRefTracer_DESTROY */

static const struct walk_limits near_limits = {
	.path_steps = 24,
	.path_forks = 3,
	.path_branches = 24,
	.steps = 1500,
};
static const struct walk_limits far_limits = {
	.path_steps = 160,
	.path_forks = 8,
	.path_branches = 160,
	.steps = 3000,
};
static const struct walk_limits fast_limits = {.path_steps = 24, .steps = 24};
static const struct walk_limits slow_limits = {
	.path_steps = 24,
	.path_forks = 2,
	.path_branches = 2,
	.steps = 200,
};

DEFINE_CLEANUP(struct walk *, walk_free)

struct creations {
	struct code *code;
	struct tracing_flag flag;
	struct walk *walk;     /* to the checks */
	struct walk *arms;     /* from them */
	struct matches checks; /* every jump on the flag */
	struct matches before; /* those behind a store of 1, which names the object */
};

/* What the arms of a check show, in terms of the registers at its jump. */
struct witnesses {
	bool called;
	uint64_t callee; /* 0: indirect */
	bool object_named, object_fixed, second_known, stored;
	int64_t second;		  /* the second argument, where it is a constant */
	struct state_name object; /* the first argument */
	struct state_name store;  /* where 1 is stored on the fast arm */
};

/* An expression over the registers with which a path began, as a name there; -ENOENT. */
static int name_initial(const struct symbols *symbols, expr value, struct state_name *ret)
{
	const bool memory =
		expr_kind(symbols, value) == EXPR_LOAD && expr_value(symbols, value) == 8;
	expr base;
	int64_t offset;

	expr_split(symbols, memory ? expr_a(symbols, value) : value, &base, &offset);
	if (expr_kind(symbols, base) != EXPR_INITIAL || offset < INT16_MIN || offset > INT16_MAX)
		return -ENOENT;
	*ret = (struct state_name){(uint8_t)expr_value(symbols, base), memory, (int16_t)offset};
	return 0;
}

static bool name_equal(const struct state_name *a, const struct state_name *b)
{
	return a->reg == b->reg && a->memory == b->memory && a->displacement == b->displacement;
}

static bool is_store_of_one(const struct symbols *symbols, const struct state_store *store)
{
	return (store->size_bytes == 4 || store->size_bytes == 8) &&
	       expr_is_constant(symbols, store->value, 1) &&
	       !expr_is_stack(symbols, store->address);
}

static void fast_stored(struct walk *walk, struct walk_path *path, void *context)
{
	const struct state_store *store = &path->state.stores[path->state.n_stores - 1];
	struct witnesses *witnesses = context;

	if (!witnesses->stored && is_store_of_one(walk->symbols, store))
		witnesses->stored =
			name_initial(walk->symbols, store->address, &witnesses->store) == 0;
}

static bool fast_called(struct walk *walk, struct walk_path *path, void *context)
{
	(void)walk;
	(void)path;
	(void)context;
	return true;
}

static bool slow_called(struct walk *walk, struct walk_path *path, void *context)
{
	const expr *registers = path->state.registers;
	struct witnesses *witnesses = context;

	if (witnesses->object_named)
		return true;
	witnesses->called = true;
	witnesses->callee = code_branch_address(walk->code, path->index);
	witnesses->object_named =
		name_initial(walk->symbols, registers[CODE_RDI], &witnesses->object) == 0;
	witnesses->object_fixed = expr_kind(walk->symbols, registers[CODE_RDI]) == EXPR_CONSTANT;
	witnesses->second_known = expr_kind(walk->symbols, registers[CODE_RSI]) == EXPR_CONSTANT;
	witnesses->second = expr_value(walk->symbols, registers[CODE_RSI]);
	return true;
}

static void pass(struct walk *walk, struct walk_path *path, void *context)
{
	(void)walk;
	(void)path;
	(void)context;
}

/* Follows both arms of the check at index. */
static int examine(struct creations *creations, size_t index, struct witnesses *ret)
{
	static const struct walk_visitor fast_visitor = {
		.conditional = pass,
		.stored = fast_stored,
		.call = fast_called,
	};
	static const struct walk_visitor slow_visitor = {
		.conditional = pass,
		.call = slow_called,
	};
	const bool zero_taken = code_at(creations->code, index)->condition == CONDITION_EQUAL;
	const size_t taken = code_target(creations->code, index);
	const size_t next = code_next(creations->code, index);
	const size_t fast = zero_taken ? taken : next, slow = zero_taken ? next : taken;
	int error = 0;

	*ret = (struct witnesses){0};
	if (fast != CODE_NONE)
		error = walk_run(creations->arms, fast, fast, &fast_limits, &fast_visitor, ret);
	if (!error && slow != CODE_NONE)
		error = walk_run(creations->arms, slow, slow, &slow_limits, &slow_visitor, ret);
	return error;
}

/* Names the object by the store's own base register, which is the object's on every path. */
static int name_by_store(struct creations *creations, const struct state *state,
			 const struct state_store *store, expr object, struct state_name *ret)
{
	struct symbols *symbols = creations->walk->symbols;
	const struct code_operation *operation = code_operation(creations->code, store->at);
	const struct code_operand *operand = operation ? &operation->operands[0] : NULL;

	if (operand && operand->kind == OPERAND_MEMORY && operand->base != CODE_REGISTER_NONE &&
	    operand->index == CODE_REGISTER_NONE && operand->value >= INT16_MIN &&
	    operand->value <= INT16_MAX &&
	    symbols_sum(symbols, state->registers[operand->base], operand->value) == object) {
		*ret = (struct state_name){operand->base, false, (int16_t)operand->value};
		return 0;
	}
	return state_name_of(symbols, state, object, ret);
}

/* The last object whose count was set to 1 on the path; a 1 right behind it is an ob_size. */
static const struct state_store *last_store_of_one(struct symbols *symbols,
						   const struct state *state)
{
	const struct state_store *last = NULL;

	for (unsigned i = 0; i < state->n_stores; i++)
		if (is_store_of_one(symbols, &state->stores[i]))
			last = &state->stores[i];
	if (!last)
		return NULL;
	for (unsigned i = 0; i < state->n_stores; i++) {
		const struct state_store *store = &state->stores[i];

		if (is_store_of_one(symbols, store) &&
		    symbols_sum(symbols, store->address, GC_HEADER_BYTES) == last->address)
			return store;
	}
	return last;
}

static void at_conditional(struct walk *walk, struct walk_path *path, void *context)
{
	struct creations *creations = context;
	const struct state *state = &path->state;
	const uint8_t condition = code_at(walk->code, path->index)->condition;
	const struct state_store *store;
	struct match match = {.at = (uint32_t)path->index, .kind = SITE_CREATE};

	if (state->flags != FLAGS_ZERO || state->flags_size_bytes != creations->flag.size_bytes ||
	    (condition != CONDITION_EQUAL && condition != CONDITION_NOT_EQUAL) ||
	    !tracing_flag_is_load(&creations->flag, walk->symbols, state->flags_a))
		return;
	matches_add(&creations->checks, &match);
	store = last_store_of_one(walk->symbols, state);
	if (!store)
		return;
	match.named = name_by_store(creations, state, store, store->address, &match.name) == 0;
	matches_add(&creations->before, &match);
}

/* Does the instruction (HINT_REFERENCE) touch the flag, or the base from which it is reached? */
static const struct walk_limits *limits_for(const struct creations *creations, size_t index)
{
	const struct tracing_flag *flag = &creations->flag;
	const uint8_t hints = code_at(creations->code, index)->hints;
	const uint64_t reference = code_reference(creations->code, index);
	uint64_t target;

	if (reference == flag->vaddr)
		return &near_limits;
	if (tracing_flag_is_far(flag))
		return reference == (uint64_t)flag->displacement ? &near_limits : NULL;
	if (flag->anchor != 0 && reference == flag->anchor)
		return &far_limits;
	if (hints & HINT_SLOT && flag->image &&
	    image_slot_target(flag->image, reference, &target) == 0 &&
	    (target == flag->vaddr || (flag->anchor != 0 && target == flag->anchor)))
		return &far_limits;
	return NULL;
}

static int find_checks(struct creations *creations)
{
	static const struct walk_visitor visitor = {.conditional = at_conditional};

	for (size_t i = code_hinted(creations->code, 0, HINT_REFERENCE); i != CODE_NONE;
	     i = code_hinted(creations->code, i + 1, HINT_REFERENCE)) {
		const struct walk_limits *limits = limits_for(creations, i);
		size_t start = i;
		int error;

		if (!limits)
			continue;
		if (limits == &near_limits)
			start = walk_start_before(creations->code, i, BACK);
		error = walk_run(creations->walk, start, start, limits, &visitor, creations);
		if (error)
			return error;
	}
	return creations->checks.error ? creations->checks.error : creations->before.error;
}

/* Static objects are immortal: their deallocation is a fatal error. */
static bool judge_destruction(const struct witnesses *seen, struct match *ret)
{
	ret->kind = SITE_DESTROY;
	ret->named = seen->object_named;
	ret->name = seen->object;
	return !seen->object_fixed;
}

/* 3.13 and later: the second argument says what it is. */
static bool judge_tracer(const struct creations *creations, const struct witnesses *seen,
			 struct match *ret)
{
	const struct match *before = matches_find(&creations->before, ret->at, SITE_CREATE);
	const bool known = seen->called && seen->second_known;

	if (known && seen->second == TRACER_DESTROY)
		return judge_destruction(seen, ret);
	if (known && seen->second == TRACER_CREATE && seen->object_named) {
		/* A register is as good as what the arm loads from the frame, and cheaper. */
		const bool spilled = seen->object.memory && before && before->named;

		ret->named = true;
		ret->name = spilled ? before->name : seen->object;
		return true;
	}
	if (before) {
		ret->named = before->named;
		ret->name = before->name;
		return true;
	}
	if (!known || seen->second != TRACER_CREATE)
		return false;
	ret->named = seen->stored;
	ret->name = seen->store;
	return true;
}

/* Up to 3.12: tracemalloc itself tests the flag too, so the callee has to be the right one. */
static bool judge_tracemalloc(const struct witnesses *seen, uint64_t tracer, struct match *ret)
{
	ret->named = true;
	if (seen->called && seen->object_named && tracer != 0 && seen->callee == tracer)
		ret->name = seen->object;
	else if (seen->stored)
		ret->name = seen->store;
	else
		return false;
	return true;
}

/* The function that most checks call with the object whose count they then set to 1; 0: none. */
static uint64_t most_called(const struct witnesses *seen, size_t n)
{
	uint64_t best = 0, candidate;
	size_t most = 0;

	for (size_t i = 0; i < n; i++) {
		size_t count = 0;

		candidate = seen[i].callee;
		if (!seen[i].called || candidate == 0 || candidate == best)
			continue;
		for (size_t j = 0; j < n; j++)
			count += seen[j].callee == candidate && seen[j].stored &&
				 seen[j].object_named &&
				 name_equal(&seen[j].object, &seen[j].store);
		if (count > most) {
			most = count;
			best = candidate;
		}
	}
	return best;
}

static int judge(struct creations *creations, bool destructions, struct matches *matches)
{
	const size_t n = creations->checks.n;
	_cleanup_free_ struct witnesses *seen = calloc(n + 1, sizeof(*seen));
	const bool tracer = tracing_flag_is_tracer(&creations->flag);
	uint64_t callee = 0;
	int error;

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		error = examine(creations, creations->checks.items[i].at, &seen[i]);
		if (error)
			return error;
	}
	if (!tracer)
		callee = most_called(seen, n);
	for (size_t i = 0; i < n; i++) {
		struct match match = creations->checks.items[i];

		match.condition = WIRE_CONDITION_ALWAYS;
		if (tracer ? !judge_tracer(creations, &seen[i], &match)
			   : !judge_tracemalloc(&seen[i], callee, &match))
			continue;
		if (match.kind == SITE_CREATE || destructions)
			matches_add(matches, &match);
	}
	return matches->error;
}

static void creations_done(struct creations *creations)
{
	walk_free(creations->walk);
	walk_free(creations->arms);
	matches_done(&creations->checks);
	matches_done(&creations->before);
}

int match_creations_of(struct code *code, const struct tracing_flag *flag, bool destructions,
		       struct matches *matches)
{
	__attribute__((cleanup(creations_done))) struct creations creations = {
		.code = code,
		.flag = *flag,
	};
	int error;

	error = walk_new(code, &creations.walk);
	if (error)
		return error;
	error = walk_new(code, &creations.arms);
	if (error)
		return error;
	error = find_checks(&creations);
	if (error)
		return error;
	return judge(&creations, destructions, matches);
}

int match_creations(struct code *code, const struct image *image, bool destructions,
		    struct matches *matches)
{
	CLEANUP(walk_free) struct walk *walk = NULL;
	struct tracing_flag flag;
	int error;

	error = walk_new(code, &walk);
	if (error)
		return error;
	error = tracing_flag_find(walk, image, &flag);
	if (error)
		return error;
	return match_creations_of(code, &flag, destructions, matches);
}
