/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Looks at samples that are due, as the heap reader would, over heaps that are none. */
#ifndef PYLEAKD_TESTS_UNIT_LEDGER_LOOKS_H
#define PYLEAKD_TESTS_UNIT_LEDGER_LOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "ledger/samples.h"

#define LOOK_BATCH 128

/* A look at a block that lives: what is seen there. */
#define LIVE_BLOCK(of_type, bytes)                                                                 \
	(&(struct sample_seen){                                                                    \
		.answer = SAMPLE_LIVE, .type = (of_type), .size_bytes = (bytes), .size_class = 3})

/* Until nothing is due. is_live, which may be NULL, says of which addresses seen is true. */
static inline void look_at_all(struct samples *samples, double time, const struct sample_seen *seen,
			       bool (*is_live)(const void *context, uint64_t address),
			       const void *context)
{
	struct sample_due due[LOOK_BATCH];
	struct sample_seen answers[LOOK_BATCH];
	size_t n;

	do {
		n = samples_due(samples, time, due, LOOK_BATCH);
		for (size_t i = 0; i < n; i++) {
			answers[i] = *seen;
			answers[i].handle = due[i].handle;
			if (is_live && !is_live(context, due[i].address))
				answers[i].answer = SAMPLE_PARKED;
		}
		samples_looked(samples, time, answers, n);
	} while (n == LOOK_BATCH);
}

/* Uniform in (0, 1); *draws is the state. */
static inline double uniform_of(uint64_t *draws)
{
	return ((double)(hash_u64(++*draws) >> 11) + 0.5) * 0x1p-53;
}

#endif
