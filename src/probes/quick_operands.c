/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Operands and effects of the instructions that symbolic paths meet most:
 * moves, arithmetic, tests, calls, push and pop.  Others, and all with
 * operands of 16 bits, are left to Zydis, as in quick.c.
 */
#include "probes/quick.h"

#define STACK_REGISTER (1U << CODE_RSP)

/* Which operands it has, in which order. */
enum shape {
	RM_REG,	      /* register or memory, register */
	REG_RM,	      /* the other way round */
	RM_IMMEDIATE, /* register or memory, immediate */
	RM_ALONE,
	RAX_IMMEDIATE,
	OPCODE_REGISTER, /* the opcode's low three bits */
	OPCODE_REGISTER_IMMEDIATE,
	IMMEDIATE_ALONE,
};

struct description {
	ZydisMnemonic mnemonic;
	enum shape shape;
	uint8_t size_bytes;    /* of registers, and of memory if nothing else is said */
	uint8_t rm_size_bytes; /* of register or memory, where it differs; 0: it doesn't */
	bool writes_first, writes_zero_flag, writes_stack, moves_stack;
};

/* By bits 3 to 5 of the opcode, or of ModR/M with an immediate. */
static const ZydisMnemonic arithmetic[8] = {
	ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_OR,	ZYDIS_MNEMONIC_ADC, ZYDIS_MNEMONIC_SBB,
	ZYDIS_MNEMONIC_AND, ZYDIS_MNEMONIC_SUB, ZYDIS_MNEMONIC_XOR, ZYDIS_MNEMONIC_CMP,
};

static const ZydisMnemonic conditional_moves[16] = {
	ZYDIS_MNEMONIC_CMOVO, ZYDIS_MNEMONIC_CMOVNO, ZYDIS_MNEMONIC_CMOVB,  ZYDIS_MNEMONIC_CMOVNB,
	ZYDIS_MNEMONIC_CMOVZ, ZYDIS_MNEMONIC_CMOVNZ, ZYDIS_MNEMONIC_CMOVBE, ZYDIS_MNEMONIC_CMOVNBE,
	ZYDIS_MNEMONIC_CMOVS, ZYDIS_MNEMONIC_CMOVNS, ZYDIS_MNEMONIC_CMOVP,  ZYDIS_MNEMONIC_CMOVNP,
	ZYDIS_MNEMONIC_CMOVL, ZYDIS_MNEMONIC_CMOVNL, ZYDIS_MNEMONIC_CMOVLE, ZYDIS_MNEMONIC_CMOVNLE,
};

static void describe_arithmetic(struct description *ret, ZydisMnemonic mnemonic, enum shape shape)
{
	ret->mnemonic = mnemonic;
	ret->shape = shape;
	ret->writes_zero_flag = true;
	ret->writes_first = mnemonic != ZYDIS_MNEMONIC_CMP && mnemonic != ZYDIS_MNEMONIC_TEST;
}

static void describe_move(struct description *ret, ZydisMnemonic mnemonic, enum shape shape)
{
	ret->mnemonic = mnemonic;
	ret->shape = shape;
	ret->writes_first = true;
}

static void describe_stack(struct description *ret, ZydisMnemonic mnemonic, enum shape shape)
{
	ret->mnemonic = mnemonic;
	ret->shape = shape;
	ret->size_bytes = 8;
	ret->moves_stack = true;
	ret->writes_stack = mnemonic != ZYDIS_MNEMONIC_POP;
	ret->writes_first = mnemonic == ZYDIS_MNEMONIC_POP;
}

static bool describe_two_byte(const struct parse *parse, struct description *ret)
{
	switch (parse->opcode) {
	case 0x40 ... 0x4f:
		describe_move(ret, conditional_moves[parse->opcode & 15], REG_RM);
		break;
	case 0xb6:
	case 0xb7:
		describe_move(ret, ZYDIS_MNEMONIC_MOVZX, REG_RM);
		ret->rm_size_bytes = parse->opcode == 0xb6 ? 1 : 2;
		break;
	case 0xbe:
	case 0xbf:
		describe_move(ret, ZYDIS_MNEMONIC_MOVSX, REG_RM);
		ret->rm_size_bytes = parse->opcode == 0xbe ? 1 : 2;
		break;
	default:
		return false;
	}
	ret->size_bytes = parse->rex & REX_W ? 8 : 4;
	return true;
}

