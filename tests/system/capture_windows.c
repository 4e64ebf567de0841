/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Groups that go in and out while the capture stays: what each site counts,
 * where a limit cuts, and what is left.  As root; built and run by
 * test_windows.py.
 */
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>

#include "capture/windows.h"
#include "capture_child.h"
#include "pyleakd/settings.h"

#define OFTEN 20000  /* do_run_often() */
#define CREATIONS 12 /* of the sixteen jumps; the others are allocations */

/* Sixteen jumps: creations of what rcx points to, and allocations of it. */
static void plan_all(void)
{
	shared->values[1] = (uintptr_t)shared->pool + 64;
	for (unsigned i = 0; i < 16; i++)
		plan_jump(i, i < CREATIONS ? SITE_CREATE : SITE_ALLOC, 1, VALUE_REGISTER);
}

static void prepare_windows(size_t ring_bytes, bool native)
{
	windows = true;
	probe_with(ring_bytes, native);
	assert_int_equal(capture_attached_sites(capture), 0);
}

static void define(unsigned group, unsigned from, unsigned n)
{
	uint16_t sites_of_group[16];

	for (unsigned i = 0; i < n; i++)
		sites_of_group[i] = (uint16_t)(from + n - 1 - i);
	assert_int_equal(capture_group_define(capture, group, 0, sites_of_group, n), 0);
}

static void open_group(unsigned group, uint64_t hits_max)
{
	struct fault fault = {0};
	int r = capture_group_open(capture, group, hits_max, &fault);

	if (r < 0)
		fail_msg("%s: %s (%d)", reason_sentence(fault.reason),
			 fault.field ? fault.field : "", r);
}

static size_t count(uint8_t kind)
{
	size_t n = 0;

	for (size_t i = 0; i < n_records && i < RECORDS_MAX; i++)
		n += records[i].header.kind == kind;
	return n;
}

static void a_group_is_seen_while_it_is_open_and_counted_site_by_site(void **state)
{
	struct capture_group_use use;
	uint64_t hits[16];

	(void)state;
	plan_all();
	prepare_windows(0, false);
	define(0, 0, CREATIONS);
	define(3, CREATIONS, 4);
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 0);
	open_group(0, 0);
	assert_int_equal(capture_attached_sites(capture), CREATIONS);
	tell(do_run);
	open_group(3, 0);
	tell(do_run);
	assert_int_equal(capture_group_close(capture, 0, &use), 0);
	assert_int_equal(use.hits, 2 * CREATIONS);
	assert_int_equal(use.sites, CREATIONS);
	assert_false(use.limited);
	assert_true(use.attach_ns && use.detach_ns && use.opened_at_ns < use.closing_at_ns);
	assert_int_equal(use.produced_at_closing, capture_produced(capture));
	tell(do_run);
	assert_int_equal(capture_group_hits(capture, 3), 8);
	consume_all();
	assert_int_equal(count(WIRE_CREATE), 2 * CREATIONS);
	assert_int_equal(count(WIRE_ALLOC), 2 * 4);
	assert_int_equal(capture_site_hits(capture, 0, hits, 16), 0);
	for (unsigned i = 0; i < 16; i++) {
		size_t of_site = 0;

		for (size_t j = 0; j < n_records; j++)
			of_site +=
				records[j].header.kind != WIRE_STACK && records[j].header.site == i;
		assert_int_equal(hits[i], 2);
		assert_int_equal(of_site, 2);
	}
	assert_int_equal(capture_close_all(capture), 1);
	assert_int_equal(capture_attached_sites(capture), 0);
}

/* Readable: the consumer was woken, though the ring is far from full. */
static bool is_woken(void)
{
	struct pollfd ring = {.fd = capture_fd(capture), .events = POLLIN};

	return poll(&ring, 1, 0) == 1;
}

