/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Operands and effects of single instructions, decoded when they are asked for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probes/decode_private.h"

#define SIZE_BYTES_MAX 255

/* The general-purpose register of which reg is a part; CODE_REGISTER_NONE: it is none. */
static uint8_t general_register(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15)
		return CODE_REGISTER_NONE;
	return (uint8_t)(whole - ZYDIS_REGISTER_RAX);
}

static void fill_memory(struct code_operand *ret, const ZydisDecodedOperand *operand, uint64_t next)
{
	ret->kind = OPERAND_MEMORY;
	ret->base = ret->index = CODE_REGISTER_NONE;
	ret->scale = operand->mem.scale ? operand->mem.scale : 1;
	ret->value = operand->mem.disp.has_displacement ? operand->mem.disp.value : 0;
	ret->segment = operand->mem.segment == ZYDIS_REGISTER_FS ||
		       operand->mem.segment == ZYDIS_REGISTER_GS;
	ret->segment_gs = operand->mem.segment == ZYDIS_REGISTER_GS;
	if (operand->mem.base == ZYDIS_REGISTER_RIP)
		ret->value += (int64_t)next;
	else if (operand->mem.base != ZYDIS_REGISTER_NONE)
		ret->base = general_register(operand->mem.base);
	if (operand->mem.index != ZYDIS_REGISTER_NONE)
		ret->index = general_register(operand->mem.index);
}

static void fill_operand(struct code_operand *ret, const ZydisDecodedOperand *operand,
			 uint64_t next)
{
	const unsigned size_bytes = operand->size / 8;

	*ret = (struct code_operand){.kind = OPERAND_OTHER};
	ret->size_bytes = size_bytes > SIZE_BYTES_MAX ? SIZE_BYTES_MAX : (uint8_t)size_bytes;
	switch (operand->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		ret->reg = general_register(operand->reg.value);
		if (ret->reg != CODE_REGISTER_NONE)
			ret->kind = OPERAND_REGISTER;
		break;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		/* Vector indices (VSIB) have no single address. */
		if (operand->mem.type == ZYDIS_MEMOP_TYPE_MEM ||
		    operand->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
			fill_memory(ret, operand, next);
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		ret->kind = OPERAND_IMMEDIATE;
		ret->value = operand->imm.value.s;
		break;
	default:
		break;
	}
}

static void note_effects(struct code_operation *ret, const ZydisDecodedOperand *operands, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t reg;

		if (!(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
			ret->writes_memory = true;
		} else if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER) {
			reg = general_register(operands[i].reg.value);
			if (reg != CODE_REGISTER_NONE)
				ret->registers_written |= (uint16_t)(1U << reg);
		}
	}
}

bool instruction_operation(const ZydisDecoder *decoder, const uint8_t *bytes, size_t size,
			   uint64_t next, struct code_operation *ret)
{
	ZydisDecodedInstruction instruction;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, bytes, size, &instruction, operands)))
		return false;
	*ret = (struct code_operation){.mnemonic = (uint16_t)instruction.mnemonic};
	for (size_t i = 0; i < instruction.operand_count_visible && ret->n_operands < 2; i++)
		fill_operand(&ret->operands[ret->n_operands++], &operands[i], next);
	note_effects(ret, operands, instruction.operand_count);
	if (instruction.cpu_flags)
		ret->writes_zero_flag =
			(instruction.cpu_flags->modified | instruction.cpu_flags->set_0 |
			 instruction.cpu_flags->set_1 | instruction.cpu_flags->undefined) &
			ZYDIS_CPUFLAG_ZF;
	return true;
}

static bool decode(const struct code *code, size_t index, struct code_operation *ret)
{
	const struct code_instruction *at = &code->instructions[index];
	const uint64_t vaddr = code_vaddr(code, index);
	const struct code_range *range = code_range_of(code, vaddr);
	const uint8_t *bytes = range->data + (vaddr - range->start);

	if (range->end - vaddr >= INSTRUCTION_BYTES_MAX &&
	    instruction_operation_quick(bytes, vaddr + at->length, ret))
		return true;
	return instruction_operation(&code->decoder, bytes, at->length, vaddr + at->length, ret);
}

/* What minimal mode accepted and full mode doesn't: anything may have happened. */
static const struct code_operation unknown_operation = {
	.writes_zero_flag = true,
	.writes_memory = true,
	.registers_written = 0xffff,
};

static int reserve_operation(struct code *code)
{
	struct code_operation *grown;
	size_t capacity;

	if (code->n_operations < code->operations_capacity)
		return 0;
	capacity = code->operations_capacity * 2 + 1024;
	grown = realloc(code->operations, capacity * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	code->operations = grown;
	code->operations_capacity = capacity;
	return 0;
}

const struct code_operation *code_operation(struct code *code, size_t index)
{
	struct code_instruction *instruction = &code->instructions[index];
	struct code_operation *operation;

	if (instruction->operation > 0)
		return &code->operations[instruction->operation - 1];
	if (reserve_operation(code))
		return NULL;
	operation = &code->operations[code->n_operations];
	if (!decode(code, index, operation))
		*operation = unknown_operation;
	instruction->operation = (uint32_t)++code->n_operations;
	return operation;
}

uint64_t code_branch_address(struct code *code, size_t index)
{
	const struct code_instruction *instruction = &code->instructions[index];
	const struct code_operation *operation;

	switch (instruction->flow) {
	case FLOW_CONDITIONAL:
	case FLOW_CONDITIONAL_OTHER:
	case FLOW_JUMP:
	case FLOW_CALL:
		break;
	default:
		return 0;
	}
	operation = code_operation(code, index);
	if (!operation || operation->operands[0].kind != OPERAND_IMMEDIATE)
		return 0;
	return code_vaddr(code, index) + instruction->length +
	       (uint64_t)operation->operands[0].value;
}
