/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define STRING_CHUNK_BYTES 256
#define PAGE_BYTES 4096

struct memory {
	struct memory_source source;
	void *context;
	memory_observer *observer;
	void *observer_context;
	struct memory_statistics statistics;
};

int memory_new(const struct memory_source *source, void *context, struct memory **ret)
{
	struct memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return -ENOMEM;
	memory->source = *source;
	memory->context = context;
	*ret = memory;
	return 0;
}

void memory_free(struct memory *memory)
{
	if (!memory)
		return;
	if (memory->source.free)
		memory->source.free(memory->context);
	free(memory);
}

/* The books, and the observer's call, of one read that ended with error. */
static void account(struct memory *memory, uint64_t address, const void *buffer, size_t size,
		    int error)
{
	if (error)
		memory->statistics.failed_reads++;
	else
		memory->statistics.read_bytes += size;
	if (error == -ENODATA)
		memory->statistics.skipped_swapped_bytes += size;
	if (memory->observer)
		memory->observer(memory->observer_context, address, error ? NULL : buffer, size,
				 error);
}

int memory_read(struct memory *memory, uint64_t address, void *buffer, size_t size,
		struct fault *reterr_fault)
{
	int error;

	if (!size)
		return 0;
	if (address + size < address)
		error = fault_set(reterr_fault, -EFAULT, REASON_NOT_MAPPED, address, NULL);
	else
		error = memory->source.read(memory->context, address, buffer, size, reterr_fault);
	account(memory, address, buffer, size, error);
	return error;
}

static void read_one_by_one(struct memory *memory, struct memory_piece *pieces, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pieces[i].error = memory_read(memory, pieces[i].address, pieces[i].buffer,
					      pieces[i].size, NULL);
}

void memory_read_pieces(struct memory *memory, struct memory_piece *pieces, size_t n)
{
	if (!n)
		return;
	if (!memory->source.read_pieces) {
		read_one_by_one(memory, pieces, n);
		return;
	}
	memory->source.read_pieces(memory->context, pieces, n);
	for (size_t i = 0; i < n; i++)
		account(memory, pieces[i].address, pieces[i].buffer, pieces[i].size,
			pieces[i].error);
}

int memory_read_u32(struct memory *memory, uint64_t address, uint32_t *ret,
		    struct fault *reterr_fault)
{
	uint32_t value;
	int error = memory_read(memory, address, &value, sizeof(value), reterr_fault);

	if (!error)
		*ret = value;
	return error;
}

int memory_read_u64(struct memory *memory, uint64_t address, uint64_t *ret,
		    struct fault *reterr_fault)
{
	uint64_t value;
	int error = memory_read(memory, address, &value, sizeof(value), reterr_fault);

	if (!error)
		*ret = value;
	return error;
}

/* In chunks that never reach into a page behind the string's end, which may not be there. */
int memory_read_string(struct memory *memory, uint64_t address, char *buffer, size_t max_bytes,
		       struct fault *reterr_fault)
{
	size_t done = 0;

	while (done < max_bytes) {
		size_t chunk = PAGE_BYTES - (address + done) % PAGE_BYTES;
		int error;

		if (chunk > STRING_CHUNK_BYTES)
			chunk = STRING_CHUNK_BYTES;
		if (chunk > max_bytes - done)
			chunk = max_bytes - done;
		error = memory_read(memory, address + done, buffer + done, chunk, reterr_fault);
		if (error)
			return error;
		if (memchr(buffer + done, 0, chunk))
			return 0;
		done += chunk;
	}
	return fault_set(reterr_fault, -EOVERFLOW, REASON_TOO_LARGE, address, "string");
}

void memory_observe(struct memory *memory, memory_observer *observer, void *context)
{
	memory->observer = observer;
	memory->observer_context = context;
}

struct memory_statistics memory_statistics(const struct memory *memory)
{
	return memory->statistics;
}
