/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* bpf/pystack.bpf.h, compiled for the host, over memories that are invented. */
#include "invented.h"

/* n frames in the data stack, bytes apart, the innermost the last: number 0. */
static void data_stack(unsigned n, unsigned bytes)
{
	memory_add(DATA_STACK_AT, (n * (uint64_t)bytes + 8191) & ~4095ULL);
	for (unsigned i = 0; i < n; i++) {
		uint64_t frame = DATA_STACK_AT + (uint64_t)(n - 1 - i) * bytes;

		frame_write(frame, CODE_OF(i), POSITION_OF(i), i + 1 < n ? frame - bytes : 0,
			    OWNED_BY_THREAD);
	}
	frame_set_current(DATA_STACK_AT + (uint64_t)(n - 1) * bytes);
}

static void assert_frames(unsigned n)
{
	assert_int_equal(scratch.record.n_frames, n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(scratch.record.frames[i].code, CODE_OF(i));
		assert_int_equal(scratch.record.frames[i].position, POSITION_OF(i));
	}
}

static void frames_that_lie_together_come_with_one_read(void **state)
{
	(void)state;
	memory_begin(&layout_311);
	data_stack(10, 150 & ~7u);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(10);
	assert_int_equal(scratch.record.flags, 0);
	assert_int_equal(invented.n_reads, 3 + 1); /* thread state, cframe, frame; all frames */
}

static void a_stack_over_many_pages_takes_a_read_for_each_window(void **state)
{
	(void)state;
	memory_begin(&layout_311);
	data_stack(100, 200);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(100);
	/* 20,000 bytes: a window a page, and a read for the frame that a page's start cuts. */
	assert_in_range(invented.n_reads, 3 + 20000 / 4096, 3 + 2 * (20000 / 4096 + 1));
}

static void objects_of_3_8_are_read_one_by_one_with_short_positions(void **state)
{
	(void)state;
	memory_begin(&layout_38);
	data_stack(7, 512);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(7);
	assert_int_equal(invented.n_reads, 2 + 7);
}

static void a_generator_among_the_frames_leaves_the_window_alone(void **state)
{
	uint64_t caller;

	(void)state;
	memory_begin(&layout_311);
	data_stack(10, 160);
	memory_add(HEAP_AT, 4096);
	/* Number 5 moves into its generator. */
	caller = DATA_STACK_AT + 3 * 160;
	assert_int_equal(caller + 160 + 160, DATA_STACK_AT + 5 * 160);
	frame_write(HEAP_AT + 512, CODE_OF(5), POSITION_OF(5), caller + 160, OWNED_BY_GENERATOR);
	frame_write(DATA_STACK_AT + 5 * 160, CODE_OF(4), POSITION_OF(4), HEAP_AT + 512,
		    OWNED_BY_THREAD);
	frame_write(caller + 160, CODE_OF(6), POSITION_OF(6), caller, OWNED_BY_THREAD);
	frame_write(caller, CODE_OF(7), POSITION_OF(7), DATA_STACK_AT + 2 * 160, OWNED_BY_THREAD);
	frame_write(DATA_STACK_AT + 2 * 160, CODE_OF(8), POSITION_OF(8), 0, OWNED_BY_THREAD);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(9);
	assert_int_equal(invented.n_reads, 3 + 2);
}

static void a_generator_on_top_finds_back_to_the_data_stack(void **state)
{
	(void)state;
	memory_begin(&layout_311);
	data_stack(11, 160);
	memory_add(HEAP_AT, 8192);
	frame_write(HEAP_AT + 4096 + 256, CODE_OF(0), POSITION_OF(0), DATA_STACK_AT + 9 * 160,
		    OWNED_BY_GENERATOR);
	frame_set_current(HEAP_AT + 4096 + 256);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(11);
	/* The generator, the frame behind it, and all the others. */
	assert_int_equal(invented.n_reads, 3 + 3);
}

