/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The programs' insides in a loop, without a trap before each: what they take
 * when the caches are warm (bench/walk.c).  Run by BPF_PROG_TEST_RUN, never
 * attached.
 */
#include "capture.bpf.c"

#define ROUNDS 1000

__u64 bench_block;
__u64 bench_ns;

__noinline int bench_one_alloc(__u32 tid)
{
	struct hit hit = {.cookie = SITE_ALLOC, .tid = tid};
	struct here *here = cpu_here();
	__u64 block = bench_block;

	if (!here)
		return 0;
	__sync_fetch_and_add(&here->counters.hits[SITE_ALLOC], 1);
	return emit_alloc(&hit, WIRE_ALLOC, 0, block, pool_block_size(block),
			  stack_take(tid, true));
}

SEC("raw_tp/sys_enter")
int bench_alloc(void *ctx)
{
	__u64 start = bpf_ktime_get_ns();

	for (int i = 0; i < ROUNDS; i++)
		bench_one_alloc(i);
	bench_ns = bpf_ktime_get_ns() - start;
	return 0;
}

SEC("raw_tp/sys_enter")
int bench_walk(void *ctx)
{
	__u64 start = bpf_ktime_get_ns();

	for (int i = 0; i < ROUNDS; i++)
		stack_take(i, true);
	bench_ns = bpf_ktime_get_ns() - start;
	return 0;
}
