/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/instructions.h"

#include <errno.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "base/table.h"

#define INSTRUCTION_BYTES_MAX 15

DEFINE_CLEANUP(struct table *, table_free)

struct walk {
	const struct image *image;
	ZydisDecoder decoder;
	struct table *seen; /* addresses decoded */
	uint64_t jumps[INSTRUCTION_JUMPS_MAX]; /* targets to be followed */
	size_t n_jumps, next_jump;
	instruction_visitor *visit;
	void *context;
};

static bool decode(const struct walk *walk, uint64_t vaddr, struct instruction *ret)
{
	uint64_t offset;
	size_t size = INSTRUCTION_BYTES_MAX;
	const void *bytes;

	if (image_text_offset(walk->image, vaddr, &offset))
		return false;
	/* Fewer than the longest instruction's may be left in the segment. */
	while (!(bytes = image_bytes(walk->image, vaddr, size)))
		if (!--size)
			return false;
	ret->vaddr = vaddr;
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&walk->decoder, bytes, size, &ret->decoded,
						   ret->operands));
}

static bool is_jump(const struct instruction *instruction)
{
	ZydisInstructionCategory category = instruction->decoded.meta.category;

	return category == ZYDIS_CATEGORY_COND_BR || category == ZYDIS_CATEGORY_UNCOND_BR;
}

/* Queues a direct jump's target; what the queue has no room for is not looked at. */
static void queue_jump(struct walk *walk, const struct instruction *instruction)
{
	const ZydisDecodedOperand *operand = &instruction->operands[0];
	uint64_t target;

	if (operand->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !operand->imm.is_relative)
		return;
	target = instruction->vaddr + instruction->decoded.length + (uint64_t)operand->imm.value.s;
	if (walk->n_jumps < INSTRUCTION_JUMPS_MAX && !table_has(walk->seen, target))
		walk->jumps[walk->n_jumps++] = target;
}

static bool ends_path(const struct instruction *instruction)
{
	return instruction->decoded.meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
	       instruction->decoded.meta.category == ZYDIS_CATEGORY_RET ||
	       instruction->decoded.mnemonic == ZYDIS_MNEMONIC_UD2;
}

static int walk_path(struct walk *walk, uint64_t vaddr)
{
	struct instruction instruction;

	while (table_size(walk->seen) < INSTRUCTIONS_MAX && !table_has(walk->seen, vaddr) &&
	       decode(walk, vaddr, &instruction)) {
		int result = table_put(walk->seen, vaddr, 0);

		if (!result)
			result = walk->visit(&instruction, walk->context);
		if (result)
			return result;
		if (is_jump(&instruction))
			queue_jump(walk, &instruction);
		if (ends_path(&instruction))
			return 0;
		vaddr += instruction.decoded.length;
	}
	return 0;
}

int instructions_visit(const struct image *image, uint64_t entry, instruction_visitor *visit,
		       void *context)
{
	CLEANUP(table_free) struct table *seen = NULL;
	struct walk walk = { .image = image, .visit = visit, .context = context };
	uint64_t offset;
	int result = table_new(INSTRUCTIONS_MAX, &seen);

	if (result)
		return result;
	if (image_text_offset(image, entry, &offset))
		return -ENOENT;
	walk.seen = seen;
	ZydisDecoderInit(&walk.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	walk.jumps[walk.n_jumps++] = entry;
	while (!result && walk.next_jump < walk.n_jumps)
		result = walk_path(&walk, walk.jumps[walk.next_jump++]);
	return result;
}

uint64_t operand_static_address(const struct instruction *instruction,
				const ZydisDecodedOperand *operand)
{
	if (operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return operand->imm.is_relative ? 0 : operand->imm.value.u;
	if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY ||
	    operand->mem.segment == ZYDIS_REGISTER_FS || operand->mem.segment == ZYDIS_REGISTER_GS)
		return 0;
	if (operand->mem.base == ZYDIS_REGISTER_RIP)
		return instruction->vaddr + instruction->decoded.length +
		       (uint64_t)operand->mem.disp.value;
	if (operand->mem.base == ZYDIS_REGISTER_NONE && operand->mem.index == ZYDIS_REGISTER_NONE)
		return (uint64_t)operand->mem.disp.value;
	return 0;
}

static bool in_segments(const struct image *image, uint64_t vaddr)
{
	const struct image_segment *segments;
	size_t n = image_segments(image, &segments);

	for (size_t i = 0; i < n; i++)
		if (vaddr - segments[i].vaddr < segments[i].memory_size)
			return true;
	return false;
}

struct collection {
	const struct image *image;
	struct references *references;
};

static int collect(const struct instruction *instruction, void *context)
{
	struct collection *collection = context;
	struct references *references = collection->references;

	for (size_t i = 0; i < instruction->decoded.operand_count_visible; i++) {
		const ZydisDecodedOperand *operand = &instruction->operands[i];
		uint64_t vaddr = operand_static_address(instruction, operand);
		bool load = operand->type == ZYDIS_OPERAND_TYPE_MEMORY &&
			    operand->mem.type == ZYDIS_MEMOP_TYPE_MEM &&
			    operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ;

		if (!vaddr || !in_segments(collection->image, vaddr))
			continue;
		if (references->n == REFERENCES_MAX)
			return 1;
		references->entries[references->n++] =
			(struct reference){ vaddr, load ? (uint8_t)(operand->size / 8) : 0 };
	}
	return 0;
}

int references_of_function(const struct image *image, const char *function,
			   struct references *ret)
{
	struct collection collection = { image, ret };
	struct image_symbol symbol;
	int error = image_symbol(image, function, &symbol);

	ret->n = 0;
	if (!error)
		error = instructions_visit(image, symbol.vaddr, collect, &collection);
	return error < 0 ? error : 0;
}
