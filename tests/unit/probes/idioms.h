/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Machine code in the tests' own words: assembled by the real assembler, found by its labels. */
#ifndef PYLEAKD_TESTS_PROBES_IDIOMS_H
#define PYLEAKD_TESTS_PROBES_IDIOMS_H

/* cmocka wants these before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "probes/decode.h"
#include "probes/match.h"

#define IDIOM_VADDR 0x401000

/*
 * IDIOM(name, text): name_begin and name_end bound the bytes; SITE(name) in
 * the text is the instruction at which something is expected.
 */
#define IDIOM(name, text)                                                                          \
	__asm__(".pushsection .rodata\n"                                                           \
		".intel_syntax noprefix\n"                                                         \
		".balign 16\n" #name "_begin:\n" text "\n" #name "_end:\n"                         \
		".att_syntax prefix\n"                                                             \
		".popsection\n");                                                                  \
	extern const uint8_t name##_begin[], name##_end[]

/* With a place to be looked at. */
#define IDIOM_SITE(name, text)                                                                     \
	IDIOM(name, text);                                                                         \
	extern const uint8_t name##_site[]

DEFINE_CLEANUP(struct code *, code_free)

static inline struct code *decode_idiom(const uint8_t *begin, const uint8_t *end)
{
	const struct code_bytes bytes = {IDIOM_VADDR, begin, (size_t)(end - begin)};
	struct code *code = NULL;

	assert_int_equal(code_new_from_bytes(&bytes, 1, &code), 0);
	assert_int_equal(code_undecodable(code), 0);
	return code;
}

#define DECODE(name) decode_idiom(name##_begin, name##_end)
#define INDEX_OF(code, name, label)                                                                \
	code_index(code, IDIOM_VADDR + (uint64_t)(name##_##label - name##_begin))

#endif