static void a_chain_of_coroutines_is_read_one_by_one(void **state)
{
	(void)state;
	memory_begin(&layout_312);
	memory_add(HEAP_AT, 64 * 65536);
	for (unsigned i = 0; i < 64; i++)
		frame_write(HEAP_AT + i * 65536 + 128, CODE_OF(i), POSITION_OF(i),
			    i < 63 ? HEAP_AT + (i + 1) * 65536 + 128 : 0, OWNED_BY_GENERATOR);
	frame_set_current(HEAP_AT + 128);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(64);
	assert_int_equal(invented.n_reads, 3 + 64);
}

static void a_page_that_is_missing_below_does_not_matter(void **state)
{
	uint64_t frame = DATA_STACK_AT + 4096;

	(void)state;
	memory_begin(&layout_311);
	memory_add(frame, 4096); /* a chunk's first page: nothing before it */
	frame_write(frame + 16, CODE_OF(1), POSITION_OF(1), 0, OWNED_BY_THREAD);
	frame_write(frame + 216, CODE_OF(0), POSITION_OF(0), frame + 16, OWNED_BY_THREAD);
	frame_set_current(frame + 216);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(2);
}

static void a_frame_across_two_pages_is_read(void **state)
{
	(void)state;
	memory_begin(&layout_311);
	memory_add(DATA_STACK_AT, 8192);
	frame_write(DATA_STACK_AT + 4096 - 48, CODE_OF(0), POSITION_OF(0), DATA_STACK_AT + 64,
		    OWNED_BY_THREAD);
	frame_write(DATA_STACK_AT + 64, CODE_OF(1), POSITION_OF(1), 0, OWNED_BY_THREAD);
	frame_set_current(DATA_STACK_AT + 4096 - 48);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(2);
}

static void the_128th_frame_is_not_cut_but_a_129th_is(void **state)
{
	(void)state;
	memory_begin(&layout_311);
	data_stack(128, 96);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(128);
	assert_int_equal(scratch.record.flags, 0);

	memory_begin(&layout_311);
	data_stack(129, 96);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(128);
	assert_int_equal(scratch.record.flags, WIRE_STACK_CUT);
}

static void an_entry_frame_below_the_128th_does_not_count_as_cut(void **state)
{
	(void)state;
	memory_begin(&layout_312);
	data_stack(129, 96);
	frame_write(DATA_STACK_AT, CODE_OF(128), POSITION_OF(128), 0, OWNED_BY_C);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(128);
	assert_int_equal(scratch.record.flags, 0);
}

static void frames_that_call_themselves_end(void **state)
{
	uint64_t id;

	(void)state;
	memory_begin(&layout_311);
	data_stack(2, 96);
	frame_write(DATA_STACK_AT, CODE_OF(1), POSITION_OF(1), DATA_STACK_AT + 96, OWNED_BY_THREAD);
	id = walk();
	assert_true(id >= WIRE_STACK_FIRST);
	assert_int_equal(scratch.record.n_frames, WIRE_MAX_FRAMES);
	assert_int_equal(scratch.record.flags, WIRE_STACK_CUT);

	/* A ring of entry frames has not even a Python frame. */
	memory_begin(&layout_312);
	data_stack(2, 96);
	frame_write(DATA_STACK_AT, CODE_OF(1), 0, DATA_STACK_AT + 96, OWNED_BY_C);
	frame_write(DATA_STACK_AT + 96, CODE_OF(0), 0, DATA_STACK_AT, OWNED_BY_C);
	assert_int_equal(walk(), WIRE_STACK_NONE);
}

static void entry_frames_and_cleared_ones_are_passed_over(void **state)
{
	static const uint64_t tags[] = {0, 1, 3, 2, 1};

	(void)state;
	memory_begin(&layout_314);
	memory_add(DATA_STACK_AT, 8192);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t frame = DATA_STACK_AT + 4096 - 300 * i;

		frame_write(frame, CODE_OF(i) | tags[i], POSITION_OF(i), frame - 100,
			    OWNED_BY_THREAD);
		frame_write(frame - 100, i & 1 ? 0xdead0 : 0, 7, i < 4 ? frame - 300 : 0,
			    i & 1 ? OWNED_BY_C + (i >> 1) : OWNED_BY_THREAD);
	}
	frame_set_current(DATA_STACK_AT + 4096);
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_frames(5);
	assert_int_equal(scratch.record.flags, 0);
}

