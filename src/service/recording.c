/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Writing a recording; recording_reader.c reads it. */
#include "service/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "service/recording_format.h"
#include "service/recording_lines.h"

DEFINE_CLEANUP(struct recording_writer *, recording_writer_free)

/* A chunk as it goes into the file, in one write. */
struct staged {
	struct recording_chunk chunk;
	uint8_t bytes[RECORDING_CHUNK_BYTES_MAX];
};

_Static_assert(offsetof(struct staged, bytes) == sizeof(struct recording_chunk), "staged");

struct recording_writer {
	int fd;
	int error;	   /* the first failure */
	uint32_t sequence; /* of the chunk that is being filled */
	uint64_t bytes;	   /* in the file */
	uint64_t items;
	struct recording_lines lines; /* what the reader will know */
	uint64_t reads;		      /* since the last record or mark */
	bool order_due;		      /* one failed that would not if more were known */
	size_t filled;		      /* of items */
	struct staged items_chunk, deflated_chunk;
};

uint32_t recording_header_crc(const struct recording_header *header)
{
	return (uint32_t)crc32(0, (const Bytef *)header, offsetof(struct recording_header, crc));
}

uint32_t recording_chunk_crc(const struct recording_chunk *chunk, const void *bytes)
{
	uLong crc = crc32(0, (const Bytef *)chunk, offsetof(struct recording_chunk, crc));

	return (uint32_t)crc32(crc, bytes, chunk->size);
}

static size_t record_bytes(uint8_t kind)
{
	switch (kind) {
	case WIRE_ALLOC:
	case WIRE_NATIVE_ALLOC:
	case WIRE_NEW_POOL:
		return sizeof(struct wire_alloc);
	case WIRE_FREE:
	case WIRE_NATIVE_FREE:
	case WIRE_DESTROY:
		return sizeof(struct wire_free);
	case WIRE_CREATE:
		return sizeof(struct wire_create);
	case WIRE_STACK:
		return sizeof(struct wire_stack);
	case WIRE_NATIVE_REALLOC:
		return sizeof(struct wire_realloc);
	case WIRE_MMAP:
	case WIRE_MUNMAP:
	case WIRE_MREMAP:
	case WIRE_BRK:
		return sizeof(struct wire_mapping);
	case WIRE_FORK:
	case WIRE_EXEC:
	case WIRE_EXIT:
	case WIRE_FINALIZE:
		return sizeof(struct wire_process);
	case WIRE_LIMIT:
		return sizeof(struct wire_limit);
	default:
		return 0;
	}
}

int recording_check_record(const void *record, size_t size)
{
	struct wire_header header;
	struct wire_stack stack;
	size_t least;

	if (size < sizeof(header) || size > RECORDING_RECORD_BYTES_MAX)
		return -EBADMSG;
	memcpy(&header, record, sizeof(header));
	least = record_bytes(header.kind);
	if (least == 0 || size < least)
		return -EBADMSG;
	if (header.kind != WIRE_STACK)
		return 0;
	memcpy(&stack, record, sizeof(stack));
	if (stack.n_frames > WIRE_MAX_FRAMES ||
	    size < sizeof(stack) + stack.n_frames * sizeof(struct wire_frame))
		return -EBADMSG;
	return 0;
}

static int fail(struct recording_writer *writer, int error)
{
	if (writer->error == 0)
		writer->error = error;
	return writer->error;
}

static int write_bytes(struct recording_writer *writer, const void *bytes, size_t size)
{
	int r;

	if (writer->error < 0)
		return writer->error;
	if (size > RECORDING_BYTES_MAX - writer->bytes)
		return fail(writer, -EFBIG);
	r = file_write_fd(writer->fd, bytes, size);
	if (r < 0)
		return fail(writer, r);
	writer->bytes += size;
	return 0;
}

static int write_chunk(struct recording_writer *writer, enum recording_chunk_kind kind,
		       struct staged *staged, size_t size)
{
	staged->chunk = (struct recording_chunk){
		.kind = kind,
		.size = (uint32_t)size,
		.sequence = writer->sequence++,
	};
	staged->chunk.crc = recording_chunk_crc(&staged->chunk, staged->bytes);
	writer->filled = 0;
	return write_bytes(writer, staged, sizeof(staged->chunk) + size);
}

/* Deflated at the fastest level; as it is where that gains nothing. */
static int flush(struct recording_writer *writer)
{
	uLongf size = writer->filled;

	if (writer->filled == 0)
		return writer->error;
	if (compress2(writer->deflated_chunk.bytes, &size, writer->items_chunk.bytes,
		      writer->filled, Z_BEST_SPEED) == Z_OK)
		return write_chunk(writer, RECORDING_CHUNK_DEFLATED, &writer->deflated_chunk, size);
	return write_chunk(writer, RECORDING_CHUNK_ITEMS, &writer->items_chunk, writer->filled);
}

