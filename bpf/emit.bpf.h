/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The ring, the table of stacks that were sent, and the walker's scratch
 * memory.
 */
#ifndef PYLEAKD_BPF_EMIT_H
#define PYLEAKD_BPF_EMIT_H

#include "pystack.bpf.h"

/*
 * Memory of each CPU, in one piece: after a trap every page that is touched
 * costs a TLB miss, which is more than most of what is done here.
 *
 * Scratch memory of the walk comes several times: where preemption can't be
 * switched off, a thread that is preempted in the middle of its walk keeps its
 * own until it runs again.
 */
#define SCRATCH_SLOTS 4	 /* the arithmetic of scratch_claim_slot() depends on it */
#define RECENT_STACKS 32 /* a power of two */

struct here {
	struct counters counters;
	__u64 recent[RECENT_STACKS]; /* ids that were sent, by their low bits */
	__u64 busy;		     /* a bit for each slot in use */
	struct stack_scratch scratch[SCRATCH_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct here);
} per_cpu SEC(".maps");

static __always_inline struct here *cpu_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&per_cpu, &zero);
}

/* Atomic: another thread's hit may preempt this one on the same CPU. */
static __always_inline void count_loss(enum wire_loss loss)
{
	struct here *here = cpu_here();

	if (here)
		__sync_fetch_and_add(&here->counters.losses[loss & 15], 1);
}

/* The ring's level around which the consumer is woken. */
#define WAKEUP_SPAN_BYTES 8192

/* Its size is set when it is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} ring SEC(".maps");

/*
 * Waking the consumer costs more than a record does, so it looks by itself now
 * and then, and is woken only when the ring's level passes a mark.  Above the
 * mark it is awake: it goes on until the ring is empty.
 */
static __always_inline __u64 wakeup_flags(void)
{
	__u64 level = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	return level - settings.wakeup_bytes < WAKEUP_SPAN_BYTES ? BPF_RB_FORCE_WAKEUP
								 : BPF_RB_NO_WAKEUP;
}

#define record_reserve(size)                                                                       \
	({                                                                                         \
		void *record_ = bpf_ringbuf_reserve(&ring, size, 0);                               \
		if (!record_)                                                                      \
			count_loss(WIRE_LOSS_RING_FULL);                                           \
		record_;                                                                           \
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

static __always_inline bool stack_was_sent(struct here *here, __u64 id)
{
	const struct sent_bucket *bucket;

	if (here->recent[id & (RECENT_STACKS - 1)] == id)
		return true;
	bucket = sent_bucket(id);
	if (!bucket)
		return false;
#pragma unroll
	for (int i = 0; i < SENT_WAYS; i++) {
		if (bucket->ids[i] == id) {
			here->recent[id & (RECENT_STACKS - 1)] = id;
			return true;
		}
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

/* The lowest free slot's bit, or 0: none is free, or somebody got in between. */
static __always_inline __u64 scratch_try(struct here *here)
{
	__u64 busy = IN_MEMORY(here->busy);
	__u64 bit = ~busy & (busy + 1);

	if (bit >= 1 << SCRATCH_SLOTS || __sync_fetch_and_or(&here->busy, bit) & bit)
		return 0;
	return bit;
}

/*
 * Takes a slot.  Computed from its bit, not searched for: the verifier would
 * follow a walk through each slot found.
 */
static __always_inline struct stack_scratch *scratch_claim_slot(struct here *here)
{
	__u64 bit = scratch_try(here);
	struct stack_scratch *scratch;
	__u64 slot;

	/* It takes being preempted between two instructions, and that twice. */
	if (!bit)
		bit = scratch_try(here);
	if (!bit)
		return 0;
	slot = (bit >> 1) - (bit >> 3); /* 1, 2, 4, 8: 0, 1, 2, 3 */
	opaque(slot);
	scratch = &here->scratch[slot & (SCRATCH_SLOTS - 1)];
	scratch->slot_bit = bit;
	return scratch;
}

/*
 * Nobody else comes in between while preemption is off, which is cheaper than
 * two locked instructions (6.10: "bpf: Introduce
 * bpf_preempt_[disable,enable] kfuncs").  Slots can go when all kernels have it.
 */
extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;

/* Scratch memory until scratch_release(); 0: there is none left. */
static __always_inline struct stack_scratch *scratch_claim(struct here *here)
{
	if (!bpf_ksym_exists(bpf_preempt_disable))
		return scratch_claim_slot(here);
	bpf_preempt_disable();
	return &here->scratch[0];
}

static __always_inline void scratch_release(struct here *here, struct stack_scratch *scratch)
{
	if (bpf_ksym_exists(bpf_preempt_disable))
		bpf_preempt_enable();
	else
		__sync_fetch_and_and(&here->busy, ~scratch->slot_bit);
}

#endif
