/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Invented histories with a known truth, from a generator with a fixed seed. */
#ifndef PYLEAKD_TESTS_UNIT_JUDGE_SERIES_H
#define PYLEAKD_TESTS_UNIT_JUDGE_SERIES_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "judge/judge.h"

/* xorshift64*; Vigna, 2016. */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

static inline double random_uniform(uint64_t *state)
{
	return ((double)(random_next(state) >> 11) + 0.5) / 9007199254740992.0;
}

/* Box and Muller, 1958. */
static inline double random_normal(uint64_t *state)
{
	double radius = sqrt(-2 * log(random_uniform(state)));

	return radius * cos(6.283185307179586 * random_uniform(state));
}

/* The verdict on n values, one each 5 seconds. */
static inline struct judgement judge_values(const double *values, size_t n)
{
	struct judge *judge = NULL;
	struct judgement judgement;

	assert_int_equal(judge_new(0, &judge), 0);
	for (size_t i = 0; i < n; i++) {
		uint64_t bytes = values[i] > 0 ? (uint64_t)values[i] : 0;

		assert_int_equal(judge_observe(judge, 7, 5.0 * (double)i, bytes, bytes / 64), 0);
	}
	assert_int_equal(judge_site(judge, 7, &judgement), 0);
	judge_free(judge);
	return judgement;
}

#endif
