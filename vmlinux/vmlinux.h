/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The kernel types that the BPF programs need, and no others.  Structures are
 * matched by name against the running kernel's BTF when the programs are
 * loaded (CO-RE: preserve_access_index), so that only the members named here
 * have to exist, wherever they lie.
 *
 * struct pt_regs is the exception: its layout is ABI (arch/x86/include/asm/
 * ptrace.h, unchanged since it was unified in 2.6.25), and the verifier of a
 * uprobe program takes accesses to it as they stand.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef int pid_t;
typedef _Bool bool;
enum { false = 0, true = 1 };

/* include/uapi/linux/bpf.h: numbers are ABI. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum bpf_func_id {
	BPF_FUNC_loop = 181,
};
enum {
	BPF_ANY = 0,
	BPF_F_MMAPABLE = 1024,
	BPF_NOEXIST = 1,
};
enum {
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
};

struct pt_regs {
	unsigned long r15;
	unsigned long r14;
	unsigned long r13;
	unsigned long r12;
	unsigned long bp;
	unsigned long bx;
	unsigned long r11;
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long cs;
	unsigned long flags;
	unsigned long sp;
	unsigned long ss;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct thread_struct {
	unsigned long fsbase;
};

struct mm_struct {
	unsigned long brk;
};

struct signal_struct {
	atomic_t live; /* threads that have not begun to exit */
};

struct task_struct {
	struct mm_struct *mm;
	pid_t pid;
	pid_t tgid;
	struct signal_struct *signal;
	struct thread_struct thread;
};

struct linux_binprm;

#pragma clang attribute pop

#endif
