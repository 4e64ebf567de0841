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
#include "ledger/samples.h"

#define A 101
#define B 202
#define C 303
#define DICT 0xd1c7
#define LIST 0x1157

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
		.site = tier == SAMPLE_WINDOW ? 11 : 12,
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

/* What each sample owns: too large for the pools, unless a test says otherwise. */
static uint64_t buffer_bytes = 1024;

/* Looks at all that is due; 64 bytes each in class 3, and buffer_bytes of buffers. How many. */
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
						       .buffer_bytes = buffer_bytes,
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

TEST(what_comes_after_a_windows_end_only_ends_what_was_there)
{
	window(samples, 1, 100, A, true, 5);
	look(samples, 5.1, everything_lives);
	see(samples, 0x20000, B, 1, SAMPLE_WINDOW, 5.2);
	assert_int_equal(look(samples, 9, everything_lives) - 89, 0);
	assert_true(bytes_of(samples, B, 9) == 0);
	assert_true(fabs(bytes_of(samples, A, 9) - 89 * 64 * 20) < 1e-6);
	assert_int_equal(totals_of(samples).windows, 1);
	assert_int_equal(
		samples_window_end(samples, &(struct window_facts){.window = 1, .closed = 9}),
		-EINVAL);
}

/* While a window's look goes on its sites still tell: a place that is taken anew is no survivor. */
TEST(a_windows_look_is_at_its_own_and_hears_of_what_comes_meanwhile)
{
	struct sample_due due[64];
	struct sample_seen seen[64];
	size_t n;

	see_cold(samples, 0x1000, A, 0); /* due as well, and none of the window's */
	window(samples, 1, 40, B, true, 5);
	n = samples_due_of_window(samples, 1, 5.03, due, 64);
	assert_int_equal(n, 36);
	for (size_t i = 0; i < n; i++) {
		assert_int_not_equal(due[i].address, 0x1000);
		seen[i] = (struct sample_seen){.handle = due[i].handle,
					       .answer = SAMPLE_LIVE,
					       .type = DICT,
					       .size_bytes = 64,
					       .size_class = 3};
	}
	see(samples, due[0].address, C, 1, SAMPLE_WINDOW, 5.03);
	samples_looked(samples, 5.03, seen, n);
	assert_int_equal(totals_of(samples).became_samples, 35);
	assert_true(bytes_of(samples, C, 7) == 0);
	assert_int_equal(samples_due_of_window(samples, 1, 5.04, due, 64), 0);
	assert_int_equal(samples_due_of_window(samples, 0, 9, due, 64), 0);
	assert_int_equal(samples_due_of_window(samples, 77, 9, due, 64), 0);
	assert_int_equal(look(samples, 5.05, everything_lives), 1);
}

TEST(a_window_counts_when_its_weight_is_known)
{
	const struct window_facts facts = {
		.window = 7, .closed = 1, .progress = 3, .sightings_before_detach = 2};

	see(samples, 0x1000, A, 7, SAMPLE_WINDOW, 1);
	see(samples, 0x2000, A, 7, SAMPLE_WINDOW, 1);
	assert_int_equal(samples_window_end(samples, &facts), 0);
	assert_int_equal(look(samples, 1.1, everything_lives), 1);
	assert_true(bytes_of(samples, A, 2) == 0);
	samples_window_weight(samples, 7, 100);
	/* Of two, one was left. */
	assert_true(bytes_of(samples, A, 2) == 2 * 6400);
	samples_window_weight(samples, 7, 50);
	assert_true(bytes_of(samples, A, 2) == 2 * 3200);
	samples_window_weight(samples, 8, 50);
	samples_window_weight(samples, 7, 0);
	assert_true(bytes_of(samples, A, 2) == 2 * 3200);
}

TEST(looks_come_at_growing_ages)
{
	static const double expected[] = {1, 2, 4, 8, 16, 32, 64, 124, 184, 244};
	size_t n = 0;

	see_cold(samples, 0x1000, A, 0);
	for (double time = 0; time < 250; time += 1.0 / 64) {
		if (samples_next_due(samples) > time)
			continue;
		if (look(samples, time, everything_lives))
			assert_true(fabs(time - expected[n++]) < 0.01);
	}
	assert_int_equal(n, sizeof(expected) / sizeof(*expected));
}

static enum sample_answer answer_by_address(const struct sample_due *due)
{
	return (enum sample_answer)(due->address >> 12 & 7);
}

