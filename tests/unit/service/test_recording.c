/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "service/recording.h"
#include "service/recording_format.h"

#define FILE_MAX (64u << 20)

static char path[] = "/tmp/pyleakd-recording.XXXXXX";

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

static void write_stack(struct recording_writer *writer, uint64_t id)
{
	struct {
		struct wire_stack stack;
		struct wire_frame frames[3];
	} record = {.stack = {.header = {.kind = WIRE_STACK}, .id = id, .n_frames = 3},
		    .frames = {{1, 2}, {3, 4}, {5, 6}}};

	assert_int_equal(recording_write_record(writer, &record.stack.header, sizeof(record)), 0);
}

static void write_read(struct recording_writer *writer, uint64_t address, const char *text)
{
	assert_int_equal(recording_write_read(writer, address, text, strlen(text)), 0);
}

/* One of everything, several chunks of it. */
static void write_sample(void)
{
	struct recording_writer *writer;

	assert_int_equal(recording_writer_new(path, &writer), 0);
	assert_int_equal(recording_write_fact(writer, "command", "web.py"), 0);
	assert_int_equal(recording_write_fact_u64(writer, "pid", 4242), 0);
	assert_int_equal(recording_write_fact_double(writer, "started", 1.1), 0);
	write_read(writer, 0x1000, "before the first record");
	write_stack(writer, 99);
	write_read(writer, 0x1000, "AFTER");
	write_alloc(writer, 0x7f10);
	assert_int_equal(recording_write_tick(writer, 5.25), 0);
	write_read(writer, 0x20ff, "across two lines of memory");
	assert_int_equal(recording_write_loss(writer, REASON_RING_FULL, 7), 0);
	assert_int_equal(recording_write_refusal(writer, "probes", "no headroom"), 0);
	write_alloc(writer, 0x7f20);
	assert_int_equal(recording_finish(writer), 0);
	recording_writer_free(writer);
}

