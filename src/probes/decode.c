/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The sweep: boundaries, branches and hints of all instructions. */
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
	uint64_t at = range->start, limit = at;
	int error;

	while (at < range->end) {
		const uint8_t *bytes = range->data + (at - range->start);
		const uint32_t offset = (uint32_t)(at - code->base);
		struct code_instruction *instruction;

		error = reserve_instruction(code);
		if (error)
			return error;
		if (at >= limit)
			limit = next_start(starts, at, range->end);
		instruction = &code->instructions[code->n_instructions];
		if ((range->end - at < INSTRUCTION_BYTES_MAX ||
		     !instruction_sweep_quick(bytes, offset, code->base, instruction) ||
		     instruction->length > limit - at) &&
		    !instruction_sweep(decoder, bytes, limit - at, offset, code->base,
				       instruction)) {
			code->n_undecodable++;
			at++;
			continue;
		}
		code->n_instructions++;
		range->begins[(at - range->start) / WORD_BITS] |=
			UINT64_C(1) << (at - range->start) % WORD_BITS;
		at += instruction->length;
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