static void a_pointer_to_nowhere_ends_the_stack_marked_broken(void **state)
{
	uint64_t broken, whole;

	(void)state;
	memory_begin(&layout_311);
	data_stack(4, 96);
	frame_write(DATA_STACK_AT, CODE_OF(3), POSITION_OF(3), 0x123456000, OWNED_BY_THREAD);
	broken = walk();
	assert_true(broken >= WIRE_STACK_FIRST);
	assert_frames(4);
	assert_int_equal(scratch.record.flags, WIRE_STACK_BROKEN);
	assert_int_equal(invented.losses[WIRE_LOSS_FRAME_UNREADABLE], 1);

	frame_write(DATA_STACK_AT, CODE_OF(3), POSITION_OF(3), 0, OWNED_BY_THREAD);
	whole = walk();
	assert_int_not_equal(broken, whole);
}

static void what_cannot_be_read_at_all_is_said_to_be_unreadable(void **state)
{
	(void)state;
	memory_begin(&layout_311);
	frame_set_current(0x123456000);
	assert_int_equal(walk(), WIRE_STACK_UNREADABLE);
	assert_int_equal(invented.losses[WIRE_LOSS_FRAME_UNREADABLE], 1);

	memory_begin(&layout_311);
	write_u64(TSTATE_AT + layout.tstate_frame, 0x123456000);
	assert_int_equal(walk(), WIRE_STACK_UNREADABLE);
	assert_int_equal(invented.losses[WIRE_LOSS_THREAD_STATE_UNREADABLE], 1);

	memory_begin(&layout_311);
	write_u64(RUNTIME_AT, 0x123456000);
	assert_int_equal(walk(), WIRE_STACK_UNREADABLE);
	assert_int_equal(invented.losses[WIRE_LOSS_THREAD_STATE_UNREADABLE], 1);

	memory_begin(&layout_312);
	invented.thread_pointer = 0x123456000;
	assert_int_equal(walk(), WIRE_STACK_UNREADABLE);
	assert_int_equal(invented.losses[WIRE_LOSS_THREAD_STATE_UNREADABLE], 1);
}

static void a_thread_without_python_has_no_stack(void **state)
{
	(void)state;
	memory_begin(&layout_311);
	frame_set_current(0);
	assert_int_equal(walk(), WIRE_STACK_NONE);
	write_u64(RUNTIME_AT, 0);
	assert_int_equal(walk(), WIRE_STACK_NONE);
	write_u64(RUNTIME_AT, TSTATE_AT);
	write_u64(TSTATE_AT + layout.tstate_frame, 0);
	assert_int_equal(walk(), WIRE_STACK_NONE);
	for (int i = 0; i < WIRE_LOSS_MAX; i++)
		assert_int_equal(invented.losses[i], 0);
}

static void the_id_is_the_same_for_the_same_frames_and_seed_only(void **state)
{
	uint64_t id;

	(void)state;
	memory_begin(&layout_311);
	data_stack(3, 96);
	id = walk();
	assert_int_equal(walk(), id);
	assert_int_not_equal(stack_walk(&scratch, true, 2), id);
	frame_write(DATA_STACK_AT, CODE_OF(2), POSITION_OF(2) + 2, 0, OWNED_BY_THREAD);
	assert_int_not_equal(walk(), id);
	frame_write(DATA_STACK_AT, CODE_OF(2) + 16, POSITION_OF(2), 0, OWNED_BY_THREAD);
	assert_int_not_equal(walk(), id);
	frame_write(DATA_STACK_AT, CODE_OF(2), POSITION_OF(2), 0, OWNED_BY_THREAD);
	assert_int_equal(walk(), id);
	/* The same two frames the other way round. */
	frame_write(DATA_STACK_AT + 96, CODE_OF(2), POSITION_OF(2), DATA_STACK_AT, OWNED_BY_THREAD);
	frame_write(DATA_STACK_AT, CODE_OF(1), POSITION_OF(1), 0, OWNED_BY_THREAD);
	assert_int_not_equal(walk(), id);
}

