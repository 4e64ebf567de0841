/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Reading a recording: foreign bytes.  Its chunks are read one after the
 * other into one buffer; nothing of a chunk is looked at before its sum is
 * right, and everything in it is still bounded, for sums can be made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "service/recording_format.h"
#include "service/recording_lines.h"

DEFINE_CLEANUP(struct recording_reader *, recording_reader_free)

#define ERROR_MAX 4095 /* MAX_ERRNO, include/linux/err.h of Linux */

struct pair {
	char *first, *second; /* key and value, or what and why */
};

/* A record or mark, kept while the reader is already behind it. */
struct event {
	bool present;
	bool is_record;
	size_t size;
	struct recording_mark mark;
	uint64_t words[RECORDING_RECORD_BYTES_MAX / 8 + 1]; /* aligned, unlike the chunk's bytes */
};

struct recording_reader {
	int fd; /* -1: of bytes */
	struct bytes bytes;
	uint64_t offset, next_offset; /* of the present chunk, and of the one behind it */
	uint32_t sequence;
	uint64_t items;
	struct bytes chunk;	/* items of the present chunk */
	size_t at;		/* in it */
	struct event events[2]; /* handed over, and the one behind it */
	unsigned pending;	/* index of the latter */
	uint64_t reads;		/* of the memory, since the former */
	bool ordered;		/* what follows waits for reads, as order says */
	struct recording_order_item order;
	bool finished;		/* the trailer was seen */
	int error;		/* why it can't go on */
	struct fault fault;
	struct recording_lines lines;
	uint64_t malformed_records;
	struct pair facts[RECORDING_FACTS_MAX], refusals[RECORDING_REFUSALS_MAX];
	size_t n_facts, n_refusals;
	uint64_t losses[RECORDING_REASONS_MAX];
	uint8_t buffer[RECORDING_CHUNK_BYTES_MAX], deflated[RECORDING_CHUNK_BYTES_MAX];
};

static int damaged(struct recording_reader *reader, enum reason reason, const char *field)
{
	return fault_set(&reader->fault, -EBADMSG, reason, reader->offset, field);
}

/* --- bytes --- */

