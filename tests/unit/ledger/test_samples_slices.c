/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A lukewarm site goes round in slices and is in the complete windows as well:
 * what it makes must count once.  Another type is made at two sites of different
 * slices, so that only complete windows see it whole; a third at a hot site.
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

#include "looks.h"

#define BYTES 64
#define SECONDS 4000
#define TICK 0.01 /* what happens in it is seen as a whole or not at all */
#define WINDOW_TICKS 2
#define SLICE_TICKS 10
#define STRATUM_TICKS 100
#define ROUND_TICKS 300 /* of slices; each site has one */

enum { ONCE, TORN, HOT, STACKS };

/* stack → type and sites; slice: 1 or 2, 0: none */
static const struct {
	uint16_t site;
	uint64_t stack;
	unsigned slice;
} sites[] = {{1, ONCE, 1}, {2, TORN, 1}, {3, TORN, 2}, {4, HOT, 0}};
#define N_SITES (sizeof(sites) / sizeof(*sites))

static uint64_t draws;
static struct samples *samples;
static uint64_t address, made[STACKS];

static double uniform(void)
{
	return uniform_of(&draws);
}

/* slice 0: a complete window; UINT_MAX: none is open. */
static bool is_in(size_t site, unsigned slice)
{
	return slice == 0 || sites[site].slice == slice;
}

static void tell_sites(unsigned slice, enum sample_site state)
{
	for (size_t i = 0; i < N_SITES; i++)
		if (is_in(i, slice))
			samples_site_is(samples, sites[i].site, state);
}

/* Everything lives for ever. */
static void tick(double time, uint32_t window, unsigned slice, uint64_t *seen)
{
	size_t first = (size_t)(uniform() * N_SITES);

	for (size_t k = 0; k < 4 * N_SITES; k++) {
		size_t i = (first + k) % N_SITES;
		const struct sighting sighting = {
			.address = address += 16,
			.stack = sites[i].stack,
			.type = 100 + sites[i].stack,
			.site = sites[i].site,
			.tier = SAMPLE_WINDOW,
			.window = window,
			.time = time,
		};

		if (uniform() > 0.3)
			continue;
		made[sites[i].stack]++;
		if (window && is_in(i, slice)) {
			samples_see(samples, &sighting);
			++*seen;
		}
	}
}

static void look(double time)
{
	look_at_all(samples, time, LIVE_BLOCK(0, BYTES), NULL, NULL);
}

struct opening {
	size_t from, to; /* ticks */
	size_t stratum;	 /* ticks */
	unsigned slice;
};

/* Ends the opening at its last tick. */
static void end(const struct opening *opening, uint32_t window, uint64_t seen, double time)
{
	const struct window_facts facts = {
		.window = window,
		.closed = time,
		.progress = (double)(opening->to - opening->from) * TICK,
		.stratum_progress = (double)opening->stratum * TICK,
		.sightings_before_detach = seen,
		.stream = opening->slice != 0,
		.complete = opening->slice == 0,
	};

	tell_sites(opening->slice, SAMPLE_SITE_OFF);
	assert_int_equal(samples_window_end(samples, &facts), 0);
}

/* Windows of either kind, which come in each other's way rarely: then the later one is put off. */
static void run(void)
{
	struct opening next[3] = {0};
	const struct opening *open = NULL;
	uint32_t window = 0;
	uint64_t seen = 0;

	for (size_t now = 0; now < (size_t)(SECONDS / TICK); now++) {
		for (unsigned slice = 0; slice < 3; slice++) {
			size_t stratum = slice ? ROUND_TICKS : STRATUM_TICKS;
			size_t length = slice ? SLICE_TICKS : WINDOW_TICKS;

			if (now % stratum == 0) {
				next[slice].from =
					now + (size_t)(uniform() * (double)(stratum - length));
				next[slice].stratum = stratum;
				next[slice].slice = slice;
			}
			if (now != next[slice].from || next[slice].stratum == 0)
				continue;
			if (open) {
				next[slice].from++;
				continue;
			}
			open = &next[slice];
			next[slice].to = now + length;
			window++;
			seen = 0;
			tell_sites(slice, SAMPLE_SITE_WINDOW);
		}
		tick((double)now * TICK, open ? window : 0, open ? open->slice : 0, &seen);
		if (open && now + 1 == open->to) {
			end(open, window, seen, (double)now * TICK);
			open = NULL;
			look((double)now * TICK);
		}
	}
}

static void what_slices_and_windows_see_counts_once(void **state)
{
	const struct samples_query query = {.time = SECONDS};
	double bytes[STACKS] = {0};
	struct samples_cell *cells;
	size_t n;

	(void)state;
	assert_int_equal(samples_new(NULL, &samples), 0);
	tell_sites(0, SAMPLE_SITE_OFF);
	run();
	assert_int_equal(samples_cells(samples, &query, &cells, &n), 0);
	for (size_t i = 0; i < n; i++)
		bytes[cells[i].stack] += cells[i].weight * cells[i].expanded_bytes;
	free(cells);
	samples_free(samples);
	for (size_t i = 0; i < STACKS; i++) {
		double ratio = bytes[i] / (double)(made[i] * BYTES);

		print_message("stack %zu: %.3f of the truth\n", i, ratio);
		assert_true(fabs(ratio - 1) < 0.05);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_slices_and_windows_see_counts_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
