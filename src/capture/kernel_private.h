/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Functions of our own to put probes on, and how; kernel.c, kernel_costs.c. */
#ifndef PYLEAKD_CAPTURE_KERNEL_PRIVATE_H
#define PYLEAKD_CAPTURE_KERNEL_PRIVATE_H

#include <stdint.h>
#include <sys/types.h>

#include <bpf/libbpf.h>

#include "capture/kernel.h"
#include "capture/tracefs_link.h"

/* Written in assembly, so that each holds just the instruction that it is there for. */
void probed_jump(void);	    /* a conditional jump, 2 bytes into it */
void probed_move(void);	    /* begins with a mov */
void probed_push(void);	    /* begins with a push */
uint64_t probed_nop5(void); /* 0 if what it keeps at -8(%rsp) survives a 5-byte NOP */

#define PROBED_JUMP_AT ((uintptr_t)probed_jump + 2)
#define PROBED_MOVE_AT ((uintptr_t)probed_move)
#define PROBED_PUSH_AT ((uintptr_t)probed_push)
extern const char probed_nop5_at[];

#define PROBED_COOKIE 0x70796c65616b6400ULL

struct probe_bpf;

/* Its programs loaded for this means. -errno. */
int kernel_probe_load(enum kernel_attach how, struct probe_bpf **ret);
/* A link on an instruction of ours, in the process pid. -errno. */
int kernel_probe_attach(struct bpf_program *program, enum kernel_attach how, pid_t pid,
			uintptr_t at, bool uretprobe, struct probe_link *link);

#endif
