/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The target's forks, execs and its end, by raw tracepoints: they need no
 * tracefs.  Sent as soon as they are attached, before the breakpoints and
 * whether or not other records flow: a child that is forked in between has
 * inherited breakpoints and must not be missed.
 */
#ifndef PYLEAKD_BPF_PROCESS_H
#define PYLEAKD_BPF_PROCESS_H

static __always_inline int process_emit(__u8 kind, __u8 flags, __u32 tid, __u32 pid)
{
	struct wire_process *record = record_reserve(sizeof(*record));

	if (!record)
		return -1;
	record->header.kind = kind;
	record->header.flags = flags;
	record->header.site = 0xffff;
	record->header.tid = tid;
	record->pid = pid;
	record->reserved = 0;
	/* Rare, and somebody waits for it. */
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int on_fork(__u64 *ctx)
{
	const struct task_struct *parent = (const struct task_struct *)ctx[0];
	const struct task_struct *child = (const struct task_struct *)ctx[1];

	/* A thread has its parent's group. */
	if (parent->tgid == settings.target && child->tgid != parent->tgid)
		process_emit(WIRE_FORK, child->mm == parent->mm ? WIRE_SHARES_MEMORY : 0,
			     parent->pid, child->tgid);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *ctx)
{
	const struct task_struct *task = (const struct task_struct *)ctx[0];

	if (task->tgid != settings.target)
		return 0;
	process_emit(WIRE_EXEC, 0, task->pid, task->tgid);
	active = 0; /* breakpoints may be in the new program too: until they are taken out */
	return 0;
}

/*
 * Of every thread that ends: what is remembered of it goes, lest another one
 * with its stack's address inherit it.  do_exit() has counted signal->live
 * down before it gets here (kernel/exit.c, 5.15 to 6.18).
 */
SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *ctx)
{
	const struct task_struct *task = (const struct task_struct *)ctx[0];
	__u64 pointer;
	__u32 tid;

	if (task->tgid != settings.target)
		return 0;
	pointer = task->thread.fsbase;
	tid = task->pid;
	bpf_map_delete_elem(&threads, &pointer);
	bpf_map_delete_elem(&in_call, &tid);
	if (!task->signal->live.counter)
		process_emit(WIRE_EXIT, 0, tid, task->tgid);
	return 0;
}

#endif
