/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The frame walker over a memory that the test invents, and the helpers that
 * it asks for there.
 */
#ifndef TESTS_UNIT_CAPTURE_INVENTED_H
#define TESTS_UNIT_CAPTURE_INVENTED_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../../bpf/pystack.bpf.h"

#include "capture/settings.h"
#include "layouts.h"

#define SEGMENTS_MAX 256
#define KNOWN_MAX 16

#define TSTATE_AT 0x600000ULL
#define CFRAME_AT 0x7ffc0000ULL
#define DATA_STACK_AT 0x7f0000000000ULL
#define HEAP_AT 0x7e0000000000ULL
#define THREAD_POINTER 0x7d0000000740ULL
#define VECTOR_AT 0x610000ULL /* of the thread's blocks, its entry number 0 */
#define BLOCK_AT 0x620000ULL

struct segment {
	uint64_t start;
	uint64_t size;
	uint8_t *bytes;
};

static struct {
	struct segment segments[SEGMENTS_MAX];
	size_t n_segments;
	uint64_t fault_at;  /* reads of this byte fail; 0: none */
	unsigned faults;    /* how many did */
	unsigned fail_read; /* the n-th read from now on fails, from 1; 0: none */
	unsigned n_reads;
	unsigned losses[WIRE_LOSS_MAX];
	uint64_t known[KNOWN_MAX][2]; /* thread pointer, thread state */
	size_t n_known;
	uint64_t thread_pointer;
} invented;

static struct stack_scratch scratch;

static struct segment *segment_of(uint64_t address, uint64_t size)
{
	for (size_t i = 0; i < invented.n_segments; i++) {
		struct segment *segment = &invented.segments[i];

		if (address >= segment->start && size <= segment->size &&
		    address - segment->start <= segment->size - size)
			return segment;
	}
	return NULL;
}

static int read_user(void *ret, __u32 size, __u64 address)
{
	struct segment *segment = segment_of(address, size);
	bool fails = invented.fault_at >= address && invented.fault_at - address < size;

	invented.n_reads++;
	if (fails || invented.n_reads == invented.fail_read) {
		invented.faults++;
		return -14;
	}
	if (!segment)
		return -14;
	memcpy(ret, segment->bytes + (address - segment->start), size);
	return 0;
}

static void count_loss(enum wire_loss loss)
{
	invented.losses[loss]++;
}

static __u64 thread_pointer(void)
{
	return invented.thread_pointer;
}

static __u64 thread_recall(__u64 pointer)
{
	for (size_t i = 0; i < invented.n_known; i++) {
		if (invented.known[i][0] == pointer)
			return invented.known[i][1];
	}
	return 0;
}

static void thread_remember(__u64 pointer, __u64 tstate)
{
	assert_true(invented.n_known < KNOWN_MAX);
	invented.known[invented.n_known][0] = pointer;
	invented.known[invented.n_known][1] = tstate;
	invented.n_known++;
}

static void memory_add(uint64_t start, uint64_t size)
{
	assert_true(invented.n_segments < SEGMENTS_MAX);
	invented.segments[invented.n_segments++] = (struct segment){start, size, calloc(1, size)};
}

static void memory_write(uint64_t address, const void *value, size_t size)
{
	struct segment *segment = segment_of(address, size);

	assert_non_null(segment);
	memcpy(segment->bytes + (address - segment->start), value, size);
}

static void write_u64(uint64_t address, uint64_t value)
{
	memory_write(address, &value, sizeof(value));
}

static int memory_forget(void **state)
{
	(void)state;
	for (size_t i = 0; i < invented.n_segments; i++)
		free(invented.segments[i].bytes);
	memset(&invented, 0, sizeof(invented));
	return 0;
}

static struct capture_stack_layout layout;

/* The thread's block of a library that was loaded later, and the vector that leads to it. */
static void thread_local_begin(void)
{
	uint64_t entry_bytes = layout.tls_dtv_entry_bytes;
	uint64_t count_at = entry_bytes == 16 ? VECTOR_AT - 16 : VECTOR_AT;

	memory_add(VECTOR_AT - 16, 16 + (layout.tls_module + 1) * entry_bytes);
	memory_add(BLOCK_AT, 4096);
	write_u64(THREAD_POINTER + 8, VECTOR_AT);
	write_u64(count_at, layout.tls_module);
	write_u64(VECTOR_AT + layout.tls_module * entry_bytes, BLOCK_AT);
	write_u64(BLOCK_AT + layout.tls_module_offset, TSTATE_AT);
}

/* A memory with a thread state and no frame, laid out so. */
static void memory_begin(const struct capture_stack_layout *use)
{
	const struct capture_options options = {.pid = 1, .layout = *use};

	memory_forget(NULL);
	layout = *use;
	assert_int_equal(settings_fill(&options, &settings, NULL), 0);
	memory_add(TSTATE_AT, 4096);
	memory_add(THREAD_POINTER - 64, 128);
	invented.thread_pointer = THREAD_POINTER;
	if (layout.tstate_current_address) {
		memory_add(RUNTIME_AT, 8);
		write_u64(RUNTIME_AT, TSTATE_AT);
	} else if (layout.tls_module) {
		thread_local_begin();
	} else {
		write_u64(THREAD_POINTER + (uint64_t)layout.tstate_tls_offset, TSTATE_AT);
	}
	write_u64(TSTATE_AT + layout.tstate_thread_id, THREAD_POINTER);
	if (layout.cframe_current_frame != UINT32_MAX) {
		memory_add(CFRAME_AT, 64);
		write_u64(TSTATE_AT + layout.tstate_frame, CFRAME_AT);
	}
}

static void frame_set_current(uint64_t frame)
{
	if (layout.cframe_current_frame != UINT32_MAX)
		write_u64(CFRAME_AT + layout.cframe_current_frame, frame);
	else
		write_u64(TSTATE_AT + layout.tstate_frame, frame);
}

static void frame_write(uint64_t frame, uint64_t code, uint64_t position, uint64_t previous,
			uint8_t owner)
{
	write_u64(frame + layout.frame_code, code);
	write_u64(frame + layout.frame_previous, previous);
	memory_write(frame + layout.frame_position, &position, layout.frame_position_bytes);
	if (layout.frame_owner != UINT32_MAX)
		memory_write(frame + layout.frame_owner, &owner, 1);
}

enum { OWNED_BY_THREAD = 0, OWNED_BY_GENERATOR = 1, OWNED_BY_C = 3 };

#define CODE_OF(i) (0x10000ULL + 0x100ULL * (uint64_t)(i))
#define POSITION_OF(i) (0x20000ULL + 0x10ULL * (uint64_t)(i))

static uint64_t walk(void)
{
	return stack_walk(&scratch, true, 1);
}

#endif
