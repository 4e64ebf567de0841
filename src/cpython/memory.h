/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The target's memory as an address space: every read goes through here.  A
 * source answers: a live process (process_vm_readv, skipping what is swapped
 * out or absent), a recording, an invented one in tests.
 *
 * A failed read never yields a value: numbers stay untouched, a buffer's
 * content is undefined, reterr_fault carries the reason and the address.
 * Errors: -ENODATA swapped out (and left so), -EFAULT no such memory, -ESRCH
 * the process is gone or runs another program, -EPERM.
 */
#ifndef PYLEAKD_CPYTHON_MEMORY_H
#define PYLEAKD_CPYTHON_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fault.h"

struct memory;

struct memory_piece {
	uint64_t address;
	void *buffer;
	size_t size;
	int error; /* out: 0, or -errno of this piece */
};

struct memory_source {
	/* All or nothing. */
	int (*read)(void *context, uint64_t address, void *buffer, size_t size,
		    struct fault *reterr_fault);
	/* Many pieces, each all or nothing, error set in each. May be NULL: read is then used. */
	void (*read_pieces)(void *context, struct memory_piece *pieces, size_t n);
	void (*free)(void *context);
};

int memory_new(const struct memory_source *source, void *context, struct memory **ret);
void memory_free(struct memory *memory);

/*
 * Of a live process. /proc/PID/pagemap is asked before each read: swapped pages
 * are not read (REASON_SWAPPED), absent ones neither (REASON_NOT_MAPPED) unless
 * a file on disk is mapped there, whose pages come and go by themselves.
 * Follows the program that runs now: after an exec, reads fail with -ESRCH.
 */
int memory_new_process(pid_t pid, struct memory **ret, struct fault *reterr_fault);

int memory_read(struct memory *memory, uint64_t address, void *buffer, size_t size,
		struct fault *reterr_fault);
void memory_read_pieces(struct memory *memory, struct memory_piece *pieces, size_t n);
int memory_read_u32(struct memory *memory, uint64_t address, uint32_t *ret,
		    struct fault *reterr_fault);
int memory_read_u64(struct memory *memory, uint64_t address, uint64_t *ret,
		    struct fault *reterr_fault);
/* A C string of at most max_bytes including its NUL, into buffer; longer ones are a fault. */
int memory_read_string(struct memory *memory, uint64_t address, char *buffer, size_t max_bytes,
		       struct fault *reterr_fault);

/* Called with each read: error 0 and its bytes, or -errno and NULL. No observer ends that. */
typedef void memory_observer(void *context, uint64_t address, const void *bytes, size_t size,
			     int error);
void memory_observe(struct memory *memory, memory_observer *observer, void *context);

/* What was read and not read since the beginning. */
struct memory_statistics {
	uint64_t read_bytes;
	uint64_t failed_reads;
	uint64_t skipped_swapped_bytes;
};
struct memory_statistics memory_statistics(const struct memory *memory);

#endif