static void a_limit_cuts_and_is_told_once_a_refill(void **state)
{
	struct capture_group_use use;
	const uint64_t limits[] = {100, 1, 777, OFTEN};

	(void)state;
	plan_all();
	prepare_windows(16 << 20, false);
	define(5, 0, 1);
	open_group(5, 100);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		if (i > 0)
			assert_int_equal(capture_group_refill(capture, 5, limits[i]), 0);
		tell(do_run_often);
		assert_true(is_woken());
		consume_all();
		assert_int_equal(count(WIRE_LIMIT), limits[i] < OFTEN);
		if (limits[i] < RECORDS_MAX)
			assert_int_equal(count(WIRE_CREATE), limits[i]);
	}
	assert_int_equal(capture_group_close(capture, 5, &use), 0);
	assert_false(use.limited); /* the last one was met, not passed */
	assert_int_equal(use.hits, ARRAY_SIZE(limits) * OFTEN);
}

/* Each limit that is told is answered by a refill, while four threads run into it. */
static void a_limit_is_told_once_however_many_run_into_it(void **state)
{
	const uint64_t refill = 50;
	struct pollfd done = {.fd = from_child, .events = POLLIN};
	size_t limits = 0, creations = 0, refills = 0;
	unsigned char answer;

	(void)state;
	plan_all();
	prepare_windows(16 << 20, false);
	define(1, 0, 1);
	open_group(1, refill);
	begin(do_run_often_in_threads);
	while (poll(&done, 1, 0) == 0) {
		struct pollfd ring = {.fd = capture_fd(capture), .events = POLLIN};

		poll(&ring, 1, 1);
		n_records = 0;
		assert_true(capture_consume(capture, take, NULL, SIZE_MAX) >= 0);
		creations += count(WIRE_CREATE);
		limits += count(WIRE_LIMIT);
		assert_in_range(limits, refills, refills + 1);
		if (count(WIRE_LIMIT)) {
			assert_int_equal(capture_group_refill(capture, 1, refill), 0);
			refills++;
		}
	}
	assert_int_equal(read(from_child, &answer, 1), 1);
	consume_all();
	creations += count(WIRE_CREATE);
	limits += count(WIRE_LIMIT);
	assert_int_equal(capture_group_hits(capture, 1), 4 * OFTEN);
	assert_true(refills > 10);
	assert_in_range(limits, refills, refills + 1);
	assert_in_range(creations, refill, refill * (refills + 1));
}

static void a_limit_that_found_no_room_in_the_ring_is_told_later(void **state)
{
	(void)state;
	plan_all();
	prepare_windows(64 << 10, false);
	define(1, 0, 1);
	open_group(1, OFTEN / 2);
	tell(do_run_often);
	assert_true(counters().losses[WIRE_LOSS_RING_FULL] > 0);
	consume_all();
	assert_int_equal(count(WIRE_LIMIT), 0);
	tell(do_run);
	tell(do_run);
	assert_true(is_woken());
	consume_all();
	assert_int_equal(count(WIRE_LIMIT), 1);
	assert_int_equal(n_records, 1);
}

static void what_can_not_be_is_refused(void **state)
{
	const uint16_t twice[] = {3, 3}, beyond[] = {16}, third[] = {3};

	(void)state;
	plan_all();
	prepare_windows(0, false);
	assert_int_equal(capture_group_define(capture, CAPTURE_GROUPS_MAX, 0, third, 1), -EINVAL);
	assert_int_equal(capture_group_define(capture, 0, 1, third, 1), -EINVAL);
	assert_int_equal(capture_group_define(capture, 0, 0, twice, 2), -EINVAL);
	assert_int_equal(capture_group_define(capture, 0, 0, beyond, 1), -EINVAL);
	assert_int_equal(capture_group_open(capture, 0, 0, NULL), -EINVAL);
	assert_int_equal(capture_group_close(capture, 0, NULL), -EINVAL);
	define(0, 0, 4);
	define(1, 3, 4);
	assert_int_equal(capture_group_close(capture, 0, NULL), -EALREADY);
	assert_int_equal(capture_group_refill(capture, 0, 1), -EALREADY);
	open_group(0, 0);
	assert_int_equal(capture_group_open(capture, 0, 0, NULL), -EBUSY);
	assert_int_equal(capture_group_open(capture, 1, 0, NULL), -EBUSY); /* the fourth site */
	assert_int_equal(capture_group_define(capture, 0, 0, third, 1), -EBUSY);
	assert_int_equal(capture_group_close(capture, 0, NULL), 0);
	open_group(1, 0);
	assert_int_equal(capture_groups_close(capture, 1u << 0 | 1u << 3), 0);
	assert_true(capture_group_is_open(capture, 1));
	assert_int_equal(capture_groups_close(capture, 1u << 0 | 1u << 1), 1);
	assert_false(capture_group_is_open(capture, 1));
	open_group(1, 0);
	/* An empty group goes in and out like any. */
	assert_int_equal(capture_group_define(capture, 2, 0, NULL, 0), 0);
	open_group(2, 0);
	assert_int_equal(capture_close_all(capture), 2);
	capture_detach(capture);
	assert_int_equal(capture_group_open(capture, 1, 0, NULL), -EBADF);
	assert_int_equal(capture_attach(capture, NULL), 0);
	open_group(1, 0);
}

