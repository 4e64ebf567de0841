/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the interpreter's own code says of the layout: the exported function
 * that returns the current thread state (up to 3.11) loads it from _PyRuntime,
 * and so names the field's offset.  A target at rest holds a null pointer
 * there, which says nothing.
 */
#include <errno.h>

#include "cpython/instructions.h"
#include "cpython/interpreter_private.h"

#define REGISTERS 16
#define RUNTIME_BYTES_MAX (1u << 20)

struct search {
	const struct image *image;
	uint64_t runtime; /* vaddr */
	bool holds[REGISTERS]; /* which registers hold its address */
	uint32_t offset; /* found */
};

static int register_number(ZydisRegister reg)
{
	ZyanI8 id = ZydisRegisterGetId(reg);

	return ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_GPR64 && id >= 0 && id < REGISTERS
		       ? id
		       : -1;
}

/* mov _PyRuntime@GOT(%rip),reg; lea _PyRuntime(%rip),reg; mov $_PyRuntime,reg */
static bool yields_runtime(const struct search *search, const struct instruction *instruction)
{
	const ZydisDecodedOperand *source = &instruction->operands[1];
	uint64_t vaddr = operand_static_address(instruction, source), target;

	if (!vaddr)
		return false;
	if (instruction->decoded.mnemonic == ZYDIS_MNEMONIC_MOV &&
	    source->type == ZYDIS_OPERAND_TYPE_MEMORY)
		return !image_slot_target(search->image, vaddr, &target) &&
		       target == search->runtime;
	return vaddr == search->runtime;
}

/* The offset in _PyRuntime that an operand reads at, if it does. */
static bool reads_runtime(const struct search *search, const struct instruction *instruction,
			  const ZydisDecodedOperand *operand, uint32_t *ret)
{
	uint64_t vaddr, offset;
	int base;

	if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY ||
	    instruction->decoded.mnemonic == ZYDIS_MNEMONIC_LEA)
		return false;
	vaddr = operand_static_address(instruction, operand);
	base = register_number(operand->mem.base);
	if (vaddr)
		offset = vaddr - search->runtime;
	else if (base >= 0 && search->holds[base] && operand->mem.index == ZYDIS_REGISTER_NONE)
		offset = (uint64_t)operand->mem.disp.value;
	else
		return false;
	if (offset >= RUNTIME_BYTES_MAX)
		return false;
	*ret = (uint32_t)offset;
	return true;
}

static int look(const struct instruction *instruction, void *context)
{
	struct search *search = context;
	const ZydisDecodedOperand *operands = instruction->operands;
	int number;

	if (instruction->decoded.operand_count_visible < 2 ||
	    operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return 0;
	if (reads_runtime(search, instruction, &operands[1], &search->offset))
		return 1;
	number = register_number(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
								  operands[0].reg.value));
	if (number >= 0)
		search->holds[number] = yields_runtime(search, instruction);
	return 0;
}

int confirm_code(const struct interpreter *interpreter, struct fault *reterr_fault)
{
	static const char *const functions[] = { "_PyThreadState_UncheckedGet",
						 "PyThreadState_Get" };
	uint32_t expected = interpreter->layout.runtime_tstate_current;

	if (expected == LAYOUT_ABSENT)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		struct search search = { .image = interpreter->image,
					 .runtime = interpreter->runtime - interpreter->bias };
		struct image_symbol symbol;

		if (image_symbol(interpreter->image, functions[i], &symbol) ||
		    instructions_visit(interpreter->image, symbol.vaddr, look, &search) != 1)
			continue; /* compiled in another way: says nothing */
		if (search.offset != expected)
			return contradiction(symbol.vaddr + interpreter->bias,
					     "runtime_tstate_current", reterr_fault);
		return 0;
	}
	return 0;
}
