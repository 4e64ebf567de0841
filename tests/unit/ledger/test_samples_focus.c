/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The simulated heap with a free list once more: what makes a type that grows
 * is in windows of the focus, and in the complete ones as before.  A leak beside
 * churn of the same type is estimated from the former, and counts once.
 *
 * And learning: a window a site, each of another progress, tells who makes what.
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
#define OTHER 0x7f
#define BYSTANDER 3 /* a stack; its type is made at a site that is in no focus */
#define SITE_HOT 5  /* takes from the free list */
#define SITE_COLD 6 /* carves a fresh block */
#define SITE_OTHER 7
#define CHURN_DEPTH 4
#define TICK 0.001
/* The first strata have complete windows alone. */
#define UNFOCUSED 20
#define STREAM_COMPLETE 0
#define STREAM_FOCUS 4
#define OTHER_START 0x8000000

static const uint16_t all[] = {SITE_HOT, SITE_COLD, SITE_OTHER};
static bool cold_is_always_on;
static bool focus_is_open;
static uint64_t others;

static void tell(bool focus, enum sample_site state)
{
	for (size_t i = 0; i < (focus ? 2 : 3); i++)
		if (all[i] != SITE_COLD || !cold_is_always_on)
			samples_site_is(heap.samples, all[i], state);
}

static void see(uint64_t address, uint64_t stack, uint64_t type, uint16_t site)
{
	bool always = site == SITE_COLD && cold_is_always_on;
	bool in = heap.window && (site != SITE_OTHER || !focus_is_open);
	const struct sighting sighting = {
		.address = address,
		.stack = stack,
		.type = type,
		.site = site,
		.tier = always ? SAMPLE_ALWAYS_ON : SAMPLE_WINDOW,
		.window = heap.window,
		.time = heap.time,
	};

	heap.in_window += in;
	if (always || in)
		samples_see(heap.samples, &sighting);
}

static uint32_t make(uint64_t stack)
{
	bool fresh = heap.n_free == 0;
	uint32_t block = heap_take();

	see(address_of(block), stack, TUPLE, fresh ? SITE_COLD : SITE_HOT);
	return block;
}

/* Churn; now and then a leak, and a bystander that lives for ever too. */
static void iterate(void)
{
	uint32_t blocks[CHURN_DEPTH];

	for (size_t i = 0; i < CHURN_DEPTH; i++)
		blocks[i] = make(CHURN);
	for (size_t i = CHURN_DEPTH; i-- > 0;)
		heap_give_back(blocks[i]);
	if (uniform() < 0.1) {
		make(LEAK);
		heap.leaked++;
	}
	if (uniform() < 0.1)
		see(OTHER_START + BYTES * ++others, BYSTANDER, OTHER, SITE_OTHER);
	heap.time += TICK;
}

static bool is_live(const void *context, uint64_t address)
{
	return address > OTHER_START || heap_is_live(context, address);
}

static void open_window(uint32_t number, bool focus)
{
	heap.window = number;
	heap.in_window = 0;
	focus_is_open = focus;
	tell(focus, SAMPLE_SITE_WINDOW);
}

static void end_window(size_t ticks, size_t stratum_ticks)
{
	const struct window_facts facts = {
		.window = heap.window,
		.closed = heap.time,
		.progress = (double)ticks * TICK,
		.stratum_progress = (double)stratum_ticks * TICK,
		.sightings_before_detach = heap.in_window,
		.stream = focus_is_open ? STREAM_FOCUS : STREAM_COMPLETE,
		.complete = !focus_is_open,
	};

	heap.window = 0;
	tell(focus_is_open, SAMPLE_SITE_OFF);
	assert_int_equal(samples_window_end(heap.samples, &facts), 0);
}

/*
 * A window of each kind at a random place of the stratum, one after the other
 * where they would come in each other's way.
 */