/* -EBADMSG where the file ends before. */
static int read_at(struct recording_reader *reader, uint64_t offset, void *buffer, size_t size)
{
	size_t done = 0;

	if (reader->fd < 0)
		return bytes_read(reader->bytes, offset, buffer, size)
			       ? 0
			       : damaged(reader, REASON_TRUNCATED, "recording");
	while (done < size) {
		ssize_t n = pread(reader->fd, (char *)buffer + done, size - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_set(&reader->fault, -errno, REASON_READ_FAILED, offset,
					 "recording");
		if (n == 0)
			return damaged(reader, REASON_TRUNCATED, "recording");
		done += (size_t)n;
	}
	return 0;
}

static int read_header(struct recording_reader *reader)
{
	struct recording_header header;
	int r = read_at(reader, 0, &header, sizeof(header));

	if (r < 0)
		return r;
	if (memcmp(header.magic, RECORDING_MAGIC, sizeof(header.magic)) != 0)
		return damaged(reader, REASON_MALFORMED, "magic");
	if (header.crc != recording_header_crc(&header))
		return damaged(reader, REASON_MALFORMED, "header");
	if (header.version != RECORDING_VERSION || header.wire_version != WIRE_VERSION)
		return damaged(reader, REASON_UNSUPPORTED, "version");
	reader->next_offset = sizeof(header);
	return 0;
}

/* Nothing may follow the trailer, and it must have counted what came before. */
static int take_trailer(struct recording_reader *reader)
{
	struct recording_trailer trailer;
	uint8_t more;

	if (!bytes_read(reader->chunk, 0, &trailer, sizeof(trailer)) ||
	    trailer.items != reader->items)
		return damaged(reader, REASON_MALFORMED, "trailer");
	if (read_at(reader, reader->next_offset, &more, sizeof(more)) == 0)
		return damaged(reader, REASON_MALFORMED, "end");
	reader->chunk.size = 0;
	reader->finished = true;
	return 0;
}

/* Never more than a chunk's items come out. */
static int inflate_chunk(struct recording_reader *reader)
{
	uLongf size = sizeof(reader->buffer);
	uLong from = reader->chunk.size;

	memcpy(reader->deflated, reader->buffer, reader->chunk.size);
	if (uncompress2(reader->buffer, &size, reader->deflated, &from) != Z_OK ||
	    from != reader->chunk.size) {
		reader->chunk.size = 0;
		return damaged(reader, REASON_MALFORMED, "deflated");
	}
	reader->chunk.size = size;
	return 0;
}

static int next_chunk(struct recording_reader *reader)
{
	struct recording_chunk chunk;
	int r;

	reader->offset = reader->next_offset;
	r = read_at(reader, reader->offset, &chunk, sizeof(chunk));
	if (r < 0)
		return r;
	if (chunk.size > sizeof(reader->buffer) || chunk.sequence != reader->sequence)
		return damaged(reader, REASON_MALFORMED, "chunk");
	r = read_at(reader, reader->offset + sizeof(chunk), reader->buffer, chunk.size);
	if (r < 0)
		return r;
	if (chunk.crc != recording_chunk_crc(&chunk, reader->buffer))
		return damaged(reader, REASON_MALFORMED, "checksum");
	reader->chunk = (struct bytes){reader->buffer, chunk.size};
	reader->at = 0;
	reader->sequence++;
	reader->next_offset = reader->offset + sizeof(chunk) + chunk.size;
	if (chunk.kind == RECORDING_CHUNK_TRAILER)
		return take_trailer(reader);
	if (chunk.kind == RECORDING_CHUNK_DEFLATED)
		return inflate_chunk(reader);
	return chunk.kind == RECORDING_CHUNK_ITEMS ? 0
						   : damaged(reader, REASON_UNSUPPORTED, "chunk");
}

/* --- items --- */

/* "first NUL second NUL", all of the payload. */
static int split_pair(struct bytes payload, struct pair *ret)
{
	const char *text = (const char *)payload.data;
	size_t first = payload.size ? strnlen(text, payload.size) : 0;
	_cleanup_free_ char *a = NULL, *b = NULL;

	if (first >= payload.size || payload.size > 2 * RECORDING_VALUE_BYTES_MAX)
		return -EBADMSG;
	if (first + 1 + strnlen(text + first + 1, payload.size - first - 1) + 1 != payload.size)
		return -EBADMSG;
	a = strdup(text);
	b = strdup(text + first + 1);
	if (!a || !b)
		return -ENOMEM;
	*ret = (struct pair){TAKE_PTR(a), TAKE_PTR(b)};
	return 0;
}

static void pair_done(struct pair *pair)
{
	free(pair->first);
	free(pair->second);
	*pair = (struct pair){0};
}

static size_t find_fact(const struct recording_reader *reader, const char *key)
{
	size_t i = 0;

	while (i < reader->n_facts && strcmp(reader->facts[i].first, key) != 0)
		i++;
	return i;
}

static int take_fact(struct recording_reader *reader, struct bytes payload)
{
	struct pair pair;
	size_t index;
	int r = split_pair(payload, &pair);

	if (r < 0)
		return r;
	index = find_fact(reader, pair.first);
	if (index == RECORDING_FACTS_MAX) {
		pair_done(&pair);
		return -EBADMSG;
	}
	if (index == reader->n_facts)
		reader->n_facts++;
	else
		pair_done(&reader->facts[index]);
	reader->facts[index] = pair;
	return 0;
}

static int take_refusal(struct recording_reader *reader, struct bytes payload)
{
	int r;

	if (reader->n_refusals == RECORDING_REFUSALS_MAX)
		return -EBADMSG;
	r = split_pair(payload, &reader->refusals[reader->n_refusals]);
	if (r == 0)
		reader->n_refusals++;
	return r;
}

static int take_loss(struct recording_reader *reader, struct bytes payload)
{
	struct recording_loss_item item;

	if (!bytes_read(payload, 0, &item, sizeof(item)))
		return -EBADMSG;
	if (item.reason < RECORDING_REASONS_MAX) /* else it is from a later version */
		reader->losses[item.reason] = item.count;
	return 0;
}

static int take_read(struct recording_reader *reader, struct bytes payload)
{
	uint64_t address;
	size_t size;

	if (!bytes_read(payload, 0, &address, sizeof(address)))
		return -EBADMSG;
	size = payload.size - sizeof(address);
	if (size > RECORDING_READ_BYTES_MAX || address + size < address)
		return -EBADMSG;
	return recording_lines_put(&reader->lines, address, payload.data + sizeof(address), size);
}

static int take_order(struct recording_reader *reader, struct bytes payload)
{
	if (!bytes_read(payload, 0, &reader->order, sizeof(reader->order)) ||
	    reader->order.error > 0 || reader->order.error < -ERROR_MAX)
		return -EBADMSG;
	/* Nothing that a target's memory says stands for our own lack of it. */
	if (reader->order.error == -ENOMEM)
		reader->order.error = -EFAULT;
	reader->ordered = true;
	return 0;
}

static int take_mark(struct recording_reader *reader, struct bytes payload)
{
	struct event *event = &reader->events[reader->pending];
	struct recording_mark_item item;

	if (!bytes_read(payload, 0, &item, sizeof(item)))
		return -EBADMSG;
	event->present = true;
	event->is_record = false;
	event->mark = (struct recording_mark){
		.kind = item.kind,
		.time_seconds = item.time_seconds,
		.resident_bytes = item.resident_bytes,
		.value = item.value,
	};
	return 0;
}

static int take_record(struct recording_reader *reader, struct bytes payload)
{
	struct event *event = &reader->events[reader->pending];

	if (recording_check_record(payload.data, payload.size) < 0) {
		reader->malformed_records++;
		return 0;
	}
	memcpy(event->words, payload.data, payload.size);
	event->size = payload.size;
	event->is_record = true;
	event->present = true;
	return 0;
}

static int take_item(struct recording_reader *reader, uint32_t kind, struct bytes payload)
{
	switch (kind) {
	case RECORDING_ITEM_RECORD:
		return take_record(reader, payload);
	case RECORDING_ITEM_READ:
		return take_read(reader, payload);
	case RECORDING_ITEM_MARK:
		return take_mark(reader, payload);
	case RECORDING_ITEM_FACT:
		return take_fact(reader, payload);
	case RECORDING_ITEM_LOSS:
		return take_loss(reader, payload);
	case RECORDING_ITEM_REFUSAL:
		return take_refusal(reader, payload);
	case RECORDING_ITEM_ORDER:
		return take_order(reader, payload);
	default:
		return 0; /* of a later version that only added something */
	}
}

/* One item, or the next chunk. */
static int step(struct recording_reader *reader)
{
	struct recording_item_header header;
	struct bytes payload;
	int r;

	if (reader->at == reader->chunk.size)
		return next_chunk(reader);
	if (!bytes_read(reader->chunk, reader->at, &header, sizeof(header)) ||
	    !bytes_slice(reader->chunk, reader->at + sizeof(header), header.size, &payload))
		return damaged(reader, REASON_MALFORMED, "item");
	r = take_item(reader, header.kind, payload);
	if (r < 0)
		return fault_set(&reader->fault, r == -ENOMEM ? r : -EBADMSG,
				 r == -ENOSPC ? REASON_TOO_LARGE : REASON_MALFORMED, reader->offset,
				 "item");
	reader->items++;
	reader->at += (sizeof(header) + header.size + 7) & ~(size_t)7;
	if (reader->at > reader->chunk.size)
		return damaged(reader, REASON_MALFORMED, "item");
	return 0;
}

/*
 * Up to the next event, which is then pending: everything before it, the reads
 * that the handling of the one before it made, is taken; or up to what waits
 * for such a read to be made again.  Ends: each step consumes bytes of the file.
 */
static void advance(struct recording_reader *reader)
{
	while (!reader->finished && !reader->events[reader->pending].present && !reader->ordered &&
	       reader->error == 0)
		reader->error = step(reader);
}

/* Past reads that were counted, whether or not they were made. */
static void advance_to_event(struct recording_reader *reader)
{
	while (reader->ordered) {
		reader->ordered = false;
		advance(reader);
	}
}

/* --- the reader --- */

static int open_reader(struct recording_reader *reader)
{
	int r = read_header(reader);

	if (r < 0)
		return r;
	reader->lines = recording_lines_init();
	advance(reader);
	return 0;
}

static int reader_new(int fd, struct bytes bytes, struct recording_reader **ret,
		      struct fault *reterr_fault)
{
	CLEANUP(recording_reader_free) struct recording_reader *reader = NULL;
	int r;

	reader = calloc(1, sizeof(*reader));
	if (!reader) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	reader->fd = fd;
	reader->bytes = bytes;
	r = open_reader(reader);
	if (r < 0) {
		if (reterr_fault)
			*reterr_fault = reader->fault;
		return r;
	}
	*ret = TAKE_PTR(reader);
	return 0;
}

int recording_reader_new(const char *path, struct recording_reader **ret,
			 struct fault *reterr_fault)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return fault_set(reterr_fault, -errno, REASON_READ_FAILED, 0, "recording");
	return reader_new(fd, (struct bytes){0}, ret, reterr_fault);
}

