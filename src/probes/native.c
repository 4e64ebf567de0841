/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The sites of a C library's allocator, without a return probe: a return is
 * foretold by the last conditional jump before it.
 *
 *	test al, 0xf
 *	jne  corrupted        this arm not taken ...
 *	mov  [rax+8], 0
 *	pop  rbx              ... runs straight to a return,
 *	ret                   whose rax is what rax is at the jump
 *
 * Each arm of each conditional jump of a function from which control runs
 * straight to a return is a site, with the condition under which that arm is
 * taken, and what the returned register is there.  A path from entry to return
 * passes exactly one such arm, so that each block comes once.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "probes/builder.h"
#include "probes/decode.h"
#include "probes/symbolic.h"

#define BODY_INSTRUCTIONS_MAX 8192 /* of one function with what it jumps to */
#define STRAIGHT_STEPS 64
#define ENTRY_STEPS 16
#define COVERED_MAX 16
#define LINE_JUMPS_MAX 8
#define LATE_MAX 32

DEFINE_CLEANUP(struct code *, code_free)
DEFINE_CLEANUP(struct plan *, plan_free)
DEFINE_CLEANUP(struct symbols *, symbols_free)

enum result {
	RESULT_RETURNED, /* in rax */
	RESULT_STORED, /* through the first argument; rax is 0 where it was */
};

struct function {
	const char *name;
	enum wire_site_kind kind;
	enum result result;
	bool passes_on; /* no work of its own where it calls one of the others */
};

/* In this order: what jumps to an earlier one, as realloc(NULL, n) does to malloc, is covered by it. */
static const struct function functions[] = {
	{ "malloc", SITE_NATIVE_ALLOC, RESULT_RETURNED, false },
	{ "calloc", SITE_NATIVE_ALLOC, RESULT_RETURNED, false },
	{ "memalign", SITE_NATIVE_ALLOC, RESULT_RETURNED, false },
	{ "aligned_alloc", SITE_NATIVE_ALLOC, RESULT_RETURNED, false },
	{ "valloc", SITE_NATIVE_ALLOC, RESULT_RETURNED, false },
	{ "pvalloc", SITE_NATIVE_ALLOC, RESULT_RETURNED, false },
	{ "realloc", SITE_REALLOC_RETURN, RESULT_RETURNED, false },
	{ "reallocarray", SITE_REALLOC_RETURN, RESULT_RETURNED, true },
	{ "posix_memalign", SITE_NATIVE_ALLOC, RESULT_STORED, true },
};

struct native {
	const struct image *image;
	struct code *code;
	struct symbols *symbols;
	struct plan_builder builder;
	/* Entries whose returns have sites: what calls or jumps to them needs none of its own. */
	size_t covered[COVERED_MAX];
	size_t n_covered;
	/* The function at hand: every instruction that control can reach, without its callees. */
	uint8_t *seen; /* a bit an instruction of the image */
	uint32_t body[BODY_INSTRUCTIONS_MAX];
	size_t n_body;
	bool body_calls_covered;
	/* Direct jumps that take the place of the conditional ones before them: see late_jump(). */
	uint32_t late[LATE_MAX];
	size_t n_late;
};

/* Where a straight line ends, and with what. */
struct line {
	bool returns; /* it reached a ret, or a tail call that returns its first argument */
	bool covered; /* it goes on in, or returns the result of, a function with sites */
	uint32_t jumps[LINE_JUMPS_MAX]; /* direct jumps that it passes */
	size_t n_jumps;
	struct state state; /* before the ret */
};

static size_t entry_of(const struct native *native, const char *name)
{
	struct image_symbol symbol;

	if (image_symbol(native->image, name, &symbol) < 0)
		return CODE_NONE;
	return code_index(native->code, symbol.vaddr);
}

static bool is_covered(const struct native *native, size_t index)
{
	for (size_t i = 0; i < native->n_covered; i++)
		if (native->covered[i] == index)
			return true;
	return false;
}

