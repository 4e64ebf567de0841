/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpython/debug_offsets.h"

#define WORDS_3_13 73 /* 584 bytes */

/*
 * _Py_DebugOffsets of 3.13, word by word, in the order of pycore_runtime.h;
 * the values are invented, and tell what they are of.
 */
enum word {
	COOKIE, VERSION, FREE_THREADED,
	RUNTIME_SIZE, FINALIZING, INTERPRETERS_HEAD,
	INTERP_SIZE, INTERP_ID, INTERP_NEXT, THREADS_HEAD, GC, IMPORTS_MODULES, SYSDICT, BUILTINS,
	CEVAL_GIL, GIL, GIL_ENABLED, GIL_LOCKED, GIL_HOLDER,
	TSTATE_SIZE, TSTATE_PREV, TSTATE_NEXT, TSTATE_INTERP, CURRENT_FRAME, THREAD_ID,
	NATIVE_THREAD_ID, DATASTACK_CHUNK, STATUS,
	FRAME_SIZE, FRAME_PREVIOUS, EXECUTABLE, INSTR_PTR, LOCALSPLUS, OWNER,
	CODE_SIZE, CODE_FILENAME, CODE_NAME, QUALNAME, LINETABLE, FIRSTLINENO, ARGCOUNT,
	LOCALSPLUSNAMES, LOCALSPLUSKINDS, CODE_ADAPTIVE,
	OBJECT_SIZE, OB_TYPE,
	TYPE_SIZE, TP_NAME, TP_REPR, TP_FLAGS,
	TUPLE_SIZE, TUPLE_ITEM, TUPLE_OB_SIZE,
	LIST_SIZE, LIST_ITEM, LIST_OB_SIZE,
	DICT_SIZE, MA_KEYS, MA_VALUES,
	FLOAT_SIZE, OB_FVAL,
	LONG_SIZE, LV_TAG, OB_DIGIT,
	BYTES_SIZE, BYTES_OB_SIZE, OB_SVAL,
	UNICODE_SIZE, UNICODE_STATE, UNICODE_LENGTH, ASCII_SIZE,
	GC_SIZE, COLLECTING,
};
_Static_assert(COLLECTING + 1 == WORDS_3_13, "all of _Py_DebugOffsets");

struct invented {
	uint64_t words[DEBUG_OFFSETS_BYTES_MAX / sizeof(uint64_t)];
};

static struct invented invent(void)
{
	struct invented invented = { 0 };

	for (size_t i = 0; i < WORDS_3_13; i++)
		invented.words[i] = 1000 + 8 * i;
	memcpy(invented.words, "xdebugpy", 8);
	invented.words[VERSION] = 0x030d00f0;
	invented.words[FREE_THREADED] = 0;
	invented.words[INTERPRETERS_HEAD] = WORDS_3_13 * sizeof(uint64_t) + 48;
	for (size_t i = 0; i < WORDS_3_13; i++)
		if (i == RUNTIME_SIZE || i == INTERP_SIZE || i == TSTATE_SIZE || i == FRAME_SIZE ||
		    i == CODE_SIZE || i == OBJECT_SIZE || i == TYPE_SIZE || i == LIST_SIZE ||
		    i == DICT_SIZE || i == BYTES_SIZE || i == UNICODE_SIZE)
			invented.words[i] = 4096;
	return invented;
}

static int apply(const struct invented *invented, struct layout *layout, struct fault *fault)
{
	*layout = *layout_find(13, 0);
	return debug_offsets_apply((const uint8_t *)invented->words, sizeof(invented->words),
				   layout, fault);
}

static void assert_untouched(const struct layout *layout)
{
	assert_memory_equal(layout, layout_find(13, 0), sizeof(*layout));
}

static void what_the_target_says_goes_over_the_table(void **state)
{
	struct invented invented = invent();
	struct layout layout;

	(void)state;
	assert_int_equal(apply(&invented, &layout, NULL), 0);
	assert_int_equal(layout.runtime_interpreters_head, 632);
	assert_int_equal(layout.interp_next, 1000 + 8 * INTERP_NEXT);
	assert_int_equal(layout.interp_threads_head, 1000 + 8 * THREADS_HEAD);
	assert_int_equal(layout.tstate_interp, 1000 + 8 * TSTATE_INTERP);
	assert_int_equal(layout.tstate_frame, 1000 + 8 * CURRENT_FRAME);
	assert_int_equal(layout.tstate_native_thread_id, 1000 + 8 * NATIVE_THREAD_ID);
	assert_int_equal(layout.frame_code, 1000 + 8 * EXECUTABLE);
	assert_int_equal(layout.frame_position, 1000 + 8 * INSTR_PTR);
	assert_int_equal(layout.frame_owner, 1000 + 8 * OWNER);
	assert_int_equal(layout.code_filename, 1000 + 8 * CODE_FILENAME);
	assert_int_equal(layout.code_linetable, 1000 + 8 * LINETABLE);
	assert_int_equal(layout.code_code, 1000 + 8 * CODE_ADAPTIVE);
	assert_int_equal(layout.type_flags, 1000 + 8 * TP_FLAGS);
	assert_int_equal(layout.list_item, 1000 + 8 * LIST_ITEM);
	assert_int_equal(layout.dict_keys, 1000 + 8 * MA_KEYS);
	assert_int_equal(layout.bytes_data, 1000 + 8 * OB_SVAL);
	assert_int_equal(layout.unicode_length, 1000 + 8 * UNICODE_LENGTH);
	assert_int_equal(layout.unicode_ascii_data, 1000 + 8 * ASCII_SIZE);
	/* What they don't describe stays as the table has it. */
	assert_int_equal(layout.interp_obmalloc, layout_find(13, 0)->interp_obmalloc);
}

