/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Between the governor and the capture: what is opened and closed, and what the records say. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "capture/kernel.h"
#include "service/sampling_private.h"

DEFINE_CLEANUP(struct sampling *, sampling_free)
DEFINE_CLEANUP(struct census *, census_free)

/*
 * What a program does beyond the trap, before it has been measured here: a
 * stack of ten frames that was seen before (docs/BENCHMARKS.md).
 */
#define PROGRAM_SECONDS 400e-9
#define TRAP_SECONDS 700e-9 /* where it can't be measured */

void sampling_free(struct sampling *sampling)
{
	if (!sampling)
		return;
	governor_free(sampling->governor);
	samples_free(sampling->samples);
	liveness_free(sampling->liveness);
	free(sampling->site_hits);
	free(sampling->group_of_site);
	free(sampling);
}

/* --- the start --- */

/* Functions beyond this size hold creations of unrelated types, as the evaluation loop does. */
#define CONSTRUCTOR_BYTES_MAX 2048

static uint16_t function_of(const struct image_range *functions, size_t n, uint64_t vaddr)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (functions[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || vaddr >= functions[low - 1].end ||
	    functions[low - 1].end - functions[low - 1].start > CONSTRUCTOR_BYTES_MAX ||
	    low - 1 >= GOVERNOR_CONSTRUCTOR_NONE)
		return GOVERNOR_CONSTRUCTOR_NONE;
	return (uint16_t)(low - 1);
}

/*
 * A constructor that takes from a free list, or else from the allocator, has a
 * site for each: hot and cold apart, the cold one would tell of objects that
 * others have taken over through the hot one.
 */
static void fill_constructors(const struct image *image, const struct plan *plan, uint16_t *ret)
{
	const struct image_range *functions;
	size_t n = image_function_ranges(image, &functions);

	for (size_t i = 0; i < plan->n_sites; i++)
		ret[i] = plan->sites[i].kind == SITE_CREATE ?
				 function_of(functions, n, plan->sites[i].vaddr) :
				 GOVERNOR_CONSTRUCTOR_NONE;
}

static int make_governor(struct session *session, struct sampling *sampling)
{
	const struct opening_file *python = &session->target->python;
	const struct plan *plan = python->plan;
	_cleanup_free_ uint8_t *kinds = calloc(plan->n_sites + 1, sizeof(*kinds));
	_cleanup_free_ uint16_t *constructors = calloc(plan->n_sites + 1, sizeof(*constructors));
	double trap_seconds = capture_trap_ns() / NS_PER_SECOND;
	struct governor_options options = {
		.budget_ratio = sampling->budget_ratio,
		.hit_seconds = (trap_seconds > 0 ? trap_seconds : TRAP_SECONDS) + PROGRAM_SECONDS,
		.n_sites = plan->n_sites,
		.site_kinds = kinds,
		.site_constructors = constructors,
		.seed = clock_monotonic_ns(),
	};

	if (!kinds || !constructors)
		return -ENOMEM;
	for (size_t i = 0; i < plan->n_sites; i++)
		kinds[i] = plan->sites[i].kind == SITE_CREATE ? SITE_CREATE :
								GOVERNOR_NOT_GOVERNED;
	fill_constructors(python->image, plan, constructors);
	session->hit_seconds = options.hit_seconds;
	return governor_new(&options, 0, &sampling->governor);
}

int sampling_start(struct session *session)
{
	CLEANUP(sampling_free) struct sampling *sampling = calloc(1, sizeof(*sampling));
	const struct plan *plan = session->target->python.plan;
	CLEANUP(census_free) struct census *census = NULL;
	int r;

	if (!sampling)
		return -ENOMEM;
	sampling->budget_ratio = session->options.budget_ratio;
	sampling->n_sites = plan->n_sites;
	sampling->closing_position = UINT64_MAX;
	sampling->site_hits = calloc(plan->n_sites + 1, sizeof(*sampling->site_hits));
	sampling->group_of_site = malloc(plan->n_sites + 1);
	if (!sampling->site_hits || !sampling->group_of_site)
		return -ENOMEM;
	memset(sampling->group_of_site, CAPTURE_GROUPS_MAX, plan->n_sites + 1);
	r = make_governor(session, sampling);
	if (r < 0)
		return r;
	r = samples_new(&(struct samples_limits){ .seed = clock_monotonic_ns() },
			&sampling->samples);
	if (r < 0)
		return r;
	r = liveness_new(session->interpreter, session->types, &sampling->liveness);
	if (r < 0)
		return r;
	if (census_take(session->interpreter, true, &census, NULL) == 0) {
		sampling->baseline = sampling->totals = *census_totals(census);
		sampling->totals_valid = true;
	}
	session->sampling = TAKE_PTR(sampling);
	return 0;
}

/* --- records --- */

