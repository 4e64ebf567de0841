/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which lines are one leak: by hand, and simulated leaks of 2 to 6 lines among noise. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "ledger/allocate.h"
#include "ledger/findings.h"

static unsigned int n_allocations, failing_allocation;

/* In place of src/ledger/allocate.c. */
void *ledger_allocate(size_t n, size_t size)
{
	n_allocations++;
	if (n_allocations == failing_allocation)
		return NULL;
	return calloc(n, size);
}

/* The drawing in the header. */
static const struct finding_line drawn[] = {
	{.stack = 1, .bytes = 1000, .counts = {3, 0, 7, 2, 5, 4}},
	{.stack = 2, .bytes = 5000, .counts = {3, 0, 7, 2, 4, 5}},
	{.stack = 3, .bytes = 2000, .counts = {4, 1, 5, 3, 4, 5}},
};

static void the_drawing_in_the_header_is_true(void **state)
{
	const struct finding_hold hold = {.owner = 0, .member = 1, .count = 20};
	struct finding_place places[3];

	(void)state;
	assert_int_equal(findings_group(drawn, 3, 6, NULL, 0, places), 0);
	assert_int_equal(places[0].finding, 0);
	assert_int_equal(places[1].finding, 0);
	assert_int_equal(places[2].finding, 1);
	/* By bytes, where nothing else is known. */
	assert_int_equal(places[0].head, 1);
	assert_int_equal(findings_group(drawn, 3, 6, &hold, 1, places), 0);
	assert_int_equal(places[1].head, 0);
	assert_int_equal(places[2].head, 2);
	/* And the findings by their heads' bytes. */
	assert_int_equal(places[2].finding, 0);
	assert_int_equal(places[0].finding, 1);
}

static void holding_joins_what_counts_cannot(void **state)
{
	const struct finding_line lines[] = {
		{.stack = 1, .bytes = 10, .vantage = 0, .counts = {30, 30, 30, 30, 30}},
		{.stack = 2, .bytes = 20, .vantage = 1, .counts = {1, 0, 0, 1}},
		{.stack = 3, .bytes = 30, .vantage = 0, .counts = {30, 30, 30, 30, 30}},
	};
	struct finding_hold hold = {.owner = 0, .member = 1, .count = 2};
	struct finding_place places[3];

	(void)state;
	assert_int_equal(findings_group(lines, 3, 5, &hold, 1, places), 0);
	assert_int_equal(places[0].finding, 0);
	assert_int_equal(places[1].finding, 0);
	assert_int_equal(places[2].finding, 0);
	assert_int_equal(places[2].head, 0);
	/* One that hangs there by chance joins nothing. */
	hold.count = 0;
	assert_int_equal(findings_group(lines, 2, 5, &hold, 1, places), 0);
	assert_int_not_equal(places[0].finding, places[1].finding);
}

static void a_registry_is_not_a_line_of_what_it_keeps(void **state)
{
	const struct finding_line lines[] = {
		{.stack = 1, .bytes = 9000, .counts = {1, 0, 0, 0, 0}},
		{.stack = 2, .bytes = 20, .counts = {30, 30, 30, 30, 30}},
	};
	const struct finding_hold hold = {.owner = 0, .member = 1, .count = 150};
	struct finding_place places[2];

	(void)state;
	assert_int_equal(findings_group(lines, 2, 5, &hold, 1, places), 0);
	assert_int_not_equal(places[0].finding, places[1].finding);
}

static void few_slices_say_nothing(void **state)
{
	const struct finding_line lines[] = {
		{.stack = 1, .bytes = 10, .counts = {500, 0, 20, 3}},
		{.stack = 2, .bytes = 20, .counts = {500, 0, 20, 3}},
	};
	struct finding_place places[2];

	(void)state;
	assert_int_equal(findings_group(lines, 2, 4, NULL, 0, places), 0);
	assert_int_not_equal(places[0].finding, places[1].finding);
}

