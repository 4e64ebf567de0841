/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Straight lines: from an arm of a conditional jump to the return, without
 * another conditional jump.  What rax is at their end, by the registers at
 * their beginning.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "probes/native_private.h"

/* ret, rep ret, bnd ret and ret imm16; the other ends of control (ud2, hlt) return nothing. */
static bool is_return(const struct native *native, size_t index)
{
	const uint8_t *bytes = code_instruction_bytes(native->code, index);
	const bool prefixed = bytes[0] == 0xf3 || bytes[0] == 0xf2;

	return bytes[0] == 0xc2 || bytes[prefixed] == 0xc3;
}

/* memset(block, 0, n), which calloc ends with: it returns the block. Through the PLT, so without a
 * name. */
static bool is_memset(struct native *native, const struct state *state, size_t index)
{
	return native_target(native, index) == CODE_NONE &&
	       code_branch_address(native->code, index) != 0 &&
	       expr_is_constant(native->symbols, state->registers[CODE_RSI], 0);
}

/* Can a callee change what lies in this frame? Six registers carry arguments. */
static bool passes_stack(const struct native *native, const struct state *state)
{
	static const uint8_t arguments[] = {CODE_RDI, CODE_RSI, CODE_RDX,
					    CODE_RCX, CODE_R8,	CODE_R8 + 1};

	for (size_t i = 0; i < ARRAY_SIZE(arguments); i++)
		if (expr_is_stack(native->symbols, state->registers[arguments[i]]))
			return true;
	return false;
}

/* A call on the line: what it leaves in rax, and whether that has a site already. */
static int line_call(struct native *native, struct native_line *line, size_t index)
{
	const expr block = line->state.registers[CODE_RDI];
	const bool memset = is_memset(native, &line->state, index);
	int r;

	line->calls = true;
	line->stack_escaped |= passes_stack(native, &line->state);
	r = state_step(native->symbols, &line->state, native->code, index);
	if (memset)
		line->state.registers[CODE_RAX] = block;
	if (native_is_covered(native, native_target(native, index)))
		line->given = line->state.registers[CODE_RAX];
	return r;
}

static void note_jump(struct native_line *line, size_t index)
{
	if (line->n_jumps == NATIVE_LINE_JUMPS_MAX) {
		for (size_t i = 1; i < NATIVE_LINE_JUMPS_MAX; i++)
			line->jumps[i - 1] = line->jumps[i];
		line->n_jumps--;
	}
	line->jumps[line->n_jumps++] = (uint32_t)index;
}

/* A jump on the line: where it goes on, CODE_NONE at its end. */
static size_t line_jump(struct native *native, struct native_line *line, size_t index)
{
	const size_t target = native_target(native, index);

	note_jump(line, index);
	if (is_memset(native, &line->state, index)) {
		line->returns = true;
		line->state.registers[CODE_RAX] = line->state.registers[CODE_RDI];
	}
	return target;
}

/* One instruction; *index becomes the next one, CODE_NONE at the line's end. */
static int line_step(struct native *native, struct native_line *line, size_t *index)
{
	int r;

	switch (code_at(native->code, *index)->flow) {
	case FLOW_STOP:
		line->returns = is_return(native, *index);
		/* fallthrough */
	case FLOW_CONDITIONAL:
	case FLOW_CONDITIONAL_OTHER:
	case FLOW_JUMP_INDIRECT:
		*index = CODE_NONE;
		return 0;
	case FLOW_JUMP:
		*index = line_jump(native, line, *index);
		return 0;
	case FLOW_CALL:
	case FLOW_CALL_INDIRECT:
		r = line_call(native, line, *index);
		break;
	default:
		r = state_step(native->symbols, &line->state, native->code, *index);
		break;
	}
	*index = native_next(native, *index);
	return r;
}

int native_line_run(struct native *native, size_t index, struct native_line *ret)
{
	int r = 0;

	symbols_reset(native->symbols);
	state_begin(&ret->state);
	ret->returns = ret->cut = ret->calls = ret->stack_escaped = false;
	ret->given = EXPR_NONE;
	ret->n_jumps = 0;
	for (unsigned step = 0; index != CODE_NONE && r == 0; step++) {
		if (native_is_covered(native, index))
			return 0;
		if (step == NATIVE_LINE_STEPS) {
			ret->cut = true;
			return 0;
		}
		r = line_step(native, ret, &index);
	}
	ret->cut = r == -ENOBUFS;
	return r == -ENOBUFS ? 0 : r;
}