static void stratum(uint32_t number)
{
	size_t opens[2], order;

	for (size_t i = 0; i < 2; i++)
		opens[i] = (size_t)(uniform() * (STRATUM - 2 * WINDOW));
	order = opens[1] < opens[0];
	opens[1 - order] += WINDOW;
	for (size_t i = 0; i < STRATUM; i++) {
		for (size_t kind = 0; kind < 2; kind++) {
			if (kind == 1 && number <= UNFOCUSED)
				continue;
			if (i == opens[kind])
				open_window(2 * number + (uint32_t)kind, kind == 1);
		}
		iterate();
		for (size_t kind = 0; kind < 2; kind++)
			if (heap.window && i + 1 == opens[kind] + WINDOW &&
			    focus_is_open == (kind == 1))
				end_window(WINDOW, STRATUM);
		look_at_all(heap.samples, heap.time, LIVE_BLOCK(TUPLE, BYTES), is_live, NULL);
	}
}

/* stream SAMPLES_STREAMS: all. */
static double bytes_of_stream(uint64_t stack, unsigned stream)
{
	const struct samples_query query = {.time = heap.time, .min_age_seconds = 0.5};
	struct samples_cell *cells = NULL;
	double bytes = 0;
	size_t n;

	assert_int_equal(samples_cells(heap.samples, &query, &cells, &n), 0);
	for (size_t i = 0; i < n; i++)
		if (cells[i].stack == stack &&
		    (stream == SAMPLES_STREAMS || (cells[i].window && cells[i].stream == stream)))
			bytes += cells[i].weight * cells[i].expanded_bytes;
	free(cells);
	return bytes;
}

static double bytes_of(uint64_t stack)
{
	return bytes_of_stream(stack, SAMPLES_STREAMS);
}

static void run(bool cold_on)
{
	double to_churn, to_leak, to_bystander, complete, truth;

	heap_start();
	heap.draws = 1;
	others = 0;
	cold_is_always_on = cold_on;
	for (size_t i = 0; i < 3; i++)
		samples_site_is(heap.samples, all[i],
				all[i] == SITE_COLD && cold_on ? SAMPLE_SITE_ALWAYS
							       : SAMPLE_SITE_OFF);
	for (uint32_t i = 1; i <= STRATA; i++)
		stratum(i);
	truth = (double)heap.leaked * BYTES;
	complete = bytes_of_stream(LEAK, STREAM_COMPLETE) / truth;
	to_bystander = bytes_of(BYSTANDER) / ((double)others * BYTES);
	heap_end(bytes_of, &to_churn, &to_leak);
	print_message("of the leak, complete windows: %.3f; the bystander: %.3f\n", complete,
		      to_bystander);
	assert_true(to_churn < 0.01);
	/* ~8000 leaked, ~800 of them in windows: 4 standard errors are 15 %. */
	assert_true(fabs(to_leak - 1) < 0.15);
	/* Complete windows have what was made before, and until the first of the focus. */
	assert_true(complete < 2.0 * UNFOCUSED / STRATA);
	/* What is in no focus is estimated from them as ever. */
	assert_true(fabs(to_bystander - 1) < 0.15);
}

static void a_leak_of_a_focused_type_counts_once_and_not_for_the_churn(void **state)
{
	(void)state;
	run(false);
}

/* The focus holds the hot one of the two sites; the other one is in all the time. */
static void it_does_so_where_one_of_its_sites_is_always_on(void **state)
{
	(void)state;
	run(true);
}

/* --- learning ------------------------------------------------------------------------------- */

#define A 1
#define B 2

static uint64_t address;

/* A window on one site, with what it makes in so much of the target's own time. */
static void learn(uint32_t window, uint16_t site, double per_second, double progress)
{
	const uint64_t n = (uint64_t)llround(per_second * progress);
	const struct window_facts facts = {.window = window,
					   .closed = window,
					   .progress = progress,
					   .stratum_progress = 1,
					   .sightings_before_detach = n,
					   .learning = true};

	samples_site_is(heap.samples, site, SAMPLE_SITE_WINDOW);
	for (uint64_t i = 0; i < n; i++)
		samples_see(heap.samples, &(struct sighting){.address = address += 16,
							     .stack = LEAK,
							     .type = TUPLE,
							     .site = site,
							     .tier = SAMPLE_WINDOW,
							     .window = window,
							     .time = window});
	samples_site_is(heap.samples, site, SAMPLE_SITE_OFF);
	assert_int_equal(samples_window_end(heap.samples, &facts), 0);
}

