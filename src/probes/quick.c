/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The sweep's short cut: lengths and hints of the instructions that compilers
 * use most, by a table of opcodes.
 *
 * Whatever is rare or has conditions of its own (other prefixes than 66 and
 * REX, VEX, most of the vector instructions, far jumps, what does not decode)
 * is left to Zydis, so the tables need not be complete, only right.  The tests
 * compare both over all forms and over the code of every interpreter at hand.
 */
#include <string.h>

#include "probes/quick.h"

#define PREFIX_OPERAND_SIZE 0x66
#define ESCAPE 0x0f

static const uint8_t one_byte_forms[256] = {
	/* add, or, adc, sbb, and, sub, xor, cmp: register and memory, rAX and immediate */
	[0x00 ... 0x03] = MODRM_EITHER,
	[0x04] = EITHER | IMM8,
	[0x05] = EITHER | IMM,
	[0x08 ... 0x0b] = MODRM_EITHER,
	[0x0c] = EITHER | IMM8,
	[0x0d] = EITHER | IMM,
	[0x10 ... 0x13] = MODRM_EITHER,
	[0x14] = EITHER | IMM8,
	[0x15] = EITHER | IMM,
	[0x18 ... 0x1b] = MODRM_EITHER,
	[0x1c] = EITHER | IMM8,
	[0x1d] = EITHER | IMM,
	[0x20 ... 0x23] = MODRM_EITHER,
	[0x24] = EITHER | IMM8,
	[0x25] = EITHER | IMM,
	[0x28 ... 0x2b] = MODRM_EITHER,
	[0x2c] = EITHER | IMM8,
	[0x2d] = EITHER | IMM,
	[0x30 ... 0x33] = MODRM_EITHER,
	[0x34] = EITHER | IMM8,
	[0x35] = EITHER | IMM,
	[0x38 ... 0x3b] = MODRM_EITHER,
	[0x3c] = EITHER | IMM8,
	[0x3d] = EITHER | IMM,
	[0x50 ... 0x5f] = BARE,			  /* push, pop */
	[0x63] = MODRM_BARE,			  /* movsxd */
	[0x68] = BARE | IMM,			  /* push */
	[0x69] = MODRM_EITHER | IMM,		  /* imul */
	[0x6a] = BARE | IMM8,			  /* push */
	[0x6b] = MODRM_EITHER | IMM8,		  /* imul */
	[0x70 ... 0x7f] = BARE | IMM8 | RELATIVE, /* jcc */
	[0x80] = MODRM_EITHER | IMM8,		  /* add ... cmp */
	[0x81] = MODRM_EITHER | IMM,
	[0x83] = MODRM_EITHER | IMM8,
	[0x84 ... 0x8b] = MODRM_EITHER,	 /* test, xchg, mov */
	[0x8d] = MODRM_EITHER | SPECIAL, /* lea */
	[0x90 ... 0x97] = EITHER,	 /* nop, xchg */
	[0x98 ... 0x99] = EITHER,	 /* cdqe, cqo */
	[0xa8] = EITHER | IMM8,		 /* test */
	[0xa9] = EITHER | IMM,
	[0xb0 ... 0xb7] = EITHER | IMM8,	/* mov */
	[0xb8 ... 0xbf] = EITHER | IMM,		/* 64 bits with REX.W */
	[0xc0 ... 0xc1] = MODRM_EITHER | IMM8,	/* shifts */
	[0xc3] = BARE,				/* ret */
	[0xc6] = MODRM_EITHER | IMM8 | SPECIAL, /* mov */
	[0xc7] = MODRM_EITHER | IMM | SPECIAL,
	[0xc9] = BARE,				  /* leave */
	[0xcc] = BARE,				  /* int3 */
	[0xd0 ... 0xd3] = MODRM_EITHER,		  /* shifts */
	[0xe8 ... 0xe9] = BARE | IMM | RELATIVE,  /* call, jmp */
	[0xeb] = BARE | IMM8 | RELATIVE,	  /* jmp */
	[0xf4] = BARE,				  /* hlt */
	[0xf6 ... 0xf7] = MODRM_EITHER | SPECIAL, /* test, not, neg, mul, div */
	[0xfe] = MODRM_EITHER | SPECIAL,	  /* inc, dec */
	[0xff] = MODRM_BARE | SPECIAL,		  /* inc, dec, call, jmp, push */
};

