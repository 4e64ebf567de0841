/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * How much of what lived when the session began has died since, by size class:
 * of each class some blocks, drawn at random, are followed.  With that the
 * pools' counters tell what was made since and lives (docs/estimator.md,
 * Calibration), and samples only have to say by whom.
 */
#ifndef PYLEAKD_SERVICE_SAMPLING_BASELINE_H
#define PYLEAKD_SERVICE_SAMPLING_BASELINE_H

#include "cpython/liveness.h"

#define BASELINE_FOLLOWED_MAX 128 /* of a class */
/* A larger heap is not to be followed: all its blocks are gone through once. */
#define BASELINE_HEAP_BYTES_MAX (512ull << 20)

struct baseline;

/* 0, or as census_take(). */
int baseline_new(const struct interpreter *interpreter, uint64_t seed, struct baseline **ret);
void baseline_free(struct baseline *baseline);
/* Looks at all that are followed and lived at the last look. 0, or as liveness_look(). */
int baseline_look(struct baseline *baseline, struct liveness *liveness);
/* Share of the class's blocks that have died; NAN: none of it is followed. */
double baseline_gone_ratio(const struct baseline *baseline, unsigned size_class);

#endif
