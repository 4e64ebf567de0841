/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Survivors name, growth decides. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge/sampled.h"

/* A line that leaks in a heap that does: as much in each part of the session. */
static struct sampled_evidence leaking(void)
{
	struct sampled_evidence evidence = {
		.whole = {.verdict = VERDICT_LEAK,
			  .growth_bytes_per_second = 20000,
			  .confidence_ratio = 0.99},
		.draws = SAMPLED_SLICES,
		.seconds = 60,
		.outstanding_bytes = 600000,
		.growth_bytes_per_second = 20000,
		.growth_low = 15000,
		.growth_high = 25000,
	};

	for (unsigned i = 0; i < SAMPLED_SLICES; i++)
		evidence.counts[i] = 10;
	return evidence;
}

static enum verdict verdict(const struct sampled_evidence *evidence)
{
	struct judgement judgement;

	sampled_judge(evidence, &judgement);
	return judgement.verdict;
}

static void a_line_that_leaks_in_a_heap_that_grows_is_a_leak(void **state)
{
	struct sampled_evidence evidence = leaking();
	struct judgement judgement;

	(void)state;
	sampled_judge(&evidence, &judgement);
	assert_int_equal(judgement.verdict, VERDICT_LEAK);
	assert_true(judgement.confidence_ratio == 0.99); /* the less certain of the two */
	assert_true(judgement.growth_bytes_per_second == 20000);
}

static void survivors_alone_decide_nothing(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.whole.verdict = VERDICT_STABLE;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	evidence.exact = true;
	evidence.own.verdict = VERDICT_LEAK;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	evidence.whole.verdict = VERDICT_WARMING;
	assert_int_equal(verdict(&evidence), VERDICT_WARMING);
}

static void what_lives_for_a_while_only_is_no_leak(void **state)
{
	struct sampled_evidence young = leaking(), old = leaking();

	(void)state;
	for (unsigned i = 0; i < SAMPLED_SLICES - 2; i++)
		young.counts[i] = 0;
	assert_int_equal(verdict(&young), VERDICT_STABLE);
	/* Nor what was made at the start. */
	for (unsigned i = 2; i < SAMPLED_SLICES; i++)
		old.counts[i] = 0;
	assert_int_equal(verdict(&old), VERDICT_STABLE);
}

/* Windows with its site came late: of those that there were, some are old. */
static void what_could_not_be_seen_before_is_as_old_as_can_be(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	for (unsigned i = 0; i < SAMPLED_SLICES / 2; i++)
		evidence.counts[i] = 0;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	evidence.since = SAMPLED_SLICES / 2;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
	for (unsigned i = 0; i < SAMPLED_SLICES - 2; i++)
		evidence.counts[i] = 0;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
}

/* There were no more windows: what they saw is of before, whatever lives. */
static void what_could_not_be_seen_later_is_not_old_for_that(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	for (unsigned i = SAMPLED_SLICES / 2; i < SAMPLED_SLICES; i++)
		evidence.counts[i] = 0;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	evidence.until = SAMPLED_SLICES / 2;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
	for (unsigned i = 0; i < SAMPLED_SLICES / 2 - 1; i++)
		evidence.counts[i] = 0;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
}

/* A window that stands for ten times the time of the others says no more of when it was made. */
static void one_draw_that_weighs_much_does_not_outvote_the_others(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.counts[SAMPLED_SLICES - 1] = 10 * 10 * SAMPLED_SLICES;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
	for (unsigned i = 0; i < SAMPLED_SLICES - 4; i++)
		evidence.counts[i] = 0;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
}

static void a_few_draws_have_to_be_of_either_half(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	for (unsigned i = 0; i < SAMPLED_SLICES; i++)
		evidence.counts[i] = i == 12 || i == 14 ? 10 : 0;
	evidence.draws = SAMPLED_DRAWS_GROWING;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	evidence.counts[2] = 1;
	evidence.counts[12] = 0;
	assert_int_equal(verdict(&evidence), VERDICT_GROWING);
}

static void a_young_session_calls_nothing_a_leak(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.seconds = SAMPLED_LEAK_SECONDS / 2.0;
	assert_int_equal(verdict(&evidence), VERDICT_GROWING);
	evidence.exact = true;
	evidence.own.verdict = VERDICT_LEAK;
	assert_int_equal(verdict(&evidence), VERDICT_GROWING);
	evidence.seconds = SAMPLED_LEAK_SECONDS;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
}

