/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The ring, the table of stacks that were sent, and the walker's scratch
 * memory.
 */
#ifndef PYLEAKD_BPF_EMIT_H
#define PYLEAKD_BPF_EMIT_H

#include "pystack.bpf.h"

#define RING_LOOK_EVERY 256 /* records between two looks at the ring's level; a power of two */

/* Its size is set when it is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} ring SEC(".maps");

/*
 * Waking the consumer costs more than a record does, so the consumer looks by
 * itself now and then, and is woken only when the ring fills faster than that.
 */
static __always_inline __u64 wakeup_flags(void)
{
	struct counters *here = counters_here();

	if (here && !(++here->records & (RING_LOOK_EVERY - 1)) &&
	    bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= settings.wakeup_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

#define record_reserve(size)                                                                      \
	({                                                                                        \
		void *record_ = bpf_ringbuf_reserve(&ring, size, 0);                              \
		if (!record_)                                                                     \
			count_loss(WIRE_LOSS_RING_FULL);                                          \
		record_;                                                                          \
	})

static __always_inline void record_submit(void *record)
{
	bpf_ringbuf_submit(record, wakeup_flags());
}

/*
 * Which stacks were sent: a table of buckets that each hold eight ids, a cache
 * line.  It never fills up: a ninth id takes the place of another, whose
 * frames are then sent once more when it comes again, which does no harm.  A
 * look-up takes no lock and no allocation.
 *
 *	bucket = id's low bits      [ id id id 0 0 0 0 0 ]
 */
#define SENT_BUCKETS 32768 /* a power of two; 2 MiB, 262,144 stacks */
#define SENT_WAYS 8

struct sent_bucket {
	__u64 ids[SENT_WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SENT_BUCKETS);
	__type(key, __u32);
	__type(value, struct sent_bucket);
} sent SEC(".maps");

static __always_inline struct sent_bucket *sent_bucket(__u64 id)
{
	__u32 index = id & (SENT_BUCKETS - 1);

	return bpf_map_lookup_elem(&sent, &index);
}

static __always_inline bool stack_was_sent(__u64 id)
{
	const struct sent_bucket *bucket = sent_bucket(id);

	if (!bucket)
		return false;
#pragma unroll
	for (int i = 0; i < SENT_WAYS; i++) {
		if (bucket->ids[i] == id)
			return true;
	}
	return false;
}

static __always_inline void stack_mark_sent(__u64 id)
{
	struct sent_bucket *bucket = sent_bucket(id);

	if (!bucket)
		return;
#pragma unroll
	for (int i = 0; i < SENT_WAYS; i++) {
		if (!bucket->ids[i]) {
			bucket->ids[i] = id;
			return;
		}
	}
	/* Any place will do; bits of the id that did not choose the bucket spread it. */
	bucket->ids[id >> 32 & (SENT_WAYS - 1)] = id;
}

/*
 * Scratch memory of the walk, several for each CPU: a thread that is preempted
 * in the middle of its walk keeps its own until it runs again.
 */
#define SCRATCH_SLOTS 6

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCH_SLOTS);
	__type(key, __u32);
	__type(value, struct stack_scratch);
} scratches SEC(".maps");

static __always_inline struct stack_scratch *scratch_claim(void)
{
#pragma unroll
	for (int i = 0; i < SCRATCH_SLOTS; i++) {
		__u32 index = i;
		struct stack_scratch *scratch = bpf_map_lookup_elem(&scratches, &index);

		if (!scratch)
			return 0;
		if (!__sync_lock_test_and_set(&scratch->busy, 1))
			return scratch;
	}
	return 0;
}

static __always_inline void scratch_release(struct stack_scratch *scratch)
{
	*(volatile __u32 *)&scratch->busy = 0;
}

#endif
