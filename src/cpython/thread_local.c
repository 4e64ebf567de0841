/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/thread_local.h"

#include <errno.h>
#include <stdbool.h>

#include "cpython/instructions.h"

#define REGISTERS 16
enum { RAX = 0, RDI = 7 };

/* What else than a constant is in a sum; a slot is an address in the image. */
enum part {
	PART_NONE,
	PART_CONTENT, /* what the slot holds */
	PART_BLOCK, /* what __tls_get_addr returns for the slot: an address */
	PART_DESCRIPTOR, /* what the slot's function returns: an offset from the thread pointer */
};

/* Of a register or an address: constant + [thread pointer] + [a part of a slot]. */
struct sum {
	bool known;
	bool thread_pointer;
	enum part part;
	uint64_t slot;
	int64_t constant;
};

struct tracker {
	struct sum registers[REGISTERS];
	struct thread_local_access access; /* found */
};

static const struct sum unknown;

static struct sum constant_sum(int64_t constant)
{
	return (struct sum){ .known = true, .constant = constant };
}

static struct sum add(struct sum a, struct sum b)
{
	bool clash = (a.thread_pointer && b.thread_pointer) || (a.part && b.part);

	if (!a.known || !b.known || clash)
		return unknown;
	return (struct sum){ .known = true,
			     .thread_pointer = a.thread_pointer || b.thread_pointer,
			     .part = a.part ? a.part : b.part,
			     .slot = a.part ? a.slot : b.slot,
			     .constant = a.constant + b.constant };
}

static int register_number(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
	ZyanI8 id = ZydisRegisterGetId(whole);

	return ZydisRegisterGetClass(whole) == ZYDIS_REGCLASS_GPR64 && id >= 0 && id < REGISTERS
		       ? id
		       : -1;
}

static struct sum register_sum(const struct tracker *tracker, ZydisRegister reg)
{
	int number = register_number(reg);

	if (reg == ZYDIS_REGISTER_NONE)
		return constant_sum(0);
	return number < 0 ? unknown : tracker->registers[number];
}

static bool is_fs(const ZydisDecodedOperand *operand)
{
	return operand->mem.segment == ZYDIS_REGISTER_FS;
}

/* The address that a memory operand names; lea's is without its segment. */
static struct sum address_sum(const struct tracker *tracker, const struct instruction *instruction,
			      const ZydisDecodedOperand *operand)
{
	struct sum sum = constant_sum(operand->mem.disp.value);

	if (operand->mem.base == ZYDIS_REGISTER_RIP)
		return constant_sum((int64_t)operand_static_address(instruction, operand));
	if (operand->mem.index != ZYDIS_REGISTER_NONE && operand->mem.scale != 1)
		return unknown;
	sum = add(sum, register_sum(tracker, operand->mem.base));
	sum = add(sum, register_sum(tracker, operand->mem.index));
	if (is_fs(operand))
		sum = add(sum, (struct sum){ .known = true, .thread_pointer = true });
	return sum;
}

/* Is this address a thread-local variable's? */
static bool is_variable(const struct sum *address, struct thread_local_access *ret)
{
	enum thread_local_kind kind;

	if (!address->known)
		return false;
	if (address->part == PART_BLOCK && !address->thread_pointer)
		kind = THREAD_LOCAL_MODULE_SLOT;
	else if (!address->thread_pointer)
		return false;
	else if (address->part == PART_CONTENT)
		kind = THREAD_LOCAL_OFFSET_SLOT;
	else if (address->part == PART_DESCRIPTOR)
		kind = THREAD_LOCAL_DESCRIPTOR;
	/* Variables lie below the thread pointer, glibc's own words (the canary, itself) above. */
	else if (address->part == PART_NONE && address->constant < 0)
		kind = THREAD_LOCAL_OFFSET;
	else
		return false;
	*ret = (struct thread_local_access){ kind, address->constant, address->slot };
	return true;
}

