/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Who makes a type, and since when it was on.  In the simulated heap with a free
 * list the site that carves fresh blocks is on at once, the one that takes from
 * the list comes on later, or goes out for a while: what was seen meanwhile at
 * the first may stand for objects of the other.
 *
 * And what windows that are not complete teach: shares of a type, where all that
 * is known to make it was in.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "free_list_heap.h"

#define TUPLE 0x7e
#define SITE_HOT 5  /* takes from the free list */
#define SITE_COLD 6 /* carves a fresh block */
#define CHURN_DEPTH 4
#define TICKS_A_SECOND 1000
#define LEAKS_A_SECOND 100
/* The ledger's own grain of time, a sixty-fourth of a second, and one of ours. */
#define GRAIN 0.017
#define AGE 0.5 /* of what is asked for */

static bool told;
static bool hot_is_on, cold_is_on;
static uint64_t tick;
/* Of each block, who has it in truth. */
static struct {
	uint64_t stack;
	double made;
} owners[BLOCKS_MAX];

static void start(bool tells)
{
	heap_start();
	heap.draws = 1;
	tick = 0;
	told = tells;
	hot_is_on = cold_is_on = false;
}

static void turn(uint16_t site, bool on)
{
	*(site == SITE_HOT ? &hot_is_on : &cold_is_on) = on;
	if (told)
		samples_site_is(heap.samples, site, on ? SAMPLE_SITE_ALWAYS : SAMPLE_SITE_OFF);
}

static uint32_t make(uint64_t stack)
{
	bool fresh = heap.n_free == 0;
	uint32_t block = heap_take();
	const struct sighting sighting = {
		.address = address_of(block),
		.stack = stack,
		.type = TUPLE,
		.site = fresh ? SITE_COLD : SITE_HOT,
		.tier = SAMPLE_ALWAYS_ON,
		.time = heap.time,
	};

	owners[block].stack = stack;
	owners[block].made = heap.time;
	if (fresh ? cold_is_on : hot_is_on)
		samples_see(heap.samples, &sighting);
	return block;
}

static void iterate(bool leaks)
{
	uint32_t blocks[CHURN_DEPTH];

	for (size_t i = 0; i < CHURN_DEPTH; i++)
		blocks[i] = make(CHURN);
	for (size_t i = CHURN_DEPTH; i-- > 0;)
		heap_give_back(blocks[i]);
	if (leaks && uniform() < (double)LEAKS_A_SECOND / TICKS_A_SECOND) {
		make(LEAK);
		heap.leaked++;
	}
	heap.time = (double)++tick / TICKS_A_SECOND;
	heap_look(TUPLE);
}

static void run_until(double time)
{
	while (heap.time < time)
		iterate(true);
}

/* The leak is over, and what it left is old enough to be asked for. */
static void settle(void)
{
	double until = heap.time + 3 * AGE;

	while (heap.time < until)
		iterate(false);
}

static double charged_to(uint64_t stack)
{
	const struct samples_query query = {.time = heap.time, .min_age_seconds = AGE};
	struct samples_cell *cells = NULL;
	double bytes = 0;
	size_t n;

	assert_int_equal(samples_cells(heap.samples, &query, &cells, &n), 0);
	for (size_t i = 0; i < n; i++)
		if (cells[i].stack == stack)
			bytes += cells[i].weight * cells[i].expanded_bytes;
	free(cells);
	return bytes;
}

/* In truth: what lives, was made there, and in [from, until). */
static double kept_by(uint64_t stack, double from, double until)
{
	double bytes = 0;

	for (size_t i = 0; i < heap.n_blocks; i++)
		if (heap.live[i] && owners[i].stack == stack && owners[i].made >= from &&
		    owners[i].made < until)
			bytes += BYTES;
	return bytes;
}

/* The fresh path is on from the first moment, the free list's site from then on. */
static void run_with_hot_on_at(double hot_on)
{
	turn(SITE_COLD, true);
	turn(SITE_HOT, false);
	run_until(hot_on);
	turn(SITE_HOT, true);
}

static void churn_is_not_charged_for_what_was_taken_before_all_makers_were_on(void **state)
{
	(void)state;
	start(true);
	run_with_hot_on_at(5);
	/* The danger is real: nothing else is known yet. */
	assert_true(charged_to(CHURN) > 0.5 * kept_by(LEAK, 0, 5));
	run_until(10);
	settle();
	assert_true(kept_by(LEAK, 0, 5) > 400 * BYTES && kept_by(LEAK, 5, 10) > 400 * BYTES);
	assert_true(charged_to(CHURN) == 0);
	assert_true(charged_to(LEAK) <= kept_by(LEAK, 5, 10));
	assert_true(charged_to(LEAK) >= kept_by(LEAK, 5 + GRAIN, 10));
	samples_free(heap.samples);
}