static void refused_sites_are_dropped_and_counted_once(void **state)
{
	struct capture_group_use use;

	(void)state;
	tell(do_change_text); /* the second jump */
	plan_all();
	plan_add(odd_sites, 5, SITE_CREATE, 1, VALUE_REGISTER);
	plan_add(odd_sites + 5, 3, SITE_CREATE, 1, VALUE_REGISTER); /* by the kernel */
	prepare_windows(0, false);
	assert_int_equal(
		capture_group_define(capture, 0, 0, (const uint16_t[]){0, 1, 2, 3, 16, 17}, 6), 0);
	for (int i = 0; i < 5; i++) {
		open_group(0, 0);
		assert_int_equal(capture_group_close(capture, 0, &use), 0);
		assert_int_equal(use.sites, 3);
	}
	assert_int_equal(refused(REASON_UNSAFE_INSTRUCTION), 1);
	assert_int_equal(refused(REASON_KERNEL_REFUSED_SITE), 1);
	assert_int_equal(refused(REASON_TEXT_DIFFERS), 1);
	assert_int_equal(refused(REASON_BREAKPOINT_MISSING), 0);
}

static void many_windows_leave_the_text_as_it_was(void **state)
{
	uint8_t text[32];

	(void)state;
	plan_all();
	prepare_windows(0, false);
	define(0, 0, 16);
	define(1, 0, 8);
	for (int i = 0; i < 50; i++) {
		open_group(i % 2, 0);
		tell(do_run);
		assert_int_equal(capture_group_hits(capture, i % 2), i % 2 ? 8 : 16);
		assert_int_equal(capture_group_close(capture, i % 2, NULL), 0);
	}
	read_text(child, text);
	assert_memory_equal(text, sites, 32);
	consume_all();
	assert_int_equal(n_records, 25 * (16 + 8));
}

/* --- the target's own life ------------------------------------------------------------------ */

static void children_are_freed_and_the_target_stays_probed(void **state)
{
	uint8_t text[32];

	(void)state;
	plan_all();
	prepare_windows(0, false);
	define(0, 0, 6);
	define(1, 6, 10);
	open_group(0, 0);
	open_group(1, 0);
	tell(do_fork_and_stay);
	assert_true(is_woken());
	consume_all();
	assert_int_equal(count(WIRE_FORK), 1);
	read_text((pid_t)shared->result, text);
	assert_memory_not_equal(text, sites, 32);
	assert_int_equal(capture_release_children(capture), 0);
	read_text((pid_t)shared->result, text);
	kill((pid_t)shared->result, SIGKILL);
	assert_memory_equal(text, sites, 32);
	tell(do_run);
	assert_int_equal(capture_group_hits(capture, 0), 6);
	assert_int_equal(capture_group_hits(capture, 1), 10);
}

