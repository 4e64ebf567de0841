/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The sweep's short cut says what Zydis says, or nothing. */
#include "idioms.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probes/decode_private.h"

DEFINE_CLEANUP(struct image *, image_free)

#define OFFSET 0x1000
#define FORM_BYTES 32

struct comparison {
	ZydisDecoder minimal, full;
	size_t said, with_operands; /* what the short cut knew */
};

static void comparison_begin(struct comparison *ret)
{
	*ret = (struct comparison){0};
	assert_true(ZYAN_SUCCESS(
		ZydisDecoderInit(&ret->full, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)));
	ret->minimal = ret->full;
	assert_true(ZYAN_SUCCESS(
		ZydisDecoderEnableMode(&ret->minimal, ZYDIS_DECODER_MODE_MINIMAL, ZYAN_TRUE)));
}

static void print_difference(const uint8_t *bytes, const struct code_instruction *quick,
			     const struct code_instruction *exact)
{
	for (unsigned i = 0; i < INSTRUCTION_BYTES_MAX; i++)
		print_error("%02x ", bytes[i]);
	print_error("\nlength %u %u flow %u %u condition %u %u hints %#x %#x target %#x %#x\n",
		    quick->length, exact->length, quick->flow, exact->flow, quick->condition,
		    exact->condition, quick->hints, exact->hints, quick->target, exact->target);
}

static bool operand_equal(const struct code_operand *a, const struct code_operand *b)
{
	return a->kind == b->kind && a->size_bytes == b->size_bytes && a->reg == b->reg &&
	       a->base == b->base && a->index == b->index && a->scale == b->scale &&
	       a->segment == b->segment && a->segment_gs == b->segment_gs && a->value == b->value;
}

static bool operation_equal(const struct code_operation *a, const struct code_operation *b)
{
	return a->mnemonic == b->mnemonic && a->n_operands == b->n_operands &&
	       a->writes_zero_flag == b->writes_zero_flag && a->writes_memory == b->writes_memory &&
	       a->registers_written == b->registers_written &&
	       operand_equal(&a->operands[0], &b->operands[0]) &&
	       operand_equal(&a->operands[1], &b->operands[1]);
}

static void print_operation(const char *who, const struct code_operation *operation)
{
	print_error("%s: mnemonic %u operands %u zero %d memory %d registers %#x\n", who,
		    operation->mnemonic, operation->n_operands, operation->writes_zero_flag,
		    operation->writes_memory, operation->registers_written);
	for (unsigned i = 0; i < ARRAY_SIZE(operation->operands); i++) {
		const struct code_operand *operand = &operation->operands[i];

		print_error("  kind %u size %u reg %u base %u index %u scale %u value %lld\n",
			    operand->kind, operand->size_bytes, operand->reg, operand->base,
			    operand->index, operand->scale, (long long)operand->value);
	}
}

/* Did the short cut know the operands? */
static bool check_operation(const ZydisDecoder *full, const uint8_t *bytes, size_t length,
			    uint64_t next)
{
	struct code_operation quick, exact;

	if (!instruction_operation_quick(bytes, next, &quick))
		return false;
	if (instruction_operation(full, bytes, length, next, &exact) &&
	    operation_equal(&quick, &exact))
		return true;
	for (unsigned i = 0; i < length; i++)
		print_error("%02x ", bytes[i]);
	print_operation("\nquick", &quick);
	print_operation("Zydis", &exact);
	fail();
	return false;
}

static void check_one(struct comparison *comparison, const uint8_t *bytes, uint32_t offset,
		      uint64_t base)
{
	struct code_instruction quick, exact = {0};

	if (!instruction_sweep_quick(bytes, offset, base, &quick))
		return;
	if (instruction_sweep(&comparison->minimal, bytes, INSTRUCTION_BYTES_MAX, offset, base,
			      &exact) &&
	    memcmp(&quick, &exact, sizeof(quick)) == 0) {
		comparison->said++;
		comparison->with_operands += check_operation(&comparison->full, bytes, exact.length,
							     base + offset + exact.length);
		return;
	}
	print_difference(bytes, &quick, &exact);
	fail();
}

/* What stands behind opcode and ModR/M: displacements and immediates that hints ask for. */
static const uint8_t tails[][12] = {
	{0x08, 0x00, 0x00, 0x00, 0x24, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04},
	{0x24, 0x08, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0xff, 0xff, 0xff},
	{0x24, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x80, 0x91, 0xa2},
	{0x24, 0x24, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00},
	{0x24, 0xff, 0xff, 0x00, 0x00, 0x7f, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85},
	{0x25, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0},
	{0x65, 0x24, 0xff, 0xff, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06},
	{0x8d, 0xf0, 0xe0, 0xd0, 0xc0, 0xb0, 0xa0, 0x90, 0x80, 0x70, 0x60, 0x50},
	{0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00},
	{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
};

/* All ModR/M bytes behind what begins with this prefix. */
static void check_opcode(struct comparison *comparison, const uint8_t *prefix, size_t n)
{
	uint8_t bytes[FORM_BYTES] = {0};

	memcpy(bytes, prefix, n);
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		bytes[n] = (uint8_t)modrm;
		for (unsigned i = 0; i < ARRAY_SIZE(tails); i++) {
			memcpy(bytes + n + 1, tails[i], sizeof(tails[i]));
			check_one(comparison, bytes, OFFSET, i & 1 ? 0x400000 : 0);
		}
	}
}