static void cover(struct native *native, size_t index)
{
	if (native->n_covered < COVERED_MAX && !is_covered(native, index))
		native->covered[native->n_covered++] = index;
}

/* ret, rep ret and ret imm16; the other ends of control (ud2, hlt) return nothing. */
static bool is_return(const struct native *native, size_t index)
{
	const uint8_t *bytes = code_instruction_bytes(native->code, index);

	return bytes[0] == 0xc3 || bytes[0] == 0xc2 || (bytes[0] == 0xf3 && bytes[1] == 0xc3);
}

/* Does a function begin there? What runs into it from above never returned (abort). */
static bool is_function_start(const struct native *native, size_t index)
{
	const uint64_t vaddr = code_vaddr(native->code, index);
	const struct image_range *ranges;
	size_t low = 0, high = image_function_ranges(native->image, &ranges);

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (ranges[middle].start < vaddr)
			low = middle + 1;
		else if (ranges[middle].start > vaddr)
			high = middle;
		else
			return true;
	}
	return false;
}

/* What comes behind an instruction in memory, in the same function. */
static size_t next_in_function(const struct native *native, size_t index)
{
	const size_t next = code_next(native->code, index);

	return next == CODE_NONE || is_function_start(native, next) ? CODE_NONE : next;
}

/* --- the body ------------------------------------------------------------------------------ */

static void body_add(struct native *native, size_t index)
{
	if (index == CODE_NONE || native->n_body == BODY_INSTRUCTIONS_MAX ||
	    native->seen[index / 8] & 1 << index % 8)
		return;
	native->seen[index / 8] |= (uint8_t)(1 << index % 8);
	native->body[native->n_body++] = (uint32_t)index;
}

static void body_follow(struct native *native, size_t index)
{
	const size_t target = code_target(native->code, index);

	switch (code_at(native->code, index)->flow) {
	case FLOW_CONDITIONAL:
	case FLOW_CONDITIONAL_OTHER:
		body_add(native, target);
		break;
	case FLOW_JUMP:
		if (is_covered(native, target))
			native->body_calls_covered = true;
		else
			body_add(native, target);
		return;
	case FLOW_CALL:
		if (is_covered(native, target))
			native->body_calls_covered = true;
		break;
	case FLOW_JUMP_INDIRECT:
	case FLOW_STOP:
		return;
	default:
		break;
	}
	body_add(native, next_in_function(native, index));
}

static void body_collect(struct native *native, size_t entry)
{
	for (size_t i = 0; i < native->n_body; i++)
		native->seen[native->body[i] / 8] &= (uint8_t)~(1 << native->body[i] % 8);
	native->n_body = 0;
	native->body_calls_covered = false;
	body_add(native, entry);
	for (size_t i = 0; i < native->n_body; i++)
		body_follow(native, native->body[i]);
}

/* --- straight lines ------------------------------------------------------------------------ */

/* memset(block, 0, n), which calloc ends with: it returns the block. Through the PLT, so without a name. */
static bool is_memset(struct native *native, const struct state *state, size_t index)
{
	return code_target(native->code, index) == CODE_NONE &&
	       code_branch_address(native->code, index) != 0 &&
	       expr_is_constant(native->symbols, state->registers[CODE_RSI], 0);
}

/* A call on the line: what it leaves in rax, and whether that has a site already. */
static int line_call(struct native *native, struct line *line, size_t index)
{
	const expr block = line->state.registers[CODE_RDI];
	const bool memset = is_memset(native, &line->state, index);
	int r;

	line->covered = is_covered(native, code_target(native->code, index));
	r = state_step(native->symbols, &line->state, native->code, index);
	if (memset)
		line->state.registers[CODE_RAX] = block;
	return r;
}

/* A jump on the line: where it goes on, CODE_NONE at its end. */
static size_t line_jump(struct native *native, struct line *line, size_t index)
{
	const size_t target = code_target(native->code, index);

	if (line->n_jumps < LINE_JUMPS_MAX)
		line->jumps[line->n_jumps++] = (uint32_t)index;
	if (target != CODE_NONE && is_covered(native, target)) {
		line->covered = true;
		return CODE_NONE;
	}
	if (is_memset(native, &line->state, index)) {
		line->returns = true;
		line->state.registers[CODE_RAX] = line->state.registers[CODE_RDI];
	}
	return target;
}

