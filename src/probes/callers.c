/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "probes/callers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "probes/walk.h"

#define AHEAD 16    /* instructions from the call to its check, at most */
#define CALLS_MAX 2 /* others in between, across which the object is kept in a saved register */

DEFINE_CLEANUP(struct walk *, walk_free)

struct callers {
	struct code *code;
	struct walk *walk;
	const struct image *image;
	const struct constructor *constructors;
	size_t n;
	struct matches *matches;
};

/* --- what is called --- */

/* An entry of a PLT: endbr64 and bnd where they are, then jmp [rip + displacement]. */
static bool plt_slot(const struct image *image, uint64_t vaddr, uint64_t *ret_slot)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	const uint8_t *bytes = image_bytes(image, vaddr, 16);
	size_t at = 0;
	int32_t displacement;

	if (!bytes)
		return false;
	if (memcmp(bytes, endbr64, sizeof(endbr64)) == 0)
		at += sizeof(endbr64);
	if (bytes[at] == 0xf2)
		at++;
	if (bytes[at] != 0xff || bytes[at + 1] != 0x25)
		return false;
	memcpy(&displacement, bytes + at + 2, sizeof(displacement));
	*ret_slot = vaddr + at + 6 + (uint64_t)(int64_t)displacement;
	return true;
}

/* call [rip + displacement] */
static bool called_slot(const struct callers *callers, size_t index, uint64_t *ret_slot)
{
	const uint8_t *bytes = code_instruction_bytes(callers->code, index);
	int32_t displacement;

	if (code_at(callers->code, index)->length != 6 || bytes[0] != 0xff || bytes[1] != 0x15)
		return false;
	memcpy(&displacement, bytes + 2, sizeof(displacement));
	*ret_slot = code_vaddr(callers->code, index) + 6 + (uint64_t)(int64_t)displacement;
	return true;
}

/* The address that a call comes to, in the end; 0: not known. */
static uint64_t callee(const struct callers *callers, size_t index)
{
	const uint8_t flow = code_at(callers->code, index)->flow;
	uint64_t vaddr = 0, slot, target;

	if (flow == FLOW_CALL) {
		vaddr = code_branch_address(callers->code, index);
		if (!callers->image || !plt_slot(callers->image, vaddr, &slot))
			return vaddr;
	} else if (flow != FLOW_CALL_INDIRECT || !callers->image ||
		   !called_slot(callers, index, &slot)) {
		return 0;
	}
	return image_slot_target(callers->image, slot, &target) == 0 ? target : vaddr;
}

static int compare_constructors(const void *a, const void *b)
{
	const struct constructor *left = a, *right = b;

	return (left->vaddr > right->vaddr) - (left->vaddr < right->vaddr);
}

static const struct constructor *constructor_at(const struct callers *callers, uint64_t vaddr)
{
	const struct constructor key = {.vaddr = vaddr};

	return vaddr ? bsearch(&key, callers->constructors, callers->n, sizeof(key),
			       compare_constructors)
		     : NULL;
}

/* --- the way to the check --- */

struct entries {
	size_t n, allowed;
};

static int count_entry(size_t branch, void *context)
{
	struct entries *entries = context;

	(void)branch;
	return ++entries->n > entries->allowed;
}

/* Does control come to index from elsewhere than the one way that is being followed? */
static int is_entered(const struct callers *callers, size_t index, bool by_jump, bool *ret)
{
	const size_t before = code_previous(callers->code, index);
	struct entries entries = {.allowed = by_jump ? 1 : 0};
	int r = code_branches_to_visit(callers->code, index, count_entry, &entries);

	if (r < 0)
		return r;
	*ret = r > 0;
	if (!by_jump || before == CODE_NONE)
		return 0;
	switch (code_at(callers->code, before)->flow) {
	case FLOW_JUMP:
	case FLOW_JUMP_INDIRECT:
	case FLOW_STOP:
		return 0;
	default: /* falls into it */
		*ret = true;
		return 0;
	}
}

/*
 * The first conditional jump behind the call, if the way to it is the only one;
 * CODE_NONE: there is none such.
 */