/* Behind 0f. */
static const uint8_t two_byte_forms[256] = {
	[0x0b] = BARE,				 /* ud2 */
	[0x10 ... 0x11] = MODRM_EITHER,		 /* movups, movupd */
	[0x14 ... 0x15] = MODRM_EITHER,		 /* unpckl, unpckh */
	[0x1f] = MODRM_EITHER | SPECIAL,	 /* nop */
	[0x28 ... 0x29] = MODRM_EITHER,		 /* movaps, movapd */
	[0x2e ... 0x2f] = MODRM_EITHER,		 /* ucomis, comis */
	[0x40 ... 0x4f] = MODRM_EITHER,		 /* cmov */
	[0x54 ... 0x59] = MODRM_EITHER,		 /* and, andn, or, xor, add, mul */
	[0x5c ... 0x5f] = MODRM_EITHER,		 /* sub, min, div, max */
	[0x6c ... 0x6f] = MODRM_NARROW,		 /* punpcklqdq, punpckhqdq, movd, movdqa */
	[0x7e ... 0x7f] = MODRM_NARROW,		 /* movd, movdqa */
	[0x80 ... 0x8f] = BARE | IMM | RELATIVE, /* jcc */
	[0x90 ... 0x9f] = MODRM_EITHER,		 /* setcc */
	[0xa2] = BARE,				 /* cpuid */
	[0xa3] = MODRM_EITHER,			 /* bt */
	[0xa4] = MODRM_EITHER | IMM8,		 /* shld */
	[0xa5] = MODRM_EITHER,
	[0xab] = MODRM_EITHER,	      /* bts */
	[0xac] = MODRM_EITHER | IMM8, /* shrd */
	[0xad] = MODRM_EITHER,
	[0xaf ... 0xb1] = MODRM_EITHER,		/* imul, cmpxchg */
	[0xb3] = MODRM_EITHER,			/* btr */
	[0xb6 ... 0xb7] = MODRM_EITHER,		/* movzx */
	[0xba] = MODRM_EITHER | IMM8 | SPECIAL, /* bt, bts, btr, btc */
	[0xbb ... 0xbf] = MODRM_EITHER,		/* btc, bsf, bsr, movsx */
	[0xc0 ... 0xc1] = MODRM_EITHER,		/* xadd */
	[0xc8 ... 0xcf] = BARE,			/* bswap */
	[0xd4] = MODRM_NARROW,			/* paddq */
	[0xd6] = MODRM_NARROW,			/* movq */
	[0xdb] = MODRM_NARROW,			/* pand */
	[0xeb] = MODRM_NARROW,			/* por */
	[0xef] = MODRM_NARROW,			/* pxor */
	[0xfe] = MODRM_NARROW,			/* paddd */
};

static uint32_t read_32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static bool read_opcode(struct parse *parse)
{
	uint8_t byte = *parse->next++;

	if (byte == PREFIX_OPERAND_SIZE) {
		parse->narrow = true;
		byte = *parse->next++;
	}
	if ((byte & 0xf0) == 0x40) {
		parse->rex = byte;
		byte = *parse->next++;
	}
	if (byte == ESCAPE) {
		parse->two_byte = true;
		byte = *parse->next++;
	}
	parse->opcode = byte;
	parse->form = parse->two_byte ? two_byte_forms[byte] : one_byte_forms[byte];
	/* Which of 66 and REX.W wins is a matter of the opcode's. */
	return parse->narrow ? parse->form & NARROW && !(parse->rex & REX_W) : parse->form & BARE;
}

/* ModR/M, SIB and displacement. */
static void read_address(struct parse *parse)
{
	const uint8_t modrm = *parse->next++;

	parse->mod = modrm >> 6;
	parse->reg = modrm >> 3 & 7;
	parse->rm = modrm & 7;
	if (parse->mod == 3)
		return;
	if (parse->rm == 4)
		parse->sib = *parse->next++;
	if (parse->mod == 1) {
		parse->displacement_bytes = 1;
		parse->displacement = (int8_t)*parse->next++;
	} else if (parse->mod == 2 || (parse->rm == 4 ? parse->sib & 7 : parse->rm) == 5) {
		parse->displacement_bytes = 4;
		parse->displacement = (int32_t)read_32(parse->next);
		parse->next += 4;
	}
}

/* Opcodes of which ModR/M is a part; false: one that is left to Zydis. */
static bool special_form(struct parse *parse)
{
	switch (parse->opcode) {
	case 0x8d: /* lea of a register does not exist */
		return parse->mod != 3;
	case 0xba: /* bt, bts, btr, btc */
		return parse->reg >= 4;
	case 0xf6: /* test has an immediate, the others have none */
	case 0xf7:
		if (parse->reg == 0)
			parse->form |= parse->opcode == 0xf6 ? IMM8 : IMM;
		return parse->reg != 1;
	case 0xfe:
		return parse->reg <= 1;
	case 0xff:
		return parse->reg <= 2 || parse->reg == 4 || parse->reg == 6;
	default: /* mov, nop */
		return parse->reg == 0;
	}
}

static bool is_wide_move(const struct parse *parse)
{
	return !parse->two_byte && parse->rex & REX_W && (parse->opcode & 0xf8) == 0xb8;
}