static void malloc_without_the_gil_gets_its_own_threads_stack(void **state)
{
	const uint64_t other = TSTATE_AT + 2048;

	(void)state;
	memory_begin(&layout_311);
	data_stack(3, 96);
	/* Another thread holds the GIL. */
	write_u64(other + layout.tstate_thread_id, 0x7d0000009740);
	write_u64(RUNTIME_AT, other);
	assert_int_equal(stack_walk(&scratch, false, 1), WIRE_STACK_NONE);
	thread_remember(THREAD_POINTER, TSTATE_AT);
	assert_true(stack_walk(&scratch, false, 1) >= WIRE_STACK_FIRST);
	assert_frames(3);
	/* Nobody does. */
	write_u64(RUNTIME_AT, 0);
	assert_true(stack_walk(&scratch, false, 1) >= WIRE_STACK_FIRST);
	/* What is known of the thread is outdated: the state is another's now. */
	write_u64(TSTATE_AT + layout.tstate_thread_id, 0x7d0000009740);
	assert_int_equal(stack_walk(&scratch, false, 1), WIRE_STACK_NONE);
}

static void a_thread_that_was_seen_with_the_gil_is_known_without_it(void **state)
{
	(void)state;
	memory_begin(&layout_312);
	data_stack(3, 96);
	assert_true(stack_walk(&scratch, false, 1) >= WIRE_STACK_FIRST);
	assert_int_equal(invented.n_known, 1);
	assert_true(stack_walk(&scratch, false, 1) >= WIRE_STACK_FIRST);
	assert_int_equal(invented.n_known, 1);
	/* 3.12: the thread-local pointer is 0 while the GIL is released. */
	write_u64(THREAD_POINTER - 24, 0);
	assert_true(stack_walk(&scratch, false, 1) >= WIRE_STACK_FIRST);
	assert_frames(3);
}

/* Any read may fail: that is counted, and never made up for by other frames. */
static void a_failing_read_is_always_visible(void **state)
{
	static const struct capture_stack_layout *const layouts[] = {&layout_38, &layout_311,
								     &layout_312, &layout_314};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		unsigned n_reads;

		memory_begin(layouts[i]);
		data_stack(60, 200);
		walk();
		n_reads = invented.n_reads;
		for (unsigned fail = 1; fail <= n_reads; fail++) {
			uint64_t id;

			memset(invented.losses, 0, sizeof(invented.losses));
			invented.n_reads = 0;
			invented.faults = 0;
			invented.fail_read = fail;
			id = walk();
			assert_int_equal(invented.faults, 1);
			assert_true(scratch.record.n_frames <= 60);
			assert_frames(scratch.record.n_frames);
			/* A window that fails is made up for by single reads, and no loss. */
			if (id >= WIRE_STACK_FIRST && !scratch.record.flags)
				assert_frames(60);
			else
				assert_true(invented.losses[WIRE_LOSS_FRAME_UNREADABLE] ||
					    invented.losses[WIRE_LOSS_THREAD_STATE_UNREADABLE]);
			scratch.record.n_frames = 0;
		}
	}
}

static void a_byte_that_faults_spoils_only_the_frame_it_is_in(void **state)
{
	(void)state;
	memory_begin(&layout_311);
	data_stack(20, 200);
	/* Below all of a frame's fields, in the middle of the first window. */
	invented.fault_at = DATA_STACK_AT + 15 * 200 + 100;
	assert_true(walk() >= WIRE_STACK_FIRST);
	assert_true(invented.faults > 0);
	assert_frames(20);
	assert_int_equal(scratch.record.flags, 0);
	/* In one. */
	invented.fault_at = DATA_STACK_AT + 15 * 200 + 60;
	walk();
	assert_frames(4);
	assert_int_equal(scratch.record.flags, WIRE_STACK_BROKEN);
}

