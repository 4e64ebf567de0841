/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Inside of decode.h: what its files share. */
#ifndef PYLEAKD_PROBES_DECODE_PRIVATE_H
#define PYLEAKD_PROBES_DECODE_PRIVATE_H

#include <Zydis/Zydis.h>

#include "probes/decode.h"

#define INSTRUCTION_BYTES_MAX 15
#define POOL_SIZE_CLASS_OFFSET 0x24  /* szidx in struct pool_header (Objects/obmalloc.c) */
#define POOL_DUMMY_SIZE_CLASS 0xffff /* DUMMY_SIZE_IDX there: no class yet */

struct code_range {
	uint64_t start, end; /* vaddr */
	const uint8_t *data; /* the image's */
	uint64_t *begins;    /* a bit a byte: an instruction begins here */
	uint32_t *rank;	     /* a word of begins: instructions before it, of all ranges */
};

struct code_branch {
	uint32_t at, target; /* indices */
};

struct code {
	uint64_t base;		   /* lowest address */
	struct code_range *ranges; /* ascending, not overlapping */
	size_t n_ranges;
	struct code_instruction *instructions;
	size_t n_instructions, capacity;
	size_t n_undecodable, n_left_out;

	ZydisDecoder decoder;		   /* of operands */
	struct code_operation *operations; /* in the order in which they were asked for */
	size_t n_operations, operations_capacity;

	/*
	 * Direct branches, and a bit an instruction: is it the target of one?  Made when first
	 * asked for.  Few instructions are asked about, and most of those are no targets, so that
	 * a scan of what is together beats a table by target, which is filled all over memory.
	 */
	struct code_branch *branches; /* ascending by at */
	size_t n_branches;
	uint64_t *targets;
};

/* The range that holds vaddr, which one must. */
const struct code_range *code_range_of(const struct code *code, uint64_t vaddr);

/*
 * What the sweep notes of the instruction at base + offset; branches have an
 * offset as their target.  False: it does not decode, in size bytes.
 */
bool instruction_sweep(const ZydisDecoder *decoder, const uint8_t *bytes, size_t size,
		       uint32_t offset, uint64_t base, struct code_instruction *ret);
/*
 * The same without Zydis, of common instructions; false: none of those, or
 * none at all.  Reads up to INSTRUCTION_BYTES_MAX bytes.
 */
bool instruction_sweep_quick(const uint8_t *bytes, uint32_t offset, uint64_t base,
			     struct code_instruction *ret);

/* Operands and effects; next: the address behind it. False: it does not decode. */
bool instruction_operation(const ZydisDecoder *decoder, const uint8_t *bytes, size_t size,
			   uint64_t next, struct code_operation *ret);
/* As with instruction_sweep_quick(). */
bool instruction_operation_quick(const uint8_t *bytes, uint64_t next, struct code_operation *ret);

#endif
