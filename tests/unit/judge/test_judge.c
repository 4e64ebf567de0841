/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "series.h"

#include <errno.h>

#include "judge/allocate.h"

static unsigned int n_allocations, failing_allocation;

/* In place of src/judge/allocate.c. */
void *judge_allocate(size_t n, size_t size)
{
	n_allocations++;
	if (n_allocations == failing_allocation)
		return NULL;
	return calloc(n, size);
}

static struct judge *new_judge(size_t max_sites)
{
	struct judge *judge = NULL;

	assert_int_equal(judge_new(max_sites, &judge), 0);
	return judge;
}

static struct judgement judgement_of(const struct judge *judge, uint64_t site)
{
	struct judgement judgement;

	assert_int_equal(judge_site(judge, site, &judgement), 0);
	return judgement;
}

static void verdicts_have_the_reports_names(void **state)
{
	(void)state;
	assert_string_equal(verdict_name(VERDICT_WARMING), "warming");
	assert_string_equal(verdict_name(VERDICT_STABLE), "stable");
	assert_string_equal(verdict_name(VERDICT_GROWING), "growing");
	assert_string_equal(verdict_name(VERDICT_LEAK), "leak");
	assert_string_equal(verdict_name((enum verdict)99), "unknown");
}

static void below_five_intervals_everything_is_warming(void **state)
{
	static const double values[] = {1e6, 2e6, 3e6, 4e6, 5e6};

	(void)state;
	for (size_t n = 1; n < 5; n++)
		assert_int_equal(judge_values(values, n).verdict, VERDICT_WARMING);
	assert_int_equal(judge_values(values, 5).verdict, VERDICT_LEAK);
	assert_true(fabs(judge_values(values, 5).growth_bytes_per_second - 2e5) < 1e-6);
	assert_true(judge_values(values, 5).confidence_ratio > 0.99);
	assert_int_equal(judge_values(values, 5).points, 5);
}

static void growth_of_less_than_a_page_is_no_leak(void **state)
{
	static const double bytes[] = {100, 200, 300, 400, 500, 600, 700};
	static const double more[] = {100, 700, 1300, 1900, 2500, 3100, 3700};

	(void)state;
	assert_int_equal(judge_values(bytes, 7).verdict, VERDICT_STABLE);
	assert_int_equal(judge_values(more, 7).verdict, VERDICT_GROWING);
}

static void growth_that_has_stopped_is_stable(void **state)
{
	static const double values[] = {1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 6e6, 6e6};

	(void)state;
	assert_int_equal(judge_values(values, 6).verdict, VERDICT_LEAK);
	assert_int_equal(judge_values(values, 8).verdict, VERDICT_STABLE);
}

static void a_table_that_doubles_is_stable(void **state)
{
	static const double values[] = {1e3, 1e3, 2e3, 2e3, 4e3, 4e3, 4e3, 8e3, 8e3, 8e3};

	(void)state;
	for (size_t n = 5; n <= 10; n++)
		assert_int_equal(judge_values(values, n).verdict, VERDICT_STABLE);
}

static void an_interval_of_one_second_does_as_well(void **state)
{
	struct judge *judge = new_judge(0);

	(void)state;
	for (int i = 1; i <= 6; i++)
		assert_int_equal(judge_observe(judge, 1, i, (uint64_t)(20000 + 21000 * i), 7), 0);
	assert_int_equal(judgement_of(judge, 1).verdict, VERDICT_LEAK);
	assert_true(fabs(judgement_of(judge, 1).growth_bytes_per_second - 21000) < 1e-6);
	judge_free(judge);
}

static void a_site_that_is_not_told_about_has_nothing(void **state)
{
	struct judge *judge = new_judge(0);
	struct judgement late, gone;

	(void)state;
	for (int i = 0; i < 12; i++) {
		assert_int_equal(judge_observe(judge, 1, i, 1000, 1), 0);
		if (i >= 6)
			judge_observe(judge, 2, i, 100000 * (uint64_t)(i - 5), 1);
		if (i < 6)
			judge_observe(judge, 3, i, 100000 * (uint64_t)(i + 1), 1);
	}
	late = judgement_of(judge, 2);
	gone = judgement_of(judge, 3);
	assert_int_equal(late.points, 12);
	assert_int_equal(gone.points, 12);
	assert_true(late.growth_bytes_per_second > 0);
	assert_int_equal(gone.verdict, VERDICT_STABLE);
	assert_int_equal(judge_site(judge, 4, &late), -ENOENT);
	judge_free(judge);
}

static void told_twice_at_a_time_the_second_counts(void **state)
{
	struct judge *judge = new_judge(0);

	(void)state;
	for (int i = 0; i < 6; i++) {
		judge_observe(judge, 1, i, 5, 1);
		judge_observe(judge, 1, i, 100000 * (uint64_t)i, 1);
	}
	assert_int_equal(judgement_of(judge, 1).points, 6);
	assert_true(fabs(judgement_of(judge, 1).growth_bytes_per_second - 1e5) < 1e-6);
	judge_free(judge);
}

