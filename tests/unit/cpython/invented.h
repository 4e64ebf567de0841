/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* A memory made of a few segments that lie here; whatever is outside of them is not mapped. */
#ifndef TESTS_CPYTHON_INVENTED_H
#define TESTS_CPYTHON_INVENTED_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/memory.h"

#define INVENTED_SEGMENTS_MAX 16

struct invented {
	size_t n;
	struct {
		uint64_t address;
		size_t size;
		uint8_t *bytes; /* not owned */
	} segments[INVENTED_SEGMENTS_MAX];
	unsigned n_reads;
	/* Called before each read that succeeds, to change what lies there. */
	void (*before)(struct invented *invented, uint64_t address);
};

static inline void invented_add(struct invented *invented, uint64_t address, void *bytes,
				size_t size)
{
	invented->segments[invented->n].address = address;
	invented->segments[invented->n].bytes = bytes;
	invented->segments[invented->n++].size = size;
}

static inline int invented_read(void *context, uint64_t address, void *buffer, size_t size,
				struct fault *reterr_fault)
{
	struct invented *invented = context;

	invented->n_reads++;
	for (size_t i = 0; i < invented->n; i++) {
		uint64_t offset = address - invented->segments[i].address;

		if (offset > invented->segments[i].size ||
		    size > invented->segments[i].size - offset)
			continue;
		if (invented->before)
			invented->before(invented, address);
		memcpy(buffer, invented->segments[i].bytes + offset, size);
		return 0;
	}
	return fault_set(reterr_fault, -EFAULT, REASON_NOT_MAPPED, address, NULL);
}

static inline int invented_memory_new(struct invented *invented, struct memory **ret)
{
	static const struct memory_source source = { .read = invented_read };

	return memory_new(&source, invented, ret);
}

#endif
