/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The code of an image, decoded: every instruction of its executable ranges,
 * in ascending order of address, addressed by index.
 *
 * Two stages, because most instructions are never looked at twice.  The sweep
 * finds boundaries, lengths, branches and a few hints (16 bytes an instruction):
 * of common instructions by a table of its own, of others by Zydis's minimal
 * mode, which takes several times as long.  Operands are decoded when they are
 * first asked for, and kept.
 *
 *	address    bitmap (1: an instruction begins)  + rank  ->  index
 *	401000     1 0 0 1 1 0 0 0 ...                  0          0, 1, 2
 *
 * The sweep is linear, and begins anew at each function's start (FDE), so that
 * data between functions can't carry it across.  What does not decode is
 * counted and skipped; nothing falls through such a gap.
 */
#ifndef PYLEAKD_PROBES_DECODE_H
#define PYLEAKD_PROBES_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "target/image.h"

#define CODE_BYTES_MAX (128U << 20) /* executable bytes of one image */
#define CODE_NONE SIZE_MAX	    /* no such instruction */

/* Registers are numbered as x86-64 encodes them: rax 0 ... rdi 7, r8 8 ... r15 15. */
enum code_register {
	CODE_RAX = 0,
	CODE_RCX = 1,
	CODE_RDX = 2,
	CODE_RBX = 3,
	CODE_RSP = 4,
	CODE_RBP = 5,
	CODE_RSI = 6,
	CODE_RDI = 7,
	CODE_R8 = 8,
	CODE_R15 = 15,
	CODE_REGISTERS = 16,
	CODE_REGISTER_NONE = 16,
};

enum code_flow {
	FLOW_NEXT,		/* goes on with the next instruction */
	FLOW_CONDITIONAL,	/* jcc */
	FLOW_CONDITIONAL_OTHER, /* jrcxz, loop: conditional, but not on the flags alone */
	FLOW_JUMP,		/* direct */
	FLOW_JUMP_INDIRECT,
	FLOW_CALL, /* direct */
	FLOW_CALL_INDIRECT,
	FLOW_STOP, /* ret, ud2, hlt: control goes nowhere that can be told */
};

/* Condition codes: the low nibble of jcc's opcode (Intel SDM vol. 2, appendix B). */
enum code_condition {
	CONDITION_EQUAL = 4,	 /* ZF = 1 */
	CONDITION_NOT_EQUAL = 5, /* ZF = 0 */
};

/* What the sweep notices in passing: prefilters for the matchers, nothing to rely on alone. */
enum code_hint {
	HINT_LOAD_8 = 0x01,    /* mov r64, [base + 8], base not rsp */
	HINT_STORE_8 = 0x02,   /* mov [base + 8], r64, base not rsp */
	HINT_WRITE_0 = 0x04,   /* 32-bit mov, inc, dec, add or sub of memory at [base + 0] */
	HINT_STORE_24 = 0x08,  /* mov [base + 0x24], r32 or imm32: a pool gets a size class */
	HINT_REFERENCE = 0x10, /* rip-relative, 32-bit displacement or immediate */
	HINT_SLOT = 0x20,      /* mov r64, [rip + displacement]: may load a GOT slot */
	HINT_DEAD = 0x40,      /* code_leave_out() */
};

#define CODE_TARGET_NONE UINT32_MAX

struct code_instruction {
	uint32_t offset;   /* from the image's lowest code address, bytes */
	uint8_t length;	   /* bytes, 1-15 */
	uint8_t flow;	   /* enum code_flow */
	uint8_t condition; /* FLOW_CONDITIONAL: enum code_condition, 0-15 */
	uint8_t hints;	   /* enum code_hint */
	/*
	 * Branches: index of the target, CODE_TARGET_NONE when it is outside or no
	 * boundary.  HINT_REFERENCE: the low 32 bits of (address meant - base).
	 */
	uint32_t target;
	uint32_t operation; /* private to decode.c: 1 + index of the operands, 0 not decoded yet */
};

enum code_operand_kind {
	OPERAND_NONE,
	OPERAND_REGISTER, /* general purpose, or a part of one */
	OPERAND_MEMORY,
	OPERAND_IMMEDIATE,
	OPERAND_OTHER, /* vector, segment, mask ... */
};

