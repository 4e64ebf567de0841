/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Our own pages, of which we know what we did to them; mincore's word for the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/discover.h"
#include "target/pagemap.h"

#define PAGE PAGEMAP_PAGE_BYTES
#define PAGES 1500UL /* more than two batches */

DEFINE_CLEANUP(struct pagemap *, pagemap_free)

static char *map_pages(int fd, int protection)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE;
	char *address = mmap(NULL, PAGES * PAGE, protection, flags, fd, 0);

	assert_true(address != MAP_FAILED);
	madvise(address, PAGES * PAGE, MADV_NOHUGEPAGE);
	return address;
}

static void touched_pages_are_told_from_untouched_ones(void **state)
{
	CLEANUP(pagemap_free) struct pagemap *pagemap = NULL;
	char *address = map_pages(-1, PROT_READ | PROT_WRITE);
	uint8_t states[PAGES];

	(void)state;
	for (size_t i = 0; i < PAGES; i += 3)
		address[i * PAGE] = 1;
	assert_int_equal(pagemap_new(getpid(), &pagemap, NULL), 0);
	assert_int_equal(pagemap_states(pagemap, (uintptr_t)address, PAGES, states, NULL), 0);
	for (size_t i = 0; i < PAGES; i++) {
		if (i % 3 == 0)
			assert_true(states[i] == PAGEMAP_PRIVATE || states[i] == PAGEMAP_SWAPPED);
		else
			assert_int_equal(states[i], PAGEMAP_ABSENT);
	}
	munmap(address, PAGES * PAGE);
}

static void a_private_copy_is_told_from_the_file_s_own_page(void **state)
{
	CLEANUP(pagemap_free) struct pagemap *pagemap = NULL;
	_cleanup_close_ int fd = memfd_create("pages", MFD_CLOEXEC);
	struct pagemap_counts counts;
	char *address;

	(void)state;
	assert_int_equal(ftruncate(fd, PAGES * PAGE), 0);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(pwrite(fd, "x", 1, (off_t)(i * PAGE)), 1);
	address = map_pages(fd, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(((volatile char *)address)[i * PAGE], 'x');
	for (size_t i = 0; i < 10; i++)
		address[i * PAGE] = 'y';
	assert_int_equal(pagemap_new(getpid(), &pagemap, NULL), 0);
	assert_int_equal(pagemap_count(pagemap, (uintptr_t)address,
				       (uintptr_t)address + PAGES * PAGE, &counts, NULL),
			 0);
	assert_int_equal(counts.private + counts.swapped, 10);
	assert_int_equal(counts.file, PAGES - 10);
	assert_int_equal(counts.absent, 0);
	munmap(address, PAGES * PAGE);
}

static void a_range_counts_every_page_that_it_touches(void **state)
{
	CLEANUP(pagemap_free) struct pagemap *pagemap = NULL;
	char *address = map_pages(-1, PROT_READ | PROT_WRITE);
	uint64_t start = (uintptr_t)address;
	struct pagemap_counts counts;

	(void)state;
	assert_int_equal(pagemap_new(getpid(), &pagemap, NULL), 0);
	assert_int_equal(pagemap_count(pagemap, start + PAGE - 1, start + PAGE + 1, &counts, NULL),
			 0);
	assert_int_equal(counts.absent, 2);
	assert_int_equal(pagemap_count(pagemap, start + 5, start + 5, &counts, NULL), 0);
	assert_int_equal(counts.absent, 0);
	assert_int_equal(pagemap_count(pagemap, start + 5, start, &counts, NULL), 0);
	assert_int_equal(counts.absent, 0);
	munmap(address, PAGES * PAGE);
}

static void addresses_that_no_process_can_have_are_an_error(void **state)
{
	CLEANUP(pagemap_free) struct pagemap *pagemap = NULL;
	struct fault fault = { 0 };
	uint8_t states[4] = { 9, 9, 9, 9 };

	(void)state;
	assert_int_equal(pagemap_new(getpid(), &pagemap, NULL), 0);
	assert_int_equal(pagemap_states(pagemap, 1ULL << 62, 4, states, &fault), -EFAULT);
	assert_int_equal(fault.where, 1ULL << 62);
	assert_int_equal(states[0], 9);
}

static void a_process_that_is_gone_has_no_pages_and_no_python(void **state)
{
	struct pagemap *pagemap = NULL;
	struct fault fault;

	(void)state;
	assert_int_equal(pagemap_new(0x3fffffff, &pagemap, &fault), -ESRCH);
	assert_null(pagemap);
	assert_false(discover_is_candidate(0x3fffffff));
	assert_false(discover_is_candidate(getpid()));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(touched_pages_are_told_from_untouched_ones),
		cmocka_unit_test(a_private_copy_is_told_from_the_file_s_own_page),
		cmocka_unit_test(a_range_counts_every_page_that_it_touches),
		cmocka_unit_test(addresses_that_no_process_can_have_are_an_error),
		cmocka_unit_test(a_process_that_is_gone_has_no_pages_and_no_python),
	};

	return cmocka_run_group_tests_name("target/pagemap", tests, NULL, NULL);
}
