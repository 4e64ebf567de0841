/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * How a function reads a thread-local variable: the models of "ELF Handling
 * For Thread-Local Storage" (sections 4.1.6 to 4.4.6 for x86-64) and the
 * descriptors of Oliva and de Assis's RFC, each also as a linker relaxes it.
 *
 *	mov %fs:OFFSET,%rax			local exec
 *	mov $OFFSET,%rax; mov %fs:(%rax),%rax		… initial exec, relaxed
 *	mov %fs:0,%rax; lea OFFSET(%rax),%rax; mov (%rax),%rax	… general dynamic, relaxed
 *	mov SLOT(%rip),%rax; mov %fs:(%rax),%rax	initial exec: *SLOT is the offset
 *	mov %fs:0,%rax; add SLOT(%rip),%rax; mov (%rax),%rax	… general dynamic, relaxed
 *	lea SLOT(%rip),%rdi; call __tls_get_addr	dynamic: {module, offset} at SLOT
 *	lea SLOT(%rip),%rax; call *(%rax)		descriptor: {function, argument} at SLOT
 */
#ifndef PYLEAKD_CPYTHON_THREAD_LOCAL_H
#define PYLEAKD_CPYTHON_THREAD_LOCAL_H

#include <stdint.h>

#include "target/image.h"

enum thread_local_kind {
	THREAD_LOCAL_OFFSET, /* displacement, from the thread pointer */
	THREAD_LOCAL_OFFSET_SLOT, /* *slot + displacement, from the thread pointer */
	THREAD_LOCAL_MODULE_SLOT, /* slot[1] + displacement, in the block of module slot[0] */
	THREAD_LOCAL_DESCRIPTOR, /* what the descriptor's function returns + displacement */
};

struct thread_local_access {
	enum thread_local_kind kind;
	int64_t displacement; /* bytes */
	uint64_t slot; /* vaddr in the image; 0 with OFFSET */
};

/* The first thread-local variable that the function at entry loads. -ENOENT: none is seen. */
int thread_local_find(const struct image *image, uint64_t entry, struct thread_local_access *ret);

#endif
