/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "ledger/allocate.h"
#include "ledger/samples.h"

#define A 101
#define B 202
#define C 303
#define DICT 0xd1c7
#define LIST 0x1157

static unsigned int n_allocations, failing_allocation;

/* In place of src/ledger/allocate.c. */
void *ledger_allocate(size_t n, size_t size)
{
	n_allocations++;
	if (n_allocations == failing_allocation)
		return NULL;
	return calloc(n, size);
}

DEFINE_CLEANUP(struct samples *, samples_free)

#define TEST(name)                                                                                 \
	static void name##_body(struct samples *samples);                                          \
	static void name(void **state)                                                             \
	{                                                                                          \
		struct samples *samples = NULL;                                                    \
                                                                                                   \
		(void)state;                                                                       \
		assert_int_equal(samples_new(NULL, &samples), 0);                                  \
		name##_body(samples);                                                              \
		samples_free(samples);                                                             \
	}                                                                                          \
	static void name##_body(struct samples *samples)

static void see(struct samples *samples, uint64_t address, uint64_t stack, uint32_t window,
		enum sample_tier tier, double time)
{
	const struct sighting sighting = {
		.address = address,
		.stack = stack,
		.type = DICT,
		.window = window,
		.tier = tier,
		.time = time,
	};

	samples_see(samples, &sighting);
}

static void see_cold(struct samples *samples, uint64_t address, uint64_t stack, double time)
{
	see(samples, address, stack, 0, SAMPLE_ALWAYS_ON, time);
}

/* Whether an address lives, for look(). */
typedef enum sample_answer answerer(const struct sample_due *due);

static enum sample_answer everything_lives(const struct sample_due *due)
{
	(void)due;
	return SAMPLE_LIVE;
}

/* Looks at all that is due; 64 bytes each in class 3, and 16 of buffers. How many. */
static size_t look(struct samples *samples, double time, answerer *answer)
{
	struct sample_due due[64];
	struct sample_seen seen[64];
	size_t n, all = 0;

	do {
		n = samples_due(samples, time, due, 64);
		for (size_t i = 0; i < n; i++)
			seen[i] = (struct sample_seen){.handle = due[i].handle,
						       .answer = answer(&due[i]),
						       .type = DICT,
						       .fingerprint = {due[i].address, 1, 2},
						       .size_bytes = 64,
						       .buffer_bytes = 16,
						       .size_class = 3};
		samples_looked(samples, time, seen, n);
		all += n;
	} while (n == 64);
	return all;
}

static double bytes_of(const struct samples *samples, uint64_t stack, double time)
{
	const struct samples_query query = {.time = time};
	_cleanup_free_ struct samples_cell *cells = NULL;
	double bytes = 0;
	size_t n;

	assert_int_equal(samples_cells(samples, &query, &cells, &n), 0);
	for (size_t i = 0; i < n; i++)
		if (cells[i].stack == stack && cells[i].size_class != SAMPLES_CLASS_BUFFERS)
			bytes += cells[i].weight * cells[i].expanded_bytes;
	return bytes;
}

static struct samples_totals totals_of(const struct samples *samples)
{
	struct samples_totals totals;

	samples_totals(samples, &totals);
	return totals;
}

/* n sightings, of which those from 0x10000 on are 16 apart; the window's weight becomes 20. */
static void window(struct samples *samples, uint32_t number, size_t n, uint64_t stack,
		   bool complete, double time)
{
	const struct window_facts facts = {.window = number,
					   .opened = time,
					   .closed = time + 0.02,
					   .progress = 100,
					   .stratum_progress = 1800,
					   .sightings_before_detach = n,
					   .complete = complete};

	for (size_t i = 0; i < n; i++)
		see(samples, 0x10000 + 0x10000ull * number + 16 * i, stack, number, SAMPLE_WINDOW,
		    time);
	assert_int_equal(samples_window_end(samples, &facts), 0);
}

TEST(what_an_always_on_site_shows_and_lives_is_outstanding)
{
	see_cold(samples, 0x1000, A, 0);
	assert_int_equal(look(samples, 0.5, everything_lives), 0);
	assert_true(bytes_of(samples, A, 0.5) == 0);
	assert_int_equal(look(samples, 1.1, everything_lives), 1);
	assert_true(bytes_of(samples, A, 1.1) == 64);
}

TEST(a_newer_sighting_at_the_address_ends_the_older)
{
	see_cold(samples, 0x1000, A, 0);
	look(samples, 2, everything_lives);
	see_cold(samples, 0x1000, B, 3);
	assert_true(bytes_of(samples, A, 3) == 0);
	assert_int_equal(totals_of(samples).replaced, 1);
	look(samples, 4, everything_lives);
	assert_true(bytes_of(samples, B, 4) == 64);
}

TEST(a_windows_samples_weigh_what_was_not_looked_at)
{
	window(samples, 1, 100, A, true, 5);
	/* Those of the last tenth before the detach may have been in flight. */
	assert_int_equal(totals_of(samples).too_young, 10);
	assert_int_equal(look(samples, 5.1, everything_lives), 90);
	assert_true(fabs(bytes_of(samples, A, 6) - 90 * 64 * 20) < 1e-6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_an_always_on_site_shows_and_lives_is_outstanding),
		cmocka_unit_test(a_newer_sighting_at_the_address_ends_the_older),
		cmocka_unit_test(a_windows_samples_weigh_what_was_not_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