int recording_reader_new_from_bytes(const void *bytes, size_t size, struct recording_reader **ret,
				    struct fault *reterr_fault)
{
	return reader_new(-1, (struct bytes){bytes, size}, ret, reterr_fault);
}

void recording_reader_free(struct recording_reader *reader)
{
	if (!reader)
		return;
	for (size_t i = 0; i < reader->n_facts; i++)
		pair_done(&reader->facts[i]);
	for (size_t i = 0; i < reader->n_refusals; i++)
		pair_done(&reader->refusals[i]);
	recording_lines_done(&reader->lines);
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader);
}

int recording_next(struct recording_reader *reader, struct recording_item *ret,
		   struct fault *reterr_fault)
{
	struct event *event = &reader->events[reader->pending];

	advance_to_event(reader);
	if (!event->present) {
		if (reader->error < 0 && reterr_fault)
			*reterr_fault = reader->fault;
		return reader->error;
	}
	reader->pending ^= 1;
	reader->events[reader->pending].present = false;
	*ret = (struct recording_item){.mark = event->mark};
	if (event->is_record) {
		ret->record = (const struct wire_header *)event->words;
		ret->size = event->size;
	}
	reader->reads = 0;
	advance(reader);
	return 1;
}

const char *recording_fact(const struct recording_reader *reader, const char *key)
{
	size_t index = find_fact(reader, key);

	return index < reader->n_facts ? reader->facts[index].second : NULL;
}

