/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What an instruction does to the state of a path. */
#include "probes/symbolic.h"

#include <errno.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/cleanup.h"

/* rax, rcx, rdx, rsi, rdi, r8-r11: System V ABI, AMD64 supplement, 3.2.1. */
#define CALLER_SAVED 0x0fc7

void state_begin(struct state *state)
{
	for (unsigned reg = 0; reg < CODE_REGISTERS; reg++)
		state->registers[reg] = symbols_initial(reg);
	state->flags = FLAGS_UNKNOWN;
	state->flags_a = state->flags_b = EXPR_NONE;
	state->flags_size_bytes = 0;
	state->n_stores = 0;
}

void state_copy(struct state *to, const struct state *from)
{
	memcpy(to, from, offsetof(struct state, stores));
	memcpy(to->stores, from->stores, from->n_stores * sizeof(*from->stores));
}

expr state_address(struct symbols *symbols, const struct state *state,
		   const struct code_operand *operand)
{
	expr address;

	if (operand->base == CODE_REGISTER_NONE)
		address = symbols_constant(symbols, operand->value);
	else
		address = symbols_sum(symbols, state->registers[operand->base], operand->value);
	if (operand->index != CODE_REGISTER_NONE)
		address = symbols_index(symbols, address, state->registers[operand->index],
					operand->scale);
	if (operand->segment)
		address = symbols_segment(symbols, address, operand->segment_gs);
	return address;
}

const struct state_store *state_store_find(const struct state *state, expr address,
					   unsigned size_bytes)
{
	for (unsigned i = state->n_stores; i-- > 0;) {
		const struct state_store *store = &state->stores[i];

		if (store->address == address && store->size_bytes == size_bytes)
			return store;
	}
	return NULL;
}

expr state_memory(struct symbols *symbols, const struct state *state, expr address,
		  unsigned size_bytes)
{
	expr base, other;
	int64_t offset, there;

	expr_split(symbols, address, &base, &offset);
	for (unsigned i = state->n_stores; i-- > 0;) {
		const struct state_store *store = &state->stores[i];

		if (store->forgotten)
			continue;
		if (store->address == address && store->size_bytes == size_bytes)
			return store->value;
		if (store->address == address && store->size_bytes == 8 && size_bytes == 4)
			return symbols_low(symbols, store->value);
		expr_split(symbols, store->address, &other, &there);
		if (other == base && there < offset + (int64_t)size_bytes &&
		    offset < there + store->size_bytes)
			return symbols_unknown(symbols); /* overlaps in part */
	}
	return symbols_load(symbols, address, size_bytes);
}

static expr narrowed(struct symbols *symbols, expr value, unsigned size_bytes)
{
	if (size_bytes == 8)
		return value;
	if (size_bytes == 4)
		return symbols_low(symbols, value);
	return symbols_part(symbols, value, size_bytes);
}

expr state_operand(struct symbols *symbols, const struct state *state,
		   const struct code_operand *operand)
{
	switch (operand->kind) {
	case OPERAND_REGISTER:
		return narrowed(symbols, state->registers[operand->reg], operand->size_bytes);
	case OPERAND_IMMEDIATE:
		return symbols_constant(symbols, operand->value);
	case OPERAND_MEMORY:
		return state_memory(symbols, state, state_address(symbols, state, operand),
				    operand->size_bytes);
	default:
		return symbols_unknown(symbols);
	}
}

static void set_register(struct symbols *symbols, struct state *state,
			 const struct code_operand *operand, expr value)
{
	if (operand->size_bytes >= 4)
		value = narrowed(symbols, value, operand->size_bytes);
	else
		value = symbols_unknown(symbols); /* merges with what was there */
	state->registers[operand->reg] = value;
}

static int set_memory(struct state *state, expr address, unsigned size_bytes, expr value, size_t at)
{
	if (state->n_stores == STATE_STORES_MAX)
		return -ENOBUFS;
	state->stores[state->n_stores++] = (struct state_store){
		.address = address,
		.value = value,
		.at = (uint32_t)at,
		.size_bytes = (uint8_t)size_bytes,
	};
	return 0;
}

static int set_operand(struct symbols *symbols, struct state *state,
		       const struct code_operand *operand, expr value, size_t at)
{
	if (operand->kind == OPERAND_REGISTER) {
		set_register(symbols, state, operand, value);
		return 0;
	}
	if (operand->kind != OPERAND_MEMORY)
		return 0;
	return set_memory(state, state_address(symbols, state, operand), operand->size_bytes,
			  narrowed(symbols, value, operand->size_bytes), at);
}

