/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a site's cookie says, and the pointer that it stands for, taken from
 * the registers at the hit.  x86-64 only: another architecture gets another
 * such header.
 */
#ifndef PYLEAKD_BPF_REGISTERS_H
#define PYLEAKD_BPF_REGISTERS_H

#include "helpers.h"

#define POOL_HEADER_BYTES 48 /* POOL_OVERHEAD, rounded up to the alignment: 3.8 to 3.15 */
#define POOL_FREEBLOCK 8

/* Intel SDM vol. 1, 3.4.3 */
#define FLAG_CF 0x001
#define FLAG_PF 0x004
#define FLAG_ZF 0x040
#define FLAG_SF 0x080
#define FLAG_OF 0x800

static __always_inline __u32 cookie_kind(__u64 cookie)
{
	return cookie & 15;
}

static __always_inline __u32 cookie_register(__u64 cookie)
{
	return cookie >> 4 & 15;
}

static __always_inline __u32 cookie_value(__u64 cookie)
{
	return cookie >> 8 & 15;
}

static __always_inline __u32 cookie_condition(__u64 cookie)
{
	return cookie >> 12 & 31;
}

static __always_inline __u32 cookie_return_slot(__u64 cookie)
{
	return cookie >> 17 & 127;
}

static __always_inline __u32 cookie_size_register(__u64 cookie)
{
	return cookie >> 24 & 31;
}

static __always_inline __s64 cookie_displacement(__u64 cookie)
{
	return (__s16)(cookie >> 32);
}

/* Condition codes as in jcc's opcode: pairs, the odd one of which is the negation. */
static __always_inline bool condition_holds(__u32 condition, __u64 flags)
{
	bool holds;

	if (condition >= WIRE_CONDITION_ALWAYS)
		return true;
	switch (condition >> 1) {
	case 0:
		holds = flags & FLAG_OF;
		break;
	case 1:
		holds = flags & FLAG_CF;
		break;
	case 2:
		holds = flags & FLAG_ZF;
		break;
	case 3:
		holds = flags & (FLAG_CF | FLAG_ZF);
		break;
	case 4:
		holds = flags & FLAG_SF;
		break;
	case 5:
		holds = flags & FLAG_PF;
		break;
	case 6:
		holds = !(flags & FLAG_SF) != !(flags & FLAG_OF);
		break;
	default:
		holds = flags & FLAG_ZF || !(flags & FLAG_SF) != !(flags & FLAG_OF);
		break;
	}
	return condition & 1 ? !holds : holds;
}

/*
 * A load at a fixed offset of the context.  In C clang would merge the cases
 * below into one load at a computed offset, which the verifier refuses
 * ("dereference of modified ctx ptr").
 */
#define register_load(ctx, name)                                                                   \
	({                                                                                         \
		__u64 value_;                                                                      \
		asm volatile("%0 = *(u64 *)(%1 + %2)"                                              \
			     : "=r"(value_)                                                        \
			     : "r"(ctx), "i"(__builtin_offsetof(struct pt_regs, name)));           \
		value_;                                                                            \
	})

static __always_inline __u64 register_read(struct pt_regs *ctx, __u32 number)
{
	switch (number) {
	case 0:
		return register_load(ctx, ax);
	case 1:
		return register_load(ctx, cx);
	case 2:
		return register_load(ctx, dx);
	case 3:
		return register_load(ctx, bx);
	case 4:
		return register_load(ctx, sp);
	case 5:
		return register_load(ctx, bp);
	case 6:
		return register_load(ctx, si);
	case 7:
		return register_load(ctx, di);
	case 8:
		return register_load(ctx, r8);
	case 9:
		return register_load(ctx, r9);
	case 10:
		return register_load(ctx, r10);
	case 11:
		return register_load(ctx, r11);
	case 12:
		return register_load(ctx, r12);
	case 13:
		return register_load(ctx, r13);
	case 14:
		return register_load(ctx, r14);
	default:
		return register_load(ctx, r15);
	}
}

/* The pointer that a site is about. Negative: it lies in memory that can't be read. */
static __always_inline int site_value(struct pt_regs *ctx, __u64 cookie, __u64 *ret)
{
	__u64 place = register_read(ctx, cookie_register(cookie)) + cookie_displacement(cookie);
	__u32 mode = cookie_value(cookie);
	__u64 value = place;

	if ((mode == VALUE_MEMORY || mode == VALUE_POOL_FIRST_MEMORY ||
	     mode == VALUE_POOL_BY_ZF_MEMORY) &&
	    read_user(&value, sizeof(value), place))
		return -1;
	if (mode == VALUE_POOL_BY_ZF || mode == VALUE_POOL_BY_ZF_MEMORY) {
		if (!(ctx->flags & FLAG_ZF))
			value += POOL_HEADER_BYTES;
		else if (read_user(&value, sizeof(value), value + POOL_FREEBLOCK))
			return -1;
	} else if (mode == VALUE_POOL_FIRST || mode == VALUE_POOL_FIRST_MEMORY) {
		value += POOL_HEADER_BYTES;
	}
	*ret = value;
	return 0;
}

#endif