TEST(each_answer_has_its_own_consequence)
{
	struct samples_query zombies = {.time = 3, .zombies = true};
	_cleanup_free_ struct samples_cell *cells = NULL;
	size_t n;

	for (uint64_t answer = SAMPLE_LIVE; answer <= SAMPLE_UNKNOWN; answer++)
		see_cold(samples, answer << 12 | 0x10, A + answer, 0);
	look(samples, 1, everything_lives);
	for (uint64_t answer = SAMPLE_LIVE; answer <= SAMPLE_UNKNOWN; answer++)
		assert_true(bytes_of(samples, A + answer, 1) == 64);
	look(samples, 2.1, answer_by_address);
	assert_true(bytes_of(samples, A + SAMPLE_LIVE, 3) == 64);
	for (uint64_t answer = SAMPLE_DEAD; answer <= SAMPLE_UNKNOWN; answer++)
		assert_true(bytes_of(samples, A + answer, 3) == 0);
	assert_int_equal(totals_of(samples).dead, 1);
	assert_int_equal(totals_of(samples).reused, 1);
	assert_int_equal(totals_of(samples).parked, 1);
	assert_int_equal(totals_of(samples).unknown, 1);
	assert_int_equal(totals_of(samples).zombies, 1);
	assert_int_equal(totals_of(samples).unknown_now, 1);
	assert_int_equal(samples_cells(samples, &zombies, &cells, &n), 0);
	assert_int_equal(n, 2); /* with its buffers */
	assert_int_equal(cells[0].stack, A + SAMPLE_ZOMBIE);
	/* Read again, it counts again. */
	look(samples, 5, everything_lives);
	assert_true(bytes_of(samples, A + SAMPLE_UNKNOWN, 5) == 64);
}

static enum sample_answer nothing_is_known(const struct sample_due *due)
{
	(void)due;
	return SAMPLE_UNKNOWN;
}

TEST(a_candidate_that_cannot_be_read_is_no_sample)
{
	see_cold(samples, 0x1000, A, 0);
	look(samples, 1, nothing_is_known);
	assert_int_equal(totals_of(samples).candidates, 0);
	assert_int_equal(totals_of(samples).samples, 0);
	assert_int_equal(totals_of(samples).unknown, 1);
}

TEST(answers_to_what_is_gone_are_not_taken)
{
	struct sample_due due[2];
	struct sample_seen seen = {.answer = SAMPLE_LIVE, .size_bytes = 64};

	see_cold(samples, 0x1000, A, 0);
	assert_int_equal(samples_due(samples, 1, due, 2), 1);
	see_cold(samples, 0x1000, B, 1.5);
	seen.handle = due[0].handle;
	samples_looked(samples, 1.6, &seen, 1);
	assert_int_equal(totals_of(samples).samples, 0);
	/* Nor those to an earlier question. */
	assert_int_equal(samples_due(samples, 3, due, 2), 1);
	seen.handle = due[0].handle;
	assert_int_equal(samples_due(samples, 5, due, 2), 1);
	samples_looked(samples, 5, &seen, 1);
	assert_int_equal(totals_of(samples).samples, 0);
	seen.handle = due[0].handle;
	samples_looked(samples, 5, &seen, 1);
	assert_int_equal(totals_of(samples).samples, 1);
	samples_looked(samples, 5, &seen, 1);
	seen.handle = UINT64_MAX;
	samples_looked(samples, 5, &seen, 1);
}

TEST(a_free_that_is_seen_ends_it)
{
	see_cold(samples, 0x1000, A, 0);
	samples_free_seen(samples, 0x1000);
	samples_free_seen(samples, 0x2000);
	assert_int_equal(totals_of(samples).freed, 1);
	assert_int_equal(look(samples, 3, everything_lives), 0);
}

