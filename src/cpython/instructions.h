/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a function of an image refers to: how static variables and strings of a
 * stripped interpreter are found from its exported functions.  Instructions
 * are followed from an entry through jumps (cold parts lie elsewhere), each
 * once, in the order of the code.
 */
#ifndef PYLEAKD_CPYTHON_INSTRUCTIONS_H
#define PYLEAKD_CPYTHON_INSTRUCTIONS_H

#include <Zydis/Zydis.h>
#include <stdint.h>

#include "target/image.h"

#define INSTRUCTIONS_MAX 4096 /* of one function; more are not looked at */
#define INSTRUCTION_JUMPS_MAX 512 /* not yet followed */
#define REFERENCES_MAX 512

struct instruction {
	uint64_t vaddr;
	ZydisDecodedInstruction decoded;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

/* Non-zero ends the visit and is returned. */
typedef int instruction_visitor(const struct instruction *instruction, void *context);

/* -ENOENT: no code at entry. Undecodable bytes end the path that leads to them. */
int instructions_visit(const struct image *image, uint64_t entry, instruction_visitor *visit,
		       void *context);

/* The static address that an operand names (rip-relative, absolute, or an immediate); 0: none. */
uint64_t operand_static_address(const struct instruction *instruction,
				const ZydisDecodedOperand *operand);

struct reference {
	uint64_t vaddr; /* inside one of the image's segments */
	uint8_t load_bytes; /* what is loaded from there; 0: the address is taken, or stored to */
};

struct references {
	size_t n;
	struct reference entries[REFERENCES_MAX];
};

/* Of the exported (or otherwise named) function. -ENOENT: there is none of that name. */
int references_of_function(const struct image *image, const char *function,
			   struct references *ret);

#endif