/* What a posix_memalign stored through its argument: the one 64-bit store that is not the frame's.
 */
static expr stored_result(const struct native *native, const struct native_line *line)
{
	expr stored = EXPR_NONE;
	size_t n = 0;

	for (size_t i = 0; i < line->state.n_stores; i++) {
		const struct state_store *store = &line->state.stores[i];

		if (store->size_bytes != 8 || expr_is_stack(native->symbols, store->address))
			continue;
		stored = store->value;
		n++;
	}
	return n > 1 ? symbols_unknown(native->symbols) : stored;
}

/* What the line returns, as an expression over the registers at its beginning. EXPR_NONE: nothing.
 */
static expr line_result(const struct native *native, const struct native_line *line,
			enum native_result result)
{
	const expr rax = line->state.registers[CODE_RAX];
	const bool zero = expr_is_constant(native->symbols, rax, 0);

	switch (result) {
	case RESULT_RETURNED:
		return zero ? EXPR_NONE : rax;
	case RESULT_STORED:
		return zero ? stored_result(native, line) : EXPR_NONE;
	default:
		return EXPR_NONE;
	}
}

/*
 * Is what lies there at the line's beginning what its load found?  Loads of
 * the line's own stores don't get here, but calls and stores to elsewhere may
 * have changed it.
 */
static bool is_memory_stable(const struct native *native, const struct native_line *line,
			     expr address)
{
	if (expr_is_stack(native->symbols, address))
		return !line->stack_escaped;
	if (line->calls)
		return false;
	for (size_t i = 0; i < line->state.n_stores; i++)
		if (!expr_is_stack(native->symbols, line->state.stores[i].address))
			return false;
	return true;
}

/* -ENOENT: it can't be had from the registers at the line's beginning. */
static int name_result(const struct native *native, const struct native_line *line, expr value,
		       struct plan_site *site)
{
	const struct symbols *symbols = native->symbols;
	const bool memory =
		expr_kind(symbols, value) == EXPR_LOAD && expr_value(symbols, value) == 8;
	int64_t offset;
	expr base;

	if (memory && !is_memory_stable(native, line, expr_a(symbols, value)))
		return -ENOENT;
	if (!memory && expr_is_stack(symbols, value))
		return -ENOENT; /* no block lies there */
	expr_split(symbols, memory ? expr_a(symbols, value) : value, &base, &offset);
	if (expr_kind(symbols, base) != EXPR_INITIAL || offset < INT16_MIN || offset > INT16_MAX)
		return -ENOENT;
	site->reg = (uint8_t)expr_value(symbols, base);
	site->value = memory ? VALUE_MEMORY : VALUE_REGISTER;
	site->displacement = (int16_t)offset;
	return 0;
}

/* How far above rsp the return address is at the line's beginning, plus one; in words. 0: not
 * known. */
static uint8_t return_slot(const struct native *native, const struct native_line *line)
{
	int64_t offset;
	expr base;

	expr_split(native->symbols, line->state.registers[CODE_RSP], &base, &offset);
	if (base != symbols_initial(CODE_RSP) || offset < 0 || offset % 8 ||
	    offset / 8 >= PLAN_RETURN_SLOT_MAX)
		return 0;
	return (uint8_t)(offset / 8 + 1);
}

int native_line_match(struct native *native, enum native_function function, size_t index,
		      struct native_line *line, struct plan_site *ret)
{
	const struct native_role *role = &native_roles[function];
	expr result;
	int r;

	r = native_line_run(native, index, line);
	if (r < 0)
		return r;
	if (line->cut)
		return -ENOENT;
	if (!line->returns)
		return 0;
	result = line_result(native, line, role->result);
	if (result == EXPR_NONE)
		return 0;
	*ret = (struct plan_site){
		.kind = role->kind,
		.condition = WIRE_CONDITION_ALWAYS,
		.return_slot = return_slot(native, line),
		.function = role->name,
	};
	r = name_result(native, line, result, ret);
	if (r == 0)
		return 1;
	return result == line->given ? 0 : r;
}
