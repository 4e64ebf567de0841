/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The probes' programs: each takes a pointer from the registers at its site,
 * adds size or type and the Python stack, and puts a record into the ring.
 * What a site means is in its cookie (wire.h).  Every early exit that loses
 * something counts it.
 *
 * The programs are preemptible: another thread's hit can come on the same CPU
 * while one is being handled, so per-CPU memory is claimed before use.
 */
#include "pystack.bpf.h"

#include "emit.bpf.h"
#include "registers.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Written by the daemon while the programs run; a switch and a seed.  Switched
 * off for good here when the interpreter's end has come.
 */
__u32 active;
__u64 stack_seed;

/* Hits of this thread that wait for the other half of a call. */
struct entered {
	__u64 old_address;
	__u64 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, THREADS_MAX);
	__type(key, __u32);
	__type(value, struct entered);
} in_call SEC(".maps");

#include "process.bpf.h"

#include "window.bpf.h"

#include "cookie.bpf.h"

struct hit {
	__u64 cookie;
	__u32 tid;
};

/* False: this hit is none of ours. Hits are counted by kind once they are known to be. */
static __always_inline bool hit_begin(struct pt_regs *ctx, __u32 program, struct hit *ret)
{
	struct here *here;
	__u64 pid_tgid;

	if (!active)
		return false;
	pid_tgid = bpf_get_current_pid_tgid();
	if (pid_tgid >> 32 != settings.target)
		return false;
	ret->tid = pid_tgid;
	ret->cookie = 0;
	if (!cookie_take(ctx, program, &ret->cookie)) {
		if (settings.windows && ret->cookie)
			window_admits(ret->cookie, ret->tid, false);
		return false;
	}
	here = cpu_here();
	if (!here)
		return false;
	__sync_fetch_and_add(&here->counters.hits[ret->cookie & 15], 1);
	return !settings.windows || window_admits(ret->cookie, ret->tid, true);
}

static __always_inline void header_fill(struct wire_header *header, const struct hit *hit,
					__u8 kind, __u8 flags)
{
	header->kind = kind;
	header->flags = flags;
	header->site = hit->cookie >> 48;
	header->tid = hit->tid;
}

/*
 * Sends a stack's frames unless it is known that they were sent.  The consumer
 * is woken: it has to read the code objects before they go, and a module's is
 * gone when its import is over.  New stacks are rare after a while.
 */
static __always_inline void stack_send(struct here *here, struct stack_scratch *scratch, __u64 id,
				       __u32 tid)
{
	__u32 n_frames = scratch->record.n_frames;

	if (id < WIRE_STACK_FIRST || stack_was_sent(here, id))
		return;
	scratch->record.header.kind = WIRE_STACK;
	scratch->record.header.flags = 0;
	scratch->record.header.site = 0xffff;
	scratch->record.header.tid = tid;
	scratch->record.id = id;
	opaque(n_frames);
	if (n_frames > WIRE_MAX_FRAMES)
		return;
	if (bpf_ringbuf_output(&ring, &scratch->record,
			       sizeof(struct wire_stack) + n_frames * sizeof(struct wire_frame),
			       BPF_RB_FORCE_WAKEUP)) {
		count_loss(WIRE_LOSS_STACK_RECORD);
		return;
	}
	stack_mark_sent(id);
}

/*
 * The id of this thread's Python stack, whose frames precede any use of it in
 * the ring.  A global function: the verifier looks at it once a program,
 * not once for each way to get here.
 */
__noinline __u64 stack_take(__u32 tid, __u32 with_gil)
{
	struct here *here = cpu_here();
	struct stack_scratch *scratch;
	__u64 id;

	if (!here)
		return WIRE_STACK_UNREADABLE;
	scratch = scratch_claim(here);
	if (!scratch) {
		count_loss(WIRE_LOSS_REENTERED);
		return WIRE_STACK_UNREADABLE;
	}
	id = stack_walk(scratch, with_gil, stack_seed);
	stack_send(here, scratch, id, tid);
	scratch_release(here, scratch);
	return id;
}

/* --- pymalloc --- */

/*
 * The bytes that a block of pymalloc's takes, from its pool's size class. 0 if
 * the pool can't be read.
 */
