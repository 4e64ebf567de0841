/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Common instructions taken apart without Zydis; inside of decode.h. */
#ifndef PYLEAKD_PROBES_QUICK_H
#define PYLEAKD_PROBES_QUICK_H

#include <stdbool.h>
#include <stdint.h>

#include "probes/decode_private.h"

#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

/* What follows an opcode (Intel SDM vol. 2, appendix A). 0: left to Zydis. */
enum form {
	BARE = 0x01,	 /* may stand without the prefix 66 */
	NARROW = 0x02,	 /* may stand behind it */
	MODRM = 0x04,	 /* a ModR/M byte, and what that asks for */
	IMM8 = 0x08,	 /* 8 bits */
	IMM = 0x10,	 /* 32 bits; 16 behind 66 */
	RELATIVE = 0x20, /* a distance of 8 (IMM8) or 32 bits */
	SPECIAL = 0x40,	 /* see special_form() */

	EITHER = BARE | NARROW,
	MODRM_EITHER = EITHER | MODRM,
	MODRM_BARE = BARE | MODRM,
	MODRM_NARROW = NARROW | MODRM,
};

struct parse {
	const uint8_t *next; /* what wasn't read yet */
	uint8_t rex;	     /* 0: none */
	bool narrow;	     /* behind 66 */
	bool two_byte;
	uint8_t opcode, form, mod, reg, rm, sib;
	uint8_t displacement_bytes, immediate_bytes;
	int32_t displacement;
	uint32_t immediate; /* its low 32 bits */
};

/* False: an instruction that is left to Zydis, or none. Reads up to INSTRUCTION_BYTES_MAX bytes. */
bool parse_quick(const uint8_t *bytes, struct parse *ret);

#endif
