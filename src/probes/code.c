/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Looking things up in decoded code. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "probes/decode_private.h"

#define WORD_BITS 64

size_t code_count(const struct code *code)
{
	return code->n_instructions;
}

size_t code_undecodable(const struct code *code)
{
	return code->n_undecodable;
}

const struct code_instruction *code_at(const struct code *code, size_t index)
{
	return &code->instructions[index];
}

uint64_t code_vaddr(const struct code *code, size_t index)
{
	return code->base + code->instructions[index].offset;
}

/* The range that holds vaddr, or the first behind it; n_ranges when there is none. */
static size_t range_from(const struct code *code, uint64_t vaddr)
{
	size_t low = 0, high = code->n_ranges;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (code->ranges[middle].end <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const uint8_t *code_instruction_bytes(const struct code *code, size_t index)
{
	const uint64_t vaddr = code_vaddr(code, index);
	const struct code_range *range = &code->ranges[range_from(code, vaddr)];

	return range->data + (vaddr - range->start);
}

size_t code_index_from(const struct code *code, uint64_t vaddr)
{
	const size_t at = range_from(code, vaddr);
	const struct code_range *range = &code->ranges[at];
	uint64_t offset, below;

	if (at == code->n_ranges)
		return code->n_instructions;
	offset = vaddr > range->start ? vaddr - range->start : 0;
	below = range->begins[offset / WORD_BITS] & ((UINT64_C(1) << offset % WORD_BITS) - 1);
	return range->rank[offset / WORD_BITS] + (size_t)__builtin_popcountll(below);
}

size_t code_index(const struct code *code, uint64_t vaddr)
{
	const size_t index = code_index_from(code, vaddr);

	return index < code->n_instructions && code_vaddr(code, index) == vaddr ? index : CODE_NONE;
}

size_t code_next(const struct code *code, size_t index)
{
	const struct code_instruction *at = &code->instructions[index];

	if (index + 1 >= code->n_instructions || at[1].offset != at->offset + at->length)
		return CODE_NONE;
	return index + 1;
}

size_t code_previous(const struct code *code, size_t index)
{
	return index > 0 && code_next(code, index - 1) == index ? index - 1 : CODE_NONE;
}

size_t code_target(const struct code *code, size_t index)
{
	const struct code_instruction *at = &code->instructions[index];

	if (at->target == CODE_TARGET_NONE || at->hints & HINT_REFERENCE)
		return CODE_NONE;
	return at->target;
}

uint64_t code_reference(const struct code *code, size_t index)
{
	return code->base + (uint64_t)(int64_t)(int32_t)code->instructions[index].target;
}

static int make_branches(struct code *code)
{
	_cleanup_free_ uint32_t *first = calloc(code->n_instructions, sizeof(*first));
	_cleanup_free_ uint32_t *next = calloc(code->n_instructions, sizeof(*next));

	if (!first || !next)
		return -ENOMEM;
	/* From the end, so that each chain comes out in ascending order. */
	for (size_t i = code->n_instructions; i-- > 0;) {
		size_t target = code_target(code, i);

		if (target == CODE_NONE)
			continue;
		next[i] = first[target];
		first[target] = (uint32_t)i + 1;
	}
	code->branch_first = TAKE_PTR(first);
	code->branch_next = TAKE_PTR(next);
	return 0;
}

int code_branches_to_visit(struct code *code, size_t index,
			   int (*visit)(size_t branch, void *context), void *context)
{
	int error;

	if (!code->branch_first) {
		error = make_branches(code);
		if (error)
			return error;
	}
	for (uint32_t at = code->branch_first[index]; at > 0; at = code->branch_next[at - 1]) {
		error = visit(at - 1, context);
		if (error)
			return error;
	}
	return 0;
}

bool instruction_is_emulated(const uint8_t *bytes, size_t length)
{
	switch (length) {
	case 1: /* push r64, nop */
		return (bytes[0] >= 0x50 && bytes[0] <= 0x57) || bytes[0] == 0x90;
	case 2: /* jcc rel8, jmp rel8, push r8-r15 */
		return (bytes[0] >= 0x70 && bytes[0] <= 0x7f) || bytes[0] == 0xeb ||
		       (bytes[0] == 0x41 && bytes[1] >= 0x50 && bytes[1] <= 0x57);
	case 5: /* jmp rel32, call rel32 */
		return bytes[0] == 0xe9 || bytes[0] == 0xe8;
	case 6: /* jcc rel32 */
		return bytes[0] == 0x0f && bytes[1] >= 0x80 && bytes[1] <= 0x8f;
	default:
		return false;
	}
}

bool code_is_emulated(const struct code *code, size_t index)
{
	return instruction_is_emulated(code_instruction_bytes(code, index),
				       code->instructions[index].length);
}