/* 00 to 3d: eight operations in six shapes. */
static void describe_block(const struct parse *parse, struct description *ret)
{
	static const uint8_t shapes[6] = {RM_REG, RM_REG,	 REG_RM,
					  REG_RM, RAX_IMMEDIATE, RAX_IMMEDIATE};

	describe_arithmetic(ret, arithmetic[parse->opcode >> 3], shapes[parse->opcode & 7]);
}

static bool describe_group(const struct parse *parse, struct description *ret)
{
	switch (parse->reg) {
	case 0:
		describe_arithmetic(ret, ZYDIS_MNEMONIC_INC, RM_ALONE);
		return true;
	case 1:
		describe_arithmetic(ret, ZYDIS_MNEMONIC_DEC, RM_ALONE);
		return true;
	case 2:
		describe_stack(ret, ZYDIS_MNEMONIC_CALL, RM_ALONE);
		return true;
	default:
		return false;
	}
}

static bool describe_one_byte(const struct parse *parse, struct description *ret)
{
	const uint8_t opcode = parse->opcode;

	ret->size_bytes = !(opcode & 1) ? 1 : parse->rex & REX_W ? 8 : 4;
	switch (opcode) {
	case 0x00 ... 0x3d: /* what has another form in between has none in the tables */
		describe_block(parse, ret);
		return true;
	case 0x50 ... 0x57:
		describe_stack(ret, ZYDIS_MNEMONIC_PUSH, OPCODE_REGISTER);
		return true;
	case 0x58 ... 0x5f:
		describe_stack(ret, ZYDIS_MNEMONIC_POP, OPCODE_REGISTER);
		return true;
	case 0x63:
		describe_move(ret, ZYDIS_MNEMONIC_MOVSXD, REG_RM);
		ret->rm_size_bytes = 4;
		return true;
	case 0x80:
	case 0x81:
	case 0x83:
		describe_arithmetic(ret, arithmetic[parse->reg], RM_IMMEDIATE);
		return true;
	case 0x84:
	case 0x85:
		describe_arithmetic(ret, ZYDIS_MNEMONIC_TEST, RM_REG);
		return true;
	case 0x88:
	case 0x89:
		describe_move(ret, ZYDIS_MNEMONIC_MOV, RM_REG);
		return true;
	case 0x8a:
	case 0x8b:
		describe_move(ret, ZYDIS_MNEMONIC_MOV, REG_RM);
		return true;
	case 0x8d:
		describe_move(ret, ZYDIS_MNEMONIC_LEA, REG_RM);
		ret->rm_size_bytes = 8; /* an address */
		return true;
	case 0xa8:
	case 0xa9:
		describe_arithmetic(ret, ZYDIS_MNEMONIC_TEST, RAX_IMMEDIATE);
		return true;
	case 0xb8 ... 0xbf:
		describe_move(ret, ZYDIS_MNEMONIC_MOV, OPCODE_REGISTER_IMMEDIATE);
		ret->size_bytes = 4;
		return !(parse->rex & REX_W); /* with an immediate of 64 bits */
	case 0xc6:
	case 0xc7:
		describe_move(ret, ZYDIS_MNEMONIC_MOV, RM_IMMEDIATE);
		return true;
	case 0xe8:
		describe_stack(ret, ZYDIS_MNEMONIC_CALL, IMMEDIATE_ALONE);
		return true;
	case 0xff:
		return describe_group(parse, ret);
	default:
		return false;
	}
}

static void put_register(struct code_operand *ret, const struct parse *parse, uint8_t number,
			 uint8_t size_bytes)
{
	ret->kind = OPERAND_REGISTER;
	ret->size_bytes = size_bytes;
	/* Without REX these are ah, ch, dh and bh. */
	ret->reg = size_bytes == 1 && !parse->rex && number >= 4 ? number - 4 : number;
}

