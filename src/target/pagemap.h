/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which pages of a process are in memory (/proc/PID/pagemap): asking does not
 * touch them, whereas reading one that is swapped out brings it back, charged
 * to the target.
 */
#ifndef PYLEAKD_TARGET_PAGEMAP_H
#define PYLEAKD_TARGET_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fault.h"

#define PAGEMAP_PAGE_BYTES 4096ULL

enum pagemap_state {
	PAGEMAP_ABSENT, /* never touched, dropped, or not mapped */
	PAGEMAP_SWAPPED, /* or just being migrated */
	PAGEMAP_FILE, /* in memory: a page of a file, or of shared memory */
	PAGEMAP_PRIVATE, /* in memory: anonymous, or a private copy of a file's page */
};

struct pagemap;

/* Stays bound to the address space of now: after an exec it has nothing to say (-ESRCH). */
int pagemap_new(pid_t pid, struct pagemap **ret, struct fault *reterr_fault);
void pagemap_free(struct pagemap *pagemap);

/*
 * States (enum pagemap_state) of n_pages pages from the one that holds address
 * on; on failure ret_states may be filled in part.
 */
int pagemap_states(const struct pagemap *pagemap, uint64_t address, size_t n_pages,
		   uint8_t *ret_states, struct fault *reterr_fault);

struct pagemap_counts {
	uint64_t absent, swapped, file, private; /* pages */
};
/* Counts the pages that [start, end) touches. */
int pagemap_count(const struct pagemap *pagemap, uint64_t start, uint64_t end,
		  struct pagemap_counts *ret, struct fault *reterr_fault);

#endif
