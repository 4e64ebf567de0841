/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "probes/reachable.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define OLD_SECTION ".bolt.org.text"
#define POINTER_BYTES 8
#define DATA_BYTES_MAX (256U << 20) /* data that is searched for pointers */
#define TWO_OPERANDS_LENGTH 10	    /* bytes: a 32-bit displacement and a 32-bit immediate */

struct reachable {
	const struct image_range *functions; /* not owned, ascending */
	size_t n_functions;
	struct image_range old;
	bool *live;	   /* a function each */
	uint32_t *waiting; /* live ones whose references weren't followed yet */
	size_t n_waiting;
};

DEFINE_CLEANUP(struct reachable *, reachable_free)

void reachable_free(struct reachable *reachable)
{
	if (!reachable)
		return;
	free(reachable->live);
	free(reachable->waiting);
	free(reachable);
}

int reachable_new_of(const struct image_range *functions, size_t n_functions,
		     struct image_range old, struct reachable **ret)
{
	CLEANUP(reachable_free) struct reachable *reachable = calloc(1, sizeof(*reachable));

	if (!reachable)
		return -ENOMEM;
	reachable->functions = functions;
	reachable->n_functions = n_functions;
	reachable->old = old;
	reachable->live = calloc(n_functions + 1, sizeof(*reachable->live));
	reachable->waiting = calloc(n_functions + 1, sizeof(*reachable->waiting));
	if (!reachable->live || !reachable->waiting)
		return -ENOMEM;
	*ret = TAKE_PTR(reachable);
	return 0;
}

static bool is_old(const struct reachable *reachable, uint64_t vaddr)
{
	return vaddr >= reachable->old.start && vaddr < reachable->old.end;
}

/* The function that holds vaddr; n_functions: none does. */
static size_t function_of(const struct reachable *reachable, uint64_t vaddr)
{
	size_t low = 0, high = reachable->n_functions;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (reachable->functions[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || vaddr >= reachable->functions[low - 1].end)
		return reachable->n_functions;
	return low - 1;
}

bool reachable_is_live(const struct reachable *reachable, uint64_t vaddr)
{
	const size_t function = function_of(reachable, vaddr);

	return !is_old(reachable, vaddr) ||
	       (function < reachable->n_functions && reachable->live[function]);
}

void reachable_mark(struct reachable *reachable, uint64_t vaddr)
{
	size_t function;

	if (!is_old(reachable, vaddr))
		return;
	function = function_of(reachable, vaddr);
	if (function == reachable->n_functions || reachable->live[function])
		return;
	reachable->live[function] = true;
	reachable->waiting[reachable->n_waiting++] = (uint32_t)function;
}

/*
 * An address that was taken is a function's first.  (Those of labels, which
 * computed jumps need, are used by their own function only.)  Numbers that
 * merely look like addresses seldom are.
 */
void reachable_mark_start(struct reachable *reachable, uint64_t vaddr)
{
	size_t function;

	if (!is_old(reachable, vaddr))
		return;
	function = function_of(reachable, vaddr);
	if (function < reachable->n_functions && reachable->functions[function].start == vaddr)
		reachable_mark(reachable, vaddr);
}

/* The last four bytes: an immediate, where there is one of 32 bits. */
static uint64_t last_word(const struct code *code, size_t index)
{
	const uint8_t *bytes = code_instruction_bytes(code, index);
	int32_t value;

	memcpy(&value, bytes + code_at(code, index)->length - sizeof(value), sizeof(value));
	return (uint64_t)(int64_t)value;
}

/* Everything that an instruction could mean by an address in it. */
static void mark_references(struct reachable *reachable, const struct code *code, size_t index)
{
	const struct code_instruction *instruction = code_at(code, index);
	const size_t target = code_target(code, index);

	if (target != CODE_NONE)
		reachable_mark(reachable, code_vaddr(code, target));
	if (!(instruction->hints & HINT_REFERENCE))
		return;
	reachable_mark_start(reachable, code_reference(code, index));
	if (instruction->length >= TWO_OPERANDS_LENGTH)
		reachable_mark_start(reachable, last_word(code, index));
}

static void mark_from(struct reachable *reachable, const struct code *code, uint64_t start,
		      uint64_t end)
{
	const size_t behind = code_index_from(code, end);

	for (size_t i = code_index_from(code, start); i < behind; i++)
		mark_references(reachable, code, i);
}

void reachable_follow(struct reachable *reachable, const struct code *code)
{
	mark_from(reachable, code, 0, reachable->old.start);
	mark_from(reachable, code, reachable->old.end, UINT64_MAX);
	while (reachable->n_waiting > 0) {
		const struct image_range *function =
			&reachable->functions[reachable->waiting[--reachable->n_waiting]];

		mark_from(reachable, code, function->start, function->end);
	}
}

void reachable_leave_out_dead(const struct reachable *reachable, struct code *code)
{
	const struct image_range *old = &reachable->old;
	uint64_t at = old->start;

	for (size_t i = 0; i < reachable->n_functions; i++) {
		const struct image_range *function = &reachable->functions[i];

		if (!reachable->live[i] || function->end <= at)
			continue;
		if (function->start > at)
			code_leave_out(code, at, function->start);
		at = function->end;
	}
	if (at < old->end)
		code_leave_out(code, at, old->end);
}

static int mark_symbol(const struct image_symbol *symbol, void *context)
{
	reachable_mark_start(context, symbol->vaddr);
	return 0;
}

/* Pointers in data: tables of methods and slots, above all. */
static void mark_data(struct reachable *reachable, const struct image *image)
{
	const struct image_segment *segments = NULL;
	const size_t n = image_segments(image, &segments);
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++) {
		const uint64_t start = (segments[i].vaddr + POINTER_BYTES - 1) & ~7ULL;
		const uint64_t end = segments[i].vaddr + segments[i].file_size;

		if (segments[i].flags & PF_X)
			continue;
		for (uint64_t at = start; at + POINTER_BYTES <= end && total < DATA_BYTES_MAX;
		     at += POINTER_BYTES, total += POINTER_BYTES) {
			uint64_t target;

			if (image_slot_target(image, at, &target) == 0)
				reachable_mark_start(reachable, target);
		}
	}
}

int reachable_new(const struct code *code, const struct image *image, struct reachable **ret)
{
	CLEANUP(reachable_free) struct reachable *reachable = NULL;
	const struct image_range *functions = NULL;
	const size_t n = image_function_ranges(image, &functions);
	struct image_range old;
	int error;

	if (n == 0 || image_section(image, OLD_SECTION, &old))
		return -ENOENT;
	error = reachable_new_of(functions, n, old, &reachable);
	if (error)
		return error;
	image_symbols_visit(image, mark_symbol, reachable);
	mark_data(reachable, image);
	reachable_follow(reachable, code);
	*ret = TAKE_PTR(reachable);
	return 0;
}