/* No prefix, 66, each REX, 66 and a REX: as many bytes as are returned. */
static size_t put_prefix(unsigned which, uint8_t *ret)
{
	size_t n = 0;

	if (which & 1)
		ret[n++] = 0x66;
	if (which > 1)
		ret[n++] = (uint8_t)(0x40 | (which / 2 - 1));
	return n;
}

static void all_forms_are_as_zydis_has_them(void **state)
{
	struct comparison comparison;
	unsigned opcodes = 0, with_operands = 0;

	(void)state;
	comparison_begin(&comparison);
	for (unsigned opcode = 0; opcode < 512; opcode++) {
		comparison.said = comparison.with_operands = 0;
		for (unsigned which = 0; which < 34; which++) {
			uint8_t bytes[4];
			size_t n = put_prefix(which, bytes);

			if (opcode >= 256)
				bytes[n++] = 0x0f;
			bytes[n++] = (uint8_t)opcode;
			check_opcode(&comparison, bytes, n);
		}
		opcodes += comparison.said > 0;
		with_operands += comparison.with_operands > 0;
	}
	assert_true(opcodes > 200);
	assert_true(with_operands > 90);
}

static void what_is_rare_is_left_to_zydis(void **state)
{
	static const uint8_t rare[][INSTRUCTION_BYTES_MAX] = {
		{0xf0, 0x48, 0x89, 0x47, 0x08}, /* lock */
		{0x64, 0x48, 0x8b, 0x47, 0x08}, /* mov rax, fs:[rdi + 8] */
		{0xf3, 0xc3},			/* rep ret */
		{0x67, 0x8b, 0x07},		/* mov eax, [edi] */
		{0xc5, 0xf8, 0x77},		/* vzeroupper */
		{0x06},				/* no instruction in 64 bits */
		{0x66, 0xe8},			/* call of 16 bits, or not: it depends */
		{0x48, 0x48, 0x89, 0x47, 0x08}, /* REX twice */
		{0xff, 0xff},			/* none */
	};
	struct code_instruction ret;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rare); i++)
		assert_false(instruction_sweep_quick(rare[i], OFFSET, 0, &ret));
}

static unsigned check_file(const char *path)
{
	CLEANUP(image_free) struct image *image = NULL;
	CLEANUP(code_free) struct code *code = NULL;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct fault fault = {0};
	struct comparison comparison;

	assert_true(fd >= 0);
	comparison_begin(&comparison);
	assert_int_equal(image_new(fd, &image, &fault), 0);
	assert_int_equal(code_new(image, &code, &fault), 0);
	for (size_t i = 0; i < code_count(code); i++) {
		const struct code_instruction *at = code_at(code, i);
		const uint8_t *bytes =
			image_bytes(image, code_vaddr(code, i), INSTRUCTION_BYTES_MAX);

		if (bytes)
			check_one(&comparison, bytes, at->offset, code->base);
	}
	print_message("%s: %zu of %zu, with operands %zu\n", path, comparison.said,
		      code_count(code), comparison.with_operands);
	assert_true(comparison.said > code_count(code) / 4 * 3);
	assert_true(comparison.with_operands > code_count(code) / 2);
	return 1;
}

static void the_code_of_interpreters_at_hand_is_as_zydis_has_it(void **state)
{
	static const char *const patterns[] = {
		"/usr/bin/python3.[0-9]",
		"/usr/bin/python3.[0-9]*[0-9]",
		"build/interpreters/*/usr/bin/python3.[0-9]",
		"build/interpreters/*/usr/bin/python3.[0-9]*[0-9]",
		"build/interpreters-bolted/*/bin/python3.[0-9]*[0-9]",
	};
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(patterns); i++) {
		glob_t found;

		if (glob(patterns[i], 0, NULL, &found))
			continue;
		for (size_t j = 0; j < found.gl_pathc; j++)
			n += check_file(found.gl_pathv[j]);
		globfree(&found);
	}
	if (n == 0)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_forms_are_as_zydis_has_them),
		cmocka_unit_test(what_is_rare_is_left_to_zydis),
		cmocka_unit_test(the_code_of_interpreters_at_hand_is_as_zydis_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