/* Nobody tells when sites go in and out: what is seen counts, as long as no window objects. */
static void without_told_sites_all_that_is_seen_counts(void **state)
{
	double early, late;

	(void)state;
	start(false);
	run_with_hot_on_at(5);
	run_until(10);
	settle();
	early = kept_by(LEAK, 0, 5);
	late = kept_by(LEAK, 5, 10);
	/* What the churn has made anew for the last of them was not taken yet. */
	assert_true(charged_to(CHURN) <= early);
	assert_true(charged_to(CHURN) >= early - CHURN_DEPTH * BYTES);
	assert_true(charged_to(LEAK) == late);
	samples_free(heap.samples);
}

#define GAP 0.06

/*
 * Taken out and put in again, as when groups change: what was seen until then
 * counts as before.  Of what is taken from the free list in the gap nothing is
 * known, and no more than that is charged to whoever had it before, or made it anew.
 */
static void regroup(double hot_on, bool hot, bool cold)
{
	double gone = hot_on + 4, back = gone + GAP, until = back + 4, leak;

	start(true);
	run_with_hot_on_at(hot_on);
	run_until(gone);
	if (hot)
		turn(SITE_HOT, false);
	if (cold)
		turn(SITE_COLD, false);
	run_until(back);
	if (hot)
		turn(SITE_HOT, true);
	if (cold)
		turn(SITE_COLD, true);
	run_until(until);
	settle();
	leak = charged_to(LEAK);
	print_message("of %.0f and %.0f bytes before and behind the gap %.0f\n",
		      kept_by(LEAK, hot_on, gone), kept_by(LEAK, back, until), leak);
	assert_true(kept_by(LEAK, hot_on, gone) > 300 * BYTES);
	assert_true(charged_to(CHURN) <= kept_by(LEAK, gone, back) + CHURN_DEPTH * BYTES);
	assert_true(leak <= kept_by(LEAK, hot_on, until));
	assert_true(leak >= kept_by(LEAK, hot_on + GRAIN, gone - GRAIN) +
				    kept_by(LEAK, back + GRAIN, until));
	samples_free(heap.samples);
}

static void a_site_that_is_out_for_a_moment_costs_nothing_that_was_seen(void **state)
{
	(void)state;
	regroup(1, true, false);
	regroup(1, false, true);
	regroup(1, true, true);
}

static void nor_does_one_that_was_on_from_the_first_moment(void **state)
{
	(void)state;
	regroup(0, true, false);
	regroup(0, false, true);
	regroup(0, true, true);
}

/* What it took while it was out is nobody's, and another moment's absence changes nothing. */
static void a_site_that_is_out_for_long_takes_unseen(void **state)
{
	(void)state;
	start(true);
	run_with_hot_on_at(1);
	run_until(5);
	turn(SITE_HOT, false);
	run_until(8);
	settle();
	assert_true(kept_by(LEAK, 5, 8) > 200 * BYTES);
	assert_true(charged_to(CHURN) <= CHURN_DEPTH * BYTES);
	turn(SITE_HOT, true);
	run_until(12);
	turn(SITE_HOT, false);
	run_until(12 + GAP);
	turn(SITE_HOT, true);
	run_until(14);
	settle();
	assert_true(charged_to(CHURN) <= kept_by(LEAK, 12, 12 + GAP) + 2 * CHURN_DEPTH * BYTES);
	assert_true(charged_to(LEAK) >=
		    kept_by(LEAK, 9.5 + GRAIN, 12 - GRAIN) + kept_by(LEAK, 12 + GAP + GRAIN, 14));
	samples_free(heap.samples);
}

/* --- what windows teach --------------------------------------------------------------------- */

#define A 1 /* always on */
#define B 2
#define C 3
#define BYSTANDER 4 /* of another type */

static uint32_t windows;
static uint64_t address;

static void learning_start(void)
{
	heap_start();
	windows = 0;
	samples_site_is(heap.samples, A, SAMPLE_SITE_ALWAYS);
	for (uint16_t site = B; site <= BYSTANDER; site++)
		samples_site_is(heap.samples, site, SAMPLE_SITE_OFF);
}

/*
 * A window that holds some of the sites, a bit each; how many objects of the
 * type A and the others show in it.
 */