static void set_flags_zero(struct state *state, expr value, unsigned size_bytes)
{
	state->flags = FLAGS_ZERO;
	state->flags_a = value;
	state->flags_b = EXPR_NONE;
	state->flags_size_bytes = (uint8_t)size_bytes;
}

/* Whatever isn't modelled: what it writes is unknown from now on. */
static int step_other(struct symbols *symbols, struct state *state,
		      const struct code_operation *operation, size_t at)
{
	const struct code_operand *first = &operation->operands[0];
	expr address = EXPR_NONE;

	if (operation->writes_memory && operation->n_operands > 0 && first->kind == OPERAND_MEMORY)
		address = state_address(symbols, state, first);
	for (unsigned reg = 0; reg < CODE_REGISTERS; reg++)
		if (operation->registers_written & 1U << reg)
			state->registers[reg] = symbols_unknown(symbols);
	if (operation->writes_zero_flag)
		state->flags = FLAGS_UNKNOWN;
	if (address == EXPR_NONE)
		return 0;
	return set_memory(state, address, first->size_bytes, symbols_unknown(symbols), at);
}

static int step_lea(struct symbols *symbols, struct state *state,
		    const struct code_operation *operation)
{
	const struct code_operand *to = &operation->operands[0];
	const struct code_operand *from = &operation->operands[1];
	expr value = state_address(symbols, state, from);

	/* lea e2, [e - 1]: arithmetic of 32 bits, whatever the base's width. */
	if (to->size_bytes == 4 && from->base != CODE_REGISTER_NONE &&
	    from->index == CODE_REGISTER_NONE)
		value = symbols_sum32(symbols, state->registers[from->base], from->value);
	set_register(symbols, state, to, value);
	return 0;
}

static int step_add(struct symbols *symbols, struct state *state,
		    const struct code_operation *operation, int64_t delta, size_t at)
{
	const struct code_operand *to = &operation->operands[0];
	const unsigned size_bytes = to->size_bytes;
	expr value = state_operand(symbols, state, to);

	if (size_bytes == 8)
		value = symbols_sum(symbols, value, delta);
	else if (size_bytes == 4)
		value = symbols_sum32(symbols, value, delta);
	else
		value = symbols_unknown(symbols);
	set_flags_zero(state, value, size_bytes);
	return set_operand(symbols, state, to, value, at);
}

static int step_add_register(struct symbols *symbols, struct state *state,
			     const struct code_operation *operation, size_t at)
{
	const struct code_operand *to = &operation->operands[0];
	const struct code_operand *from = &operation->operands[1];
	expr value;

	if (to->kind != OPERAND_REGISTER || to->size_bytes != 8)
		return step_other(symbols, state, operation, at);
	value = symbols_index(symbols, state->registers[to->reg],
			      state_operand(symbols, state, from), 1);
	set_register(symbols, state, to, value);
	set_flags_zero(state, value, 8);
	return 0;
}

static int step_test(struct symbols *symbols, struct state *state,
		     const struct code_operation *operation, size_t at)
{
	const struct code_operand *a = &operation->operands[0], *b = &operation->operands[1];

	if (a->kind != OPERAND_REGISTER || b->kind != OPERAND_REGISTER || a->reg != b->reg)
		return step_other(symbols, state, operation, at);
	set_flags_zero(state, state_operand(symbols, state, a), a->size_bytes);
	return 0;
}

static int step_compare(struct symbols *symbols, struct state *state,
			const struct code_operation *operation)
{
	const struct code_operand *a = &operation->operands[0], *b = &operation->operands[1];

	if (b->kind == OPERAND_IMMEDIATE && b->value == 0) {
		set_flags_zero(state, state_operand(symbols, state, a), a->size_bytes);
		return 0;
	}
	state->flags = FLAGS_COMPARE;
	state->flags_a = state_operand(symbols, state, a);
	state->flags_b = state_operand(symbols, state, b);
	state->flags_size_bytes = a->size_bytes;
	return 0;
}

