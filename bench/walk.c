/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the programs take with warm caches, called in a loop on an invented
 * stack of ours: the part that is theirs.  After a trap (bench/capture.c) the
 * same work meets cold caches and TLBs, and takes as much longer as the
 * machine's traps are rough.
 */
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "capture/settings.h"

#include "bench.skel.h"

#define CALLS 1000.0 /* bpf/bench.bpf.c, ROUNDS */
#define ROUNDS 200   /* of which the fastest counts */
#define FRAME_BYTES 144
#define FRAMES_MAX 100
#define POOL_BYTES 16384
#define RING_BYTES (1u << 20)

DEFINE_CLEANUP(struct bench_bpf *, bench_bpf__destroy)
DEFINE_CLEANUP(struct ring_buffer *, ring_buffer__free)

/* As 3.11 has it. */
static const struct capture_stack_layout layout = {
	.minor = 11,
	.tstate_frame = 56,
	.cframe_current_frame = 8,
	.tstate_thread_id = 152,
	.frame_code = 32,
	.frame_previous = 48,
	.frame_position = 56,
	.frame_position_bytes = 8,
	.frame_owner = 69,
	.object_type = 8,
	.pool_size = POOL_BYTES,
};

static struct {
	uint8_t pool[POOL_BYTES] __attribute__((aligned(POOL_BYTES)));
	uint8_t data_stack[FRAMES_MAX * FRAME_BYTES] __attribute__((aligned(4096)));
	uint64_t tstate_current;
	uint64_t tstate[32];
	uint64_t cframe[2];
} invented;

static void invent_stack(size_t n_frames)
{
	uint64_t previous = 0;

	memset(invented.pool, 0, sizeof(invented.pool));
	for (size_t i = 0; i < n_frames; i++) {
		uint8_t *frame = invented.data_stack + i * FRAME_BYTES;
		const uint64_t code = 0x10000 + i * 0x100, position = 0x20000 + i * 2;

		memcpy(frame + layout.frame_code, &code, sizeof(code));
		memcpy(frame + layout.frame_previous, &previous, sizeof(previous));
		memcpy(frame + layout.frame_position, &position, sizeof(position));
		previous = (uintptr_t)frame;
	}
	invented.cframe[1] = previous;
	invented.tstate[7] = (uintptr_t)invented.cframe;
	invented.tstate_current = (uintptr_t)invented.tstate;
}

static int ignore(void *context, void *data, size_t size)
{
	(void)context;
	(void)data;
	(void)size;
	return 0;
}

static double run_ns(struct bench_bpf *skeleton, const struct bpf_program *program,
		     struct ring_buffer *ring)
{
	double best = 0;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t context[6] = {0};
		LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = context,
			    .ctx_size_in = sizeof(context));
		double each;

		if (bpf_prog_test_run_opts(bpf_program__fd(program), &options))
			return -1;
		each = (double)skeleton->bss->bench_ns / CALLS;
		if (round == 0 || each < best)
			best = each;
		ring_buffer__consume(ring);
	}
	return best;
}

int main(void)
{
	static const size_t depths[] = {1, 10, 30, FRAMES_MAX};
	struct capture_options options = {.pid = getpid(), .layout = layout};
	CLEANUP(bench_bpf__destroy) struct bench_bpf *skeleton = bench_bpf__open();
	CLEANUP(ring_buffer__free) struct ring_buffer *ring = NULL;
	struct settings settings;

	options.layout.tstate_current_address = (uintptr_t)&invented.tstate_current;
	if (!skeleton || settings_fill(&options, &settings, NULL) < 0)
		return 1;
	settings.wakeup_bytes = RING_BYTES; /* a level that it does not reach */
	memcpy((void *)&skeleton->rodata->settings, &settings, sizeof(settings));
	bpf_map__set_max_entries(skeleton->maps.ring, RING_BYTES);
	if (bench_bpf__load(skeleton))
		return 1;
	ring = ring_buffer__new(bpf_map__fd(skeleton->maps.ring), ignore, NULL, NULL);
	if (!ring)
		return 1;
	skeleton->bss->bench_block = (uintptr_t)invented.pool + 64;
	printf("with warm caches, nanoseconds   frames   stack   allocation in all\n");
	for (size_t i = 0; i < ARRAY_SIZE(depths); i++) {
		invent_stack(depths[i]);
		printf("%38zu %7.1f %10.1f\n", depths[i],
		       run_ns(skeleton, skeleton->progs.bench_walk, ring),
		       run_ns(skeleton, skeleton->progs.bench_alloc, ring));
	}
	return 0;
}