TEST(buffers_are_a_class_of_their_own)
{
	const struct samples_query query = {.time = 2, .min_age_seconds = 1.5};
	const struct samples_query older = {.time = 2, .min_age_seconds = 3};
	_cleanup_free_ struct samples_cell *cells = NULL, *none = NULL;
	size_t n;

	see_cold(samples, 0x1000, A, 0);
	see_cold(samples, 0x2000, A, 0);
	look(samples, 1, everything_lives);
	assert_int_equal(samples_cells(samples, &query, &cells, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(cells[0].size_class, 3);
	assert_int_equal(cells[0].count, 2);
	assert_true(cells[0].expanded_bytes == 128 && cells[0].weight == 1);
	assert_int_equal(cells[1].size_class, SAMPLES_CLASS_BUFFERS);
	assert_int_equal(cells[1].count, 0);
	assert_true(cells[1].expanded_bytes == 2048);
	assert_int_equal(samples_cells(samples, &older, &none, &n), 0);
	assert_int_equal(n, 0);
}

TEST(small_buffers_are_of_the_class_of_their_size)
{
	const struct samples_query query = {.time = 2};
	_cleanup_free_ struct samples_cell *cells = NULL;
	size_t n;

	buffer_bytes = 512;
	see_cold(samples, 0x1000, A, 0);
	look(samples, 1, everything_lives);
	buffer_bytes = 1024;
	assert_int_equal(samples_cells(samples, &query, &cells, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(cells[1].size_class, 31);
	assert_int_equal(cells[1].count, 0);
	assert_true(cells[1].expanded_bytes == 512);
}

/* --- mixed types ------------------------------------------------------------------------------ */

/* A complete window in which the type is made so often at each kind of site. */
static void type_window(struct samples *samples, uint32_t number, size_t hot, size_t cold)
{
	const struct window_facts facts = {.window = number, .complete = true};

	for (size_t i = 0; i < hot + cold; i++)
		see(samples, 0x900000 + 16 * i, C, number,
		    i < hot ? SAMPLE_WINDOW : SAMPLE_ALWAYS_ON, number);
	assert_int_equal(samples_window_end(samples, &facts), 0);
}

TEST(a_type_is_mixed_when_complete_windows_say_so)
{
	type_window(samples, 1, 5, 0);
	assert_false(samples_type_is_mixed(samples, DICT));
	/* 30 %, but of too few to be sure. */
	type_window(samples, 2, 1, 14);
	assert_false(samples_type_is_mixed(samples, DICT));
	type_window(samples, 3, 300, 700);
	assert_true(samples_type_is_mixed(samples, DICT));
	assert_false(samples_type_is_mixed(samples, LIST));
	/* Programs change. */
	for (uint32_t number = 4; number < 8; number++)
		type_window(samples, number, 0, 700);
	assert_false(samples_type_is_mixed(samples, DICT));
}

TEST(a_window_that_is_not_complete_teaches_nothing)
{
	window(samples, 1, 500, A, false, 1);
	assert_false(samples_type_is_mixed(samples, DICT));
	window(samples, 2, 500, A, true, 2);
	assert_true(samples_type_is_mixed(samples, DICT));
	/* And then counts for nothing. */
	look(samples, 3, everything_lives);
	assert_true(fabs(bytes_of(samples, A, 3) - 450 * 64 * 20) < 1e-6);
}

TEST(a_mixed_type_counts_from_complete_windows_only)
{
	const struct window_facts facts = {.window = 2,
					   .opened = 10,
					   .closed = 11,
					   .progress = 10,
					   .stratum_progress = 900,
					   .sightings_before_detach = 10,
					   .complete = true};

	see_cold(samples, 0x1000, A, 0);
	look(samples, 1, everything_lives);
	assert_true(bytes_of(samples, A, 1) == 64);
	type_window(samples, 1, 100, 0);
	assert_true(bytes_of(samples, A, 2) == 0);
	see_cold(samples, 0x2000, A, 3);
	assert_int_equal(totals_of(samples).displaced, 1);
	/*
	 * In the window an always-on site's sighting weighs like any other of it; the
	 * last is too young, and does not count by itself instead.
	 */
	for (uint64_t i = 0; i < 10; i++)
		see(samples, 0x3000 + 16 * i, A, 2, i < 5 ? SAMPLE_WINDOW : SAMPLE_ALWAYS_ON, 10);
	assert_int_equal(samples_window_end(samples, &facts), 0);
	look(samples, 12, everything_lives);
	assert_true(fabs(bytes_of(samples, A, 12) - 9 * 64 * 100) < 1e-6);
}

/* --- other sums ------------------------------------------------------------------------------- */

TEST(types_and_cohorts_are_told_by_stack)
{
	const struct samples_query query = {.time = 160};
	_cleanup_free_ struct samples_type_sum *types = NULL;
	_cleanup_free_ struct samples_cohorts *cohorts = NULL;
	struct sighting list = {.address = 0x90000, .stack = B, .type = LIST, .time = 150};
	size_t n;

	for (uint64_t i = 0; i < 10; i++)
		see_cold(samples, 0x1000 + 16 * i, A, 5 + 10 * (double)i);
	see_cold(samples, 0x80000, B, 150);
	samples_see(samples, &list);
	list.address = 0x90010;
	samples_see(samples, &list);
	look(samples, 155, everything_lives);
	assert_int_equal(samples_types(samples, &query, &types, &n), 0);
	assert_int_equal(n, 3);
	assert_true(types[0].stack == A && types[0].type == DICT && types[0].count == 10);
	assert_true(types[1].stack == B && types[1].type == LIST);
	assert_true(types[1].estimated_bytes == 128 && types[1].estimated_buffer_bytes == 2048);
	assert_true(types[2].stack == B && types[2].type == DICT);
	assert_int_equal(samples_cohorts(samples, &query, &cohorts, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(cohorts[0].count, 10);
	for (size_t i = 0; i < SAMPLES_SLICES; i++)
		assert_int_equal(cohorts[0].counts[i], i < 10);
	assert_true(fabs(cohorts[0].older_half_ratio - 0.8) < 1e-9);
	assert_true(fabs(cohorts[0].oldest_seconds - 155) < 0.1);
	assert_true(cohorts[1].older_half_ratio == 0);
}

TEST(cohorts_tell_between_when_they_could_be_seen)
{
	const struct samples_query query = {.time = 100};
	_cleanup_free_ struct samples_cohorts *cohorts = NULL;
	struct window_facts facts = {.window = 1, .opened = 10, .closed = 11, .learning = true};
	struct sighting cold = {.address = 0x1000, .stack = A, .type = DICT, .site = 1, .time = 35};
	struct sighting hot = {.address = 0x2000,
			       .stack = B,
			       .type = LIST,
			       .site = 2,
			       .tier = SAMPLE_WINDOW,
			       .time = 40};
	size_t n;

	samples_site_is(samples, 2, SAMPLE_SITE_WINDOW); /* to learn: nothing of it is kept */
	samples_window_end(samples, &facts);
	samples_site_is(samples, 2, SAMPLE_SITE_OFF);
	for (facts.window = 2; facts.window < 4; facts.window++) {
		samples_site_is(samples, 2, SAMPLE_SITE_WINDOW);
		hot.window = facts.window;
		hot.address += 0x1000;
		hot.time = 20.0 * facts.window;
		for (unsigned i = 0; i < 20; i++, hot.address += 16)
			samples_see(samples, &hot);
		facts = (struct window_facts){.window = facts.window,
					      .opened = hot.time,
					      .closed = hot.time + 0.5,
					      .progress = 1,
					      .stratum_progress = 10,
					      .sightings_before_detach = 20,
					      .complete = true};
		samples_window_end(samples, &facts);
		samples_site_is(samples, 2, SAMPLE_SITE_OFF);
	}
	samples_site_is(samples, 1, SAMPLE_SITE_ALWAYS);
	cold.time = 70;
	samples_see(samples, &cold);
	look(samples, 90, everything_lives);
	assert_int_equal(samples_cohorts(samples, &query, &cohorts, &n), 0);
	assert_int_equal(n, 2);
	assert_true(cohorts[0].stack == A);
	assert_true(fabs(cohorts[0].since - 60) < 1 && cohorts[0].until == 100);
	assert_true(fabs(cohorts[1].since - 40) < 0.1 && fabs(cohorts[1].until - 60.5) < 0.1);
}

TEST(streams_count_their_windows)
{
	struct window_facts facts = {.window = 1, .stream = 2};

	assert_int_equal(samples_window_end(samples, &facts), 0);
	facts.window = 2;
	assert_int_equal(samples_window_end(samples, &facts), 0);
	assert_int_equal(samples_stream_windows(samples, 2), 2);
	assert_int_equal(samples_stream_windows(samples, 0), 0);
	assert_int_equal(samples_stream_windows(samples, 99), 0);
	facts.window = 3;
	facts.stream = SAMPLES_STREAMS;
	assert_int_equal(samples_window_end(samples, &facts), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_an_always_on_site_shows_and_lives_is_outstanding),
		cmocka_unit_test(a_newer_sighting_at_the_address_ends_the_older),
		cmocka_unit_test(a_windows_samples_weigh_what_was_not_looked_at),
		cmocka_unit_test(what_comes_after_a_windows_end_only_ends_what_was_there),
		cmocka_unit_test(a_windows_look_is_at_its_own_and_hears_of_what_comes_meanwhile),
		cmocka_unit_test(a_window_counts_when_its_weight_is_known),
		cmocka_unit_test(looks_come_at_growing_ages),
		cmocka_unit_test(each_answer_has_its_own_consequence),
		cmocka_unit_test(a_candidate_that_cannot_be_read_is_no_sample),
		cmocka_unit_test(answers_to_what_is_gone_are_not_taken),
		cmocka_unit_test(a_free_that_is_seen_ends_it),
		cmocka_unit_test(buffers_are_a_class_of_their_own),
		cmocka_unit_test(small_buffers_are_of_the_class_of_their_size),
		cmocka_unit_test(a_type_is_mixed_when_complete_windows_say_so),
		cmocka_unit_test(a_window_that_is_not_complete_teaches_nothing),
		cmocka_unit_test(a_mixed_type_counts_from_complete_windows_only),
		cmocka_unit_test(types_and_cohorts_are_told_by_stack),
		cmocka_unit_test(cohorts_tell_between_when_they_could_be_seen),
		cmocka_unit_test(streams_count_their_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
