/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The consumer's side of the ring. */
#include <errno.h>
#include <string.h>

#include "capture/capture_private.h"

/* Any error will do that libbpf itself does not return: it ends a round that has had enough. */
#define ENOUGH (-ECANCELED)

static size_t record_size_min(uint8_t kind)
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
	}
	return 0;
}

bool capture_record_is_whole(const void *record, size_t size)
{
	struct wire_header header;
	struct wire_stack stack;
	size_t min;

	if (size < sizeof(header))
		return false;
	memcpy(&header, record, sizeof(header));
	min = record_size_min(header.kind);
	if (!min || size < min)
		return false;
	if (header.kind != WIRE_STACK)
		return true;
	memcpy(&stack, record, sizeof(stack));
	return stack.n_frames <= WIRE_MAX_FRAMES &&
	       size >= sizeof(stack) + stack.n_frames * sizeof(struct wire_frame);
}

static int take_sample(void *context, void *data, size_t size)
{
	struct capture *capture = context;

	if (capture_record_is_whole(data, size))
		capture->consume(capture->consume_context, data, size);
	else
		capture->malformed++;
	return --capture->consume_left ? 0 : ENOUGH;
}

int ring_open(struct capture *capture)
{
	capture->ring = ring_buffer__new(bpf_map__fd(capture->skeleton->maps.ring), take_sample,
					 capture, NULL);
	return capture->ring ? 0 : -errno;
}

int capture_fd(const struct capture *capture)
{
	return capture->ring ? ring_buffer__epoll_fd(capture->ring) : -EBADF;
}

int capture_consume(struct capture *capture, capture_consumer *consume, void *context,
		    size_t max_records)
{
	size_t max = max_records > INT32_MAX ? INT32_MAX : max_records;
	int r;

	if (!capture->ring)
		return -EBADF;
	if (!max)
		return 0;
	capture->consume = consume;
	capture->consume_context = context;
	capture->consume_left = max;
	r = ring_buffer__consume(capture->ring);
	if (r < 0 && r != ENOUGH)
		return r;
	return (int)(max - capture->consume_left);
}

uint64_t capture_produced(const struct capture *capture)
{
	return capture->ring ? ring__producer_pos(ring_buffer__ring(capture->ring, 0)) : 0;
}

uint64_t capture_consumed(const struct capture *capture)
{
	return capture->ring ? ring__consumer_pos(ring_buffer__ring(capture->ring, 0)) : 0;
}