static void note_sighting(struct sampling *sampling, const struct sighting *sighting)
{
	samples_see(sampling->samples, sighting);
}

/* Whether the record that is being taken was written before the window began to close. */
static bool is_before_closing(const struct session *session)
{
	const struct sampling *sampling = session->sampling;

	return sampling->closing_position == UINT64_MAX ||
	       capture_consumed(session->capture) < sampling->closing_position;
}

static void see(struct session *session, const struct wire_header *header, struct sighting sighting)
{
	struct sampling *sampling = session->sampling;
	uint8_t group = header->site < sampling->n_sites ? sampling->group_of_site[header->site] :
							   CAPTURE_GROUPS_MAX;

	sighting.site = header->site;
	sighting.time = sampling->now;
	sighting.tier = group < GOVERNOR_ALWAYS_ON_GROUPS ? SAMPLE_ALWAYS_ON : SAMPLE_WINDOW;
	sighting.window = sampling->open_window;
	/* Of a window that is closed by now: it has had its end. */
	if (sighting.tier == SAMPLE_WINDOW && sighting.window == 0)
		return;
	if (sighting.window) {
		sampling->window_sightings++;
		sampling->window_sightings_before += is_before_closing(session);
	}
	note_sighting(sampling, &sighting);
}

bool sampling_record(struct session *session, const struct wire_header *record)
{
	const struct wire_create *create = (const void *)record;

	switch (record->kind) {
	case WIRE_CREATE:
		see(session, record,
		    (struct sighting){ .address = create->address,
				       .stack = create->stack,
				       .type = create->type,
				       .kind = SAMPLE_OBJECT });
		return true;
	case WIRE_FORK:
		session->sampling->forked = true;
		return false;
	case WIRE_LIMIT:
		session->sampling->limits++;
		governor_note_limit(session->sampling->governor, record->site,
				    session->sampling->now);
		return true;
	default:
		return false;
	}
}

/* --- opening and closing --- */

static uint64_t always_on_hits(const struct session *session)
{
	uint64_t hits = 0;

	for (unsigned group = 0; group < GOVERNOR_ALWAYS_ON_GROUPS; group++)
		if (session->sampling->openings[group].open)
			hits += capture_group_hits(session->capture, group);
	return hits;
}

static void drain(struct session *session)
{
	uint64_t until = capture_produced(session->capture);

	while (capture_consumed(session->capture) < until)
		if (session_consume(session, 0) <= 0)
			break;
}

