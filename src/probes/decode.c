/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The sweep: boundaries, branches and hints.  Zydis's minimal mode gives
 * mnemonic, length and the encoding's raw fields, which is all that it takes.
 */
#include "probes/decode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <Zydis/Zydis.h>

#include "base/cleanup.h"
#include "probes/decode_private.h"

#define WORD_BITS 64
#define SHORTEST_AVERAGE 3    /* bytes an instruction; interpreters have 3.9 to 4.4 */
#define HUGE_PAGE (2UL << 20) /* bytes */
#define HUGE_PAGE_MASK (HUGE_PAGE - 1)
#define POOL_DUMMY_SIZE_CLASS 0xffff /* DUMMY_SIZE_IDX (Objects/obmalloc.c): no class yet */

DEFINE_CLEANUP(struct code *, code_free)

void code_free(struct code *code)
{
	if (!code)
		return;
	for (size_t i = 0; i < code->n_ranges; i++) {
		free(code->ranges[i].begins);
		free(code->ranges[i].rank);
	}
	free(code->ranges);
	free(code->instructions);
	free(code->operations);
	free(code->branches);
	free(code->targets);
	free(code);
}

static bool is_jcc(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_JB:
	case ZYDIS_MNEMONIC_JBE:
	case ZYDIS_MNEMONIC_JL:
	case ZYDIS_MNEMONIC_JLE:
	case ZYDIS_MNEMONIC_JNB:
	case ZYDIS_MNEMONIC_JNBE:
	case ZYDIS_MNEMONIC_JNL:
	case ZYDIS_MNEMONIC_JNLE:
	case ZYDIS_MNEMONIC_JNO:
	case ZYDIS_MNEMONIC_JNP:
	case ZYDIS_MNEMONIC_JNS:
	case ZYDIS_MNEMONIC_JNZ:
	case ZYDIS_MNEMONIC_JO:
	case ZYDIS_MNEMONIC_JP:
	case ZYDIS_MNEMONIC_JS:
	case ZYDIS_MNEMONIC_JZ:
		return true;
	default:
		return false;
	}
}

static enum code_flow flow_of(const ZydisDecodedInstruction *instruction)
{
	const bool direct = instruction->raw.imm[0].is_relative;

	if (is_jcc(instruction->mnemonic))
		return FLOW_CONDITIONAL;
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		return direct ? FLOW_JUMP : FLOW_JUMP_INDIRECT;
	case ZYDIS_MNEMONIC_CALL:
		return direct ? FLOW_CALL : FLOW_CALL_INDIRECT;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
		return FLOW_CONDITIONAL_OTHER;
	case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_INT3:
		return FLOW_STOP;
	default:
		return FLOW_NEXT;
	}
}

/* The displacement of a [base + displacement] operand whose base isn't rsp; false: another form. */
static bool plain_base(const ZydisDecodedInstruction *instruction, int64_t *ret_displacement)
{
	const ZydisDecodedInstructionRaw *raw = &instruction->raw;
	const bool has_sib = raw->modrm.rm == 4;

	if (!(instruction->attributes & ZYDIS_ATTRIB_HAS_MODRM) || raw->modrm.mod == 3)
		return false;
	if (raw->modrm.mod == 0 && (has_sib ? raw->sib.base : raw->modrm.rm) == 5)
		return false; /* rip-relative or absolute */
	if (has_sib && (raw->sib.index != 4 || raw->rex.X))
		return false;
	if (has_sib && raw->sib.base == CODE_RSP && !raw->rex.B)
		return false;
	*ret_displacement = raw->disp.size > 0 ? raw->disp.value : 0;
	return true;
}

static bool is_count_write(const ZydisDecodedInstruction *instruction)
{
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return instruction->opcode == 0x89 || instruction->opcode == 0xc7;
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		return true;
	default:
		return false;
	}
}

static uint8_t hints_of(const ZydisDecodedInstruction *instruction)
{
	const bool mov = instruction->mnemonic == ZYDIS_MNEMONIC_MOV &&
			 instruction->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT;
	const uint8_t opcode = instruction->opcode, width = instruction->operand_width;
	const uint64_t immediate = instruction->raw.imm[0].value.u;
	int64_t displacement = 0;
	uint8_t hints = 0;

	if (!plain_base(instruction, &displacement))
		return 0;
	if (mov && width == 64 && displacement == 8)
		hints |= opcode == 0x8b ? HINT_LOAD_8 : opcode == 0x89 ? HINT_STORE_8 : 0;
	if (width == 32 && displacement == 0 && is_count_write(instruction))
		hints |= HINT_WRITE_0;
	if (mov && width == 32 && displacement == 0x24 &&
	    (opcode == 0x89 || (opcode == 0xc7 && immediate != POOL_DUMMY_SIZE_CLASS)))
		hints |= HINT_STORE_24;
	return hints;
}