static void nonsense_times_are_refused(void **state)
{
	struct judge *judge = new_judge(0);

	(void)state;
	assert_int_equal(judge_observe(judge, 1, NAN, 1, 1), -EINVAL);
	assert_int_equal(judge_observe(judge, 1, INFINITY, 1, 1), -EINVAL);
	assert_int_equal(judge_observe(judge, 1, 10, 1, 1), 0);
	assert_int_equal(judge_observe(judge, 1, 9, 1, 1), -EINVAL);
	assert_int_equal(judgement_of(judge, 1).points, 1);
	judge_free(judge);
}

static void more_sites_than_the_cap_are_refused(void **state)
{
	struct judge *judge = new_judge(3);

	(void)state;
	for (uint64_t site = 1; site <= 3; site++)
		assert_int_equal(judge_observe(judge, site, 0, 1, 1), 0);
	assert_int_equal(judge_observe(judge, 4, 0, 1, 1), -ENOSPC);
	assert_int_equal(judge_observe(judge, 2, 1, 1, 1), 0);
	judge_free(judge);
}

/*
 * A day at an interval of 5 s.  The history must still cover all of it: a line
 * keeps its slope and its start, whoever came late keeps the zeros before.
 */
static void a_long_session_stays_covered_as_a_whole(void **state)
{
	struct judge *judge = new_judge(0);

	(void)state;
	for (int i = 0; i < 17280; i++) {
		double time = 5.0 * i;

		judge_observe(judge, 1, time, 1000000 + 500 * (uint64_t)i, 1);
		if (i >= 8640)
			judge_observe(judge, 2, time, 1000000, 1);
		if (i % 2)
			judge_observe(judge, 3, time, 1000 * (uint64_t)i, 1);
		if (i % 500 == 499) {
			struct judgement judgement = judgement_of(judge, 1);

			assert_true(fabs(judgement.growth_bytes_per_second - 100) < 1e-6);
			assert_int_equal(judgement.verdict, VERDICT_LEAK);
			assert_true(judgement.points <= JUDGE_HISTORY_MAX);
			assert_true(judgement.points > JUDGE_HISTORY_MAX / 2 || i < 256);
		}
	}
	/*
	 * One jump from nothing; and one that is there at odd intervals only, of which none is
	 * kept: their columns are used again, and what was told there must be gone.
	 */
	assert_int_equal(judgement_of(judge, 2).verdict, VERDICT_STABLE);
	assert_int_equal(judgement_of(judge, 3).verdict, VERDICT_STABLE);
	assert_true(judgement_of(judge, 3).growth_bytes_per_second == 0);
	judge_free(judge);
}

static unsigned int feed(int *ret_errors)
{
	struct judge *judge = NULL;
	int errors = 0;

	n_allocations = 0;
	if (judge_new(0, &judge) < 0) {
		assert_null(judge);
		*ret_errors = 1;
		return n_allocations;
	}
	for (int i = 0; i < 20; i++) {
		for (uint64_t site = 0; site < 100; site++)
			errors += judge_observe(judge, site, i, site * (uint64_t)i * 1000, 1) < 0;
	}
	for (uint64_t site = 0; site < 100; site++) {
		struct judgement judgement;

		if (judge_site(judge, site, &judgement) == 0)
			assert_int_equal(judgement.points, 20);
	}
	judge_free(judge);
	*ret_errors = errors;
	return n_allocations;
}

static void every_allocation_may_fail(void **state)
{
	unsigned int n;
	int errors;

	(void)state;
	failing_allocation = 0;
	n = feed(&errors);
	assert_int_equal(errors, 0);
	for (unsigned int i = 1; i <= n; i++) {
		failing_allocation = i;
		feed(&errors);
		assert_int_equal(errors, 1); /* said once, and made good at the next interval */
	}
	failing_allocation = 0;
	judge_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verdicts_have_the_reports_names),
		cmocka_unit_test(below_five_intervals_everything_is_warming),
		cmocka_unit_test(growth_of_less_than_a_page_is_no_leak),
		cmocka_unit_test(growth_that_has_stopped_is_stable),
		cmocka_unit_test(a_table_that_doubles_is_stable),
		cmocka_unit_test(an_interval_of_one_second_does_as_well),
		cmocka_unit_test(a_site_that_is_not_told_about_has_nothing),
		cmocka_unit_test(told_twice_at_a_time_the_second_counts),
		cmocka_unit_test(nonsense_times_are_refused),
		cmocka_unit_test(more_sites_than_the_cap_are_refused),
		cmocka_unit_test(a_long_session_stays_covered_as_a_whole),
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
