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

static void start_decoder(ZydisDecoder *decoder)
{
	assert_true(ZYAN_SUCCESS(
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)));
	assert_true(ZYAN_SUCCESS(
		ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MINIMAL, ZYAN_TRUE)));
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

/* Did the short cut say anything? */
static bool check_one(const ZydisDecoder *decoder, const uint8_t *bytes, uint32_t offset,
		      uint64_t base)
{
	struct code_instruction quick, exact = {0};

	if (!instruction_sweep_quick(bytes, offset, base, &quick))
		return false;
	if (instruction_sweep(decoder, bytes, INSTRUCTION_BYTES_MAX, offset, base, &exact) &&
	    memcmp(&quick, &exact, sizeof(quick)) == 0)
		return true;
	print_difference(bytes, &quick, &exact);
	fail();
	return false;
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
static unsigned check_opcode(const ZydisDecoder *decoder, const uint8_t *prefix, size_t n)
{
	uint8_t bytes[FORM_BYTES] = {0};
	unsigned said = 0;

	memcpy(bytes, prefix, n);
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		bytes[n] = (uint8_t)modrm;
		for (unsigned i = 0; i < ARRAY_SIZE(tails); i++) {
			memcpy(bytes + n + 1, tails[i], sizeof(tails[i]));
			said += check_one(decoder, bytes, OFFSET, i & 1 ? 0x400000 : 0);
		}
	}
	return said;
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
	ZydisDecoder decoder;
	unsigned opcodes = 0;

	(void)state;
	start_decoder(&decoder);
	for (unsigned opcode = 0; opcode < 512; opcode++) {
		unsigned said = 0;

		for (unsigned which = 0; which < 34; which++) {
			uint8_t bytes[4];
			size_t n = put_prefix(which, bytes);

			if (opcode >= 256)
				bytes[n++] = 0x0f;
			bytes[n++] = (uint8_t)opcode;
			said += check_opcode(&decoder, bytes, n);
		}
		opcodes += said > 0;
	}
	assert_true(opcodes > 200);
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
	ZydisDecoder decoder;
	size_t said = 0;

	assert_true(fd >= 0);
	start_decoder(&decoder);
	assert_int_equal(image_new(fd, &image, &fault), 0);
	assert_int_equal(code_new(image, &code, &fault), 0);
	for (size_t i = 0; i < code_count(code); i++) {
		const struct code_instruction *at = code_at(code, i);
		const uint8_t *bytes =
			image_bytes(image, code_vaddr(code, i), INSTRUCTION_BYTES_MAX);

		if (bytes)
			said += check_one(&decoder, bytes, at->offset, code->base);
	}
	print_message("%s: %zu of %zu\n", path, said, code_count(code));
	assert_true(said > code_count(code) / 4 * 3);
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