/* Is more than a fifth of the type made at B, with A always on? */
static bool is_made_at_b(double a_per_second, double a_progress, double b_per_second,
			 double b_progress)
{
	bool mixed;

	heap_start();
	learn(1, A, a_per_second, a_progress);
	learn(2, B, b_per_second, b_progress);
	samples_site_is(heap.samples, A, SAMPLE_SITE_ALWAYS);
	mixed = samples_type_is_mixed(heap.samples, TUPLE);
	samples_free(heap.samples);
	return mixed;
}

static void learning_names_makers_by_their_rates_whatever_its_windows_progress(void **state)
{
	static const double progress[][2] = {
		{0.005, 0.005}, {0.0005, 0.005}, {0.005, 0.0005}, {0.002, 0.004}};

	(void)state;
	for (size_t i = 0; i < sizeof(progress) / sizeof(*progress); i++) {
		/* A tenth, two fifths. */
		assert_false(is_made_at_b(900e3, progress[i][0], 100e3, progress[i][1]));
		assert_true(is_made_at_b(600e3, progress[i][0], 400e3, progress[i][1]));
	}
}

static void learning_names_who_makes_a_type_and_nobody_else(void **state)
{
	uint16_t makers[SAMPLES_MAKERS_MAX];

	(void)state;
	heap_start();
	assert_int_equal(samples_type_makers(heap.samples, TUPLE, makers), 0);
	learn(1, A, 20e3, 0.005);
	learn(2, B, 100e3, 0.001);
	learn(3, B + 1, 0, 0.005);
	assert_int_equal(samples_type_makers(heap.samples, TUPLE, makers), 2);
	assert_int_equal(makers[0], A);
	assert_int_equal(makers[1], B);
	assert_int_equal(samples_type_makers(heap.samples, OTHER, makers), 0);
	samples_free(heap.samples);
}

/* What it saw is no estimate, and its sites are in no slice for it. */
static void learning_tells_nothing_of_what_lives(void **state)
{
	struct samples_totals totals;
	uint64_t refused;

	(void)state;
	heap_start();
	learn(1, A, 20e3, 0.005);
	samples_make_due(heap.samples, 2);
	look_at_all(heap.samples, 2, LIVE_BLOCK(TUPLE, BYTES), NULL, NULL);
	samples_totals(heap.samples, &totals);
	refused = totals.other_windows;
	assert_int_equal(totals.sightings, 100);
	assert_int_equal(totals.candidates, 0);
	assert_int_equal(totals.samples, 0);
	assert_true(bytes_of(LEAK) == 0);
	/* A complete window right behind it counts. */
	samples_site_is(heap.samples, A, SAMPLE_SITE_WINDOW);
	for (size_t i = 0; i < 100; i++)
		samples_see(heap.samples, &(struct sighting){.address = address += 16,
							     .stack = LEAK,
							     .type = TUPLE,
							     .site = A,
							     .tier = SAMPLE_WINDOW,
							     .window = 2,
							     .time = 2});
	samples_site_is(heap.samples, A, SAMPLE_SITE_OFF);
	assert_int_equal(samples_window_end(heap.samples,
					    &(struct window_facts){.window = 2,
								   .closed = 2.1,
								   .progress = 0.01,
								   .stratum_progress = 1,
								   .sightings_before_detach = 100,
								   .complete = true}),
			 0);
	look_at_all(heap.samples, 2.2, LIVE_BLOCK(TUPLE, BYTES), NULL, NULL);
	samples_totals(heap.samples, &totals);
	assert_int_equal(totals.other_windows, refused);
	assert_int_equal(totals.samples, 90);
	samples_free(heap.samples);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_leak_of_a_focused_type_counts_once_and_not_for_the_churn),
		cmocka_unit_test(it_does_so_where_one_of_its_sites_is_always_on),
		cmocka_unit_test(
			learning_names_makers_by_their_rates_whatever_its_windows_progress),
		cmocka_unit_test(learning_names_who_makes_a_type_and_nobody_else),
		cmocka_unit_test(learning_tells_nothing_of_what_lives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