static void an_unknown_size_leaves_the_table_alone(void **state)
{
	struct invented invented = invent();
	struct layout layout;

	(void)state;
	invented.words[INTERPRETERS_HEAD] += 8;
	assert_int_equal(apply(&invented, &layout, NULL), -ENOENT);
	assert_untouched(&layout);
}

static void without_the_cookie_there_are_none(void **state)
{
	struct invented invented = invent();
	struct layout layout;

	(void)state;
	invented.words[COOKIE]++;
	assert_int_equal(apply(&invented, &layout, NULL), -ENOENT);
	assert_untouched(&layout);
}

static void cut_off_anywhere_they_are_not_used(void **state)
{
	struct invented invented = invent();

	(void)state;
	for (size_t size = 0; size < WORDS_3_13 * sizeof(uint64_t); size++) {
		struct layout layout = *layout_find(13, 0);

		assert_int_equal(debug_offsets_apply((const uint8_t *)invented.words, size, &layout,
						     NULL),
				 -ENOENT);
		assert_untouched(&layout);
	}
}

static void a_free_threaded_build_is_refused(void **state)
{
	struct invented invented = invent();
	struct layout layout;
	struct fault fault;

	(void)state;
	invented.words[FREE_THREADED] = 1;
	assert_int_equal(apply(&invented, &layout, &fault), -EOPNOTSUPP);
	assert_string_equal(fault.field, "debug_offsets.free_threaded");
	assert_untouched(&layout);
}

static void another_version_is_malformed(void **state)
{
	struct invented invented = invent();
	struct layout layout;
	struct fault fault;

	(void)state;
	invented.words[VERSION] = 0x030e00f0;
	assert_int_equal(apply(&invented, &layout, &fault), -EBADMSG);
	assert_string_equal(fault.field, "debug_offsets.version");
	assert_untouched(&layout);
}

static void an_offset_outside_its_structure_is_malformed(void **state)
{
	static const struct {
		enum word word;
		const char *field;
	} rows[] = {
		{ INTERP_NEXT, "interp_next" },	  { TSTATE_INTERP, "tstate_interp" },
		{ EXECUTABLE, "frame_code" },	  { LINETABLE, "code_linetable" },
		{ MA_VALUES, "dict_values" },	  { UNICODE_LENGTH, "unicode_length" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static const uint64_t bad[] = { 4097, 1ULL << 32, UINT64_MAX };

		for (size_t k = 0; k < 3; k++) {
			struct invented invented = invent();
			struct layout layout;
			struct fault fault;

			invented.words[rows[i].word] = bad[k];
			assert_int_equal(apply(&invented, &layout, &fault), -EBADMSG);
			assert_string_equal(fault.field, rows[i].field);
			assert_int_equal(fault.where, rows[i].word * sizeof(uint64_t));
			assert_untouched(&layout);
		}
	}
}

static void a_structure_of_nonsensical_size_is_malformed(void **state)
{
	static const uint64_t bad[] = { 0, DEBUG_OFFSETS_STRUCTURE_MAX + 1, UINT64_MAX };

	(void)state;
	for (size_t k = 0; k < 3; k++) {
		struct invented invented = invent();
		struct layout layout;
		struct fault fault;

		invented.words[CODE_SIZE] = bad[k];
		assert_int_equal(apply(&invented, &layout, &fault), -EBADMSG);
		assert_string_equal(fault.field, "code_object");
		assert_untouched(&layout);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_target_says_goes_over_the_table),
		cmocka_unit_test(an_unknown_size_leaves_the_table_alone),
		cmocka_unit_test(without_the_cookie_there_are_none),
		cmocka_unit_test(cut_off_anywhere_they_are_not_used),
		cmocka_unit_test(a_free_threaded_build_is_refused),
		cmocka_unit_test(another_version_is_malformed),
		cmocka_unit_test(an_offset_outside_its_structure_is_malformed),
		cmocka_unit_test(a_structure_of_nonsensical_size_is_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