static int step_push(struct symbols *symbols, struct state *state,
		     const struct code_operation *operation, size_t at)
{
	expr value = state_operand(symbols, state, &operation->operands[0]);

	state->registers[CODE_RSP] = symbols_sum(symbols, state->registers[CODE_RSP], -8);
	return set_memory(state, state->registers[CODE_RSP], 8, value, at);
}

static int step_pop(struct symbols *symbols, struct state *state,
		    const struct code_operation *operation, size_t at)
{
	expr value = state_memory(symbols, state, state->registers[CODE_RSP], 8);

	state->registers[CODE_RSP] = symbols_sum(symbols, state->registers[CODE_RSP], 8);
	return set_operand(symbols, state, &operation->operands[0], value, at);
}

static void step_call(struct symbols *symbols, struct state *state)
{
	for (unsigned reg = 0; reg < CODE_REGISTERS; reg++)
		if (CALLER_SAVED & 1U << reg)
			state->registers[reg] = symbols_unknown(symbols);
	state->flags = FLAGS_UNKNOWN;
	for (unsigned i = 0; i < state->n_stores; i++)
		if (!expr_is_stack(symbols, state->stores[i].address))
			state->stores[i].forgotten = true;
}

static int step_and(struct symbols *symbols, struct state *state,
		    const struct code_operation *operation, size_t at)
{
	const struct code_operand *to = &operation->operands[0];
	expr a, b;

	if (to->kind != OPERAND_REGISTER || to->size_bytes != 8)
		return step_other(symbols, state, operation, at);
	a = state->registers[to->reg];
	b = state_operand(symbols, state, &operation->operands[1]);
	if (expr_kind(symbols, a) == EXPR_CONSTANT)
		a = symbols_and(symbols, b, expr_value(symbols, a));
	else if (expr_kind(symbols, b) == EXPR_CONSTANT)
		a = symbols_and(symbols, a, expr_value(symbols, b));
	else
		a = symbols_unknown(symbols);
	set_register(symbols, state, to, a);
	set_flags_zero(state, a, 8);
	return 0;
}

static int step_xor(struct symbols *symbols, struct state *state,
		    const struct code_operation *operation, size_t at)
{
	const struct code_operand *a = &operation->operands[0], *b = &operation->operands[1];

	if (a->kind != OPERAND_REGISTER || b->kind != OPERAND_REGISTER || a->reg != b->reg ||
	    a->size_bytes < 4)
		return step_other(symbols, state, operation, at);
	state->registers[a->reg] = symbols_constant(symbols, 0);
	set_flags_zero(state, state->registers[a->reg], 8);
	return 0;
}

static int step_exchange(struct symbols *symbols, struct state *state,
			 const struct code_operation *operation, size_t at)
{
	const struct code_operand *a = &operation->operands[0], *b = &operation->operands[1];
	expr swap;

	if (a->kind != OPERAND_REGISTER || b->kind != OPERAND_REGISTER || a->size_bytes != 8)
		return step_other(symbols, state, operation, at);
	swap = state->registers[a->reg];
	state->registers[a->reg] = state->registers[b->reg];
	state->registers[b->reg] = swap;
	return 0;
}

static int step_arithmetic(struct symbols *symbols, struct state *state,
			   const struct code_operation *operation, size_t at)
{
	const struct code_operand *from = &operation->operands[1];

	if (from->kind == OPERAND_IMMEDIATE) {
		int64_t delta = from->value;

		if (operation->mnemonic == ZYDIS_MNEMONIC_SUB)
			delta = (int64_t)(0 - (uint64_t)delta);
		return step_add(symbols, state, operation, delta, at);
	}
	if (operation->mnemonic == ZYDIS_MNEMONIC_ADD)
		return step_add_register(symbols, state, operation, at);
	return step_other(symbols, state, operation, at);
}

static int step_move(struct symbols *symbols, struct state *state,
		     const struct code_operation *operation, size_t at)
{
	const struct code_operand *to = &operation->operands[0], *from = &operation->operands[1];

	if (to->kind == OPERAND_OTHER || from->kind == OPERAND_OTHER)
		return step_other(symbols, state, operation, at);
	return set_operand(symbols, state, to, state_operand(symbols, state, from), at);
}