/* What a load from this address yields. */
static struct sum content_sum(const struct sum *address)
{
	if (!address->known || address->part)
		return unknown;
	if (address->thread_pointer) /* the word there is its own address */
		return address->constant ? unknown
					 : (struct sum){ .known = true, .thread_pointer = true };
	return (struct sum){ .known = true,
			     .part = PART_CONTENT,
			     .slot = (uint64_t)address->constant };
}

static struct sum operand_sum(const struct tracker *tracker, const struct instruction *instruction,
			      const ZydisDecodedOperand *operand)
{
	struct sum address;

	switch (operand->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		return register_sum(tracker, operand->reg.value);
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		return constant_sum(operand->imm.value.s);
	case ZYDIS_OPERAND_TYPE_MEMORY:
		address = address_sum(tracker, instruction, operand);
		if (instruction->decoded.mnemonic == ZYDIS_MNEMONIC_LEA)
			return address;
		return operand->size == 64 ? content_sum(&address) : unknown;
	default:
		return unknown;
	}
}

static bool is_address_in_image(const struct sum *sum)
{
	return sum->known && !sum->part && !sum->thread_pointer && sum->constant > 0;
}

/* Of __tls_get_addr, or of a descriptor's function: its slot is in a register. */
static void follow_call(struct tracker *tracker, const struct instruction *instruction)
{
	static const int clobbered[] = { 0, 1, 2, 6, 7, 8, 9, 10, 11 };
	const ZydisDecodedOperand *target = &instruction->operands[0];
	struct sum descriptor = tracker->registers[RAX], block = tracker->registers[RDI];
	struct sum result = unknown;

	if (target->type == ZYDIS_OPERAND_TYPE_MEMORY && is_address_in_image(&descriptor) &&
	    register_number(target->mem.base) == RAX)
		result = (struct sum){ .known = true,
				       .part = PART_DESCRIPTOR,
				       .slot = (uint64_t)descriptor.constant };
	else if (is_address_in_image(&block))
		result = (struct sum){ .known = true,
				       .part = PART_BLOCK,
				       .slot = (uint64_t)block.constant };
	for (size_t i = 0; i < sizeof(clobbered) / sizeof(clobbered[0]); i++)
		tracker->registers[clobbered[i]] = unknown;
	tracker->registers[RAX] = result;
}

static void follow_register(struct tracker *tracker, const struct instruction *instruction)
{
	const ZydisDecodedOperand *operands = instruction->operands;
	struct sum *target;
	int number;

	if (!instruction->decoded.operand_count_visible ||
	    operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    !(operands[0].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		return;
	number = register_number(operands[0].reg.value);
	if (number < 0)
		return;
	target = &tracker->registers[number];
	switch (instruction->decoded.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_LEA:
		*target = operand_sum(tracker, instruction, &operands[1]);
		break;
	case ZYDIS_MNEMONIC_ADD:
		*target = add(*target, operand_sum(tracker, instruction, &operands[1]));
		break;
	default:
		*target = unknown;
	}
}

/* 1: found. */
static int follow(const struct instruction *instruction, void *context)
{
	struct tracker *tracker = context;
	const ZydisDecodedOperand *source = &instruction->operands[1];

	if (instruction->decoded.meta.category == ZYDIS_CATEGORY_CALL) {
		follow_call(tracker, instruction);
		return 0;
	}
	if (instruction->decoded.mnemonic == ZYDIS_MNEMONIC_MOV &&
	    source->type == ZYDIS_OPERAND_TYPE_MEMORY && source->size == 64) {
		struct sum address = address_sum(tracker, instruction, source);

		if (is_variable(&address, &tracker->access))
			return 1;
	}
	follow_register(tracker, instruction);
	return 0;
}

int thread_local_find(const struct image *image, uint64_t entry, struct thread_local_access *ret)
{
	struct tracker tracker = { .access = { 0 } };
	int result = instructions_visit(image, entry, follow, &tracker);

	if (result != 1)
		return result < 0 ? result : -ENOENT;
	*ret = tracker.access;
	return 0;
}
