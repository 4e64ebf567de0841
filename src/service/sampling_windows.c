/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Opening and closing groups, and what a window stands for. */
#include <errno.h>
#include <math.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "service/sampling_growth.h"
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

/* What was seen before is told apart from what is seen with these sites in, or out. */
static void tell_sites(struct session *session, unsigned group, enum sample_site state)
{
	struct sampling *sampling = session->sampling;

	session_drain(session);
	for (size_t i = 0; i < sampling->n_sites; i++)
		if (sampling->group_of_site[i] == group)
			samples_site_is(sampling->samples, (uint16_t)i, state);
}

/* A target that did less than this of a CPU in a second is idle: its pace is that of the clock. */
#define IDLE_PACE 0.0005
/*
 * One that was nearly stopped came so far at least; one that makes up for the
 * time of the attach, in which it stood still, does more than is usual.
 */
#define PACE_MIN 0.02
#define PACE_MAX 50.0
/* Of a window that was nothing but hits. */
#define OWN_SECONDS_MIN 0.0001
/* Shorter ones, which were closed for another reason than their time, say nothing. */
#define WINDOW_SECONDS_MIN 0.001
/* Always-on hits in windows before they are believed to tell how far it came. */
#define CLOCK_HITS_MIN 30
#define CLOCK_SECONDS_FADE 4.0 /* of windows */
#define ERROR_BY_CPU 0.3       /* relative, of what CPU times tell: a guess on the safe side */

/* A target that uses more than this of a CPU has nothing to make up for: it was not waiting. */
#define BUSY_PACE 0.5
/*
 * One that waits much may have done nothing in a short window, by chance: so
 * many seconds at its usual pace are counted with what was seen.
 */
#define PRIOR_SECONDS 0.05

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
		hits * session->hit_seconds) /
	       now;
}

static void clock_add(struct session *session, const struct sampling_opening *opening,
		      uint64_t hits, double now, struct sampling_clock *clock)
{
	uint64_t cpu_ns = opening->cpu_ns;
	struct governor_status status;

	process_cpu_ns(session->facts.pid, &cpu_ns);
	clock->seconds += now - opening->opened;
	clock->own_seconds += (double)(cpu_ns - opening->cpu_ns) / NS_PER_SECOND -
			      (double)(hits - opening->hits) * session->hit_seconds;
	governor_status(session->sampling->governor, now, &status);
	if (!status.learning) {
		clock->expected_hits += (now - opening->opened) * status.always_on_hits_per_second;
		clock->hits += (double)(always_on_hits(session) - opening->always_on_hits);
	}
	if (clock->seconds > CLOCK_SECONDS_FADE) {
		clock->seconds /= 2;
		clock->own_seconds /= 2;
		clock->expected_hits /= 2;
		clock->hits /= 2;
	}
}

/*
 * The target's pace in windows of this kind, against its usual one: by the
 * sites that are always on, and until these have said enough, by the CPU time
 * that the probes have left to it.  Of many windows together: one alone has a
 * few hits, and a target that sleeps may make up for it (docs/estimator.md).
 */
static double pace_inside(const struct session *session, const struct sampling_clock *clock,
			  double now, double *ret_error)
{
	double pace = usual_pace(session, now), inside = 1;

	*ret_error = ERROR_BY_CPU;
	if (clock->hits >= CLOCK_HITS_MIN && clock->expected_hits >= CLOCK_HITS_MIN) {
		inside = clock->hits / clock->expected_hits;
		*ret_error = 1 / sqrt(clock->hits);
	} else if (pace >= IDLE_PACE && clock->seconds > 0) {
		double prior = pace > BUSY_PACE ? 0 : PRIOR_SECONDS;

		inside = (clock->own_seconds + prior * pace) / ((clock->seconds + prior) * pace);
	}
	return fmin(fmax(inside, PACE_MIN), PACE_MAX);
}

/* Of a stratum of so many seconds, with a window of so many in it. */
static double weight_of(double stratum_seconds, double seconds, double pace)
{
	return fmax(stratum_seconds / (seconds * pace), 1);
}

/* What is learned of the pace holds for the windows before, too. */
static void weigh_windows(struct session *session, unsigned group, double now)
{
	struct sampling *sampling = session->sampling;
	struct sampling_clock *clock = &sampling->clocks[group];
	double pace = pace_inside(session, clock, now, &clock->relative_error);

	for (size_t i = 0; i < SAMPLING_WINDOWS_KEPT; i++)
		if (clock->kept[i].window)
			samples_window_weight(sampling->samples, clock->kept[i].window,
					      weight_of(clock->kept[i].stratum_seconds,
							clock->kept[i].seconds, pace));
}

#define SETTLE_SECONDS_MAX 0.05

/*
 * While sites go in the target may stand still, and one that waits for work
 * then does what came in meanwhile: a window that began there would see more
 * than is usual.
 */