/* An address that the instruction could mean: what matchers look for by value. */
static bool reference_of(const ZydisDecodedInstruction *instruction, uint64_t next, uint64_t *ret)
{
	const ZydisDecodedInstructionRaw *raw = &instruction->raw;

	if (raw->disp.size == 32) {
		const bool rip = raw->modrm.mod == 0 && raw->modrm.rm == 5;

		*ret = (rip ? next : 0) + (uint64_t)raw->disp.value;
		return true;
	}
	if (raw->imm[0].size >= 32 && !raw->imm[0].is_relative) {
		*ret = raw->imm[0].value.u;
		return true;
	}
	return false;
}

static bool is_slot_load(const ZydisDecodedInstruction *instruction)
{
	return instruction->mnemonic == ZYDIS_MNEMONIC_MOV && instruction->opcode == 0x8b &&
	       instruction->operand_width == 64 && instruction->raw.modrm.mod == 0 &&
	       instruction->raw.modrm.rm == 5;
}

static void fill(struct code_instruction *ret, const ZydisDecodedInstruction *instruction,
		 uint64_t vaddr, uint64_t base)
{
	uint64_t reference = 0;

	*ret = (struct code_instruction){
		.offset = (uint32_t)(vaddr - base),
		.length = instruction->length,
		.flow = flow_of(instruction),
		.target = CODE_TARGET_NONE,
	};
	switch (ret->flow) {
	case FLOW_CONDITIONAL:
		ret->condition = instruction->opcode & 15;
		/* fallthrough */
	case FLOW_CONDITIONAL_OTHER:
	case FLOW_JUMP:
	case FLOW_CALL: /* an offset until resolve_targets() */
		ret->target = (uint32_t)(vaddr + instruction->length +
					 instruction->raw.imm[0].value.u - base);
		return;
	default:
		break;
	}
	ret->hints = hints_of(instruction);
	if (reference_of(instruction, vaddr + instruction->length, &reference)) {
		ret->hints |= HINT_REFERENCE;
		ret->target = (uint32_t)(reference - base);
	}
	if (is_slot_load(instruction))
		ret->hints |= HINT_SLOT;
}

static int reserve_instruction(struct code *code)
{
	struct code_instruction *grown;
	size_t capacity;

	if (code->n_instructions < code->capacity)
		return 0;
	capacity = code->capacity + code->capacity / 2 + 64;
	grown = realloc(code->instructions, capacity * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	code->instructions = grown;
	code->capacity = capacity;
	return 0;
}

/* Functions' starts in the order in which the sweep meets them. */
struct starts {
	const struct image_range *functions;
	size_t n, next;
};

/* Where decoding must begin anew behind vaddr, at the end of the range at the latest. */
static uint64_t next_start(struct starts *starts, uint64_t vaddr, uint64_t end)
{
	while (starts->next < starts->n && starts->functions[starts->next].start <= vaddr)
		starts->next++;
	if (starts->next < starts->n && starts->functions[starts->next].start < end)
		return starts->functions[starts->next].start;
	return end;
}

static int sweep(struct code *code, struct code_range *range, const ZydisDecoder *decoder,
		 struct starts *starts)
{
	ZydisDecodedInstruction instruction;
	uint64_t at = range->start, limit = at;
	int error;

	while (at < range->end) {
		if (at >= limit)
			limit = next_start(starts, at, range->end);
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(decoder, NULL,
								range->data + (at - range->start),
								limit - at, &instruction))) {
			code->n_undecodable++;
			at++;
			continue;
		}
		error = reserve_instruction(code);
		if (error)
			return error;
		fill(&code->instructions[code->n_instructions++], &instruction, at, code->base);
		range->begins[(at - range->start) / WORD_BITS] |=
			UINT64_C(1) << (at - range->start) % WORD_BITS;
		at += instruction.length;
	}
	return 0;
}

static int sweep_range(struct code *code, struct code_range *range, const ZydisDecoder *decoder,
		       struct starts *starts)
{
	const size_t words = (range->end - range->start + WORD_BITS - 1) / WORD_BITS;
	size_t index = code->n_instructions;
	int error;

	range->begins = calloc(words, sizeof(*range->begins));
	range->rank = calloc(words, sizeof(*range->rank));
	if (!range->begins || !range->rank)
		return -ENOMEM;
	error = sweep(code, range, decoder, starts);
	if (error)
		return error;
	for (size_t word = 0; word < words; word++) {
		range->rank[word] = (uint32_t)index;
		index += (size_t)__builtin_popcountll(range->begins[word]);
	}
	return 0;
}