int state_step(struct symbols *symbols, struct state *state, struct code *code, size_t index)
{
	const struct code_operation *operation = code_operation(code, index);

	if (!operation)
		return -ENOMEM;
	switch (operation->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return step_move(symbols, state, operation, index);
	case ZYDIS_MNEMONIC_LEA:
		return step_lea(symbols, state, operation);
	case ZYDIS_MNEMONIC_INC:
		return step_add(symbols, state, operation, 1, index);
	case ZYDIS_MNEMONIC_DEC:
		return step_add(symbols, state, operation, -1, index);
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		return step_arithmetic(symbols, state, operation, index);
	case ZYDIS_MNEMONIC_TEST:
		return step_test(symbols, state, operation, index);
	case ZYDIS_MNEMONIC_CMP:
		return step_compare(symbols, state, operation);
	case ZYDIS_MNEMONIC_PUSH:
		return step_push(symbols, state, operation, index);
	case ZYDIS_MNEMONIC_POP:
		return step_pop(symbols, state, operation, index);
	case ZYDIS_MNEMONIC_CALL:
		step_call(symbols, state);
		return 0;
	case ZYDIS_MNEMONIC_AND:
		return step_and(symbols, state, operation, index);
	case ZYDIS_MNEMONIC_XOR:
		return step_xor(symbols, state, operation, index);
	case ZYDIS_MNEMONIC_XCHG:
		return step_exchange(symbols, state, operation, index);
	default:
		return step_other(symbols, state, operation, index);
	}
}

uint16_t state_registers_of(const struct state *state, expr value)
{
	uint16_t mask = 0;

	for (unsigned reg = 0; reg < CODE_REGISTERS; reg++)
		if (state->registers[reg] == value)
			mask |= (uint16_t)(1U << reg);
	return mask;
}

static bool fits_displacement(int64_t value)
{
	return value >= INT16_MIN && value <= INT16_MAX;
}

/* The address as a displacement from the stack or frame pointer; -ENOENT: it is from neither. */
static int name_slot(const struct symbols *symbols, const struct state *state, expr address,
		     struct state_name *ret)
{
	static const uint8_t frames[] = {CODE_RSP, CODE_RBP};
	expr base, other;
	int64_t offset, there;

	expr_split(symbols, address, &base, &offset);
	for (unsigned i = 0; i < ARRAY_SIZE(frames); i++) {
		expr_split(symbols, state->registers[frames[i]], &other, &there);
		if (other != base || !fits_displacement(offset - there))
			continue;
		if (frames[i] == CODE_RSP && offset < there)
			continue; /* popped: what is there now may be another's */
		*ret = (struct state_name){frames[i], true, (int16_t)(offset - there)};
		return 0;
	}
	return -ENOENT;
}

/* A slot of the frame that holds value: it was stored there, or came from there; -ENOENT. */
static int name_in_stack(const struct symbols *symbols, const struct state *state, expr value,
			 struct state_name *ret)
{
	const expr address = expr_a(symbols, value);

	for (unsigned i = state->n_stores; i-- > 0;) {
		const struct state_store *store = &state->stores[i];

		if (store->value == value && store->size_bytes == 8 &&
		    state_store_find(state, store->address, 8) == store &&
		    name_slot(symbols, state, store->address, ret) == 0)
			return 0;
	}
	if (expr_kind(symbols, value) != EXPR_LOAD || expr_value(symbols, value) != 8 ||
	    state_store_find(state, address, 8))
		return -ENOENT;
	return name_slot(symbols, state, address, ret);
}

/* A register that holds value give or take a displacement; -ENOENT. */
static int name_by_displacement(const struct symbols *symbols, const struct state *state,
				expr value, struct state_name *ret)
{
	expr base, other;
	int64_t offset, there;

	expr_split(symbols, value, &base, &offset);
	for (unsigned reg = 0; reg < CODE_REGISTERS; reg++) {
		expr_split(symbols, state->registers[reg], &other, &there);
		if (other != base || !fits_displacement(offset - there))
			continue;
		*ret = (struct state_name){(uint8_t)reg, false, (int16_t)(offset - there)};
		return 0;
	}
	return -ENOENT;
}

int state_name_of(const struct symbols *symbols, const struct state *state, expr value,
		  struct state_name *ret)
{
	const uint16_t registers = state_registers_of(state, value);

	if (registers) {
		*ret = (struct state_name){(uint8_t)__builtin_ctz(registers), false, 0};
		return 0;
	}
	if (name_in_stack(symbols, state, value, ret) == 0)
		return 0;
	return name_by_displacement(symbols, state, value, ret);
}