static void set_group_of_sites(struct sampling *sampling, const uint16_t *sites, size_t n,
			       unsigned group)
{
	for (size_t i = 0; i < n; i++)
		if (sites[i] < sampling->n_sites)
			sampling->group_of_site[sites[i]] = (uint8_t)group;
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

static int open_group(struct session *session, const struct governor_step *step, double now)
{
	struct sampling *sampling = session->sampling;
	struct sampling_opening *opening = &sampling->openings[step->group];
	uint64_t began_ns = clock_monotonic_ns();
	struct fault fault = { 0 };
	bool window = step->group >= GOVERNOR_ALWAYS_ON_GROUPS;
	double attach_seconds;
	int r;

	r = capture_group_define(session->capture, step->group, SAMPLING_FILE, step->sites,
				 step->n_sites);
	if (r == 0) {
		set_group_of_sites(sampling, step->sites, step->n_sites, step->group);
		*opening = (struct sampling_opening){
			.open = true,
			.window = window ? ++sampling->last_window : 0,
			.opened = now,
			.stratum_seconds = step->stratum_seconds,
			.complete = step->complete,
			.learning = step->learning,
			.always_on_hits = always_on_hits(session),
		};
		if (window) {
			sampling->open_window = opening->window;
			sampling->window_sightings = sampling->window_sightings_before = 0;
		}
		r = capture_group_open(session->capture, step->group, step->hits_max, &fault);
	}
	if (r < 0) {
		opening->open = false;
		if (window)
			sampling->open_window = 0;
		governor_note_refused(sampling->governor, step->group, now);
		return r == -ESRCH ? r : 0;
	}
	tell_sites(session, step->group, window ? SAMPLE_SITE_WINDOW : SAMPLE_SITE_ALWAYS);
	attach_seconds = (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	opening->opened = now + attach_seconds / 2;
	governor_note_opened(sampling->governor, step->group, now + attach_seconds,
			     attach_seconds);
	return 0;
}

/*
 * How far the target came while a window was open, in seconds at full speed: by
 * the clock less what the probes took, for want of a better clock.
 */
static double window_progress(const struct session *session, const struct sampling_opening *opening,
			      const struct capture_group_use *use, double closing)
{
	double seconds = closing - opening->opened;
	double taken = (double)use->hits * session->hit_seconds;

	/* One that was nearly stopped still came as far as its hits tell. */
	return fmax(seconds - taken, seconds / 50);
}

static void end_window(struct session *session, struct sampling_opening *opening,
		       const struct capture_group_use *use, double closing, double closed)
{
	struct sampling *sampling = session->sampling;
	double progress = window_progress(session, opening, use, closing);
	const struct window_facts facts = {
		.window = opening->window,
		.opened = opening->opened,
		.closed = closed,
		.progress = progress,
		.stratum_progress = opening->stratum_seconds > 0 ?
					    opening->stratum_seconds - (closed - opening->opened) +
						    progress :
					    0,
		.sightings_before_detach = sampling->window_sightings_before,
		.complete = opening->complete,
	};

	samples_window_end(sampling->samples, &facts);
	sampling->open_window = 0;
	sampling->closing_position = UINT64_MAX;
	sampling->windows++;
}

static void close_group(struct session *session, unsigned group, double now)
{
	struct sampling *sampling = session->sampling;
	struct sampling_opening *opening = &sampling->openings[group];
	struct capture_group_use use = { 0 };
	uint64_t began_ns = clock_monotonic_ns();
	double detach_seconds;

	tell_sites(session, group, SAMPLE_SITE_OFF);
	sampling->closing_position = capture_produced(session->capture);
	capture_group_close(session->capture, group, &use);
	detach_seconds = (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	if (opening->window) {
		sampling->closing_position = use.produced_at_closing;
		drain(session);
		end_window(session, opening, &use, now, now + detach_seconds);
	}
	sampling->closing_position = UINT64_MAX;
	opening->open = false;
	for (size_t i = 0; i < sampling->n_sites; i++)
		if (sampling->group_of_site[i] == group)
			sampling->group_of_site[i] = CAPTURE_GROUPS_MAX;
	governor_note_closed(sampling->governor, group, now + detach_seconds, detach_seconds,
			     use.hits, use.limited);
}

/* --- a step --- */

static void count_hits(struct session *session, double now)
{
	struct sampling *sampling = session->sampling;

	if (now - sampling->counted_at < SAMPLING_COUNT_SECONDS)
		return;
	sampling->counted_at = now;
	if (capture_site_hits(session->capture, SAMPLING_FILE, sampling->site_hits,
			      sampling->n_sites) < 0)
		return;
	governor_note_hits(sampling->governor, now, sampling->site_hits);
	for (unsigned group = 0; group < GOVERNOR_ALWAYS_ON_GROUPS; group++)
		if (sampling->openings[group].open)
			capture_group_refill(session->capture, group,
					     governor_allowance(sampling->governor, group));
}

/* Acts at once at most: each takes some 10 ms, and the ring is to be emptied in between. */
#define ACTS_MAX 16

static int act(struct session *session, double *now, const struct governor_step *step)
{
	uint64_t began_ns = clock_monotonic_ns();
	int r = 0;

	if (step->act == GOVERNOR_OPEN)
		r = open_group(session, step, *now);
	else
		close_group(session, step->group, *now);
	*now += (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	session->sampling->now = *now;
	return r;
}

/* The child has inherited the breakpoints: all of them go, and come back when it is whole. */
static void after_fork(struct session *session, double now)
{
	struct sampling *sampling = session->sampling;

	if (!sampling->forked)
		return;
	sampling->forked = false;
	governor_pause(sampling->governor, now, SAMPLING_FORK_PAUSE_SECONDS);
}

static double next_step(const struct sampling *sampling, double now, double at)
{
	double next = fmin(at, now + SAMPLING_IDLE_SECONDS);

	next = fmin(next, sampling->counted_at + SAMPLING_COUNT_SECONDS);
	return fmax(next, now);
}

int sampling_step(struct session *session, double time_seconds, double *ret_next_seconds)
{
	struct sampling *sampling = session->sampling;
	struct governor_step step = { .at = INFINITY };
	double now = time_seconds;
	int r;

	sampling->now = now;
	*ret_next_seconds = INFINITY;
	if (session->state != SESSION_PROBED)
		return 0;
	r = session_consume(session, 0);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ACTS_MAX; i++) {
		after_fork(session, now);
		count_hits(session, now);
		governor_step(sampling->governor, now, &step);
		if (step.act == GOVERNOR_WAIT || act(session, &now, &step) < 0)
			break;
	}
	*ret_next_seconds = step.act == GOVERNOR_WAIT ? next_step(sampling, now, step.at) : now;
	if (step.act != GOVERNOR_WAIT)
		return 0;
	/* A window that is open is looked after first. */
	if (!sampling->open_window && now - sampling->looked_at >= SAMPLING_LOOK_SECONDS &&
	    step.at - now > 0.005)
		return sampling_look(session, now, false);
	return 0;
}

void sampling_stop(struct session *session)
{
	struct sampling *sampling = session->sampling;

	for (unsigned group = CAPTURE_GROUPS_MAX; group-- > 0;)
		if (sampling->openings[group].open)
			close_group(session, group, sampling->now);
}
