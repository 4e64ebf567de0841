/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * All that the frame walker asks of its surroundings.  Compiled for BPF these
 * are helpers and maps; compiled for the host they are functions of whoever
 * includes it: reads of a recording, or of a memory that a test invented.
 * The only header that knows of the two builds.
 */
#ifndef PYLEAKD_BPF_HELPERS_H
#define PYLEAKD_BPF_HELPERS_H

#ifdef __bpf__

#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include <bpf/bpf_core_read.h>

#include "pyleakd/settings.h"

#define SETTINGS_STORAGE const volatile

/*
 * Keeps clang from concluding anything about a value, so that the check that
 * follows is still there when the verifier looks for it.
 */
#define opaque(value) asm volatile("" : "+r"(value))

/* Wherever a foreign pointer leads to: x86-64 does not mind, and C on the host does. */
#define load_u64(address) (*(const __u64 *)(address))
#define load_u32(address) (*(const __u32 *)(address))

/*
 * Calls step(0, context), step(1, context) … until it returns non-zero, n times
 * at most.  Where the kernel has bpf_loop (5.17: e6f2dd0f8067 "bpf: Add bpf_loop
 * helper"), the verifier looks at step once; else n times, which takes it some
 * 100 ms a program.
 */
static __always_inline void repeat(__u32 n, long (*step)(__u32 index, void *context), void *context)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop)) {
		bpf_loop(n, step, context, 0);
		return;
	}
	for (__u32 i = 0; i < n; i++) {
		if (step(i, context))
			break;
	}
}

#define THREADS_MAX 4096

/* Thread states by thread pointer, for threads that do not hold the GIL. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, THREADS_MAX);
	__type(key, __u64);
	__type(value, __u64);
} threads SEC(".maps");

static __always_inline void count_loss(enum wire_loss loss); /* emit.bpf.h */

static __always_inline int read_user(void *ret, __u32 size, __u64 address)
{
	return bpf_probe_read_user(ret, size, (const void *)address);
}

/*
 * The thread pointer: what glibc's pthread_self() returns.  The kernel's copy
 * is exact for whoever does not write %fs with wrfsbase, and glibc does not.
 */
static __always_inline __u64 thread_pointer(void)
{
	return bpf_get_current_task_btf()->thread.fsbase;
}

static __always_inline __u64 thread_recall(__u64 pointer)
{
	__u64 *tstate = bpf_map_lookup_elem(&threads, &pointer);

	return tstate ? *tstate : 0;
}

static __always_inline void thread_remember(__u64 pointer, __u64 tstate)
{
	if (bpf_map_update_elem(&threads, &pointer, &tstate, BPF_ANY))
		count_loss(WIRE_LOSS_THREAD_MAP_FULL);
}

#else

#include <stdbool.h>
#include <sys/cdefs.h> /* __always_inline */

#include "pyleakd/settings.h"

#define SETTINGS_STORAGE static
#define opaque(value) ((void)(value))
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif

static inline __u64 load_u64(const void *address)
{
	__u64 value;

	__builtin_memcpy(&value, address, sizeof(value));
	return value;
}

static inline __u32 load_u32(const void *address)
{
	__u32 value;

	__builtin_memcpy(&value, address, sizeof(value));
	return value;
}

static inline void repeat(__u32 n, long (*step)(__u32 index, void *context), void *context)
{
	for (__u32 i = 0; i < n; i++) {
		if (step(i, context))
			break;
	}
}

static void count_loss(enum wire_loss loss);
static int read_user(void *ret, __u32 size, __u64 address);
static __u64 thread_pointer(void);
static __u64 thread_recall(__u64 pointer);
static void thread_remember(__u64 pointer, __u64 tstate);

#endif

#endif