static __always_inline __u64 pool_block_size(__u64 block)
{
	__u64 pool = block & ~((__u64)settings.pool_bytes - 1);
	__u32 class;

	if (read_user(&class, sizeof(class), pool + settings.pool_size_index))
		return 0;
	return ((__u64) class + 1) * 16;
}

/*
 * A fresh pool's header may not have its class yet; the register that will be
 * stored there has.
 */
static __always_inline __u64 fresh_block_size(struct pt_regs *ctx, __u64 cookie)
{
	__u32 holder = cookie_size_register(cookie);

	if (!holder)
		return 0;
	return ((__u64)(__u32)register_read(ctx, holder - 1) + 1) * 16;
}

static __always_inline int emit_alloc(const struct hit *hit, __u8 kind, __u8 flags, __u64 address,
				      __u64 size, __u64 stack)
{
	struct wire_alloc *record = record_reserve(sizeof(*record));

	if (!record)
		return 0;
	if (!size) {
		flags |= WIRE_SIZE_UNKNOWN;
		count_loss(WIRE_LOSS_SIZE_UNREADABLE);
	}
	header_fill(&record->header, hit, kind, flags);
	record->address = address;
	record->stack = stack;
	record->size = size;
	record_submit(record);
	return 0;
}

SEC("uprobe.multi")
int on_alloc(struct pt_regs *ctx)
{
	struct hit hit;
	__u64 block;
	bool fresh;

	if (!hit_begin(ctx, PROGRAM_ALLOC, &hit))
		return 0;
	if (site_value(ctx, hit.cookie, &block)) {
		count_loss(WIRE_LOSS_BLOCK_UNREADABLE);
		return 0;
	}
	fresh = cookie_kind(hit.cookie) == SITE_FRESH;
	return emit_alloc(&hit, WIRE_ALLOC, fresh ? WIRE_FRESH_POOL : 0, block,
			  fresh ? fresh_block_size(ctx, hit.cookie) : pool_block_size(block),
			  stack_take(hit.tid, true));
}

/* Instead of the above in groups that tell new pools: the others of these are nothing new. */
SEC("uprobe.multi")
int on_new_pool(struct pt_regs *ctx)
{
	struct hit hit;
	__u64 block, pool;

	if (!hit_begin(ctx, PROGRAM_NEW_POOL, &hit))
		return 0;
	if (site_value(ctx, hit.cookie, &block)) {
		count_loss(WIRE_LOSS_BLOCK_UNREADABLE);
		return 0;
	}
	pool = block & ~((__u64)settings.pool_bytes - 1);
	if (!pool_is_new(pool))
		return 0;
	return emit_alloc(&hit, WIRE_NEW_POOL, 0, pool, fresh_block_size(ctx, hit.cookie),
			  stack_take(hit.tid, true));
}

static __always_inline int emit_free(struct pt_regs *ctx, const struct hit *hit, __u8 kind)
{
	struct wire_free *record;
	__u64 address;

	if (site_value(ctx, hit->cookie, &address)) {
		count_loss(WIRE_LOSS_BLOCK_UNREADABLE);
		return 0;
	}
	if (!address) /* free(NULL) */
		return 0;
	record = record_reserve(sizeof(*record));
	if (!record)
		return 0;
	header_fill(&record->header, hit, kind, 0);
	record->address = address;
	record_submit(record);
	return 0;
}

/*
 * Has the interpreter set out to free all that it has?  Py_FinalizeEx names the
 * thread state that does, after the last thread was joined and the last atexit
 * function has returned, and before the first object goes (pylifecycle.c,
 * _PyRuntimeState_SetFinalizing(), 3.8 to 3.15).  Asked of frees alone: the
 * first one behind that store is the first that must not count.
 */
static __always_inline bool finalization_begins(void)
{
	__u64 finalizing, current;

	if (!settings.finalizing_address ||
	    read_user(&finalizing, sizeof(finalizing), settings.finalizing_address) || !finalizing)
		return false;
	/* Another thread may free without the GIL; the word itself is believed if they agree. */
	return !tstate_current(&current) && current == finalizing;
}