/*
 * Executes from index to the return; a conditional jump, or control that goes
 * where it can't be followed, ends the line without one.
 */
static int run_line(struct native *native, size_t index, struct line *ret)
{
	int r;

	symbols_reset(native->symbols);
	state_begin(&ret->state);
	ret->returns = ret->covered = false;
	ret->n_jumps = 0;
	for (unsigned step = 0; step < STRAIGHT_STEPS && index != CODE_NONE; step++) {
		switch (code_at(native->code, index)->flow) {
		case FLOW_CONDITIONAL:
		case FLOW_CONDITIONAL_OTHER:
		case FLOW_JUMP_INDIRECT:
			return 0;
		case FLOW_STOP:
			ret->returns = is_return(native, index);
			return 0;
		case FLOW_JUMP:
			index = line_jump(native, ret, index);
			continue;
		case FLOW_CALL:
			r = line_call(native, ret, index);
			break;
		default:
			r = state_step(native->symbols, &ret->state, native->code, index);
			break;
		}
		if (r < 0)
			return r == -ENOBUFS ? 0 : r;
		index = next_in_function(native, index);
	}
	return 0;
}

/* What the line returns, as an expression over the registers at its beginning. EXPR_NONE: nothing. */
static expr line_result(struct native *native, const struct line *line, enum result kind)
{
	const expr rax = line->state.registers[CODE_RAX];
	expr stored = EXPR_NONE;

	if (kind == RESULT_RETURNED)
		return expr_is_constant(native->symbols, rax, 0) ? EXPR_NONE : rax;
	if (!expr_is_constant(native->symbols, rax, 0) &&
	    !expr_is_constant(native->symbols, expr_a(native->symbols, rax), 0))
		return EXPR_NONE;
	for (size_t i = 0; i < line->state.n_stores; i++) {
		const struct state_store *store = &line->state.stores[i];

		if (store->size_bytes == 8 && !expr_is_stack(native->symbols, store->address))
			stored = store->value;
	}
	return stored;
}

/* -ENOENT: it can't be had from the registers at the line's beginning. */
static int name_result(const struct native *native, expr value, struct plan_site *site)
{
	const struct symbols *symbols = native->symbols;
	bool memory = expr_kind(symbols, value) == EXPR_LOAD && expr_value(symbols, value) == 8;
	int64_t offset;
	expr base;

	expr_split(symbols, memory ? expr_a(symbols, value) : value, &base, &offset);
	if (expr_kind(symbols, base) != EXPR_INITIAL || offset < INT16_MIN || offset > INT16_MAX)
		return -ENOENT;
	site->reg = (uint8_t)expr_value(symbols, base);
	site->value = memory ? VALUE_MEMORY : VALUE_REGISTER;
	site->displacement = (int16_t)offset;
	return 0;
}

/* How far above rsp the return address is at the line's beginning, plus one; in words. 0: not known. */
static uint8_t return_slot(const struct native *native, const struct line *line)
{
	int64_t offset;
	expr base;

	expr_split(native->symbols, line->state.registers[CODE_RSP], &base, &offset);
	if (base != symbols_initial(CODE_RSP) || offset < 0 || offset % 8 ||
	    offset / 8 >= PLAN_RETURN_SLOT_MAX)
		return 0;
	return (uint8_t)(offset / 8 + 1);
}

/* --- sites --------------------------------------------------------------------------------- */

/*
 * What is returned on the line that begins at index, by the registers there.
 * 1: it is named in ret; 0: the line returns nothing; -ENOENT: it can't be named.
 */
static int match_line(struct native *native, const struct function *function, size_t index,
		      struct line *line, struct plan_site *ret)
{
	expr result;
	int r;

