/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The N-th allocation fails, the N-th read of the file fails or comes short, for
 * every N: opening an image then fails too, leaks nothing (a sanitizer says so)
 * and hands nothing out.  The room's sources are included, with their calls of
 * the system replaced.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct {
	unsigned calls;	  /* seen so far */
	unsigned fail_at; /* 0: none */
} allocations, reads;
static bool reads_come_short;

static bool fails_now(unsigned *calls, unsigned fail_at)
{
	return ++*calls == fail_at;
}

static void *torture_calloc(size_t n, size_t size)
{
	return fails_now(&allocations.calls, allocations.fail_at) ? NULL : calloc(n, size);
}

static void *torture_malloc(size_t size)
{
	return fails_now(&allocations.calls, allocations.fail_at) ? NULL : malloc(size);
}

static void *torture_mmap(void *address, size_t size, int protection, int flags, int fd,
			  off_t offset)
{
	if (!fails_now(&allocations.calls, allocations.fail_at))
		return mmap(address, size, protection, flags, fd, offset);
	errno = ENOMEM;
	return MAP_FAILED;
}

/* Fails, or finds the file cut off; meanwhile reads that come short, as is legal, give a half. */
static ssize_t torture_pread(int fd, void *buffer, size_t size, off_t offset)
{
	if (fails_now(&reads.calls, reads.fail_at)) {
		if (!reads_come_short) {
			errno = EIO;
			return -1;
		}
		return 0; /* the file has just been cut off */
	}
	return pread(fd, buffer, reads_come_short ? (size + 1) / 2 : size, offset);
}

#define calloc torture_calloc
#define malloc torture_malloc
#define mmap torture_mmap
#define pread torture_pread
#include "../../../src/target/image.c"
#include "../../../src/target/image_build_id.c"
#include "../../../src/target/image_dynamic.c"
#include "../../../src/target/image_file.c"
#include "../../../src/target/image_relocations.c"
#include "../../../src/target/image_sections.c"
#include "../../../src/target/image_segments.c"
#include "../../../src/target/image_symbols.c"
#include "../../../src/target/image_unwind.c"
#undef calloc
#undef malloc
#undef mmap
#undef pread

#include "unit/target/elf_writer.h"

#define CALLS_MAX 100000

static int make_file(void)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);
	struct elf elf;

	elf_write(&elf);
	assert_int_equal(write(fd, elf.bytes, elf.size), (ssize_t)elf.size);
	elf_done(&elf);
	return fd;
}

static int open_once(int fd, struct image **ret, struct fault *reterr_fault)
{
	allocations.calls = 0;
	reads.calls = 0;
	return image_new(fd, ret, reterr_fault);
}

static void assert_opens(int fd)
{
	CLEANUP(image_free) struct image *image = NULL;
	struct image_symbol symbol;

	assert_int_equal(open_once(fd, &image, NULL), 0);
	assert_int_equal(image_symbol(image, "helper", &symbol), 0);
	assert_int_equal(symbol.vaddr, 0x1240);
}

/* Fails each call in turn until one opening gets by without it; how many there were. */
static unsigned fail_each(int fd, unsigned *fail_at, int error, enum reason reason)
{
	unsigned n = 1;

	for (; n < CALLS_MAX; n++) {
		struct fault fault = {.reason = REASON_RING_FULL};
		struct image *image = NULL;
		int r;

		*fail_at = n;
		r = open_once(fd, &image, &fault);
		if (r == 0) {
			image_free(image);
			break;
		}
		assert_int_equal(r, error);
		assert_int_equal(fault.reason, reason);
		assert_non_null(fault.field);
		assert_null(image);
	}
	*fail_at = 0;
	return n - 1;
}

static void each_allocation_may_fail(void **state)
{
	_cleanup_close_ int fd = make_file();

	(void)state;
	assert_opens(fd);
	/* The image, its pages, the mapping; sections, symbols (3), needed, slots, functions, code
	 */
	assert_int_equal(fail_each(fd, &allocations.fail_at, -ENOMEM, REASON_READ_FAILED), 11);
	assert_opens(fd);
}

static void each_read_may_fail(void **state)
{
	_cleanup_close_ int fd = make_file();

	(void)state;
	assert_in_range(fail_each(fd, &reads.fail_at, -EIO, REASON_READ_FAILED), 2, 20);
	assert_opens(fd);
}

static void each_read_may_come_short_and_the_file_may_end_there(void **state)
{
	_cleanup_close_ int fd = make_file();

	(void)state;
	reads_come_short = true;
	assert_opens(fd);
	assert_in_range(fail_each(fd, &reads.fail_at, -ENOEXEC, REASON_TRUNCATED), 10, 1000);
	reads_come_short = false;
}

static void no_byte_of_a_file_is_read_twice(void **state)
{
	_cleanup_close_ int fd = make_file();
	CLEANUP(image_free) struct image *image = NULL;

	(void)state;
	assert_int_equal(open_once(fd, &image, NULL), 0);
	assert_true(image->read_bytes <= image->file.size);
	assert_true(reads.calls <= ELF_SIZE / 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_may_fail),
		cmocka_unit_test(each_read_may_fail),
		cmocka_unit_test(each_read_may_come_short_and_the_file_may_end_there),
		cmocka_unit_test(no_byte_of_a_file_is_read_twice),
	};

	return cmocka_run_group_tests_name("target/image torture", tests, NULL, NULL);
}
