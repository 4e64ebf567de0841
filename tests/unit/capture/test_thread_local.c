/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The thread state of an interpreter that is a library loaded later: by way of
 * the thread's own vector of thread-local blocks, glibc's and musl's.
 */
#include "invented.h"

#define MODULE 5
#define OFFSET 40

static struct capture_stack_layout loaded_later(uint32_t entry_bytes)
{
	struct capture_stack_layout changed = layout_312;

	changed.tstate_tls_offset = 0;
	changed.tls_module = MODULE;
	changed.tls_module_offset = OFFSET;
	changed.tls_dtv_entry_bytes = entry_bytes;
	return changed;
}

static const uint32_t entry_sizes[] = {16, 8};

static void begin(uint32_t entry_bytes)
{
	const struct capture_stack_layout use = loaded_later(entry_bytes);

	memory_begin(&use);
	memory_add(DATA_STACK_AT, 4096);
	frame_write(DATA_STACK_AT, CODE_OF(0), POSITION_OF(0), 0, OWNED_BY_THREAD);
	frame_set_current(DATA_STACK_AT);
}

static void assert_no_losses(void)
{
	for (int i = 0; i < WIRE_LOSS_MAX; i++)
		assert_int_equal(invented.losses[i], 0);
}

static void the_vector_of_the_thread_leads_to_its_state(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(entry_sizes[i]);
		assert_true(walk() >= WIRE_STACK_FIRST);
		assert_int_equal(scratch.record.n_frames, 1);
		assert_int_equal(scratch.record.frames[0].code, CODE_OF(0));
		assert_true(stack_walk(&scratch, false, 1) >= WIRE_STACK_FIRST);
		assert_no_losses();
	}
}

static void a_thread_that_never_touched_the_library_has_no_state(void **state)
{
	static const uint64_t marks[] = {0, UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		for (size_t j = 0; j < 2; j++) {
			begin(entry_sizes[i]);
			write_u64(VECTOR_AT + MODULE * entry_sizes[i], marks[j]);
			assert_int_equal(walk(), WIRE_STACK_NONE);
			assert_int_equal(stack_walk(&scratch, false, 1), WIRE_STACK_NONE);
			assert_no_losses();
		}
	}
}

/* It was made before the library came, and what lies behind its end is not its own. */
static void a_vector_that_is_too_short_has_no_block(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(entry_sizes[i]);
		write_u64(entry_sizes[i] == 16 ? VECTOR_AT - 16 : VECTOR_AT, MODULE - 1);
		assert_int_equal(walk(), WIRE_STACK_NONE);
		assert_int_equal(stack_walk(&scratch, false, 1), WIRE_STACK_NONE);
		assert_no_losses();
	}
}

static void a_state_that_was_released_is_remembered(void **state)
{
	(void)state;
	begin(16);
	assert_true(stack_walk(&scratch, false, 1) >= WIRE_STACK_FIRST);
	write_u64(BLOCK_AT + OFFSET, 0);
	assert_true(stack_walk(&scratch, false, 1) >= WIRE_STACK_FIRST);
	assert_int_equal(walk(), WIRE_STACK_NONE);
	assert_no_losses();
}

static void each_read_that_fails_is_counted(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		/* Vector, its length, block, thread state; its frame and the cframe's. */
		for (unsigned fail = 1; fail <= 6; fail++) {
			begin(entry_sizes[i]);
			invented.fail_read = fail;
			assert_int_equal(walk(), WIRE_STACK_UNREADABLE);
			assert_int_equal(invented.faults, 1);
			assert_int_equal(invented.losses[WIRE_LOSS_THREAD_STATE_UNREADABLE], 1);
		}
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, memory_forget)
	const struct CMUnitTest tests[] = {
		TEST(the_vector_of_the_thread_leads_to_its_state),
		TEST(a_thread_that_never_touched_the_library_has_no_state),
		TEST(a_vector_that_is_too_short_has_no_block),
		TEST(a_state_that_was_released_is_remembered),
		TEST(each_read_that_fails_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