static void put_memory(struct code_operand *ret, const struct parse *parse, uint64_t next)
{
	const bool has_sib = parse->rm == 4;
	const uint8_t base = has_sib ? parse->sib & 7 : parse->rm;
	const uint8_t index = (parse->sib >> 3 & 7) | (parse->rex & REX_X ? 8 : 0);

	ret->kind = OPERAND_MEMORY;
	ret->base = base | (parse->rex & REX_B ? 8 : 0);
	ret->index = CODE_REGISTER_NONE;
	ret->scale = 1;
	ret->value = parse->displacement;
	if (parse->mod == 0 && base == 5) {
		ret->base = CODE_REGISTER_NONE;
		if (!has_sib)
			ret->value += (int64_t)next;
	}
	if (has_sib && index != CODE_RSP) {
		ret->index = index;
		ret->scale = (uint8_t)(1 << (parse->sib >> 6));
	}
}

static void put_rm(struct code_operand *ret, const struct parse *parse, uint64_t next,
		   const struct description *description)
{
	const uint8_t size_bytes =
		description->rm_size_bytes ? description->rm_size_bytes : description->size_bytes;

	if (parse->mod == 3) {
		put_register(ret, parse, parse->rm | (parse->rex & REX_B ? 8 : 0), size_bytes);
		return;
	}
	ret->size_bytes = size_bytes;
	put_memory(ret, parse, next);
}

static void put_immediate(struct code_operand *ret, const struct parse *parse)
{
	ret->kind = OPERAND_IMMEDIATE;
	ret->size_bytes = parse->immediate_bytes;
	ret->value = (int32_t)parse->immediate;
}

static void put_operands(struct code_operation *ret, const struct parse *parse, uint64_t next,
			 const struct description *description)
{
	const uint8_t size_bytes = description->size_bytes;
	const uint8_t reg = parse->reg | (parse->rex & REX_R ? 8 : 0);
	const uint8_t low = (parse->opcode & 7) | (parse->rex & REX_B ? 8 : 0);
	struct code_operand *first = &ret->operands[0], *second = &ret->operands[1];

	ret->n_operands = 2;
	switch (description->shape) {
	case RM_REG:
		put_rm(first, parse, next, description);
		put_register(second, parse, reg, size_bytes);
		break;
	case REG_RM:
		put_register(first, parse, reg, size_bytes);
		put_rm(second, parse, next, description);
		break;
	case RM_IMMEDIATE:
		put_rm(first, parse, next, description);
		put_immediate(second, parse);
		break;
	case RM_ALONE:
		put_rm(first, parse, next, description);
		ret->n_operands = 1;
		break;
	case RAX_IMMEDIATE:
		put_register(first, parse, CODE_RAX, size_bytes);
		put_immediate(second, parse);
		break;
	case OPCODE_REGISTER:
		put_register(first, parse, low, size_bytes);
		ret->n_operands = 1;
		break;
	case OPCODE_REGISTER_IMMEDIATE:
		put_register(first, parse, low, size_bytes);
		put_immediate(second, parse);
		break;
	case IMMEDIATE_ALONE:
		put_immediate(first, parse);
		ret->n_operands = 1;
		break;
	}
}

bool instruction_operation_quick(const uint8_t *bytes, uint64_t next, struct code_operation *ret)
{
	struct description description = {0};
	const struct code_operand *first = &ret->operands[0];
	struct parse parse;

	if (!parse_quick(bytes, &parse) || parse.narrow ||
	    !(parse.two_byte ? describe_two_byte(&parse, &description)
			     : describe_one_byte(&parse, &description)))
		return false;
	*ret = (struct code_operation){
		.mnemonic = (uint16_t)description.mnemonic,
		.writes_zero_flag = description.writes_zero_flag,
		.writes_memory = description.writes_stack,
		.registers_written = description.moves_stack ? STACK_REGISTER : 0,
	};
	put_operands(ret, &parse, next, &description);
	if (description.writes_first && first->kind == OPERAND_MEMORY)
		ret->writes_memory = true;
	else if (description.writes_first)
		ret->registers_written |= (uint16_t)(1U << first->reg);
	return true;
}