static double settle_seconds(const struct session *session, const struct sampling_opening *opening,
			     double now)
{
	if (usual_pace(session, now) > BUSY_PACE)
		return 0;
	return fmin(opening->attach_seconds, SETTLE_SECONDS_MAX);
}

/*
 * Sites have come in for good, or into other windows: what they make is seen whole from now on, and
 * what the last window of each kind stands for ends here.  The next one of its
 * kind stands for what follows.
 */
void sampling_cut_strata(struct session *session, double now)
{
	static const unsigned kinds[] = {GOVERNOR_GROUP_CREATIONS, GOVERNOR_GROUP_NATIVE,
					 GOVERNOR_GROUP_FOCUS};
	struct sampling *sampling = session->sampling;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct sampling_clock *clock = &sampling->clocks[kinds[i]];
		double *covered = &sampling->covered_until[kinds[i]];
		struct sampling_kept *last;

		if (clock->n_windows == 0 || *covered <= now)
			continue;
		last = &clock->kept[(clock->n_windows - 1) % SAMPLING_WINDOWS_KEPT];
		last->stratum_seconds =
			fmax(last->stratum_seconds - (*covered - now), last->seconds);
		*covered = now;
		weigh_windows(session, kinds[i], now);
	}
}

void sampling_refocus(struct session *session, double now)
{
	struct sampling *sampling = session->sampling;

	sampling_cut_strata(session, now);
	/* The old ones' weights have the error that they had, until new ones tell. */
	sampling->clocks[GOVERNOR_GROUP_FOCUS] = (struct sampling_clock){
		.relative_error = sampling->clocks[GOVERNOR_GROUP_FOCUS].relative_error};
	sampling->covered_until[GOVERNOR_GROUP_FOCUS] = now;
}