static void another_program_is_never_opened(void **state)
{
	struct fault fault = {0};

	(void)state;
	plan_all();
	prepare_windows(0, false);
	define(0, 0, 16);
	tell(do_exec);
	wait_for_end();
	assert_int_equal(capture_group_open(capture, 0, 0, &fault), -EOWNERDEAD);
	assert_int_equal(fault.reason, REASON_NO_LEADER);
	waitpid(child, NULL, 0);
	assert_int_equal(capture_group_open(capture, 0, 0, &fault), -ESRCH);
	assert_int_equal(fault.reason, REASON_NOT_MAPPED);
}

/* --- two sites at one address ----------------------------------------------------------------- */

/* What a run with the zero flag set tells of the arms of a jump: 0, 1, or both, as bits. */
static unsigned arms_told(void)
{
	unsigned told = 0;

	n_records = 0;
	tell(do_run);
	consume_all();
	for (size_t i = 0; i < n_records; i++) {
		if (records[i].header.kind != WIRE_ALLOC)
			continue;
		assert_false(told & 1u << records[i].header.site); /* twice */
		told |= 1u << records[i].header.site;
	}
	return told;
}

/* Each with its own condition, of which one holds: in two groups, in either, in one. */
static void the_arms_of_a_jump_are_told_apart_whatever_groups_they_are_in(void **state)
{
	(void)state;
	shared->values[1] = (uintptr_t)shared->pool + 64;
	shared->flags = FLAGS_BASE | 0x40; /* the zero flag */
	for (unsigned arm = 0; arm < 2; arm++)
		plan_jump(4, SITE_ALLOC, 1, VALUE_REGISTER)->condition = (uint8_t)(4 + arm);
	prepare_windows(0, false);
	define(0, 0, 1);
	define(1, 1, 1);
	open_group(0, 0);
	assert_int_equal(arms_told(), 1);
	open_group(1, 0);
	assert_int_equal(arms_told(), 1);
	assert_int_equal(capture_group_close(capture, 0, NULL), 0);
	assert_int_equal(arms_told(), 0);
	assert_int_equal(capture_group_close(capture, 1, NULL), 0);
	define(0, 0, 0);
	define(1, 0, 2);
	open_group(1, 0);
	assert_int_equal(arms_told(), 1);
}

/* --- growth ----------------------------------------------------------------------------------- */

static void only_new_maxima_of_the_break_are_told(void **state)
{
	size_t n = 0;

	(void)state;
	NOT_UNDER_ASAN();
	plan_all();
	prepare_windows(0, true);
	tell(do_breaks);
	consume_all();
	for (size_t i = 0; i < n_records; i++) {
		const struct wire_mapping *mapping = &records[i].mapping;

		if (mapping->header.kind != WIRE_BRK)
			continue;
		assert_in_range(n, 0, 1);
		assert_int_equal(mapping->address, shared->values[n]);
		if (n == 1)
			assert_int_equal(mapping->old_address, shared->values[0]);
		n++;
	}
	assert_int_equal(n, 2);
}

static void see_pool(uint64_t pool)
{
	shared->values[1] = pool + 48;
	tell(do_run);
	consume_all();
}

static void a_pool_is_new_once(void **state)
{
	const uint64_t pool = 0x7f0000004000;
	uint64_t known[] = {pool + 5 * POOL_BYTES, pool + 500 * POOL_BYTES};

	(void)state;
	plan_jump(0, SITE_FRESH, 1, VALUE_REGISTER)->size_register = 1 + 2; /* rdx */
	plan_jump(1, SITE_FREE, 1, VALUE_REGISTER);
	shared->values[2] = 3; /* the size class's index */
	prepare_windows(0, false);
	assert_int_equal(capture_group_define_pools(capture, 9, 0), 0);
	/* The same site does in another group what it otherwise does. */
	assert_int_equal(capture_group_define(capture, 2, 0, (const uint16_t[]){0}, 1), 0);
	assert_int_equal(capture_know_pools(capture, known, 2), 0);
	open_group(9, 0);
	assert_int_equal(capture_attached_sites(capture), 1);
	see_pool(pool);
	assert_int_equal(n_records, 1);
	assert_int_equal(records[0].header.kind, WIRE_NEW_POOL);
	assert_int_equal(records[0].header.site, 0);
	assert_int_equal(records[0].alloc.address, pool);
	assert_int_equal(records[0].alloc.size, 64);
	see_pool(pool);
	see_pool(known[0]);
	see_pool(known[1]);
	assert_int_equal(n_records, 0);
	open_group(2, 0);
	see_pool(pool + POOL_BYTES);
	assert_int_equal(count(WIRE_NEW_POOL), 1);
	assert_int_equal(count(WIRE_ALLOC), 1);
	assert_int_equal(capture_know_pool(capture, pool + 2 * POOL_BYTES), 0);
	see_pool(pool + 2 * POOL_BYTES);
	assert_int_equal(count(WIRE_NEW_POOL), 0);
	assert_int_equal(capture_group_hits(capture, 9), 6);
	assert_int_equal(capture_group_hits(capture, 2), 2);
}