	r = run_line(native, index, line);
	if (r < 0)
		return r;
	if (!line->returns)
		return 0;
	result = line_result(native, line, function->result);
	if (result == EXPR_NONE)
		return 0;
	*ret = (struct plan_site){
		.kind = function->kind,
		.condition = WIRE_CONDITION_ALWAYS,
		.return_slot = return_slot(native, line),
		.function = function->name,
	};
	r = name_result(native, result, ret);
	if (r == 0)
		return 1;
	return line->covered ? 0 : r;
}

static size_t arm_entry(const struct native *native, size_t jump, bool taken)
{
	return taken ? code_target(native->code, jump) : code_next(native->code, jump);
}

static bool passes_late_jump(const struct native *native, const struct line *line)
{
	for (size_t i = 0; i < line->n_jumps; i++)
		for (size_t k = 0; k < native->n_late; k++)
			if (line->jumps[i] == native->late[k])
				return true;
	return false;
}

/*
 * An arm on which the block is loaded after the conditional jump (glibc 2.31's
 * thread cache) may pass a direct jump, which is emulated as well, when it has
 * it.  That jump becomes a site, for all arms that pass it.
 */
static int late_jump(struct native *native, const struct function *function,
		     const struct line *arm)
{
	struct plan_site site;
	struct line line;
	int r;

	for (size_t i = 0; i < arm->n_jumps; i++) {
		const size_t target = code_target(native->code, arm->jumps[i]);

		if (target == CODE_NONE || native->n_late == LATE_MAX)
			continue;
		r = match_line(native, function, target, &line, &site);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r != 1)
			continue;
		native->late[native->n_late++] = arm->jumps[i];
		return plan_builder_add(&native->builder, arm->jumps[i], &site);
	}
	native->builder.plan->statistics.unresolved++;
	return 0;
}