int sampling_open_group(struct session *session, const struct governor_step *step, double now)
{
	struct sampling *sampling = session->sampling;
	struct sampling_opening *opening = &sampling->openings[step->group];
	uint64_t began_ns = clock_monotonic_ns();
	bool window = step->group >= GOVERNOR_ALWAYS_ON_GROUPS;
	int r;

	session_drain(session);
	*opening = (struct sampling_opening){
		.open = true,
		.window = window ? ++sampling->last_window : 0,
		.opened = now,
		.stratum_seconds = step->stratum_seconds,
		.active_since = step->active_since,
		.stratum_ends = step->learning ? NAN : step->stratum_began + step->stratum_seconds,
		.complete = step->complete,
		.learning = step->learning,
	};
	if (window) {
		sampling->open_window = opening->window;
		sampling->window_group = step->group;
		sampling->window_sightings_before = 0;
		sampling->beginning_position = UINT64_MAX;
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
	opening->attach_seconds = (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	now += opening->attach_seconds;
	if (!window) {
		sampling_cut_strata(session, now);
		governor_note_opened(sampling->governor, step->group, now, opening->attach_seconds);
		return 0;
	}
	capture_hurry(session->capture, true);
	opening->hits_max = step->hits_max;
	opening->arming = true;
	opening->arm_at = now + settle_seconds(session, opening, now);
	sampling_arm(session, now);
	return 0;
}

static void arm(struct session *session, unsigned group, double now)
{
	struct sampling *sampling = session->sampling;
	struct sampling_opening *opening = &sampling->openings[group];

	opening->arming = false;
	opening->opened = now;
	sampling->beginning_position = capture_produced(session->capture);
	sampling_refill(session, group, opening->hits_max);
	opening->hits = sampling_group_hits(session, group);
	opening->always_on_hits = always_on_hits(session);
	process_cpu_ns(session->facts.pid, &opening->cpu_ns);
	governor_note_opened(sampling->governor, group, now, opening->attach_seconds);
}

double sampling_arm(struct session *session, double now)
{
	struct sampling *sampling = session->sampling;
	const struct sampling_opening *opening = &sampling->openings[sampling->window_group];

	if (!sampling->open_window || !opening->arming)
		return INFINITY;
	if (now < opening->arm_at)
		return opening->arm_at;
	arm(session, sampling->window_group, now);
	return INFINITY;
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
	double seconds = ends - fmax(*covered, opening->active_since);

	if (sampling->window_group == GOVERNOR_GROUP_SLICES)
		return opening->stratum_seconds;
	*covered = fmax(*covered, ends);
	return fmax(seconds, closed - opening->opened);
}

/* All that the window is to see has been taken from the ring. */
static void end_window(struct session *session, const struct sampling_opening *opening, double now)
{
	struct sampling *sampling = session->sampling;
	const struct window_facts facts = {
		.window = opening->window,
		.opened = opening->opened,
		.closed = now,
		.stratum_progress = opening->stratum_seconds,
		.sightings_before_detach = sampling->window_sightings_before,
		.stream = (uint8_t)(sampling->window_group - GOVERNOR_ALWAYS_ON_GROUPS),
		.complete = opening->complete,
		.learning = opening->learning,
		.progress = opening->learning ? opening->own_seconds : 0,
	};

	samples_window_end(sampling->samples, &facts);
}

/*
 * What the window has seen is looked at while its sites are in and tell: what
 * leaks meanwhile takes the places of what has just been freed, and is seen
 * doing so.  Behind their end it would pass for what was there before.
 */
static void look_before_silence(struct session *session, struct sampling_opening *opening,
				double now)
{
	uint64_t began_ns = clock_monotonic_ns();

	sampling_look_at_window(session, opening->window, now);
	opening->look_seconds = (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
}

static void settle_window(struct session *session, struct sampling_opening *opening, double closing,
			  double closed)
{
	struct sampling *sampling = session->sampling;
	unsigned group = sampling->window_group;
	struct sampling_clock *clock = &sampling->clocks[group];

	if (!opening->learning && closing - opening->opened >= WINDOW_SECONDS_MIN)
		clock->kept[clock->n_windows++ % SAMPLING_WINDOWS_KEPT] = (struct sampling_kept){
			.window = opening->window,
			.seconds = closing - opening->opened,
			.stratum_seconds = stratum_of(sampling, opening, closed),
		};
	weigh_windows(session, group, closed);
	capture_hurry(session->capture, false);
	sampling->open_window = 0;
	turn_give(session->options.turn, session);
	sampling->closing_position = UINT64_MAX;
	sampling->windows++;
}

/* How far the target came, as long as nothing but the window itself held it up. */
static void measure_window(struct session *session, unsigned group, double now)
{
	struct sampling_opening *opening = &session->sampling->openings[group];
	struct capture_group_use use;

	sampling_group_use(session, group, &use);
	opening->limited = use.limited;
	opening->own_seconds = fmax(now - opening->opened -
					    (double)(use.hits - opening->hits) *
						    session->hit_seconds,
				    OWN_SECONDS_MIN);
	if (!opening->learning)
		clock_add(session, opening, use.hits, now, &session->sampling->clocks[group]);
}

/* look: there is time to look at what a window has seen before its sites go out. */
static void closing_begins(struct session *session, unsigned group, double now, bool look)
{
	struct sampling *sampling = session->sampling;
	struct sampling_opening *opening = &sampling->openings[group];

	if (opening->arming)
		arm(session, group, now);
	if (opening->window)
		measure_window(session, group, now);
	sampling->closing_position = capture_produced(session->capture);
	tell_sites(session, group, SAMPLE_SITE_OFF);
	if (opening->window) {
		end_window(session, opening, now);
		if (look && !opening->learning)
			look_before_silence(session, opening, now);
		sampling_refill(session, group, CAPTURE_SILENT);
	}
}

static void closing_ends(struct session *session, unsigned group,
			 const struct capture_group_use *use, double now, uint64_t began_ns)
{
	struct sampling *sampling = session->sampling;
	struct sampling_opening *opening = &sampling->openings[group];
	double passed = (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	double detach_seconds = fmax(passed - opening->look_seconds, 0);

	if (opening->window) {
		sampling->closing_position = use->produced_at_closing;
		session_drain(session);
		settle_window(session, opening, now, now + passed);
	}
	sampling->closing_position = UINT64_MAX;
	opening->open = false;
	for (size_t i = 0; i < sampling->n_sites; i++)
		if (sampling->group_of_site[i] == group)
			sampling->group_of_site[i] = SAMPLING_NO_GROUP;
	governor_note_closed(sampling->governor, group, now + passed, detach_seconds,
			     use->hits, opening->window ? opening->limited : use->limited);
}

void sampling_close_group(struct session *session, unsigned group, double now)
{
	struct capture_group_use use = {0};
	uint64_t began_ns = clock_monotonic_ns();

	closing_begins(session, group, now, true);
	sampling_close_sites(session, group, &use);
	closing_ends(session, group, &use, now, began_ns);
}

/* Waiting for the kernel is most of it, and is done once for all. */
void sampling_close_all(struct session *session, double now)
{
	struct sampling *sampling = session->sampling;
	uint64_t began_ns = clock_monotonic_ns();

	for (unsigned group = 0; group < GOVERNOR_GROUPS; group++)
		if (sampling->openings[group].open)
			closing_begins(session, group, now, false);
	capture_close_all(session->capture);
	sampling_growth_closed(session, now);
	/* Windows come last among groups, and first here: what they have seen has just come in. */
	for (unsigned group = GOVERNOR_GROUPS; group-- > 0;) {
		struct capture_group_use use;

		if (!sampling->openings[group].open)
			continue;
		sampling_group_use(session, group, &use);
		closing_ends(session, group, &use, now, began_ns);
	}
}
