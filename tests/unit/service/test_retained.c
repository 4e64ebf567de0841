/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "service/retained.h"

#define INTERVAL 5.0
#define HEAP 50e6
#define RESIDENT 200e6

static double noise(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (double)(*seed >> 40) / (1 << 24) - 0.5;
}

/* In how many of n intervals it was taken for growing; noise_bytes from end to end. */
static size_t growing_of(size_t n, double heap_rate, double resident_rate, double noise_bytes)
{
	struct retained *retained = calloc(1, sizeof(*retained));
	uint64_t seed = 7;
	size_t growing = 0;

	assert_non_null(retained);
	for (size_t i = 0; i < n; i++) {
		double time = (double)i * INTERVAL;

		retained_observe(retained, time,
				 HEAP + heap_rate * time + noise_bytes * noise(&seed),
				 RESIDENT + resident_rate * time + noise_bytes * noise(&seed));
		growing += retained->growing;
	}
	free(retained);
	return growing;
}

static void what_grows_is_noticed_within_minutes(void **state)
{
	(void)state;
	assert_true(growing_of(30, 20000, 20000, 0) >= 20);
	assert_true(growing_of(60, 20000, 20000, 200000) >= 20);
	assert_true(growing_of(60, 0, 100000, 0) >= 20); /* outside of the heap */
}

/* 100 bytes a second are 32 KB over the short scale, and half a megabyte over the long one. */
static void what_grows_slowly_is_noticed_within_the_hour(void **state)
{
	(void)state;
	assert_int_equal(growing_of(60, 100, 0, 0), 0);
	assert_true(growing_of(700, 100, 0, 0) > 100);
}

static void noise_is_no_growth(void **state)
{
	(void)state;
	assert_int_equal(growing_of(500, 0, 0, 0), 0);
	assert_true(growing_of(2000, 0, 0, 2000000) <= 20); /* one in a hundred */
}

/* What has stopped is out of the short scale after its length, and of the long one after that. */
static void growth_that_ends_is_forgotten(void **state)
{
	struct retained *retained = calloc(1, sizeof(*retained));
	size_t last = 0;

	(void)state;
	assert_non_null(retained);
	for (size_t i = 0; i < 2000; i++) {
		double heap = HEAP + 20000 * INTERVAL * (double)(i < 100 ? i : 100);

		retained_observe(retained, (double)i * INTERVAL, heap, RESIDENT);
		if (retained->growing)
			last = i;
	}
	assert_in_range(last, 90, 100 + RETAINED_POINTS * RETAINED_SCALE);
	assert_true(retained->growth_bytes_per_second == 0);
	free(retained);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_grows_is_noticed_within_minutes),
		cmocka_unit_test(what_grows_slowly_is_noticed_within_the_hour),
		cmocka_unit_test(noise_is_no_growth),
		cmocka_unit_test(growth_that_ends_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