static int find_check(const struct callers *callers, size_t call, size_t *ret)
{
	struct code *code = callers->code;
	size_t index = code_next(code, call);
	unsigned calls = 0;
	bool jumped = false;

	*ret = CODE_NONE;
	for (unsigned i = 0; i < AHEAD && index != CODE_NONE; i++) {
		bool entered;
		int r = is_entered(callers, index, jumped, &entered);

		if (r < 0 || entered)
			return r;
		jumped = false;
		switch (code_at(code, index)->flow) {
		case FLOW_CONDITIONAL:
			*ret = index;
			return 0;
		case FLOW_JUMP:
			index = code_target(code, index);
			jumped = true;
			continue;
		case FLOW_CALL:
		case FLOW_CALL_INDIRECT:
			if (++calls > CALLS_MAX)
				return 0;
			break;
		case FLOW_NEXT:
			break;
		default:
			return 0;
		}
		index = code_next(code, index);
	}
	return 0;
}

struct check {
	size_t at;
	struct match match;
	bool found;
};

/* A zero test of rax as it was where the walk began: the object. */
static void at_conditional(struct walk *walk, struct walk_path *path, void *context)
{
	const struct state *state = &path->state;
	const uint8_t condition = code_at(walk->code, path->index)->condition;
	const expr object = symbols_initial(CODE_RAX);
	struct check *check = context;

	if (path->index != check->at || state->flags != FLAGS_ZERO || state->flags_a != object ||
	    state->flags_size_bytes != 8 ||
	    (condition != CONDITION_EQUAL && condition != CONDITION_NOT_EQUAL))
		return;
	check->match = (struct match){
		.at = (uint32_t)path->index,
		.kind = SITE_CALLER,
		.value = VALUE_REGISTER,
		.condition = CONDITION_NOT_EQUAL, /* not NULL, on whichever arm */
		.registers = state_registers_of(state, object),
	};
	check->match.named = state_name_of(walk->symbols, state, object, &check->match.name) == 0;
	check->found = check->match.named;
}

static bool is_taken(const struct matches *matches, size_t at)
{
	for (unsigned kind = 0; kind < SITE_KINDS; kind++)
		if (matches_find(matches, at, kind))
			return true;
	return false;
}

static int match_call(struct callers *callers, size_t call, const struct constructor *constructor)
{
	static const struct walk_limits limits = {.path_steps = AHEAD + 1, .steps = AHEAD + 1};
	static const struct walk_visitor visitor = {.conditional = at_conditional};
	struct check check = {0};
	size_t start = code_next(callers->code, call);
	int error = find_check(callers, call, &check.at);

	if (error || check.at == CODE_NONE || is_taken(callers->matches, check.at))
		return error;
	error = walk_run(callers->walk, start, start, &limits, &visitor, &check);
	if (error || !check.found)
		return error;
	check.match.function = constructor->name;
	matches_add(callers->matches, &check.match);
	return callers->matches->error;
}

int match_callers_of(struct code *code, const struct image *image,
		     const struct constructor *constructors, size_t n, struct matches *matches)
{
	CLEANUP(walk_free) struct walk *walk = NULL;
	struct callers callers = {
		.code = code,
		.image = image,
		.constructors = constructors,
		.n = n,
		.matches = matches,
	};
	int error = walk_new(code, &walk);

	if (error)
		return error;
	callers.walk = walk;
	for (size_t i = 0; i < code_count(code) && !error; i++) {
		const struct constructor *called = constructor_at(&callers, callee(&callers, i));

		if (called)
			error = match_call(&callers, i, called);
	}
	return error;
}

int match_callers(struct code *code, const struct image *image, bool core, struct matches *matches)
{
#define KNOWN(name_, core_) {.name = #name_, .core = core_},
	static const struct {
		const char *name;
		bool core;
	} known[] = {CALLERS_CONSTRUCTORS(KNOWN)};
#undef KNOWN
	struct constructor constructors[ARRAY_SIZE(known)];
	struct image_symbol symbol;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if ((known[i].core || !core) && !image_symbol(image, known[i].name, &symbol) &&
		    !symbol.indirect)
			constructors[n++] = (struct constructor){known[i].name, symbol.vaddr};
	qsort(constructors, n, sizeof(*constructors), compare_constructors);
	return match_callers_of(code, image, constructors, n, matches);
}
