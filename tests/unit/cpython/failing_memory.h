/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Another memory, with faults put in: its N-th read fails, and words of it can
 * be replaced.  For torture: whoever reads has to end cleanly, and the fault
 * has to have been met.
 */
#ifndef TESTS_CPYTHON_FAILING_MEMORY_H
#define TESTS_CPYTHON_FAILING_MEMORY_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "cpython/memory.h"

#define FAILING_WORDS_MAX 8

struct failing_memory {
	struct memory *inner; /* not owned */
	unsigned long fail_at; /* 1: the first read; 0: none */
	bool from_there_on; /* and all later ones */
	unsigned long n_reads; /* so far */
	size_t n_words;
	struct {
		uint64_t address, value;
	} words[FAILING_WORDS_MAX]; /* seen instead of what is there */
};

static inline bool failing_visited(const struct failing_memory *failing)
{
	return failing->fail_at && failing->n_reads >= failing->fail_at;
}

static inline int failing_read(void *context, uint64_t address, void *buffer, size_t size,
			       struct fault *reterr_fault)
{
	struct failing_memory *failing = context;
	int error;

	failing->n_reads++;
	if (failing->n_reads == failing->fail_at ||
	    (failing->from_there_on && failing_visited(failing))) {
		memset(buffer, 0xa5, size); /* what a failed read leaves is nobody's value */
		return fault_set(reterr_fault, -EFAULT, REASON_NOT_MAPPED, address, NULL);
	}
	error = memory_read(failing->inner, address, buffer, size, reterr_fault);
	for (size_t i = 0; !error && i < failing->n_words; i++)
		if (failing->words[i].address >= address &&
		    failing->words[i].address + sizeof(uint64_t) <= address + size)
			memcpy((char *)buffer + (failing->words[i].address - address),
			       &failing->words[i].value, sizeof(uint64_t));
	return error;
}

/* Pieces are read one by one, so that each of them is a read to fail. */
static inline int failing_memory_new(struct failing_memory *failing, struct memory **ret)
{
	static const struct memory_source source = { .read = failing_read };

	return memory_new(&source, failing, ret);
}

#endif
