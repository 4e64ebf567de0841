/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Whose hits are seen, which sites are refused, and what a full ring does.  As
 * root; built and run by test_capture.py.
 */
#include "capture/kernel.h"
#include "capture_child.h"

/* --- whose hits ------------------------------------------------------------------------------ */

static void all_threads_are_seen_and_no_child_is(void **state)
{
	(void)state;
	shared->values[1] = 0x1000;
	plan_jump(0, SITE_FREE, 1, VALUE_REGISTER);
	probe();
	tell(do_run_thread);
	consume_all();
	assert_int_equal(n_records, 1);
	assert_int_not_equal(records[0].header.tid, child);
	tell(do_run_forked);
	consume_all();
	assert_int_equal(n_records, 1);
	assert_int_equal(records[0].header.kind, WIRE_FORK);
	assert_int_equal(records[0].header.tid, child);
	assert_int_equal(records[0].process.pid, shared->result);
}

static void nothing_is_seen_before_it_is_active_or_after(void **state)
{
	(void)state;
	shared->values[1] = 0x1000;
	plan_jump(0, SITE_FREE, 1, VALUE_REGISTER);
	probe();
	for (int round = 0; round < 3; round++) {
		capture_deactivate(capture);
		tell(do_run);
		consume_all();
		assert_int_equal(n_records, 0);
		capture_activate(capture);
		tell(do_run);
		consume_all();
		assert_int_equal(n_records, 1);
		capture_detach(capture);
		assert_int_equal(capture_attached_sites(capture), 0);
		tell(do_run);
		assert_int_equal(capture_attach(capture, NULL), 0);
		assert_int_equal(capture_attached_sites(capture), 1);
	}
}

static void exec_and_exit_are_told(void **state)
{
	(void)state;
	probe_with(0, false);
	tell(do_exec);
	wait_for_end();
	consume_all();
	assert_int_equal(n_records, 2);
	assert_int_equal(records[0].header.kind, WIRE_EXEC);
	assert_int_equal(records[1].header.kind, WIRE_EXIT);
	assert_int_equal(records[1].process.pid, child);
}

/* --- guards ---------------------------------------------------------------------------------- */

static void unsafe_and_refused_sites_are_dropped_and_the_rest_goes_in(void **state)
{
	uint8_t text[32];

	(void)state;
	shared->values[1] = 0x1000;
	for (unsigned i = 0; i < 16; i++)
		plan_jump(i, SITE_FREE, 1, VALUE_REGISTER);
	plan_add(odd_sites, 5, SITE_FREE, 1, VALUE_REGISTER);
	plan_add(odd_sites + 5, 3, SITE_FREE, 1, VALUE_REGISTER); /* by the kernel */
	plan_add(odd_sites + 8, 3, SITE_FREE, 1, VALUE_REGISTER);
	plan_jump(3, SITE_FREE, 1, VALUE_REGISTER)->bytes[1] = 1; /* not what the file has */
	probe_with(0, false);
	assert_int_equal(refused(REASON_UNSAFE_INSTRUCTION), 2);
	assert_int_equal(refused(REASON_KERNEL_REFUSED_SITE), 1);
	assert_int_equal(refused(REASON_BUILD_CHANGED), 1);
	assert_int_equal(refused(REASON_BREAKPOINT_MISSING), 0);
	assert_int_equal(capture_attached_sites(capture), 16);
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 16);
	capture_detach(capture);
	read_text(child, text);
	assert_memory_equal(text, sites, 32);
}

static void text_that_was_changed_is_left_alone(void **state)
{
	(void)state;
	shared->values[1] = 0x1000;
	for (unsigned i = 0; i < 3; i++)
		plan_jump(i, SITE_FREE, 1, VALUE_REGISTER);
	tell(do_change_text);
	probe_with(0, false);
	assert_int_equal(refused(REASON_TEXT_DIFFERS), 1);
	assert_int_equal(capture_attached_sites(capture), 2);
	/* The count is of the last attach, not of all. */
	assert_int_equal(capture_attach(capture, NULL), 0);
	assert_int_equal(refused(REASON_TEXT_DIFFERS), 1);
}

static void a_process_that_is_gone_is_refused(void **state)
{
	const struct capture_options options = {.pid = child, .layout = layout};
	struct fault fault = {0};

	(void)state;
	tell(do_exit);
	wait_for_end();
	assert_int_equal(capture_prepare(&options, &capture, &fault), -EOWNERDEAD);
	assert_int_equal(fault.reason, REASON_NO_LEADER);
	assert_null(capture);
	waitpid(child, NULL, 0);
	assert_int_equal(capture_prepare(&options, &capture, &fault), -ESRCH);
}

/* --- the ring -------------------------------------------------------------------------------- */

static void a_full_ring_loses_and_counts(void **state)
{
	struct capture_counters now;
	size_t delivered = 0;
	int r;

	(void)state;
	shared->values[1] = 0x1000;
	plan_jump(0, SITE_FREE, 1, VALUE_REGISTER);
	probe_with(64 << 10, false);
	tell(do_run_often);
	now = counters();
	assert_int_equal(now.hits[SITE_FREE], 20000);
	assert_true(now.losses[WIRE_LOSS_RING_FULL] > 0);
	/* In portions. */
	n_records = 0;
	while ((r = capture_consume(capture, take, NULL, 100)) > 0) {
		assert_in_range(r, 1, 100);
		delivered += (size_t)r;
	}
	assert_int_equal(r, 0);
	assert_int_equal(delivered, n_records);
	assert_int_equal(delivered + now.losses[WIRE_LOSS_RING_FULL], 20000);
	assert_int_equal(counters().malformed, 0);
}

/* --- the kernel ------------------------------------------------------------------------------ */

static void the_kernel_is_asked_and_answers(void **state)
{
	struct capture_kernel kernel;

	(void)state;
	capture_probe_kernel(&kernel);
	assert_null(kernel_features_missing(&kernel.features));
	assert_int_equal(kernel.features.whole_process, KERNEL_YES);
	assert_int_not_equal(kernel.nop5_clobbers, KERNEL_UNKNOWN);
	assert_true(kernel.release[0]);
	/* A jump is emulated: what is stepped takes a second trap. */
	assert_true(kernel.emulated_ns > 0);
	assert_true(kernel.stepped_ns > kernel.emulated_ns);
	assert_true(kernel.uretprobe_ns > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_threads_are_seen_and_no_child_is),
		TEST(nothing_is_seen_before_it_is_active_or_after),
		TEST(exec_and_exit_are_told),
		TEST(unsafe_and_refused_sites_are_dropped_and_the_rest_goes_in),
		TEST(text_that_was_changed_is_left_alone),
		TEST(a_process_that_is_gone_is_refused),
		TEST(a_full_ring_loses_and_counts),
		TEST(the_kernel_is_asked_and_answers),
	};

	return capture_tests_begin() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