int recording_fact_u64(const struct recording_reader *reader, const char *key, uint64_t *ret)
{
	const char *text = recording_fact(reader, key);

	if (!text)
		return -ENOENT;
	return parse_u64(text, 0, UINT64_MAX, ret) < 0 ? -EBADMSG : 0;
}

int recording_fact_double(const struct recording_reader *reader, const char *key, double *ret)
{
	const char *text = recording_fact(reader, key);
	double value;
	char *end;

	if (!text)
		return -ENOENT;
	value = strtod(text, &end);
	if (end == text || *end != '\0')
		return -EBADMSG;
	*ret = value;
	return 0;
}

static int read_lines(void *context, uint64_t address, void *buffer, size_t size,
		      struct fault *reterr_fault)
{
	struct recording_reader *reader = context;
	uint64_t read = reader->reads++;
	int error = 0;

	while (reader->ordered && reader->order.read <= read) {
		if (reader->order.read == read)
			error = reader->order.error;
		reader->ordered = false;
		if (error == 0)
			advance(reader);
	}
	if (error < 0) {
		advance(reader); /* for the reads behind it */
		return fault_set(reterr_fault, error,
				 error == -ENODATA ? REASON_SWAPPED : REASON_READ_FAILED, address,
				 NULL);
	}
	if (recording_lines_get(&reader->lines, address, buffer, size))
		return 0;
	return fault_set(reterr_fault, -EFAULT, REASON_NOT_MAPPED, address, NULL);
}

int recording_memory(struct recording_reader *reader, struct memory **ret)
{
	static const struct memory_source source = {.read = read_lines};

	return memory_new(&source, reader, ret);
}

uint64_t recording_loss(const struct recording_reader *reader, enum reason reason)
{
	return (unsigned)reason < RECORDING_REASONS_MAX ? reader->losses[reason] : 0;
}

size_t recording_n_refusals(const struct recording_reader *reader)
{
	return reader->n_refusals;
}

void recording_refusal(const struct recording_reader *reader, size_t index, const char **ret_what,
		       const char **ret_why)
{
	*ret_what = reader->refusals[index].first;
	*ret_why = reader->refusals[index].second;
}

bool recording_is_truncated(const struct recording_reader *reader)
{
	return !reader->finished;
}

uint64_t recording_malformed_records(const struct recording_reader *reader)
{
	return reader->malformed_records;
}
