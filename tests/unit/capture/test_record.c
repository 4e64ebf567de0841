/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Ring records are foreign bytes: a length that does not fit its kind is never handed on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "capture/capture.h"

static const struct {
	uint8_t kind;
	size_t size;
} kinds[] = {
	{WIRE_ALLOC, 32},	 {WIRE_FREE, 16},	 {WIRE_CREATE, 32},
	{WIRE_NATIVE_ALLOC, 32}, {WIRE_NATIVE_FREE, 16}, {WIRE_NATIVE_REALLOC, 40},
	{WIRE_MMAP, 56},	 {WIRE_MUNMAP, 56},	 {WIRE_MREMAP, 56},
	{WIRE_BRK, 56},		 {WIRE_FORK, 16},	 {WIRE_EXEC, 16},
	{WIRE_EXIT, 16},	 {WIRE_DESTROY, 16},	 {WIRE_FINALIZE, 16},
	{WIRE_LIMIT, 16},	 {WIRE_NEW_POOL, 32},
};

/* A record in memory of just its size, so that a read behind it is caught. */
static bool is_whole(const void *bytes, size_t size)
{
	void *copy = malloc(size ? size : 1);
	bool whole;

	assert_non_null(copy);
	memcpy(copy, bytes, size);
	whole = capture_record_is_whole(copy, size);
	free(copy);
	return whole;
}

static void each_kind_has_its_least_size(void **state)
{
	uint8_t bytes[64] = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		bytes[0] = kinds[i].kind;
		for (size_t size = 0; size < kinds[i].size; size++)
			assert_false(is_whole(bytes, size));
		assert_true(is_whole(bytes, kinds[i].size));
		assert_true(is_whole(bytes, kinds[i].size + 8));
	}
}

static void a_kind_that_does_not_exist_is_refused(void **state)
{
	uint8_t bytes[64] = {0};

	(void)state;
	assert_false(is_whole(bytes, sizeof(bytes)));
	for (unsigned kind = WIRE_NEW_POOL + 1; kind < 256; kind++) {
		bytes[0] = (uint8_t)kind;
		assert_false(is_whole(bytes, sizeof(bytes)));
	}
}

static void a_stack_has_all_the_frames_that_it_says(void **state)
{
	static uint8_t bytes[24 + 16 * 200];
	struct wire_stack stack = {.header.kind = WIRE_STACK};

	(void)state;
	for (uint32_t n = 0; n <= 130; n++) {
		size_t size = sizeof(stack) + n * sizeof(struct wire_frame);

		stack.n_frames = n;
		memcpy(bytes, &stack, sizeof(stack));
		assert_int_equal(is_whole(bytes, size), n <= WIRE_MAX_FRAMES);
		assert_false(is_whole(bytes, size - 1));
	}
	stack.n_frames = UINT32_MAX;
	memcpy(bytes, &stack, sizeof(stack));
	assert_false(is_whole(bytes, sizeof(bytes)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_has_its_least_size),
		cmocka_unit_test(a_kind_that_does_not_exist_is_refused),
		cmocka_unit_test(a_stack_has_all_the_frames_that_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