static void what_is_out_of_bounds_is_refused(void **state)
{
	const struct finding_hold hold = {.owner = 0, .member = 3};
	struct finding_place places[3];

	(void)state;
	assert_int_equal(findings_group(drawn, FINDING_LINES_MAX + 1, 6, NULL, 0, places), -E2BIG);
	assert_int_equal(findings_group(drawn, 3, FINDING_SLICES_MAX + 1, NULL, 0, places), -E2BIG);
	assert_int_equal(findings_group(drawn, 3, 6, &hold, 1, places), -EINVAL);
	assert_int_equal(findings_group(NULL, 0, 6, NULL, 0, places), 0);
	for (unsigned int i = 1; i <= 4; i++) {
		failing_allocation = n_allocations + i;
		assert_int_equal(findings_group(drawn, 3, 6, NULL, 0, places), -ENOMEM);
	}
	failing_allocation = 0;
}

/* --- simulation ------------------------------------------------------------------------------- */

#define RUNS 400
#define SLICES 16
#define NOISE_LINES 60
#define LEAKS 3
#define LINES_MAX (NOISE_LINES + LEAKS * 6)

static uint64_t draws;

static double uniform(void)
{
	return ((double)(hash_u64(++draws) >> 11) + 0.5) * 0x1p-53;
}

static uint32_t poisson(double mean)
{
	double product = 1, limit = exp(-mean);
	uint32_t n = 0;

	if (mean > 50) {
		double normal = sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());

		return (uint32_t)fmax(0, mean + sqrt(mean) * normal + 0.5);
	}
	for (;; n++) {
		product *= uniform();
		if (product <= limit)
			return n;
	}
}

/* A leak's calls by slice, at n lines; now and then a call lies across two slices. */
static size_t add_leak(struct finding_line *lines, uint32_t leak, size_t n, double calls)
{
	for (size_t k = 0; k < n; k++)
		lines[k] = (struct finding_line){.stack = leak, .bytes = 1 + uniform()};
	for (size_t i = 0; i < SLICES; i++) {
		uint32_t count = poisson(calls);

		for (size_t k = 0; k < n; k++)
			lines[k].counts[i] += count;
		if (count && i + 1 < SLICES && uniform() < 0.03) {
			size_t k = (size_t)(uniform() * (double)n);

			lines[k].counts[i]--;
			lines[k].counts[i + 1]++;
		}
	}
	return n;
}

/* What is found: pairs of lines of one leak in one finding; pairs of others. */
struct pairs {
	unsigned int same, same_joined, other, other_joined;
};

static void count_pairs(const struct finding_line *lines, const struct finding_place *places,
			size_t n, struct pairs *pairs)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < i; k++) {
			bool same = lines[i].stack == lines[k].stack;
			bool joined = places[i].finding == places[k].finding;

			pairs->same += same;
			pairs->same_joined += same && joined;
			pairs->other += !same;
			pairs->other_joined += !same && joined;
		}
	}
}

/* Leaks of 2 to 6 lines and independent lines of all rates, the leaks' own among them. */
static struct pairs simulate(double calls)
{
	static struct finding_line lines[LINES_MAX];
	static struct finding_place places[LINES_MAX];
	struct pairs pairs = {0};

	for (int run = 0; run < RUNS; run++) {
		uint32_t leak = 0;
		size_t n = 0;

		for (; leak < LEAKS; leak++)
			n += add_leak(lines + n, leak, 2 + (size_t)(uniform() * 5), calls);
		for (; leak < LEAKS + NOISE_LINES; leak++)
			n += add_leak(lines + n, leak, 1,
				      leak % 3 ? calls : pow(10, 4 * uniform()) / SLICES);
		assert_int_equal(findings_group(lines, n, SLICES, NULL, 0, places), 0);
		count_pairs(lines, places, n, &pairs);
	}
	print_message("%6.2f calls a slice: %.4f of a leak's pairs together, %.6f of the others\n",
		      calls, pairs.same_joined / (double)pairs.same,
		      pairs.other_joined / (double)pairs.other);
	return pairs;
}

static void lines_of_a_leak_are_together_and_others_are_not(void **state)
{
	static const double calls[] = {1, 3, 10, 100, 5000};

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		struct pairs pairs = simulate(calls[i]);

		assert_true(pairs.same_joined >= 0.9 * pairs.same);
		assert_true(pairs.other_joined <= 0.001 * pairs.other);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_drawing_in_the_header_is_true),
		cmocka_unit_test(holding_joins_what_counts_cannot),
		cmocka_unit_test(a_registry_is_not_a_line_of_what_it_keeps),
		cmocka_unit_test(few_slices_say_nothing),
		cmocka_unit_test(what_is_out_of_bounds_is_refused),
		cmocka_unit_test(lines_of_a_leak_are_together_and_others_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