/* SITE_FREE, SITE_DESTROY, SITE_NATIVE_FREE */
SEC("uprobe.multi")
int on_free(struct pt_regs *ctx)
{
	struct hit hit;

	if (!hit_begin(ctx, PROGRAM_FREE, &hit))
		return 0;
	if (finalization_begins()) {
		/* Where the ring has no room, the next free tries again. */
		if (!process_emit(WIRE_FINALIZE, 0, hit.tid, settings.target))
			active = 0;
		return 0;
	}
	switch (cookie_kind(hit.cookie)) {
	case SITE_NATIVE_FREE:
		return emit_free(ctx, &hit, WIRE_NATIVE_FREE);
	case SITE_DESTROY:
		return emit_free(ctx, &hit, WIRE_DESTROY);
	default:
		return emit_free(ctx, &hit, WIRE_FREE);
	}
}

/*
 * A constructor may return what was there before, with one more reference.
 * ob_refcnt stands before ob_type (Include/object.h, 3.8 to 3.15, builds with a
 * GIL); its upper half is something else from 3.12 on.
 */
static __always_inline bool object_is_new(__u64 object)
{
	__u32 count;

	return !read_user(&count, sizeof(count), object + settings.object_type - 8) && count == 1;
}

SEC("uprobe.multi")
int on_create(struct pt_regs *ctx)
{
	struct wire_create *record;
	__u64 object, type, stack;
	__u8 flags = 0;
	struct hit hit;

	if (!hit_begin(ctx, PROGRAM_CREATE, &hit))
		return 0;
	if (site_value(ctx, hit.cookie, &object)) {
		count_loss(WIRE_LOSS_BLOCK_UNREADABLE);
		return 0;
	}
	if ((hit.cookie & 15) == SITE_CALLER) {
		if (!object_is_new(object))
			return 0;
		flags = WIRE_FROM_CALLER;
	}
	if (read_user(&type, sizeof(type), object + settings.object_type)) {
		type = 0;
		flags |= WIRE_TYPE_UNKNOWN;
	}
	stack = stack_take(hit.tid, true);
	record = record_reserve(sizeof(*record));
	if (!record)
		return 0;
	header_fill(&record->header, &hit, WIRE_CREATE, flags);
	record->address = object;
	record->stack = stack;
	record->type = type;
	record_submit(record);
	return 0;
}

/* --- the C library --- */

#define CHUNK_IS_MMAPPED 2ULL /* glibc, malloc/malloc.c: IS_MMAPPED */
#define CHUNK_FLAGS 7ULL
#define CHUNK_PAGE_BYTES 4096ULL

/*
 * What malloc_usable_size() would say (glibc, malloc/malloc.c, chunksize and
 * memsize): the size word before the block counts the chunk's header of one
 * word.  In a chunk that was mapped by itself two words are header; up to 2.41
 * its size counts both, and with the word before it, which says how far into
 * the mapping the chunk begins, makes whole pages; from 2.42 on it counts one
 * (seen in 2.31, 2.36, 2.41 and 2.42).  0: unreadable.
 */
static __always_inline __u64 chunk_usable_size(__u64 address)
{
	__u64 words[2]; /* what is before the chunk, or its offset; its size */
	__u64 header = 8;

	if (read_user(words, sizeof(words), address - sizeof(words)))
		return 0;
	if (words[1] & CHUNK_IS_MMAPPED) {
		__u64 end = (words[0] & ~CHUNK_FLAGS) + (words[1] & ~CHUNK_FLAGS);

		if (!(end & (CHUNK_PAGE_BYTES - 1)))
			header = 16;
	}
	words[1] &= ~CHUNK_FLAGS;
	return words[1] > header ? words[1] - header : 0;
}

/* Does the allocator's call come from the interpreter's own text? */
static __always_inline __u8 caller_flags(struct pt_regs *ctx, __u64 cookie)
{
	__u32 slot = cookie_return_slot(cookie);
	__u64 caller;

	if (!slot || read_user(&caller, sizeof(caller), ctx->sp + 8 * (slot - 1)))
		return 0;
	return caller >= settings.interpreter_start && caller < settings.interpreter_end
		       ? WIRE_FROM_INTERPRETER
		       : 0;
}

static __always_inline int emit_native_alloc(const struct hit *hit, __u64 address, __u8 flags)
{
	if (!address) /* it failed */
		return 0;
	return emit_alloc(hit, WIRE_NATIVE_ALLOC, flags, address, chunk_usable_size(address),
			  stack_take(hit->tid, false));
}

