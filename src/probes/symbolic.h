/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Path-wise symbolic execution, as much of it as it takes to recognise data
 * flow: registers and memory hold expressions over the registers' values at
 * the beginning of the path.
 *
 * Expressions are hash-consed: equal ones are the same number, so comparing is
 * ==.  Loads are forwarded from earlier stores of the same address expression
 * and size on the path; different address expressions are taken to differ
 * (optimistic: right for allocators' code, and the matchers ask for so much at
 * once that an alias can't fake it).
 *
 *	mov rax, [rdi+8]   rax = load8(rdi + 8)
 *	mov rdx, [rax]     rdx = load8(load8(rdi + 8))
 *	mov [rdi+8], rdx   store: 8 bytes at rdi + 8 hold that
 *	inc dword [rdi]    store: 4 bytes at rdi hold sum32(load4(rdi), 1)
 */
#ifndef PYLEAKD_PROBES_SYMBOLIC_H
#define PYLEAKD_PROBES_SYMBOLIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probes/decode.h"

/* An expression. Unknown values have the highest bit set: each differs from all others. */
typedef uint32_t expr;
#define EXPR_NONE UINT32_C(0x7fffffff) /* no expression, where one is optional */

enum expr_kind {
	EXPR_INITIAL,  /* a register's value where the path begins; value: which */
	EXPR_CONSTANT, /* value */
	EXPR_UNKNOWN,
	EXPR_SUM,     /* a + value; a is no SUM and no CONSTANT, value is not 0 */
	EXPR_INDEX,   /* a + b * value */
	EXPR_LOAD,    /* value bytes (1, 2, 4, 8) at a, nothing stored there before on the path */
	EXPR_LOW,     /* the low 32 bits of a */
	EXPR_SUM32,   /* (a + value) mod 2^32; a is no SUM32 */
	EXPR_PART,    /* the low value bytes of a (1, 2; 0x101: the second byte) */
	EXPR_AND,     /* a & value */
	EXPR_SEGMENT, /* a + base of fs (value 0) or gs (value 1) */
};

/* The arena of expressions; one serves any number of walks, reset between them. */
struct symbols;
int symbols_new(struct symbols **ret);
void symbols_free(struct symbols *symbols);
/* Forgets all expressions but the initial registers. */
void symbols_reset(struct symbols *symbols);

expr symbols_initial(unsigned reg);
expr symbols_constant(struct symbols *symbols, int64_t value);
expr symbols_unknown(struct symbols *symbols);
expr symbols_sum(struct symbols *symbols, expr a, int64_t value);
expr symbols_index(struct symbols *symbols, expr a, expr b, unsigned scale);
expr symbols_load(struct symbols *symbols, expr address, unsigned size_bytes);
expr symbols_low(struct symbols *symbols, expr a);
expr symbols_sum32(struct symbols *symbols, expr a, int64_t value);
expr symbols_part(struct symbols *symbols, expr a, unsigned which);
expr symbols_and(struct symbols *symbols, expr a, int64_t mask);
expr symbols_segment(struct symbols *symbols, expr a, bool gs);

enum expr_kind expr_kind(const struct symbols *symbols, expr e);
expr expr_a(const struct symbols *symbols, expr e);	   /* EXPR_NONE where it has none */
int64_t expr_value(const struct symbols *symbols, expr e); /* 0 where it has none */
bool expr_is_constant(const struct symbols *symbols, expr e, int64_t value);
/* Does e contain part (or equal it)? */
bool expr_contains(const struct symbols *symbols, expr e, expr part);
/* e = *ret_base + *ret_offset, the offset 0 for all but sums. */
void expr_split(const struct symbols *symbols, expr e, expr *ret_base, int64_t *ret_offset);
/* Is it an address on the stack of the path: the initial rsp plus something? */
bool expr_is_stack(const struct symbols *symbols, expr e);

#define STATE_STORES_MAX 192 /* no path is longer, and an instruction makes one store at most */

struct state_store {
	expr address;
	expr value;
	uint32_t at; /* index of the instruction */
	uint8_t size_bytes;
	bool forgotten; /* it happened, but a load is no longer forwarded from it */
};

/* What the flags say of a value. */
enum state_flags {
	FLAGS_UNKNOWN,
	FLAGS_ZERO,    /* ZF = (a == 0), of size_bytes */
	FLAGS_COMPARE, /* as of a - b, of size_bytes */
};

struct state {
	expr registers[CODE_REGISTERS];
	enum state_flags flags;
	expr flags_a, flags_b;
	uint8_t flags_size_bytes;
	uint16_t n_stores;
	struct state_store stores[STATE_STORES_MAX];
};

/* All registers initial, nothing stored. */
void state_begin(struct state *state);
/* Copies what is used of it. */
void state_copy(struct state *to, const struct state *from);

/*
 * Executes the instruction at index: its effect on registers, memory and
 * flags.  Branches have none but a call's: caller-saved registers become
 * unknown and memory outside of the stack is forgotten (ABI: System V).
 * -ENOMEM; -ENOBUFS when the path is longer than STATE_STORES_MAX stores.
 */
int state_step(struct symbols *symbols, struct state *state, struct code *code, size_t index);

/* The address of a memory operand. */
expr state_address(struct symbols *symbols, const struct state *state,
		   const struct code_operand *operand);
/* What an operand holds before the instruction. */
expr state_operand(struct symbols *symbols, const struct state *state,
		   const struct code_operand *operand);
/* What size_bytes at address hold: the last store's value, or a load. */
expr state_memory(struct symbols *symbols, const struct state *state, expr address,
		  unsigned size_bytes);
/* The last store of exactly this address and size, forgotten ones included; NULL: none. */
const struct state_store *state_store_find(const struct state *state, expr address,
					   unsigned size_bytes);

/* How a value can be had from the registers (struct plan_site: reg, displacement, memory or not).
 */
struct state_name {
	uint8_t reg;
	bool memory; /* *(u64 *)(reg + displacement) instead of reg + displacement */
	int16_t displacement;
};

/*
 * Names a 64-bit value: a register that holds it, a stack slot below which
 * nothing is popped, or a register and a displacement.  -ENOENT: none.
 */
int state_name_of(const struct symbols *symbols, const struct state *state, expr value,
		  struct state_name *ret);
/* A bit for each register that holds exactly it. */
uint16_t state_registers_of(const struct state *state, expr value);

#endif
