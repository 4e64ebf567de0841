/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Opening and closing groups, and what a window stands for. */
#include <errno.h>
#include <math.h>

#include "base/clock.h"
#include "service/sampling_private.h"
#include "target/process.h"

static uint64_t always_on_hits(const struct session *session)
{
	uint64_t hits = 0;

	for (unsigned group = 0; group < GOVERNOR_ALWAYS_ON_GROUPS; group++)
		if (session->sampling->openings[group].open)
			hits += sampling_group_hits(session, group);
	return hits;
}

static void drain(struct session *session)
{
	uint64_t until = capture_produced(session->capture);

	while (capture_consumed(session->capture) < until)
		if (session_consume(session, 0) <= 0)
			break;
}

/* What was seen before is told apart from what is seen with these sites in, or out. */
static void tell_sites(struct session *session, unsigned group, enum sample_site state)
{
	struct sampling *sampling = session->sampling;

	drain(session);
	for (size_t i = 0; i < sampling->n_sites; i++)
		if (sampling->group_of_site[i] == group)
			samples_site_is(sampling->samples, (uint16_t)i, state);
}

int sampling_open_group(struct session *session, const struct governor_step *step, double now)
{
	struct sampling *sampling = session->sampling;
	struct sampling_opening *opening = &sampling->openings[step->group];
	uint64_t began_ns = clock_monotonic_ns();
	bool window = step->group >= GOVERNOR_ALWAYS_ON_GROUPS;
	double attach_seconds;
	int r;

	drain(session);
	*opening = (struct sampling_opening){
		.open = true,
		.window = window ? ++sampling->last_window : 0,
		.opened = now,
		.stratum_seconds = step->stratum_seconds,
		.stratum_ends = step->learning ? NAN : step->stratum_began + step->stratum_seconds,
		.complete = step->complete,
		.learning = step->learning,
	};
	if (window) {
		sampling->open_window = opening->window;
		sampling->window_group = step->group;
		sampling->window_sightings = sampling->window_sightings_before = 0;
	}
	r = sampling_has_room(session, now) ? sampling_open_sites(session, step) : -ENOSPC;
	if (r < 0) {
		opening->open = false;
		if (window) {
			sampling->open_window = 0;
			turn_give(session->options.turn, session);
		}
		governor_note_refused(sampling->governor, step->group, now);
		return r == -ESRCH ? r : 0;
	}
	tell_sites(session, step->group, window ? SAMPLE_SITE_WINDOW : SAMPLE_SITE_ALWAYS);
	sampling->attached = true;
	attach_seconds = (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	opening->opened = now + attach_seconds;
	opening->always_on_hits = always_on_hits(session);
	process_cpu_ns(session->facts.pid, &opening->cpu_ns);
	governor_note_opened(sampling->governor, step->group, now + attach_seconds,
			     attach_seconds);
	return 0;
}

/* A target that did less than this of a CPU in a second is idle: its pace is that of the clock. */
#define IDLE_PACE 0.02
/* One that was nearly stopped came so far at least. */
#define PROGRESS_MIN 0.02
/* Always-on hits in windows before they are believed to tell how far it came. */
#define CLOCK_HITS_MIN 30
#define CLOCK_HITS_FADE 1000

/* CPU seconds of its own that the target uses in a second, without what the probes take. */
static double usual_pace(const struct session *session, double now)
{
	const struct sampling *sampling = session->sampling;
	double hits = 0;
	uint64_t cpu_ns;

	if (now <= 0 || process_cpu_ns(session->facts.pid, &cpu_ns) < 0)
		return 0;
	for (size_t i = 0; i < sampling->n_sites; i++)
		hits += (double)sampling->site_hits[i];
	return ((double)(cpu_ns - sampling->started_cpu_ns) / NS_PER_SECOND -
		hits * session->hit_seconds) / now;
}

/*
 * How far the target came while a window was open, in seconds at its usual
 * pace.  One that sleeps makes up for what the probes take; one that has no
 * time left comes as far as the CPU time goes that is left to it.
 */
static double progress_by_cpu(const struct session *session, const struct sampling_opening *opening,
			      uint64_t hits, double now)
{
	double seconds = now - opening->opened, pace = usual_pace(session, now), used;
	uint64_t cpu_ns;

	if (pace < IDLE_PACE || process_cpu_ns(session->facts.pid, &cpu_ns) < 0)
		return seconds;
	used = (double)(cpu_ns - opening->cpu_ns) / NS_PER_SECOND -
	       (double)hits * session->hit_seconds;
	return fmin(fmax(used / pace, PROGRESS_MIN * seconds), seconds);
}

/*
 * Of a target that the probes have nearly stopped, the above is a small
 * difference of large numbers.  Sites that are always on tell better, not by
 * one window (there are a few of their hits in it) but by many: docs/estimator.md.
 */
static double progress_of(struct session *session, const struct sampling_opening *opening,
			  uint64_t hits, double now)
{
	struct sampling *sampling = session->sampling;
	struct sampling_clock *clock = &sampling->clocks[sampling->window_group];
	double progress = progress_by_cpu(session, opening, hits, now);
	struct governor_status status;

	governor_status(sampling->governor, now, &status);
	if (status.learning)
		return progress;
	clock->expected += progress * status.always_on_hits_per_second;
	clock->actual += (double)(always_on_hits(session) - opening->always_on_hits);
	if (clock->expected > CLOCK_HITS_FADE && clock->actual > CLOCK_HITS_FADE) {
		clock->expected /= 2;
		clock->actual /= 2;
	}
	if (clock->actual < CLOCK_HITS_MIN || clock->expected < CLOCK_HITS_MIN)
		return progress;
	return fmin(progress * clock->actual / clock->expected, now - opening->opened);
}

/*
 * The time that a window stands for: what has passed since its forerunner's
 * ended, and the rest of its stratum.  A slice's is its round, which begins and
 * ends for each site at another time.
 */
static double stratum_of(struct sampling *sampling, const struct sampling_opening *opening,
			 double closed)
{
	double *covered = &sampling->covered_until[sampling->window_group];
	double ends = opening->learning ? closed : opening->stratum_ends;
	double seconds = ends - *covered;

	if (sampling->window_group == GOVERNOR_GROUP_SLICES)
		return opening->stratum_seconds;
	*covered = fmax(*covered, ends);
	return fmax(seconds, closed - opening->opened);
}

static void end_window(struct session *session, struct sampling_opening *opening, double progress,
		       double closed)
{
	struct sampling *sampling = session->sampling;
	const struct window_facts facts = {
		.window = opening->window,
		.opened = opening->opened,
		.closed = closed,
		.progress = progress,
		.stratum_progress =
			stratum_of(sampling, opening, closed) - (closed - opening->opened) + progress,
		.sightings_before_detach = sampling->window_sightings_before,
		.stream = (uint8_t)(sampling->window_group - GOVERNOR_ALWAYS_ON_GROUPS),
		.complete = opening->complete,
	};

	samples_window_end(sampling->samples, &facts);
	sampling->open_window = 0;
	turn_give(session->options.turn, session);
	sampling->closing_position = UINT64_MAX;
	sampling->windows++;
}

static double closing_begins(struct session *session, unsigned group, double now)
{
	struct sampling *sampling = session->sampling;
	const struct sampling_opening *opening = &sampling->openings[group];
	double progress = 0;

	if (opening->window)
		progress = progress_of(session, opening, sampling_group_hits(session, group), now);
	tell_sites(session, group, SAMPLE_SITE_OFF);
	sampling->closing_position = capture_produced(session->capture);
	return progress;
}

static void closing_ends(struct session *session, unsigned group,
			 const struct capture_group_use *use, double progress, double now,
			 uint64_t began_ns)
{
	struct sampling *sampling = session->sampling;
	struct sampling_opening *opening = &sampling->openings[group];
	double detach_seconds = (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;

	if (opening->window) {
		sampling->closing_position = use->produced_at_closing;
		drain(session);
		end_window(session, opening, progress, now + detach_seconds);
	}
	sampling->closing_position = UINT64_MAX;
	opening->open = false;
	for (size_t i = 0; i < sampling->n_sites; i++)
		if (sampling->group_of_site[i] == group)
			sampling->group_of_site[i] = SAMPLING_NO_GROUP;
	governor_note_closed(sampling->governor, group, now + detach_seconds, detach_seconds,
			     use->hits, use->limited);
}

void sampling_close_group(struct session *session, unsigned group, double now)
{
	struct capture_group_use use = { 0 };
	uint64_t began_ns = clock_monotonic_ns();
	double progress = closing_begins(session, group, now);

	sampling_close_sites(session, group, &use);
	closing_ends(session, group, &use, progress, now, began_ns);
}

/* Waiting for the kernel is most of it, and is done once for all. */
void sampling_close_all(struct session *session, double now)
{
	struct sampling *sampling = session->sampling;
	uint64_t began_ns = clock_monotonic_ns();
	double progress[GOVERNOR_GROUPS] = { 0 };

	for (unsigned group = 0; group < GOVERNOR_GROUPS; group++)
		if (sampling->openings[group].open)
			progress[group] = closing_begins(session, group, now);
	capture_close_all(session->capture);
	/* Windows come last among groups, and first here: what they have seen has just come in. */
	for (unsigned group = GOVERNOR_GROUPS; group-- > 0;) {
		struct capture_group_use use;

		if (!sampling->openings[group].open)
			continue;
		sampling_group_use(session, group, &use);
		closing_ends(session, group, &use, progress[group], now, began_ns);
	}
}