SEC("uprobe.multi")
int on_native_alloc(struct pt_regs *ctx)
{
	struct hit hit;
	__u64 address;

	if (!hit_begin(ctx, PROGRAM_NATIVE_ALLOC, &hit))
		return 0;
	if (site_value(ctx, hit.cookie, &address)) {
		count_loss(WIRE_LOSS_BLOCK_UNREADABLE);
		return 0;
	}
	return emit_native_alloc(&hit, address, caller_flags(ctx, hit.cookie));
}

/* At the first instruction of an allocating function: who calls it is on top of the stack. */
SEC("uprobe.multi")
int on_native_enter(struct pt_regs *ctx)
{
	struct entered entered = {};
	__u64 caller;
	struct hit hit;

	if (!hit_begin(ctx, PROGRAM_NATIVE_ENTER, &hit))
		return 0;
	if (!read_user(&caller, sizeof(caller), ctx->sp) && caller >= settings.interpreter_start &&
	    caller < settings.interpreter_end)
		entered.flags = WIRE_FROM_INTERPRETER;
	if (bpf_map_update_elem(&in_call, &hit.tid, &entered, BPF_ANY))
		count_loss(WIRE_LOSS_THREAD_MAP_FULL);
	return 0;
}

/* A uretprobe, where no site before the return names the result. */
SEC("uprobe.multi")
int on_native_return(struct pt_regs *ctx)
{
	struct entered *entered;
	struct hit hit;
	__u8 flags = 0;

	if (!hit_begin(ctx, PROGRAM_NATIVE_RETURN, &hit))
		return 0;
	entered = bpf_map_lookup_elem(&in_call, &hit.tid);
	if (entered) {
		flags = entered->flags;
		bpf_map_delete_elem(&in_call, &hit.tid);
	}
	return emit_native_alloc(&hit, ctx->ax, flags);
}

SEC("uprobe.multi")
int on_realloc_enter(struct pt_regs *ctx)
{
	struct entered entered = {};
	struct hit hit;

	if (!hit_begin(ctx, PROGRAM_REALLOC_ENTER, &hit))
		return 0;
	if (site_value(ctx, hit.cookie, &entered.old_address)) {
		count_loss(WIRE_LOSS_BLOCK_UNREADABLE);
		return 0;
	}
	if (bpf_map_update_elem(&in_call, &hit.tid, &entered, BPF_ANY))
		count_loss(WIRE_LOSS_THREAD_MAP_FULL);
	return 0;
}

/*
 * A realloc that fails gets here with 0 and frees nothing, unless it was asked
 * for 0 bytes: that one has freed the block, which its own site reports.
 */
SEC("uprobe.multi")
int on_realloc_return(struct pt_regs *ctx)
{
	struct wire_realloc *record;
	struct entered *entered;
	__u64 address, size, stack;
	__u64 old_address = 0;
	__u8 flags = 0;
	struct hit hit;

	if (!hit_begin(ctx, PROGRAM_REALLOC_RETURN, &hit))
		return 0;
	entered = bpf_map_lookup_elem(&in_call, &hit.tid);
	if (entered) {
		old_address = entered->old_address;
		bpf_map_delete_elem(&in_call, &hit.tid);
	}
	if (site_value(ctx, hit.cookie, &address)) {
		count_loss(WIRE_LOSS_BLOCK_UNREADABLE);
		return 0;
	}
	if (!address)
		return 0;
	size = chunk_usable_size(address);
	if (!size) {
		flags |= WIRE_SIZE_UNKNOWN;
		count_loss(WIRE_LOSS_SIZE_UNREADABLE);
	}
	flags |= caller_flags(ctx, hit.cookie);
	stack = stack_take(hit.tid, false);
	record = record_reserve(sizeof(*record));
	if (!record)
		return 0;
	header_fill(&record->header, &hit, WIRE_NATIVE_REALLOC, flags);
	record->old_address = old_address;
	record->address = address;
	record->stack = stack;
	record->size = size;
	record_submit(record);
	return 0;
}

/* For the bench: what a hit costs before any of the above. */
SEC("uprobe.multi")
int on_nothing(struct pt_regs *ctx)
{
	return 0;
}

#include "mappings.bpf.h"