/* An item's payload in two parts: it may be a fixed head and foreign bytes. */
static int add_item(struct recording_writer *writer, enum recording_item_kind kind,
		    const void *head, size_t head_size, const void *bytes, size_t size)
{
	struct recording_item_header header = {kind, (uint32_t)(head_size + size)};
	size_t whole = (sizeof(header) + head_size + size + 7) & ~(size_t)7;
	uint8_t *to;

	if (writer->error < 0)
		return writer->error;
	if (whole > RECORDING_CHUNK_BYTES_MAX - RECORDING_CHUNK_BYTES)
		return fail(writer, -E2BIG);
	if (writer->filled >= RECORDING_CHUNK_BYTES && flush(writer) < 0)
		return writer->error;
	to = writer->items_chunk.bytes + writer->filled;
	memset(to + whole - 8, 0, 8);
	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), head, head_size);
	if (size > 0)
		memcpy(to + sizeof(header) + head_size, bytes, size);
	writer->filled += whole;
	writer->items++;
	return 0;
}

static int write_header(struct recording_writer *writer)
{
	struct recording_header header = {
		.version = RECORDING_VERSION,
		.wire_version = WIRE_VERSION,
	};
	struct utsname host;

	memcpy(header.magic, RECORDING_MAGIC, sizeof(header.magic));
	header.crc = recording_header_crc(&header);
	write_bytes(writer, &header, sizeof(header));
	if (uname(&host) < 0)
		return fail(writer, -errno);
	recording_write_fact(writer, "pyleakd", PYLEAKD_VERSION);
	recording_write_fact(writer, "kernel", host.release);
	return recording_write_fact(writer, "machine", host.machine);
}

int recording_writer_new(const char *path, struct recording_writer **ret)
{
	CLEANUP(recording_writer_free) struct recording_writer *writer = calloc(1, sizeof(*writer));
	int r;

	if (!writer)
		return -ENOMEM;
	writer->lines = recording_lines_init();
	writer->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	if (writer->fd < 0)
		return -errno;
	r = write_header(writer);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(writer);
	return 0;
}

void recording_writer_free(struct recording_writer *writer)
{
	if (!writer)
		return;
	if (writer->fd >= 0) {
		flush(writer);
		close(writer->fd);
	}
	recording_lines_done(&writer->lines);
	free(writer);
}

/* What is read from here on belongs to the handling of this record or mark. */
static void begin_handling(struct recording_writer *writer)
{
	writer->reads = 0;
	writer->order_due = false;
	writer->lines.epoch++;
}

int recording_write_record(struct recording_writer *writer, const struct wire_header *record,
			   size_t size)
{
	begin_handling(writer);
	if (recording_check_record(record, size) < 0)
		return fail(writer, -EINVAL);
	return add_item(writer, RECORDING_ITEM_RECORD, record, size, NULL, 0);
}

int recording_write_mark(struct recording_writer *writer, const struct recording_mark *mark)
{
	struct recording_mark_item item = {
		.kind = mark->kind,
		.time_seconds = mark->time_seconds,
		.resident_bytes = mark->resident_bytes,
		.value = mark->value,
	};

	begin_handling(writer);
	/* On disk up to here: a session that is killed loses an interval at most. */
	if (mark->kind != RECORDING_DRAINED && mark->kind != RECORDING_FORGET_CODES)
		flush(writer);
	return add_item(writer, RECORDING_ITEM_MARK, &item, sizeof(item), NULL, 0);
}

int recording_write_tick(struct recording_writer *writer, double time_seconds)
{
	struct recording_mark mark = {
		.kind = RECORDING_TICK,
		.time_seconds = time_seconds,
		.resident_bytes = UINT64_MAX,
	};

	return recording_write_mark(writer, &mark);
}

int recording_write_fact(struct recording_writer *writer, const char *key, const char *value)
{
	size_t key_size = strlen(key) + 1, value_size = strlen(value) + 1;

	if (key_size > RECORDING_KEY_BYTES_MAX || value_size > RECORDING_VALUE_BYTES_MAX)
		return fail(writer, -E2BIG);
	return add_item(writer, RECORDING_ITEM_FACT, key, key_size, value, value_size);
}

int recording_write_fact_u64(struct recording_writer *writer, const char *key, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return recording_write_fact(writer, key, text);
}

int recording_write_fact_double(struct recording_writer *writer, const char *key, double value)
{
	char text[64];

	snprintf(text, sizeof(text), "%.17g", value); /* comes back as the same double */
	return recording_write_fact(writer, key, text);
}