static void window(bool complete, unsigned in, const unsigned shown[static 4])
{
	struct window_facts facts = {.window = ++windows,
				     .progress = 0.01,
				     .stratum_progress = 1,
				     .stream = complete ? 0 : 3,
				     .complete = complete};

	for (uint16_t site = B; site <= BYSTANDER; site++)
		if (in & 1u << site)
			samples_site_is(heap.samples, site, SAMPLE_SITE_WINDOW);
	for (uint16_t site = A; site <= C; site++)
		for (unsigned i = 0; i < shown[site]; i++, facts.sightings_before_detach++)
			samples_see(heap.samples,
				    &(struct sighting){.address = address += 16,
						       .stack = LEAK,
						       .type = TUPLE,
						       .site = site,
						       .tier = site == A ? SAMPLE_ALWAYS_ON
									 : SAMPLE_WINDOW,
						       .window = windows,
						       .time = windows});
	for (uint16_t site = B; site <= BYSTANDER; site++)
		samples_site_is(heap.samples, site, SAMPLE_SITE_OFF);
	facts.closed = windows + 0.5;
	assert_int_equal(samples_window_end(heap.samples, &facts), 0);
}

static void repeat(unsigned times, unsigned in, const unsigned shown[static 4])
{
	for (unsigned i = 0; i < times; i++)
		window(false, in, shown);
}

#define BIT(site) (1u << (site))
#define ALL (BIT(B) | BIT(C) | BIT(BYSTANDER))
#define SHOWN(a, b, c) ((const unsigned[4]){0, (a), (b), (c)})

static bool is_mixed(void)
{
	return samples_type_is_mixed(heap.samples, TUPLE);
}

/* Where B is out A alone is seen, and that says nothing of B. */
static void windows_without_a_known_maker_teach_nothing(void **state)
{
	(void)state;
	learning_start();
	window(true, ALL, SHOWN(40, 40, 0));
	assert_true(is_mixed());
	repeat(40, BIT(BYSTANDER), SHOWN(40, 0, 0));
	assert_true(is_mixed());
	/* Where it is in, and shows nothing, it makes nothing. */
	repeat(40, BIT(B), SHOWN(40, 0, 0));
	assert_false(is_mixed());
	samples_free(heap.samples);
}

static void windows_with_all_known_makers_teach_that_one_makes_more(void **state)
{
	(void)state;
	learning_start();
	window(true, ALL, SHOWN(400, 4, 0));
	assert_false(is_mixed());
	repeat(40, BIT(B), SHOWN(40, 40, 0));
	assert_true(is_mixed());
	samples_free(heap.samples);
}

static void one_of_two_known_makers_is_not_all(void **state)
{
	(void)state;
	learning_start();
	window(true, ALL, SHOWN(40, 40, 40));
	assert_true(is_mixed());
	repeat(40, BIT(B), SHOWN(40, 0, 0));
	repeat(40, BIT(C), SHOWN(40, 0, 0));
	assert_true(is_mixed());
	repeat(40, BIT(B) | BIT(C), SHOWN(40, 0, 0));
	assert_false(is_mixed());
	samples_free(heap.samples);
}

/* Who makes it besides may be out: that a window saw but one tells nothing. */
static void of_a_type_that_nothing_is_known_of_they_teach_nothing(void **state)
{
	uint16_t makers[SAMPLES_MAKERS_MAX];

	(void)state;
	learning_start();
	repeat(40, BIT(B), SHOWN(0, 40, 0));
	repeat(40, BIT(BYSTANDER), SHOWN(40, 0, 0));
	assert_int_equal(samples_type_makers(heap.samples, TUPLE, makers), 0);
	assert_false(is_mixed());
	window(true, ALL, SHOWN(0, 0, 40));
	assert_int_equal(samples_type_makers(heap.samples, TUPLE, makers), 1);
	assert_int_equal(makers[0], C);
	samples_free(heap.samples);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(churn_is_not_charged_for_what_was_taken_before_all_makers_were_on),
		cmocka_unit_test(without_told_sites_all_that_is_seen_counts),
		cmocka_unit_test(a_site_that_is_out_for_a_moment_costs_nothing_that_was_seen),
		cmocka_unit_test(nor_does_one_that_was_on_from_the_first_moment),
		cmocka_unit_test(a_site_that_is_out_for_long_takes_unseen),
		cmocka_unit_test(windows_without_a_known_maker_teach_nothing),
		cmocka_unit_test(windows_with_all_known_makers_teach_that_one_makes_more),
		cmocka_unit_test(one_of_two_known_makers_is_not_all),
		cmocka_unit_test(of_a_type_that_nothing_is_known_of_they_teach_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