static int find_late_jumps(struct native *native, const struct function *function, size_t jump)
{
	struct plan_site site;
	struct line line;
	int r;

	for (int taken = 0; taken <= 1; taken++) {
		r = match_line(native, function, arm_entry(native, jump, taken), &line, &site);
		if (r == -ENOENT && !passes_late_jump(native, &line))
			r = late_jump(native, function, &line);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

static bool same_value(const struct plan_site *a, const struct plan_site *b)
{
	return a->reg == b->reg && a->value == b->value && a->displacement == b->displacement &&
	       a->return_slot == b->return_slot;
}

static int match_jump(struct native *native, const struct function *function, size_t jump)
{
	const uint8_t condition = code_at(native->code, jump)->condition;
	struct plan_site sites[2];
	struct line line;
	int n = 0;
	int r;

	for (int taken = 0; taken <= 1; taken++) {
		r = match_line(native, function, arm_entry(native, jump, taken), &line,
			       &sites[n]);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 1 && !passes_late_jump(native, &line))
			sites[n++].condition = taken ? condition : condition ^ 1;
	}
	if (n == 2 && same_value(&sites[0], &sites[1])) {
		sites[0].condition = WIRE_CONDITION_ALWAYS;
		n = 1;
	}
	for (int i = 0; i < n; i++) {
		r = plan_builder_add(&native->builder, jump, &sites[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int match_body(struct native *native, const struct function *function,
		      int (*match)(struct native *native, const struct function *function,
				   size_t jump))
{
	int r;

	for (size_t i = 0; i < native->n_body; i++) {
		if (code_at(native->code, native->body[i])->flow != FLOW_CONDITIONAL)
			continue;
		r = match(native, function, native->body[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* memalign jumps to what does its work: whoever calls that has sites there. */
static void cover_tail_calls(struct native *native)
{
	for (size_t i = 0; i < native->n_body; i++) {
		const size_t index = native->body[i];
		size_t target;

		if (code_at(native->code, index)->flow != FLOW_JUMP)
			continue;
		target = code_target(native->code, index);
		if (target != CODE_NONE && is_function_start(native, target))
			cover(native, target);
	}
}

static int match_function(struct native *native, const struct function *function)
{
	const size_t entry = entry_of(native, function->name);
	int r;

	if (entry == CODE_NONE || is_covered(native, entry))
		return 0;
	body_collect(native, entry);
	/* It hands over what another function of ours made. */
	if (function->passes_on && native->body_calls_covered)
		return 0;
	native->n_late = 0;
	r = match_body(native, function, find_late_jumps);
	if (r == 0)
		r = match_body(native, function, match_jump);
	if (r < 0)
		return r;
	cover(native, entry);
	cover_tail_calls(native);
	return 0;
}

static int is_branch(size_t branch, void *context)
{
	(void)branch;
	(void)context;
	return 1;
}

/*
 * The first emulated instruction of a function at which its first argument is
 * still in a register: on the straight line from the entry, which nothing else
 * jumps into.
 */
static int match_entry(struct native *native, const char *name, enum wire_site_kind kind)
{
	struct plan_site site = { .kind = kind, .condition = WIRE_CONDITION_ALWAYS };
	size_t index = entry_of(native, name);
	struct state state;
	int r;

	symbols_reset(native->symbols);
	state_begin(&state);
	for (unsigned step = 0; step < ENTRY_STEPS && index != CODE_NONE; step++) {
		const uint8_t flow = code_at(native->code, index)->flow;

		if (step > 0 && code_branches_to_visit(native->code, index, is_branch, NULL) != 0)
			break;
		if (code_is_emulated(native->code, index) &&
		    name_result(native, symbols_initial(CODE_RDI), &site) == 0) {
			uint16_t holders = state_registers_of(&state, symbols_initial(CODE_RDI));

			if (holders) {
				site.reg = (uint8_t)__builtin_ctz(holders);
				return plan_builder_add(&native->builder, index, &site);
			}
		}
		if (flow != FLOW_NEXT)
			break;
		r = state_step(native->symbols, &state, native->code, index);
		if (r < 0)
			return r;
		index = code_next(native->code, index);
	}
	native->builder.plan->statistics.unresolved++;
	return 0;
}

static int match_all(struct native *native)
{
	int r;

	if (entry_of(native, "malloc") == CODE_NONE || entry_of(native, "free") == CODE_NONE)
		return -ENOENT;
	cover(native, entry_of(native, "free")); /* realloc(p, 0) may go on there: it returns nothing */
	r = match_entry(native, "free", SITE_NATIVE_FREE);
	if (r == 0)
		r = match_entry(native, "realloc", SITE_REALLOC_ENTER);
	for (size_t i = 0; i < ARRAY_SIZE(functions) && r == 0; i++)
		r = match_function(native, &functions[i]);
	return r == 0 ? plan_builder_finish(&native->builder) : r;
}

static int match_image(struct native *native, struct plan *plan)
{
	CLEANUP(symbols_free) struct symbols *symbols = NULL;
	_cleanup_free_ uint8_t *seen = NULL;
	int r;

	r = symbols_new(&symbols);
	if (r < 0)
		return r;
	seen = calloc(code_count(native->code) / 8 + 1, 1);
	if (!seen)
		return -ENOMEM;
	native->symbols = symbols;
	native->seen = seen;
	native->builder = (struct plan_builder){
		.image = native->image,
		.code = native->code,
		.plan = plan,
	};
	return match_all(native);
}

int plan_make_native(const struct image *image, struct plan **ret, struct fault *reterr_fault)
{
	CLEANUP(code_free) struct code *code = NULL;
	CLEANUP(plan_free) struct plan *plan = NULL;
	_cleanup_free_ struct native *native = calloc(1, sizeof(*native));
	int r;

	if (!native)
		return -ENOMEM;
	r = code_new(image, &code, reterr_fault);
	if (r < 0)
		return r;
	r = plan_new(image, &plan);
	if (r < 0)
		return r;
	native->image = image;
	native->code = code;
	r = match_image(native, plan);
	if (r == -ENOENT)
		return fault_set(reterr_fault, -ENOENT, REASON_NO_PLAN, 0, "malloc");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(plan);
	return 0;
}