static void resolve_targets(struct code *code)
{
	for (size_t i = 0; i < code->n_instructions; i++) {
		struct code_instruction *instruction = &code->instructions[i];
		size_t index;

		if (instruction->target == CODE_TARGET_NONE || instruction->hints & HINT_REFERENCE)
			continue;
		/* Signed: a target may lie below the base, which is then outside. */
		index = code_index(code,
				   code->base + (uint64_t)(int64_t)(int32_t)instruction->target);
		instruction->target = index == CODE_NONE ? CODE_TARGET_NONE : (uint32_t)index;
	}
}

/* Room for what so many bytes hold as a rule; on huge pages, for half the time goes to faults. */
static int reserve_all(struct code *code, uint64_t total)
{
	const size_t capacity = total / SHORTEST_AVERAGE + 64;
	size_t size = capacity * sizeof(*code->instructions);

	if (size < HUGE_PAGE) {
		code->instructions = malloc(size);
	} else {
		size = (size + HUGE_PAGE - 1) & ~HUGE_PAGE_MASK;
		code->instructions = aligned_alloc(HUGE_PAGE, size);
	}
	if (!code->instructions)
		return -ENOMEM;
	code->capacity = capacity;
	if (size >= HUGE_PAGE) /* where that fails it's only slower */
		madvise(code->instructions, size, MADV_HUGEPAGE);
	return 0;
}

static int make(struct code *code, struct starts *starts)
{
	ZydisDecoder decoder;
	uint64_t total = 0;
	int error;

	if (!ZYAN_SUCCESS(
		    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
	    !ZYAN_SUCCESS(ZydisDecoderInit(&code->decoder, ZYDIS_MACHINE_MODE_LONG_64,
					   ZYDIS_STACK_WIDTH_64)) ||
	    !ZYAN_SUCCESS(ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MINIMAL, ZYAN_TRUE)))
		return -ENOTSUP;
	for (size_t i = 0; i < code->n_ranges; i++)
		total += code->ranges[i].end - code->ranges[i].start;
	if (total == 0)
		return -ENOENT;
	if (total > CODE_BYTES_MAX ||
	    code->ranges[code->n_ranges - 1].end - code->ranges[0].start > INT32_MAX)
		return -E2BIG;
	code->base = code->ranges[0].start;
	error = reserve_all(code, total);
	if (error)
		return error;
	for (size_t i = 0; i < code->n_ranges; i++) {
		error = sweep_range(code, &code->ranges[i], &decoder, starts);
		if (error)
			return error;
	}
	resolve_targets(code);
	return 0;
}

static int add_range(struct code *code, uint64_t start, const uint8_t *data, uint64_t size)
{
	if (size == 0)
		return 0;
	if (code->n_ranges > 0 && start < code->ranges[code->n_ranges - 1].end)
		return -EINVAL; /* not ascending, or overlapping */
	code->ranges[code->n_ranges++] = (struct code_range){
		.start = start,
		.end = start + size,
		.data = data,
	};
	return 0;
}

static struct code *allocate(size_t n_ranges)
{
	CLEANUP(code_free) struct code *code = calloc(1, sizeof(*code));

	if (!code)
		return NULL;
	code->ranges = calloc(n_ranges ? n_ranges : 1, sizeof(*code->ranges));
	return code->ranges ? TAKE_PTR(code) : NULL;
}

int code_new(const struct image *image, struct code **ret, struct fault *reterr_fault)
{
	CLEANUP(code_free) struct code *code = NULL;
	const struct image_range *ranges = NULL;
	const size_t n = image_code_ranges(image, &ranges);
	struct starts starts = {0};
	int error;

	code = allocate(n);
	if (!code)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const uint64_t size = ranges[i].end - ranges[i].start;
		const uint8_t *data = image_bytes(image, ranges[i].start, size);

		if (!data)
			return fault_set(reterr_fault, -ENOEXEC, REASON_OUT_OF_BOUNDS,
					 ranges[i].start, "executable section");
		error = add_range(code, ranges[i].start, data, size);
		if (error)
			return fault_set(reterr_fault, error, REASON_MALFORMED, ranges[i].start,
					 "executable section");
	}
	starts.n = image_function_ranges(image, &starts.functions);
	error = make(code, &starts);
	if (error)
		return fault_set(reterr_fault, error,
				 error == -E2BIG ? REASON_TOO_LARGE : REASON_NOT_FOUND, 0, "code");
	*ret = TAKE_PTR(code);
	return 0;
}

int code_new_from_bytes(const struct code_bytes *ranges, size_t n_ranges, struct code **ret)
{
	CLEANUP(code_free) struct code *code = allocate(n_ranges);
	struct starts starts = {0};
	int error;

	if (!code)
		return -ENOMEM;
	for (size_t i = 0; i < n_ranges; i++) {
		error = add_range(code, ranges[i].vaddr, ranges[i].data, ranges[i].size);
		if (error)
			return error;
	}
	error = make(code, &starts);
	if (error)
		return error;
	*ret = TAKE_PTR(code);
	return 0;
}