/* What the walk should find: every field read by itself. */
static unsigned walk_plainly(uint64_t frame, struct wire_frame ret[static WIRE_MAX_FRAMES])
{
	unsigned n = 0;

	for (unsigned step = 0; frame && step < 1000; step++) {
		uint64_t code, previous, position = 0;
		uint8_t owner;

		if (read_user(&code, 8, frame + layout.frame_code) ||
		    read_user(&previous, 8, frame + layout.frame_previous) ||
		    read_user(&position, layout.frame_position_bytes,
			      frame + layout.frame_position) ||
		    read_user(&owner, 1, frame + layout.frame_owner))
			break;
		frame = previous;
		if (owner >= 3 || !(code & ~layout.code_tag_mask))
			continue;
		if (n == WIRE_MAX_FRAMES)
			break;
		ret[n++] = (struct wire_frame){code & ~layout.code_tag_mask, position};
	}
	return n;
}

#define PLACES 64

static void windows_find_what_plain_reads_find(void **state)
{
	(void)state;
	srand(20);
	for (unsigned round = 0; round < 500; round++) {
		struct wire_frame expected[WIRE_MAX_FRAMES];
		uint64_t next = 0, stack_at = DATA_STACK_AT + 64;
		unsigned n = 1 + (unsigned)rand() % 150;

		memory_begin(round & 1 ? &layout_312 : &layout_314);
		memory_add(DATA_STACK_AT, 1 << 17);
		memory_add(HEAP_AT, PLACES * 4096);
		/* From the outermost inwards: the data stack grows, heap frames lie anywhere. */
		for (unsigned i = 0; i < n; i++) {
			bool heap = rand() % 4 == 0;
			uint64_t frame = heap ? HEAP_AT + (uint64_t)(rand() % PLACES) * 4096 +
							 (uint64_t)(rand() % 400) * 8
					      : stack_at;

			frame_write(frame, CODE_OF(rand() % 50), POSITION_OF(rand() % 50), next,
				    heap	      ? OWNED_BY_GENERATOR
				    : rand() % 8 == 0 ? OWNED_BY_C
						      : OWNED_BY_THREAD);
			if (!heap)
				stack_at += 80 + (uint64_t)(rand() % 60) * 8;
			next = frame;
		}
		frame_set_current(next);
		n = walk_plainly(next, expected);
		walk();
		assert_int_equal(scratch.record.n_frames, n);
		assert_memory_equal(scratch.record.frames, expected, n * sizeof(expected[0]));
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, memory_forget)
	const struct CMUnitTest tests[] = {
		TEST(frames_that_lie_together_come_with_one_read),
		TEST(a_stack_over_many_pages_takes_a_read_for_each_window),
		TEST(objects_of_3_8_are_read_one_by_one_with_short_positions),
		TEST(a_generator_among_the_frames_leaves_the_window_alone),
		TEST(a_generator_on_top_finds_back_to_the_data_stack),
		TEST(a_chain_of_coroutines_is_read_one_by_one),
		TEST(a_page_that_is_missing_below_does_not_matter),
		TEST(a_frame_across_two_pages_is_read),
		TEST(the_128th_frame_is_not_cut_but_a_129th_is),
		TEST(an_entry_frame_below_the_128th_does_not_count_as_cut),
		TEST(frames_that_call_themselves_end),
		TEST(entry_frames_and_cleared_ones_are_passed_over),
		TEST(a_pointer_to_nowhere_ends_the_stack_marked_broken),
		TEST(what_cannot_be_read_at_all_is_said_to_be_unreadable),
		TEST(a_thread_without_python_has_no_stack),
		TEST(the_id_is_the_same_for_the_same_frames_and_seed_only),
		TEST(malloc_without_the_gil_gets_its_own_threads_stack),
		TEST(a_thread_that_was_seen_with_the_gil_is_known_without_it),
		TEST(a_failing_read_is_always_visible),
		TEST(a_byte_that_faults_spoils_only_the_frame_it_is_in),
		TEST(windows_find_what_plain_reads_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