static void read_immediate(struct parse *parse)
{
	if (parse->form & IMM8) {
		parse->immediate_bytes = 1;
		parse->immediate = (uint32_t)(int8_t)*parse->next;
	} else if (parse->form & IMM) {
		parse->immediate_bytes = parse->narrow ? 2 : is_wide_move(parse) ? 8 : 4;
		parse->immediate = read_32(parse->next);
		if (parse->narrow)
			parse->immediate &= UINT16_MAX;
	}
	parse->next += parse->immediate_bytes;
}

static enum code_flow flow_of(const struct parse *parse)
{
	if (parse->two_byte)
		return parse->opcode == 0x0b	? FLOW_STOP
		       : parse->form & RELATIVE ? FLOW_CONDITIONAL
						: FLOW_NEXT;
	switch (parse->opcode) {
	case 0x70 ... 0x7f:
		return FLOW_CONDITIONAL;
	case 0xe8:
		return FLOW_CALL;
	case 0xe9:
	case 0xeb:
		return FLOW_JUMP;
	case 0xc3:
	case 0xcc:
	case 0xf4:
		return FLOW_STOP;
	case 0xff:
		return parse->reg == 2	 ? FLOW_CALL_INDIRECT
		       : parse->reg == 4 ? FLOW_JUMP_INDIRECT
					 : FLOW_NEXT;
	default:
		return FLOW_NEXT;
	}
}

/* Is it [base + displacement], the base neither rip nor rsp? */
static bool has_plain_base(const struct parse *parse)
{
	const uint8_t base = parse->rm == 4 ? parse->sib & 7 : parse->rm;

	if (!(parse->form & MODRM) || parse->mod == 3 || (parse->mod == 0 && base == 5))
		return false;
	if (parse->rm != 4)
		return true;
	return (parse->sib >> 3 & 7) == 4 && !(parse->rex & REX_X) &&
	       (base != CODE_RSP || parse->rex & REX_B);
}

/* mov, inc, dec, add or sub with an operand in memory. */
static bool is_count_write(const struct parse *parse)
{
	switch (parse->opcode) {
	case 0x01: /* add */
	case 0x03:
	case 0x29: /* sub */
	case 0x2b:
	case 0x89: /* mov */
	case 0xc7:
		return true;
	case 0x81:
	case 0x83: /* add, sub */
		return parse->reg == 0 || parse->reg == 5;
	case 0xff: /* inc, dec */
		return parse->reg <= 1;
	default:
		return false;
	}
}

static uint8_t hints_of(const struct parse *parse)
{
	if (parse->two_byte || !has_plain_base(parse))
		return 0;
	if (parse->rex & REX_W) {
		if (parse->displacement != 8)
			return 0;
		return parse->opcode == 0x8b   ? HINT_LOAD_8
		       : parse->opcode == 0x89 ? HINT_STORE_8
					       : 0;
	}
	if (parse->narrow)
		return 0;
	if (parse->displacement == 0)
		return is_count_write(parse) ? HINT_WRITE_0 : 0;
	if (parse->displacement == POOL_SIZE_CLASS_OFFSET &&
	    (parse->opcode == 0x89 ||
	     (parse->opcode == 0xc7 && parse->immediate != POOL_DUMMY_SIZE_CLASS)))
		return HINT_STORE_24;
	return 0;
}

static void note_reference(const struct parse *parse, uint32_t next, uint64_t base,
			   struct code_instruction *ret)
{
	const bool rip = parse->mod == 0 && parse->rm == 5;

	if (parse->displacement_bytes == 4)
		ret->target = (uint32_t)parse->displacement + (rip ? next : 0 - (uint32_t)base);
	else if (parse->immediate_bytes >= 4)
		ret->target = parse->immediate - (uint32_t)base;
	else
		return;
	ret->hints |= HINT_REFERENCE;
	if (rip && !parse->two_byte && parse->opcode == 0x8b && parse->rex & REX_W)
		ret->hints |= HINT_SLOT;
}

bool parse_quick(const uint8_t *bytes, struct parse *ret)
{
	*ret = (struct parse){.next = bytes};
	if (!read_opcode(ret))
		return false;
	if (ret->form & MODRM)
		read_address(ret);
	if (ret->form & SPECIAL && !special_form(ret))
		return false;
	read_immediate(ret);
	return true;
}

bool instruction_sweep_quick(const uint8_t *bytes, uint32_t offset, uint64_t base,
			     struct code_instruction *ret)
{
	struct parse parse;
	uint32_t next;

	if (!parse_quick(bytes, &parse))
		return false;
	next = offset + (uint32_t)(parse.next - bytes);
	*ret = (struct code_instruction){
		.offset = offset,
		.length = (uint8_t)(parse.next - bytes),
		.flow = flow_of(&parse),
		.target = CODE_TARGET_NONE,
	};
	if (parse.form & RELATIVE) {
		ret->target = next + parse.immediate;
		ret->condition = ret->flow == FLOW_CONDITIONAL ? parse.opcode & 15 : 0;
		return true;
	}
	ret->hints = hints_of(&parse);
	note_reference(&parse, next, base, ret);
	return true;
}
