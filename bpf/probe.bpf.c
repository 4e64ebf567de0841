/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Asks the kernel about its probes, by probing the daemon itself (src/capture/kernel.c). */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

__u64 hits;
__u64 hits_of_threads; /* by others than the first thread */
__u64 cookie;

/* Of links to many uprobes; an event has none. A constant for the verifier. */
const volatile bool with_cookie;

SEC("uprobe.multi")
int on_hit(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	__sync_fetch_and_add(&hits, 1);
	if (pid_tgid >> 32 != (__u32)pid_tgid)
		__sync_fetch_and_add(&hits_of_threads, 1);
	if (with_cookie)
		cookie = bpf_get_attach_cookie(ctx);
	return 0;
}

SEC("uprobe.multi")
int on_nothing(struct pt_regs *ctx)
{
	return 0;
}