static void few_draws_are_little_evidence(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.draws = SAMPLED_DRAWS_LEAK - 1;
	assert_int_equal(verdict(&evidence), VERDICT_GROWING);
	evidence.draws = SAMPLED_DRAWS_GROWING - 1;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	/* One object that grows is met once: where it is seen whole, its series tells. */
	evidence.exact = true;
	evidence.own.verdict = VERDICT_LEAK;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
	evidence.whole.verdict = VERDICT_GROWING;
	assert_int_equal(verdict(&evidence), VERDICT_GROWING);
}

/* Seen whole, what it holds is known: however often it was met, a series that stays is no leak. */
static void what_is_seen_whole_follows_its_own_series(void **state)
{
	static const enum verdict verdicts[] = {VERDICT_WARMING, VERDICT_STABLE, VERDICT_GROWING,
						VERDICT_LEAK};

	(void)state;
	for (unsigned draws = 0; draws <= SAMPLED_SLICES; draws++)
		for (unsigned i = 0; i < sizeof(verdicts) / sizeof(*verdicts); i++) {
			struct sampled_evidence evidence = leaking();

			evidence.exact = true;
			evidence.draws = draws;
			evidence.own.verdict = verdicts[i];
			assert_int_equal(verdict(&evidence), verdicts[i]);
		}
}

/* Of estimates the own series says nothing: it is all noise. */
static void what_is_sampled_follows_the_whole(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.own.verdict = VERDICT_STABLE;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
}

static void a_hundredth_of_the_growth_is_not_worth_a_verdict(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.growth_bytes_per_second = 150;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
}

static void a_heap_that_may_grow_makes_no_leak(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.whole.verdict = VERDICT_GROWING;
	assert_int_equal(verdict(&evidence), VERDICT_GROWING);
}

/* Of the type that leaks at another line, a few samples stand for what that line has made. */
static void a_small_part_of_what_another_line_has_is_noise(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.objects_gained = INFINITY;
	evidence.objects = evidence.objects_of_first = 1000;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
	evidence.objects_of_first = 1000 / (SAMPLED_OF_FIRST_MIN * 0.9);
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	evidence.objects_of_first = 1000 / (SAMPLED_OF_FIRST_MIN * 1.1);
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
	/* What is seen whole is no noise, however small. */
	evidence.objects_of_first = 1e9;
	evidence.exact = true;
	evidence.own.verdict = VERDICT_LEAK;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
}

static void a_line_keeps_no_more_of_a_type_than_the_heap_has(void **state)
{
	struct sampled_evidence evidence = leaking();

	(void)state;
	evidence.objects = evidence.objects_of_first = 1000;
	evidence.objects_gained = 900;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
	evidence.objects_gained = 100;
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	evidence.objects_gained = -500; /* there are fewer than there ever were */
	assert_int_equal(verdict(&evidence), VERDICT_STABLE);
	/* One object that grows: of those there are no more. */
	evidence.objects = evidence.objects_of_first = 0;
	evidence.objects_gained = 0;
	assert_int_equal(verdict(&evidence), VERDICT_LEAK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_that_leaks_in_a_heap_that_grows_is_a_leak),
		cmocka_unit_test(survivors_alone_decide_nothing),
		cmocka_unit_test(what_lives_for_a_while_only_is_no_leak),
		cmocka_unit_test(what_could_not_be_seen_before_is_as_old_as_can_be),
		cmocka_unit_test(what_could_not_be_seen_later_is_not_old_for_that),
		cmocka_unit_test(one_draw_that_weighs_much_does_not_outvote_the_others),
		cmocka_unit_test(a_few_draws_have_to_be_of_either_half),
		cmocka_unit_test(a_young_session_calls_nothing_a_leak),
		cmocka_unit_test(few_draws_are_little_evidence),
		cmocka_unit_test(what_is_seen_whole_follows_its_own_series),
		cmocka_unit_test(what_is_sampled_follows_the_whole),
		cmocka_unit_test(a_hundredth_of_the_growth_is_not_worth_a_verdict),
		cmocka_unit_test(a_heap_that_may_grow_makes_no_leak),
		cmocka_unit_test(a_small_part_of_what_another_line_has_is_noise),
		cmocka_unit_test(a_line_keeps_no_more_of_a_type_than_the_heap_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
