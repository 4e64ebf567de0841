/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the sweep notes of an instruction, by Zydis's minimal mode: mnemonic,
 * length and the encoding's raw fields.
 */
#include "probes/decode_private.h"

static bool is_jcc(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_JB:
	case ZYDIS_MNEMONIC_JBE:
	case ZYDIS_MNEMONIC_JL:
	case ZYDIS_MNEMONIC_JLE:
	case ZYDIS_MNEMONIC_JNB:
	case ZYDIS_MNEMONIC_JNBE:
	case ZYDIS_MNEMONIC_JNL:
	case ZYDIS_MNEMONIC_JNLE:
	case ZYDIS_MNEMONIC_JNO:
	case ZYDIS_MNEMONIC_JNP:
	case ZYDIS_MNEMONIC_JNS:
	case ZYDIS_MNEMONIC_JNZ:
	case ZYDIS_MNEMONIC_JO:
	case ZYDIS_MNEMONIC_JP:
	case ZYDIS_MNEMONIC_JS:
	case ZYDIS_MNEMONIC_JZ:
		return true;
	default:
		return false;
	}
}

static enum code_flow flow_of(const ZydisDecodedInstruction *instruction)
{
	const bool direct = instruction->raw.imm[0].is_relative;

	if (is_jcc(instruction->mnemonic))
		return FLOW_CONDITIONAL;
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		return direct ? FLOW_JUMP : FLOW_JUMP_INDIRECT;
	case ZYDIS_MNEMONIC_CALL:
		return direct ? FLOW_CALL : FLOW_CALL_INDIRECT;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
		return FLOW_CONDITIONAL_OTHER;
	case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_INT3:
		return FLOW_STOP;
	default:
		return FLOW_NEXT;
	}
}

/* The displacement of a [base + displacement] operand whose base isn't rsp; false: another form. */
static bool plain_base(const ZydisDecodedInstruction *instruction, int64_t *ret_displacement)
{
	const ZydisDecodedInstructionRaw *raw = &instruction->raw;
	const bool has_sib = raw->modrm.rm == 4;

	if (!(instruction->attributes & ZYDIS_ATTRIB_HAS_MODRM) || raw->modrm.mod == 3)
		return false;
	if (raw->modrm.mod == 0 && (has_sib ? raw->sib.base : raw->modrm.rm) == 5)
		return false; /* rip-relative or absolute */
	if (has_sib && (raw->sib.index != 4 || raw->rex.X))
		return false;
	if (has_sib && raw->sib.base == CODE_RSP && !raw->rex.B)
		return false;
	*ret_displacement = raw->disp.size > 0 ? raw->disp.value : 0;
	return true;
}

static bool is_count_write(const ZydisDecodedInstruction *instruction)
{
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return instruction->opcode == 0x89 || instruction->opcode == 0xc7;
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		return true;
	default:
		return false;
	}
}

static uint8_t hints_of(const ZydisDecodedInstruction *instruction)
{
	const bool mov = instruction->mnemonic == ZYDIS_MNEMONIC_MOV &&
			 instruction->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT;
	const uint8_t opcode = instruction->opcode, width = instruction->operand_width;
	const uint64_t immediate = instruction->raw.imm[0].value.u;
	int64_t displacement = 0;
	uint8_t hints = 0;

	if (!plain_base(instruction, &displacement))
		return 0;
	if (mov && width == 64 && displacement == 8)
		hints |= opcode == 0x8b ? HINT_LOAD_8 : opcode == 0x89 ? HINT_STORE_8 : 0;
	if (width == 32 && displacement == 0 && is_count_write(instruction))
		hints |= HINT_WRITE_0;
	if (mov && width == 32 && displacement == POOL_SIZE_CLASS_OFFSET &&
	    (opcode == 0x89 || (opcode == 0xc7 && immediate != POOL_DUMMY_SIZE_CLASS)))
		hints |= HINT_STORE_24;
	return hints;
}

/* An address that the instruction could mean: what matchers look for by value. */
static bool reference_of(const ZydisDecodedInstruction *instruction, uint64_t next, uint64_t *ret)
{
	const ZydisDecodedInstructionRaw *raw = &instruction->raw;

	if (raw->disp.size == 32) {
		const bool rip = raw->modrm.mod == 0 && raw->modrm.rm == 5;

		*ret = (rip ? next : 0) + (uint64_t)raw->disp.value;
		return true;
	}
	if (raw->imm[0].size >= 32 && !raw->imm[0].is_relative) {
		*ret = raw->imm[0].value.u;
		return true;
	}
	return false;
}

static bool is_slot_load(const ZydisDecodedInstruction *instruction)
{
	return instruction->mnemonic == ZYDIS_MNEMONIC_MOV && instruction->opcode == 0x8b &&
	       instruction->operand_width == 64 && instruction->raw.modrm.mod == 0 &&
	       instruction->raw.modrm.rm == 5;
}

static void fill(struct code_instruction *ret, const ZydisDecodedInstruction *instruction,
		 uint64_t vaddr, uint64_t base)
{
	uint64_t reference = 0;

	*ret = (struct code_instruction){
		.offset = (uint32_t)(vaddr - base),
		.length = instruction->length,
		.flow = flow_of(instruction),
		.target = CODE_TARGET_NONE,
	};
	switch (ret->flow) {
	case FLOW_CONDITIONAL:
		ret->condition = instruction->opcode & 15;
		/* fallthrough */
	case FLOW_CONDITIONAL_OTHER:
	case FLOW_JUMP:
	case FLOW_CALL: /* an offset until resolve_targets() */
		ret->target = (uint32_t)(vaddr + instruction->length +
					 instruction->raw.imm[0].value.u - base);
		return;
	default:
		break;
	}
	ret->hints = hints_of(instruction);
	if (reference_of(instruction, vaddr + instruction->length, &reference)) {
		ret->hints |= HINT_REFERENCE;
		ret->target = (uint32_t)(reference - base);
	}
	if (is_slot_load(instruction))
		ret->hints |= HINT_SLOT;
}

bool instruction_sweep(const ZydisDecoder *decoder, const uint8_t *bytes, size_t size,
		       uint32_t offset, uint64_t base, struct code_instruction *ret)
{
	ZydisDecodedInstruction instruction;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(decoder, NULL, bytes, size, &instruction)))
		return false;
	fill(ret, &instruction, base + offset, base);
	return true;
}
