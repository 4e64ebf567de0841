/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Groups that go in and out while the capture stays: what each site counts,
 * where a limit cuts, and what is left.  As root; built and run by
 * test_windows.py.
 */
#include <poll.h>

#include "capture/windows.h"
#include "capture_child.h"

#define OFTEN 20000 /* do_run_often() */
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
			of_site += records[j].header.kind != WIRE_STACK &&
				   records[j].header.site == i;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_group_is_seen_while_it_is_open_and_counted_site_by_site),
		TEST(a_limit_cuts_and_is_told_once_a_refill),
	};

	return capture_tests_begin() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