static char *sample(size_t *ret_size)
{
	char *bytes;

	write_sample();
	assert_int_equal(file_read(path, FILE_MAX, &bytes, ret_size), 0);
	return bytes;
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

static void what_is_written_is_read_again(void **state)
{
	struct recording_reader *reader;
	struct recording_item item;
	const struct wire_alloc *alloc;
	struct wire_alloc expected = alloc_record(0x7f10);
	const char *what, *why;
	double started;
	uint64_t pid;

	(void)state;
	write_sample();
	assert_int_equal(recording_reader_new(path, &reader, NULL), 0);
	assert_string_equal(recording_fact(reader, "command"), "web.py");
	assert_string_equal(recording_fact(reader, "pyleakd"), PYLEAKD_VERSION);
	assert_int_equal(recording_fact_u64(reader, "pid", &pid), 0);
	assert_int_equal(pid, 4242);
	assert_int_equal(recording_fact_double(reader, "started", &started), 0);
	assert_true(started == 1.1);
	assert_null(recording_fact(reader, "nothing"));
	assert_int_equal(recording_fact_u64(reader, "nothing", &pid), -ENOENT);
	assert_int_equal(recording_fact_u64(reader, "command", &pid), -EBADMSG);
	assert_record(reader, WIRE_STACK, &item);
	assert_int_equal(((const struct wire_stack *)item.record)->n_frames, 3);
	assert_int_equal(((const struct wire_stack *)item.record)->frames[2].position, 6);
	assert_record(reader, WIRE_ALLOC, &item);
	alloc = (const struct wire_alloc *)item.record;
	assert_int_equal(item.size, sizeof(expected));
	assert_memory_equal(alloc, &expected, sizeof(expected));
	assert_int_equal(recording_next(reader, &item, NULL), 1);
	assert_null(item.record);
	assert_int_equal(item.mark.kind, RECORDING_TICK);
	assert_true(item.mark.time_seconds == 5.25);
	assert_true(item.mark.resident_bytes == UINT64_MAX);
	assert_int_equal(recording_loss(reader, REASON_RING_FULL), 7);
	assert_int_equal(recording_n_refusals(reader), 1);
	recording_refusal(reader, 0, &what, &why);
	assert_string_equal(what, "probes");
	assert_string_equal(why, "no headroom");
	assert_record(reader, WIRE_ALLOC, &item);
	assert_int_equal(recording_next(reader, &item, NULL), 0);
	assert_int_equal(recording_next(reader, &item, NULL), 0);
	assert_false(recording_is_truncated(reader));
	recording_reader_free(reader);
}

static void memory_is_as_the_handling_of_the_item_saw_it(void **state)
{
	struct recording_reader *reader;
	struct recording_item item;
	struct fault fault;
	struct memory *memory;
	char byte;

	(void)state;
	write_sample();
	assert_int_equal(recording_reader_new(path, &reader, NULL), 0);
	assert_int_equal(recording_memory(reader, &memory), 0);
	assert_memory(memory, 0x1000, "before the first record");
	assert_record(reader, WIRE_STACK, &item);
	assert_memory(memory, 0x1000, "AFTERe the first record"); /* overlaid, the rest kept */
	assert_int_equal(memory_read(memory, 0x20ff, &byte, 1, &fault), -EFAULT);
	assert_int_equal(fault.reason, REASON_NOT_MAPPED);
	assert_int_equal(fault.where, 0x20ff);
	assert_record(reader, WIRE_ALLOC, &item);
	assert_int_equal(memory_read(memory, 0x20ff, &byte, 1, NULL), -EFAULT);
	assert_int_equal(recording_next(reader, &item, NULL), 1); /* the tick */
	assert_memory(memory, 0x20ff, "across two lines of memory");
	assert_int_equal(memory_read(memory, 0x20fe, &byte, 1, NULL), -EFAULT);
	assert_int_equal(memory_read(memory, 0x20ff + 26, &byte, 1, NULL), -EFAULT);
	memory_free(memory);
	recording_reader_free(reader);
}

static void what_did_not_change_is_not_written_again(void **state)
{
	static char page[16384];
	struct recording_writer *writer;
	uint64_t before;

	(void)state;
	memset(page, 'x', sizeof(page));
	assert_int_equal(recording_writer_new(path, &writer), 0);
	assert_int_equal(recording_write_read(writer, 0x10000, page, sizeof(page)), 0);
	before = recording_bytes(writer);
	assert_true(before > sizeof(page));
	assert_int_equal(recording_write_read(writer, 0x10000, page, sizeof(page)), 0);
	assert_int_equal(recording_write_read(writer, 0x10123, page, 4000), 0);
	assert_int_equal(recording_bytes(writer), before);
	page[5000] = 'y';
	assert_int_equal(recording_write_read(writer, 0x10000, page, sizeof(page)), 0);
	assert_in_range(recording_bytes(writer), before + 8, before + 512);
	recording_writer_free(writer);
}

static void a_change_back_is_written_too(void **state)
{
	struct recording_reader *reader;
	struct recording_writer *writer;
	struct recording_item item;
	struct memory *memory;

	(void)state;
	assert_int_equal(recording_writer_new(path, &writer), 0);
	write_read(writer, 0x1000, "one one one");
	write_read(writer, 0x1004, "two");
	write_read(writer, 0x1000, "one one one");
	write_alloc(writer, 0x10);
	assert_int_equal(recording_finish(writer), 0);
	recording_writer_free(writer);
	assert_int_equal(recording_reader_new(path, &reader, NULL), 0);
	assert_int_equal(recording_memory(reader, &memory), 0);
	assert_memory(memory, 0x1000, "one one one");
	assert_record(reader, WIRE_ALLOC, &item);
	memory_free(memory);
	recording_reader_free(reader);
}

static void a_long_stream_keeps_its_order_over_chunks(void **state)
{
	static char block[RECORDING_READ_BYTES_MAX * 3];
	struct recording_reader *reader;
	struct recording_writer *writer;
	struct recording_item item;
	struct memory *memory;
	uint32_t value;

	(void)state;
	assert_int_equal(recording_writer_new(path, &writer), 0);
	for (uint32_t i = 0; i < 40000; i++) {
		write_alloc(writer, i);
		assert_int_equal(recording_write_read(writer, 0x500000, &i, sizeof(i)), 0);
	}
	memset(block, 'z', sizeof(block));
	assert_int_equal(recording_write_read(writer, 0x900000, block, sizeof(block)), 0);
	assert_int_equal(recording_finish(writer), 0);
	recording_writer_free(writer);
	assert_int_equal(recording_reader_new(path, &reader, NULL), 0);
	assert_int_equal(recording_memory(reader, &memory), 0);
	for (uint32_t i = 0; i < 40000; i++) {
		assert_record(reader, WIRE_ALLOC, &item);
		assert_int_equal(((const struct wire_alloc *)item.record)->address, i);
		assert_int_equal(memory_read_u32(memory, 0x500000, &value, NULL), 0);
		assert_int_equal(value, i);
	}
	assert_int_equal(memory_read(memory, 0x900000, block, sizeof(block), NULL), 0);
	assert_int_equal(recording_next(reader, &item, NULL), 0);
	memory_free(memory);
	recording_reader_free(reader);
}

/* How many items come out, and how it ends. */
static int read_all(const void *bytes, size_t size, size_t *ret_items)
{
	struct recording_reader *reader;
	struct recording_item item;
	struct fault fault = {0};
	int r = recording_reader_new_from_bytes(bytes, size, &reader, &fault);

	*ret_items = 0;
	if (r < 0)
		return r;
	while ((r = recording_next(reader, &item, &fault)) > 0)
		++*ret_items;
	assert_true(recording_is_truncated(reader) == (r < 0));
	assert_int_equal(recording_next(reader, &item, NULL), r);
	if (r < 0)
		assert_true(fault.reason != REASON_RING_FULL);
	recording_reader_free(reader);
	return r;
}

static void every_cut_off_recording_is_told_from_a_whole_one(void **state)
{
	size_t size, items, before = 0;
	char *bytes = sample(&size);

	(void)state;
	for (size_t cut = 0; cut < size; cut++) {
		char *copy = malloc(cut + !cut); /* of its very size, for the sanitizer */

		memcpy(copy, bytes, cut);
		assert_int_equal(read_all(copy, cut, &items), -EBADMSG);
		assert_true(items >= before);
		before = items;
		free(copy);
	}
	assert_int_equal(before, 4); /* all but the trailer */
	assert_int_equal(read_all(bytes, size, &items), 0);
	assert_int_equal(items, 4);
	free(bytes);
}

static void every_flipped_bit_is_noticed(void **state)
{
	size_t size, items;
	char *bytes = sample(&size);

	(void)state;
	for (size_t bit = 0; bit < size * 8; bit++) {
		bytes[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(read_all(bytes, size, &items), -EBADMSG);
		assert_true(items <= 4);
		bytes[bit / 8] ^= (char)(1 << bit % 8);
	}
	assert_int_equal(read_all(bytes, size, &items), 0);
	free(bytes);
}

static void what_follows_the_trailer_is_noticed(void **state)
{
	size_t size, items;
	char *bytes = sample(&size);

	(void)state;
	bytes = realloc(bytes, size + 1);
	bytes[size] = 0;
	assert_int_equal(read_all(bytes, size + 1, &items), -EBADMSG);
	free(bytes);
}

/* A recording of one chunk with right sums and these items. */
static size_t forge(uint8_t *to, const void *items, size_t size)
{
	struct recording_header header = {.version = RECORDING_VERSION,
					  .wire_version = WIRE_VERSION};
	struct recording_chunk chunk = {.kind = RECORDING_CHUNK_ITEMS, .size = (uint32_t)size};

	memcpy(header.magic, RECORDING_MAGIC, sizeof(header.magic));
	header.crc = recording_header_crc(&header);
	chunk.crc = recording_chunk_crc(&chunk, items);
	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), &chunk, sizeof(chunk));
	memcpy(to + sizeof(header) + sizeof(chunk), items, size);
	return sizeof(header) + sizeof(chunk) + size;
}

