/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a hit costs this target.  On a loop of its own a trap finds all that it
 * needs in the processor's caches; between the code of a busy target it does
 * not.  How long the programs run there tells how far that goes: they are
 * timed by the kernel for a while, again and again, and the trap is taken to
 * be slower as they are.
 */
#include <math.h>

#include "base/clock.h"
#include "capture/kernel.h"
#include "service/sampling_private.h"

#define TRAP_SECONDS 700e-9 /* where it can't be measured */
/*
 * What a program does beyond the trap, before it has been measured here: a
 * stack of ten frames that was seen before (docs/BENCHMARKS.md).
 */
#define PROGRAM_SECONDS 400e-9
#define PROGRAM_SECONDS_MAX 10e-6
/* A trap in code that has the caches to itself is so much slower at most. */
#define TRAP_SLOWER_MAX 3
/* Timed until so many runs were seen, or so long; then not, for the timing costs 50 ns a run. */
#define TIMED_RUNS 5000
#define TIMED_SECONDS 20.0
#define UNTIMED_SECONDS 60.0
#define RUNS_MIN 500
#define PRICE_WEIGHT 0.5 /* of a new measurement */

static double hit_seconds(const struct sampling_price *price)
{
	double slower = fmin(fmax(price->program_seconds / PROGRAM_SECONDS, 1), TRAP_SLOWER_MAX);

	return slower * price->trap_seconds + price->program_seconds;
}

double sampling_price_init(struct sampling_price *price)
{
	double trap_seconds = capture_trap_ns() / NS_PER_SECOND;

	*price = (struct sampling_price){
		.trap_seconds = trap_seconds > 0 ? trap_seconds : TRAP_SECONDS,
		.program_seconds = PROGRAM_SECONDS,
	};
	return hit_seconds(price);
}

static int count_runs(const struct session *session, uint64_t *ret_runs, uint64_t *ret_ns)
{
	struct capture_program programs[CAPTURE_PROGRAMS_MAX];
	int n = capture_programs(session->capture, programs, CAPTURE_PROGRAMS_MAX);

	*ret_runs = *ret_ns = 0;
	for (int i = 0; i < n; i++) {
		*ret_runs += programs[i].of_site ? programs[i].runs : 0;
		*ret_ns += programs[i].of_site ? programs[i].run_ns : 0;
	}
	return n < 0 ? n : 0;
}

static void timing_begins(struct session *session, struct sampling_price *price, double now)
{
	price->since = now;
	/* Without the right to it what was measured on the program's own loop stands. */
	price->timed = capture_time_programs(session->capture, true) == 0 &&
		       count_runs(session, &price->runs, &price->run_ns) == 0;
	if (!price->timed)
		capture_time_programs(session->capture, false);
}

static void timing_ends(struct session *session, struct sampling_price *price, double now,
			uint64_t runs, uint64_t run_ns)
{
	double seconds = (double)run_ns / (double)runs / NS_PER_SECOND;

	capture_time_programs(session->capture, false);
	price->timed = false;
	price->since = now;
	if (runs < RUNS_MIN)
		return;
	/* Runs of a silent group, which return at once, are among them. */
	seconds = fmin(fmax(seconds, PROGRAM_SECONDS), PROGRAM_SECONDS_MAX);
	if (price->measured)
		seconds = price->program_seconds +
			  PRICE_WEIGHT * (seconds - price->program_seconds);
	price->program_seconds = seconds;
	price->measured = true;
	session->hit_seconds = hit_seconds(price);
	governor_note_hit_seconds(session->sampling->governor, session->hit_seconds);
}

void sampling_price_step(struct session *session, double now)
{
	struct sampling_price *price = &session->sampling->price;
	uint64_t runs, run_ns;

	if (!price->timed) {
		if (price->since == 0 || now - price->since >= UNTIMED_SECONDS)
			timing_begins(session, price, now);
		return;
	}
	if (count_runs(session, &runs, &run_ns) < 0)
		runs = price->runs; /* what was timed is not known */
	runs -= price->runs;
	run_ns -= price->run_ns;
	if (runs >= TIMED_RUNS || now - price->since >= TIMED_SECONDS)
		timing_ends(session, price, now, runs, run_ns);
}