struct code_operand {
	uint8_t kind;	    /* enum code_operand_kind */
	uint8_t size_bytes; /* 1, 2, 4, 8, ...; 255 for more */
	uint8_t reg;	    /* REGISTER; a high byte (ah ...) has size_bytes 1 as well */
	uint8_t base;	    /* MEMORY: register, or CODE_REGISTER_NONE */
	uint8_t index;	    /* MEMORY: register, or CODE_REGISTER_NONE */
	uint8_t scale;	    /* MEMORY: 1, 2, 4, 8 */
	bool segment;	    /* MEMORY: relative to fs or gs */
	bool segment_gs;    /* MEMORY with segment: gs rather than fs */
	/* IMMEDIATE: value; MEMORY: displacement, or the address meant if it was rip-relative. */
	int64_t value;
};

/* An instruction's operands and effects. */
struct code_operation {
	uint16_t mnemonic;  /* ZydisMnemonic */
	uint8_t n_operands; /* explicit ones, at most 2 are kept */
	bool writes_zero_flag;
	bool writes_memory;	    /* through an explicit memory operand */
	uint16_t registers_written; /* a bit a register, implicit ones included */
	struct code_operand operands[2];
};

struct code;

/* Decodes all code of an image, which must outlive it. -ENOENT: no code; -E2BIG: too much. */
int code_new(const struct image *image, struct code **ret, struct fault *reterr_fault);
void code_free(struct code *code);

/* The same of bytes that are nobody's file (tests); they must outlive it. */
struct code_bytes {
	uint64_t vaddr;
	const uint8_t *data;
	size_t size;
};
int code_new_from_bytes(const struct code_bytes *ranges, size_t n_ranges, struct code **ret);

size_t code_count(const struct code *code);
size_t code_undecodable(const struct code *code); /* places */

/* index < code_count() in all of these. */
const struct code_instruction *code_at(const struct code *code, size_t index);
uint64_t code_vaddr(const struct code *code, size_t index);
const uint8_t *code_instruction_bytes(const struct code *code, size_t index); /* its length long */
/* What comes after it in memory; CODE_NONE at the end of a range and before a gap. */
size_t code_next(const struct code *code, size_t index);
/* What stands before it in memory and ends where it begins; CODE_NONE if nothing does. */
size_t code_previous(const struct code *code, size_t index);
/* Direct branches: where to; CODE_NONE when that is outside, and for all other instructions. */
size_t code_target(const struct code *code, size_t index);
/* Direct branches: the address even when that is outside (a PLT); 0 for all other instructions. */
uint64_t code_branch_address(struct code *code, size_t index);
/* HINT_REFERENCE: the address meant by rip + displacement, or the displacement or immediate itself.
 */
uint64_t code_reference(const struct code *code, size_t index);
/* Operands, decoded now if they weren't yet; NULL if memory runs out. Valid until the next call. */
const struct code_operation *code_operation(struct code *code, size_t index);

/* The instruction that begins at vaddr; CODE_NONE if none does. */
size_t code_index(const struct code *code, uint64_t vaddr);
/* The first instruction at or behind vaddr; code_count() if there is none. */
size_t code_index_from(const struct code *code, uint64_t vaddr);

/* Instructions of [start, end) are no longer found by code_hinted(); walks still go through. */
void code_leave_out(struct code *code, uint64_t start, uint64_t end);
size_t code_left_out(const struct code *code); /* instructions */
/* The first instruction at or behind from with this hint; CODE_NONE: no more. */
size_t code_hinted(const struct code *code, size_t from, enum code_hint hint);

/*
 * Direct branches (jumps and calls) to an instruction: calls visit with each
 * one's index until it returns non-zero, and returns that; -ENOMEM.  The table
 * is made at the first call.
 */
int code_branches_to_visit(struct code *code, size_t index,
			   int (*visit)(size_t branch, void *context), void *context);

/*
 * Does the kernel emulate it under a uprobe (no single-stepping, no [uprobes]
 * mapping left behind)?  jmp, jcc, call rel32, push r64 and the one-byte nop,
 * without prefixes but push's REX.B: Linux 6.18, arch/x86/kernel/uprobes.c,
 * branch_setup_xol_ops() and push_setup_xol_ops().
 */
bool code_is_emulated(const struct code *code, size_t index);
/* The same of the bytes of an instruction of this length. */
bool instruction_is_emulated(const uint8_t *bytes, size_t length);

#endif