static void forged_items_with_right_sums_are_refused(void **state)
{
	uint8_t recording[4096];
	size_t items, size;
	struct {
		struct recording_item_header header;
		uint64_t words[4];
	} forged;
	static const struct {
		uint32_t kind, size;
		uint64_t first;
	} cases[] = {
		{RECORDING_ITEM_READ, 7, 0},		   /* no room for the address */
		{RECORDING_ITEM_READ, 32, UINT64_MAX - 3}, /* wraps */
		{RECORDING_ITEM_READ, 0xffffffff, 0},
		{RECORDING_ITEM_READ, 33, 0},
		{RECORDING_ITEM_MARK, 31, 0},
		{RECORDING_ITEM_FACT, 0, 0},
		{RECORDING_ITEM_FACT, 1, 0},	       /* a key, no value */
		{RECORDING_ITEM_FACT, 8, 0},	       /* NULs that are too many */
		{RECORDING_ITEM_REFUSAL, 3, 0x414141}, /* no NUL */
		{RECORDING_ITEM_LOSS, 8, 0},
		{RECORDING_ITEM_ORDER, 8, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct recording_reader *reader;
		struct recording_item item;
		struct fault fault;

		memset(&forged, 0, sizeof(forged));
		forged.header.kind = cases[i].kind;
		forged.header.size = cases[i].size;
		forged.words[0] = cases[i].first;
		size = forge(recording, &forged, sizeof(forged));
		assert_int_equal(recording_reader_new_from_bytes(recording, size, &reader, NULL),
				 0);
		assert_int_equal(recording_next(reader, &item, &fault), -EBADMSG);
		assert_int_equal(fault.reason, REASON_MALFORMED);
		assert_string_equal(fault.field, "item");
		recording_reader_free(reader);
	}
	memset(&forged, 0, sizeof(forged));
	forged.header.kind = 4711; /* of a later version: passed over */
	forged.header.size = 32;
	size = forge(recording, &forged, sizeof(forged));
	assert_int_equal(read_all(recording, size, &items), -EBADMSG); /* no trailer */
}

static void records_that_fit_no_kind_are_counted_and_not_handed_over(void **state)
{
	static const struct {
		uint8_t kind;
		uint32_t size, n_frames;
	} cases[] = {
		{0, 32, 0},	     {200, 32, 0},
		{WIRE_ALLOC, 24, 0}, {WIRE_MMAP, 32, 0},
		{WIRE_FREE, 8, 0},   {WIRE_ALLOC, 4, 0},
		{WIRE_STACK, 32, 1}, {WIRE_STACK, 32, 0xffffffff},
		{WIRE_STACK, 16, 0},
	};
	struct {
		struct recording_item_header header;
		struct wire_stack stack;
		uint64_t more;
	} forged;
	uint8_t recording[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct recording_reader *reader;
		struct recording_item item;
		size_t size;

		memset(&forged, 0, sizeof(forged));
		forged.header.kind = RECORDING_ITEM_RECORD;
		forged.header.size = cases[i].size;
		forged.stack.header.kind = cases[i].kind;
		forged.stack.n_frames = cases[i].n_frames;
		size = forge(recording, &forged,
			     sizeof(forged.header) + ((cases[i].size + 7) & ~7u));
		assert_int_equal(recording_reader_new_from_bytes(recording, size, &reader, NULL),
				 0);
		assert_int_equal(recording_next(reader, &item, NULL), -EBADMSG); /* no trailer */
		assert_int_equal(recording_malformed_records(reader), 1);
		recording_reader_free(reader);
	}
}

static void other_files_are_no_recordings(void **state)
{
	struct recording_reader *reader;
	struct fault fault;

	(void)state;
	assert_int_equal(recording_reader_new_from_bytes("", 0, &reader, &fault), -EBADMSG);
	assert_int_equal(fault.reason, REASON_TRUNCATED);
	assert_int_equal(recording_reader_new("/proc/self/exe", &reader, &fault), -EBADMSG);
	assert_string_equal(fault.field, "magic");
	assert_int_equal(recording_reader_new("/nonexistent/file", &reader, &fault), -ENOENT);
	assert_int_equal(recording_reader_new("/", &reader, &fault), -EISDIR);
}

static void a_recording_of_another_version_is_refused_as_such(void **state)
{
	struct recording_header header = {.version = RECORDING_VERSION + 1,
					  .wire_version = WIRE_VERSION};
	struct recording_reader *reader;
	struct fault fault;

	(void)state;
	memcpy(header.magic, RECORDING_MAGIC, sizeof(header.magic));
	header.crc = recording_header_crc(&header);
	assert_int_equal(recording_reader_new_from_bytes(&header, sizeof(header), &reader, &fault),
			 -EBADMSG);
	assert_int_equal(fault.reason, REASON_UNSUPPORTED);
}

static void a_full_disk_is_told_and_stays_told(void **state)
{
	struct rlimit old, small = {8192, RLIM_INFINITY};
	struct recording_writer *writer;

	(void)state;
	assert_int_equal(recording_writer_new("/dev/full", &writer), -ENOSPC);
	assert_int_equal(recording_writer_new(path, &writer), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (uint64_t i = 0; i < 4000; i++)
		write_alloc(writer, i * 0x9e3779b97f4a7c15); /* still in the buffer */
	assert_int_equal(recording_finish(writer), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(recording_error(writer), -EFBIG);
	assert_int_equal(recording_write_tick(writer, 1), -EFBIG);
	assert_int_equal(recording_finish(writer), -EFBIG);
	recording_writer_free(writer);
}

static void a_writer_that_was_never_finished_leaves_a_readable_file(void **state)
{
	struct recording_writer *writer;
	size_t size, items;
	char *bytes;

	(void)state;
	assert_int_equal(recording_writer_new(path, &writer), 0);
	write_alloc(writer, 1);
	recording_writer_free(writer);
	assert_int_equal(file_read(path, FILE_MAX, &bytes, &size), 0);
	assert_int_equal(read_all(bytes, size, &items), -EBADMSG);
	assert_int_equal(items, 1);
	free(bytes);
}

static void a_recording_is_for_its_owner_only(void **state)
{
	struct recording_writer *writer;
	struct stat status;

	(void)state;
	unlink(path);
	assert_int_equal(recording_writer_new(path, &writer), 0);
	recording_writer_free(writer);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
}

static void what_cannot_be_read_again_is_not_written(void **state)
{
	struct wire_alloc record = alloc_record(1);
	struct recording_writer *writer;

	(void)state;
	assert_int_equal(recording_writer_new(path, &writer), 0);
	assert_int_equal(recording_write_record(writer, &record.header, 8), -EINVAL);
	assert_int_equal(recording_finish(writer), -EINVAL); /* not taken for a whole one */
	recording_writer_free(writer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read_again),
		cmocka_unit_test(memory_is_as_the_handling_of_the_item_saw_it),
		cmocka_unit_test(what_did_not_change_is_not_written_again),
		cmocka_unit_test(a_change_back_is_written_too),
		cmocka_unit_test(a_long_stream_keeps_its_order_over_chunks),
		cmocka_unit_test(every_cut_off_recording_is_told_from_a_whole_one),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(what_follows_the_trailer_is_noticed),
		cmocka_unit_test(forged_items_with_right_sums_are_refused),
		cmocka_unit_test(records_that_fit_no_kind_are_counted_and_not_handed_over),
		cmocka_unit_test(other_files_are_no_recordings),
		cmocka_unit_test(a_recording_of_another_version_is_refused_as_such),
		cmocka_unit_test(a_full_disk_is_told_and_stays_told),
		cmocka_unit_test(a_writer_that_was_never_finished_leaves_a_readable_file),
		cmocka_unit_test(a_recording_is_for_its_owner_only),
		cmocka_unit_test(what_cannot_be_read_again_is_not_written),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
