/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What one handling saw change, or fail to be read, in the order in which it saw it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "service/recording.h"

static char path[] = "/tmp/pyleakd-order.XXXXXX";

static int make_path(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int remove_path(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

static struct wire_alloc alloc_record(uint64_t address)
{
	return (struct wire_alloc){.header = {.kind = WIRE_ALLOC, .site = 3, .tid = 77},
				   .address = address,
				   .stack = 0xabcdef,
				   .size = 64};
}

static void write_alloc(struct recording_writer *writer, uint64_t address)
{
	struct wire_alloc record = alloc_record(address);

	assert_int_equal(recording_write_record(writer, &record.header, sizeof(record)), 0);
}

static void write_read(struct recording_writer *writer, uint64_t address, const char *text)
{
	assert_int_equal(recording_write_read(writer, address, text, strlen(text)), 0);
}

static void assert_memory(struct memory *memory, uint64_t address, const char *expected)
{
	char buffer[128];

	assert_int_equal(memory_read(memory, address, buffer, strlen(expected), NULL), 0);
	assert_memory_equal(buffer, expected, strlen(expected));
}

static void assert_record(struct recording_reader *reader, uint8_t kind,
			  struct recording_item *item)
{
	assert_int_equal(recording_next(reader, item, NULL), 1);
	assert_non_null(item->record);
	assert_int_equal(item->record->kind, kind);
	assert_int_equal((uintptr_t)item->record % 8, 0);
}

static void assert_fails(struct memory *memory, uint64_t address, int error)
{
	uint64_t word = 4711;

	assert_int_equal(memory_read_u64(memory, address, &word, NULL), error);
	assert_int_equal(word, 4711);
}

/* What one handling saw change, or fail, changes and fails at the same read of a replay. */
static void write_handling(struct recording_writer *writer)
{
	write_alloc(writer, 0x10);
	write_read(writer, 0x1000, "before  ");
	write_read(writer, 0x2000, "whatever");
	write_read(writer, 0x1000, "after   ");
	recording_observe_read(writer, 0x3000, NULL, 8, -EFAULT);
	write_read(writer, 0x3000, "mapped  ");
	recording_observe_read(writer, 0x1000, NULL, 8, -ENODATA);
	recording_observe_read(writer, UINT64_MAX, NULL, 8, -EFAULT); /* reaches no source */
	write_read(writer, 0x1000, "again   ");
	recording_observe_read(writer, 0x2000, NULL, 8, -EFAULT);
	write_alloc(writer, 0x20);
	assert_int_equal(recording_finish(writer), 0);
	recording_writer_free(writer);
}

static void reads_that_do_not_commute_are_seen_in_their_order(void **state)
{
	struct recording_reader *reader;
	struct recording_writer *writer;
	struct recording_item item;
	struct memory *memory;

	(void)state;
	assert_int_equal(recording_writer_new(path, &writer), 0);
	write_handling(writer);
	assert_int_equal(recording_reader_new(path, &reader, NULL), 0);
	assert_int_equal(recording_memory(reader, &memory), 0);
	assert_record(reader, WIRE_ALLOC, &item);
	assert_memory(memory, 0x1000, "before  ");
	assert_memory(memory, 0x2000, "whatever");
	assert_memory(memory, 0x1000, "after   ");
	assert_fails(memory, 0x3000, -EFAULT);
	assert_memory(memory, 0x3000, "mapped  ");
	assert_fails(memory, 0x1000, -ENODATA);
	assert_fails(memory, UINT64_MAX, -EFAULT);
	assert_memory(memory, 0x1000, "again   ");
	assert_fails(memory, 0x2000, -EFAULT);
	assert_memory(memory, 0x2000, "whatever"); /* of the past: its failure was of that read */
	assert_record(reader, WIRE_ALLOC, &item);
	assert_int_equal(recording_next(reader, &item, NULL), 0);
	memory_free(memory);
	recording_reader_free(reader);
}

static void who_reads_otherwise_than_the_session_still_comes_to_the_end(void **state)
{
	struct recording_reader *reader;
	struct recording_writer *writer;
	struct recording_item item;
	struct memory *memory;

	(void)state;
	assert_int_equal(recording_writer_new(path, &writer), 0);
	write_handling(writer);
	assert_int_equal(recording_reader_new(path, &reader, NULL), 0);
	assert_int_equal(recording_memory(reader, &memory), 0);
	assert_record(reader, WIRE_ALLOC, &item);
	assert_memory(memory, 0x1000, "before  "); /* one read of nine */
	assert_record(reader, WIRE_ALLOC, &item);
	assert_memory(memory, 0x1000, "again   ");
	assert_int_equal(recording_next(reader, &item, NULL), 0);
	assert_false(recording_is_truncated(reader));
	memory_free(memory);
	recording_reader_free(reader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_that_do_not_commute_are_seen_in_their_order),
		cmocka_unit_test(who_reads_otherwise_than_the_session_still_comes_to_the_end),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