static void a_full_table_of_pools_is_counted(void **state)
{
	const uint64_t apart = 64 * POOL_BYTES;
	size_t without_room = 0;

	(void)state;
	plan_jump(0, SITE_FRESH, 1, VALUE_REGISTER);
	prepare_windows(0, false);
	assert_int_equal(capture_group_define_pools(capture, 0, 0), 0);
	/* Half full, and there is room for each. */
	for (uint64_t i = 1; i <= POOL_SETS / 2; i++)
		assert_int_equal(capture_know_pool(capture, i * apart), 0);
	for (uint64_t i = POOL_SETS / 2 + 1; i <= 4 * POOL_SETS; i++)
		without_room += (size_t)capture_know_pool(capture, i * apart);
	assert_in_range(without_room, 3 * POOL_SETS, 4 * POOL_SETS - POOL_SETS / 2);
	open_group(0, 0);
	see_pool(5 * POOL_SETS * apart);
	assert_int_equal(n_records, 0);
	assert_int_equal(counters().losses[WIRE_LOSS_POOL_MAP_FULL], 1);
	see_pool(apart + POOL_BYTES); /* of a set that has a place */
	assert_int_equal(n_records, 1);
}

/* --- priority --------------------------------------------------------------------------------- */

static void give_up_nice(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	assert_int_equal(syscall(SYS_capget, &header, data), 0);
	data[0].effective &= ~(1u << CAP_SYS_NICE);
	assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

static void take_nice_back(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	assert_int_equal(syscall(SYS_capget, &header, data), 0);
	data[0].effective |= data[0].permitted & 1u << CAP_SYS_NICE;
	assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

static void priority_is_given_back_and_done_without(void **state)
{
	struct capture_priority_use use;

	(void)state;
	plan_all();
	prepare_windows(0, false);
	define(0, 0, 16);
	open_group(0, 0);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	assert_int_equal(capture_group_close(capture, 0, NULL), 0);
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
	capture_priority_use(capture, &use);
	assert_int_equal(use.real_time + use.nice + use.refused, 2);
	give_up_nice();
	open_group(0, 0);
	take_nice_back();
	capture_priority_use(capture, &use);
	assert_int_equal(use.real_time + use.nice + use.refused, 3);
	assert_true(use.refused > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_group_is_seen_while_it_is_open_and_counted_site_by_site),
		TEST(a_limit_cuts_and_is_told_once_a_refill),
		TEST(a_limit_is_told_once_however_many_run_into_it),
		TEST(a_limit_that_found_no_room_in_the_ring_is_told_later),
		TEST(what_can_not_be_is_refused),
		TEST(refused_sites_are_dropped_and_counted_once),
		TEST(many_windows_leave_the_text_as_it_was),
		TEST(children_are_freed_and_the_target_stays_probed),
		TEST(another_program_is_never_opened),
		TEST(the_arms_of_a_jump_are_told_apart_whatever_groups_they_are_in),
		TEST(only_new_maxima_of_the_break_are_told),
		TEST(a_pool_is_new_once),
		TEST(a_full_table_of_pools_is_counted),
		TEST(priority_is_given_back_and_done_without),
	};

	return capture_tests_begin() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