int recording_write_loss(struct recording_writer *writer, enum reason reason, uint64_t count)
{
	struct recording_loss_item item = {.reason = reason, .count = count};

	return add_item(writer, RECORDING_ITEM_LOSS, &item, sizeof(item), NULL, 0);
}

int recording_write_refusal(struct recording_writer *writer, const char *what, const char *why)
{
	size_t what_size = strlen(what) + 1, why_size = strlen(why) + 1;

	if (what_size > RECORDING_VALUE_BYTES_MAX || why_size > RECORDING_VALUE_BYTES_MAX)
		return fail(writer, -E2BIG);
	return add_item(writer, RECORDING_ITEM_REFUSAL, what, what_size, why, why_size);
}

/* To the end of the run of lines, from address on, that are (changed) or aren't new to the reader.
 */
static size_t run_bytes(const struct recording_writer *writer, uint64_t address,
			const uint8_t *bytes, size_t size, bool *ret_changed)
{
	size_t run = 0;

	if (size > RECORDING_READ_BYTES_MAX)
		size = RECORDING_READ_BYTES_MAX;
	while (run < size) {
		size_t part = RECORDING_LINE_BYTES - (address + run) % RECORDING_LINE_BYTES;
		bool changed;

		if (part > size - run)
			part = size - run;
		changed = !recording_lines_same(&writer->lines, address + run, bytes + run, part);
		if (run > 0 && changed != *ret_changed)
			break;
		*ret_changed = changed;
		run += part;
	}
	return run;
}

static int write_run(struct recording_writer *writer, uint64_t address, const void *bytes,
		     size_t size)
{
	int r = recording_lines_put(&writer->lines, address, bytes, size);

	if (r < 0) /* the reader has the same bound */
		return fail(writer, r);
	return add_item(writer, RECORDING_ITEM_READ, &address, sizeof(address), bytes, size);
}

static int write_order(struct recording_writer *writer, uint64_t read, int error)
{
	struct recording_order_item item = { .read = read, .error = error };

	writer->order_due = false;
	writer->lines.epoch++;
	return add_item(writer, RECORDING_ITEM_ORDER, &item, sizeof(item), NULL, 0);
}

/* Whether a read since the last record or mark would have come out otherwise, knowing this one. */
static bool order_matters(const struct recording_writer *writer, uint64_t address,
			  const void *bytes, size_t size)
{
	if (writer->order_due && !recording_lines_same(&writer->lines, address, bytes, size))
		return true;
	return recording_lines_contradict(&writer->lines, address, bytes, size);
}

int recording_write_read(struct recording_writer *writer, uint64_t address, const void *bytes,
			 size_t size)
{
	const uint8_t *at = bytes;

	if (address + size < address)
		return fail(writer, -EINVAL);
	if (order_matters(writer, address, bytes, size))
		write_order(writer, writer->reads, 0);
	writer->reads++;
	while (size > 0 && writer->error == 0) {
		bool changed = false;
		size_t run = run_bytes(writer, address, at, size, &changed);

		if (changed)
			write_run(writer, address, at, run);
		else
			recording_lines_touch(&writer->lines, address, run);
		address += run;
		at += run;
		size -= run;
	}
	return writer->error;
}

int recording_write_failed_read(struct recording_writer *writer, uint64_t address, size_t size,
				int error)
{
	if (address + size < address) /* comes to no source, here or in a replay */
		return writer->error;
	if (error == -EFAULT && !recording_lines_know(&writer->lines, address, size)) {
		writer->order_due = true;
		writer->reads++;
		return writer->error;
	}
	return write_order(writer, writer->reads++, error);
}

void recording_observe_read(void *writer, uint64_t address, const void *bytes, size_t size,
			    int error)
{
	if (error < 0)
		recording_write_failed_read(writer, address, size, error);
	else
		recording_write_read(writer, address, bytes, size);
}

int recording_finish(struct recording_writer *writer)
{
	struct recording_trailer trailer;

	if (flush(writer) < 0)
		return writer->error;
	trailer.items = writer->items;
	memcpy(writer->items_chunk.bytes, &trailer, sizeof(trailer));
	if (write_chunk(writer, RECORDING_CHUNK_TRAILER, &writer->items_chunk, sizeof(trailer)) < 0)
		return writer->error;
	/* What has no disk behind it (a pipe, /dev/null) can't be asked to be on it. */
	if (fsync(writer->fd) < 0 && errno != EINVAL && errno != EROFS)
		return fail(writer, -errno);
	close(TAKE_FD(writer->fd));
	return 0;
}

int recording_error(const struct recording_writer *writer)
{
	return writer->error;
}

uint64_t recording_bytes(const struct recording_writer *writer)
{
	return writer->bytes + writer->filled;
}
