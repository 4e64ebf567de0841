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

const struct code_range *code_range_of(const struct code *code, uint64_t vaddr)
{
	return &code->ranges[range_from(code, vaddr)];
}

const uint8_t *code_instruction_bytes(const struct code *code, size_t index)
{
	const uint64_t vaddr = code_vaddr(code, index);
	const struct code_range *range = code_range_of(code, vaddr);

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

void code_leave_out(struct code *code, uint64_t start, uint64_t end)
{
	for (size_t i = code_index_from(code, start);
	     i < code->n_instructions && code_vaddr(code, i) < end; i++) {
		code->n_left_out += !(code->instructions[i].hints & HINT_DEAD);
		code->instructions[i].hints |= HINT_DEAD;
	}
}

size_t code_left_out(const struct code *code)
{
	return code->n_left_out;
}

size_t code_hinted(const struct code *code, size_t from, enum code_hint hint)
{
	for (size_t i = from; i < code->n_instructions; i++)
		if ((code->instructions[i].hints & (hint | HINT_DEAD)) == hint)
			return i;
	return CODE_NONE;
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

static bool is_target(const struct code *code, size_t index)
{
	return code->targets[index / WORD_BITS] >> index % WORD_BITS & 1;
}

static size_t count_branches(const struct code *code)
{
	size_t n = 0;

	for (size_t i = 0; i < code->n_instructions; i++)
		n += code_target(code, i) != CODE_NONE;
	return n;
}

static int make_branches(struct code *code)
{
	const size_t words = (code->n_instructions + WORD_BITS - 1) / WORD_BITS;
	const size_t n = count_branches(code);
	_cleanup_free_ uint64_t *targets = calloc(words, sizeof(*targets));
	_cleanup_free_ struct code_branch *branches = malloc((n + 1) * sizeof(*branches));

	if (!targets || !branches)
		return -ENOMEM;
	for (size_t i = 0; i < code->n_instructions; i++) {
		const size_t target = code_target(code, i);

		if (target == CODE_NONE)
			continue;
		targets[target / WORD_BITS] |= UINT64_C(1) << target % WORD_BITS;
		branches[code->n_branches++] = (struct code_branch){(uint32_t)i, (uint32_t)target};
	}
	code->targets = TAKE_PTR(targets);
	code->branches = TAKE_PTR(branches);
	return 0;
}

int code_branches_to_visit(struct code *code, size_t index,
			   int (*visit)(size_t branch, void *context), void *context)
{
	int error;

	if (!code->branches) {
		error = make_branches(code);
		if (error)
			return error;
	}
	if (!is_target(code, index))
		return 0;
	for (size_t i = 0; i < code->n_branches; i++) {
		if (code->branches[i].target != index)
			continue;
		error = visit(code->branches[i].at, context);
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
