/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mmap, munmap, mremap and brk, seen at their return, when arguments and
 * result are both at hand.  Preferably by a trampoline on the system call's
 * function, which concerns these calls only (fexit, 5.5); where the kernel has
 * none, by the raw tracepoint sys_exit, which makes every system call of the
 * host take the slow way out.  Neither needs tracefs.
 */
#ifndef PYLEAKD_BPF_MAPPINGS_H
#define PYLEAKD_BPF_MAPPINGS_H

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define SYSCALL_MMAP 9
#define SYSCALL_MUNMAP 11
#define SYSCALL_BRK 12
#define SYSCALL_MREMAP 25

#define ERRNO_MAX 4095 /* include/linux/err.h: results from -4095 on are errors */

/*
 * The target's break before its current call of brk, 0 if it is not known.
 * One process, whose allocator calls brk under a lock of its own.
 */
__u64 break_before;

/* The highest that it ever was: in windows only a new maximum is told, as growth. */
__u64 break_max;

/* They come too often for what they may cost: none is told until this is 0 again. */
__u32 mappings_silent;

static __always_inline bool syscall_failed(__u64 result)
{
	return result >= (__u64)-ERRNO_MAX;
}

static __always_inline struct wire_mapping *mapping_reserve(__u64 stack, __u32 tid, __u8 kind)
{
	struct here *here = cpu_here();
	struct wire_mapping *record;

	if (here)
		__sync_fetch_and_add(&here->counters.mappings, 1);
	record = record_reserve(sizeof(*record));
	if (!record)
		return 0;
	__builtin_memset(record, 0, sizeof(*record));
	record->header.kind = kind;
	record->header.site = 0xffff;
	record->header.tid = tid;
	record->stack = stack;
	return record;
}

/* The thread's id if the current process is the target, else 0. */
static __always_inline __u32 target_thread(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	return active && pid_tgid >> 32 == settings.target ? (__u32)pid_tgid : 0;
}

static __always_inline void mmap_returned(const struct pt_regs *regs, __u64 result, __u32 tid)
{
	struct wire_mapping *record;

	if (syscall_failed(result))
		return;
	record = mapping_reserve(stack_take(tid, false), tid, WIRE_MMAP);
	if (!record)
		return;
	record->address = result;
	record->size = regs->si;
	record->protection = regs->dx;
	record->map_flags = regs->r10;
	record_submit(record);
}

static __always_inline void munmap_returned(const struct pt_regs *regs, __u64 result, __u32 tid)
{
	struct wire_mapping *record;

	if (result)
		return;
	/* In windows nobody asks who gave memory back. */
	record = mapping_reserve(settings.windows ? 0 : stack_take(tid, false), tid, WIRE_MUNMAP);
	if (!record)
		return;
	record->address = regs->di;
	record->size = regs->si;
	record_submit(record);
}

static __always_inline void mremap_returned(const struct pt_regs *regs, __u64 result, __u32 tid)
{
	struct wire_mapping *record;

	if (syscall_failed(result))
		return;
	record = mapping_reserve(stack_take(tid, false), tid, WIRE_MREMAP);
	if (!record)
		return;
	record->old_address = regs->di;
	record->old_size = regs->si;
	record->size = regs->dx;
	record->address = result;
	record_submit(record);
}

/* brk returns the break as it is now; what changed nothing was a question or failed. */
static __always_inline void brk_returned(__u64 result, __u32 tid)
{
	__u64 before = break_before;
	struct wire_mapping *record;

	break_before = result;
	if (settings.windows) {
		before = break_max;
		if (result <= before)
			return;
		break_max = result;
	}
	if (result == before)
		return;
	record = mapping_reserve(stack_take(tid, false), tid, WIRE_BRK);
	if (!record)
		return;
	record->address = result;
	record->old_address = before;
	record_submit(record);
}

SEC("?fexit/__x64_sys_mmap")
int on_mmap(__u64 *ctx)
{
	__u32 tid = target_thread();

	if (tid && !mappings_silent)
		mmap_returned((const struct pt_regs *)ctx[0], ctx[1], tid);
	return 0;
}

SEC("?fexit/__x64_sys_munmap")
int on_munmap(__u64 *ctx)
{
	__u32 tid = target_thread();

	if (tid && !mappings_silent)
		munmap_returned((const struct pt_regs *)ctx[0], ctx[1], tid);
	return 0;
}

SEC("?fexit/__x64_sys_mremap")
int on_mremap(__u64 *ctx)
{
	__u32 tid = target_thread();

	if (tid && !mappings_silent)
		mremap_returned((const struct pt_regs *)ctx[0], ctx[1], tid);
	return 0;
}

SEC("?fentry/__x64_sys_brk")
int on_brk_enter(__u64 *ctx)
{
	if (target_thread())
		break_before = bpf_get_current_task_btf()->mm->brk;
	return 0;
}

SEC("?fexit/__x64_sys_brk")
int on_brk(__u64 *ctx)
{
	__u32 tid = target_thread();

	if (tid)
		brk_returned(ctx[1], tid);
	return 0;
}

/* Instead of the five above. On x86-64 the argument registers still hold at the exit. */
SEC("tp_btf/sys_exit")
int on_sys_exit(__u64 *ctx)
{
	const struct pt_regs *regs = (const struct pt_regs *)ctx[0];
	__u32 tid = target_thread();

	if (!tid)
		return 0;
	if (regs->orig_ax == SYSCALL_BRK)
		brk_returned(ctx[1], tid);
	if (mappings_silent)
		return 0;
	switch (regs->orig_ax) {
	case SYSCALL_MMAP:
		mmap_returned(regs, ctx[1], tid);
		break;
	case SYSCALL_MUNMAP:
		munmap_returned(regs, ctx[1], tid);
		break;
	case SYSCALL_MREMAP:
		mremap_returned(regs, ctx[1], tid);
		break;
	}
	return 0;
}

#endif
