/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Between the governor and the capture: what is opened and closed, and what the records say. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "service/sampling_growth.h"
#include "service/sampling_private.h"
#include "target/process.h"

DEFINE_CLEANUP(struct sampling *, sampling_free)
DEFINE_CLEANUP(struct census *, census_free)

void sampling_free(struct sampling *sampling)
{
	if (!sampling)
		return;
	governor_free(sampling->governor);
	samples_free(sampling->samples);
	liveness_free(sampling->liveness);
	glibc_free(sampling->glibc);
	baseline_free(sampling->followed);
	focus_free(sampling->focus);
	sampling_growth_free(sampling->growth);
	free(sampling->site_hits);
	free(sampling->group_of_site);
	free(sampling);
}

/* --- the start --- */

/* Without, the life of what the C library gives out can't be told: it counts as unknown. */
static void start_native(struct session *session, struct sampling *sampling)
{
	const struct opening_file *libc = &session->target->libc;
	struct fault fault = {0};

	if (libc->image && glibc_new(interpreter_memory(session->interpreter), libc->image,
				     libc->bias, &sampling->glibc, &fault) == 0)
		liveness_set_glibc(sampling->liveness, sampling->glibc);
	else
		session_refuse(session, "native allocations",
			       "what lives can't be told in this C library: they are not counted");
}

/* An opening of so many seconds tells how much the target runs; a longer one, how much it did. */
#define FIRST_SECONDS_MIN 0.05
#define FIRST_SECONDS_MAX 10.0

/* Until it is measured: learning and the climb would spend what a target that waits has not got. */
static void guess_running(const struct opening *target, struct sampling *sampling)
{
	double seconds = (double)(clock_monotonic_ns() - target->began_ns) / NS_PER_SECOND;
	uint64_t cpu_ns;

	if (seconds >= FIRST_SECONDS_MIN && seconds <= FIRST_SECONDS_MAX &&
	    process_cpu_ns(target->facts.pid, &cpu_ns) == 0)
		governor_note_running(sampling->governor,
				      (double)(cpu_ns - target->began_cpu_ns) / NS_PER_SECOND /
					      seconds);
}

int sampling_start(struct session *session)
{
	CLEANUP(sampling_free) struct sampling *sampling = calloc(1, sizeof(*sampling));
	CLEANUP(census_free) struct census *census = NULL;
	int r;

	if (!sampling)
		return -ENOMEM;
	sampling->budget_ratio = session->options.budget_ratio;
	sampling->closing_position = UINT64_MAX;
	process_cpu_ns(session->facts.pid, &sampling->started_cpu_ns);
	sampling->running = NAN;
	sampling->running_cpu_ns = sampling->started_cpu_ns;
	r = sampling_sites_init(session, sampling);
	if (r < 0)
		return r;
	r = sampling_make_governor(session, sampling);
	if (r < 0)
		return r;
	r = samples_new(&(struct samples_limits){.seed = clock_monotonic_ns()}, &sampling->samples);
	if (r < 0)
		return r;
	r = liveness_new(session->interpreter, session->types, &sampling->liveness);
	if (r < 0)
		return r;
	start_native(session, sampling);
	if (census_take(session->interpreter, true, &census, NULL) == 0) {
		sampling->baseline = sampling->totals = *census_totals(census);
		sampling->totals_valid = true;
	}
	r = sampling_growth_start(session, sampling, census);
	if (r < 0)
		return r;
	if (sampling->baseline.arena_bytes <= BASELINE_HEAP_BYTES_MAX)
		baseline_new(session->interpreter, clock_monotonic_ns(), &sampling->followed);
	focus_new(session->interpreter, session->types, sampling->baseline.arena_bytes,
		  &sampling->focus);
	guess_running(session->target, sampling);
	session->sampling = TAKE_PTR(sampling);
	turn_join(session->options.turn);
	return 0;
}

/* --- records --- */

/* Whether the record that is being taken was written before the window began to close. */
static bool is_before_closing(const struct session *session)
{
	const struct sampling *sampling = session->sampling;

	return sampling->closing_position == UINT64_MAX ||
	       capture_consumed(session->capture) < sampling->closing_position;
}

/*
 * A window of creations says nothing of what the C library gives out, and the reverse.  What
 * always-on sites show while a window's own go in is none of it: those would not have told of what
 * takes the same place.
 */
static uint32_t window_of(const struct session *session, enum sample_kind kind)
{
	const struct sampling *sampling = session->sampling;
	unsigned alone = kind == SAMPLE_CHUNK ? GOVERNOR_GROUP_NATIVE : GOVERNOR_GROUP_CREATIONS;

	if (sampling->window_group != alone && sampling->window_group != GOVERNOR_GROUP_SLICES &&
	    (sampling->window_group != GOVERNOR_GROUP_FOCUS || kind == SAMPLE_CHUNK))
		return 0;
	if (capture_consumed(session->capture) < sampling->beginning_position)
		return 0;
	return sampling->open_window;
}

static void see(struct session *session, size_t site, struct sighting sighting)
{
	struct sampling *sampling = session->sampling;
	uint8_t group =
		site < sampling->n_sites ? sampling->group_of_site[site] : SAMPLING_NO_GROUP;

	sighting.site = (uint16_t)site;
	sighting.time = sampling->now;
	sighting.tier = group < GOVERNOR_ALWAYS_ON_GROUPS ? SAMPLE_ALWAYS_ON : SAMPLE_WINDOW;
	sighting.window = window_of(session, sighting.kind);
	/* Of a window that is closed by now: it has had its end. */
	if (sighting.tier == SAMPLE_WINDOW && sighting.window == 0)
		return;
	if (sighting.window)
		sampling->window_sightings_before += is_before_closing(session);
	samples_see(sampling->samples, &sighting);
}

static void see_object(struct session *session, const struct wire_create *record)
{
	see(session, record->header.site,
	    (struct sighting){.address = record->address,
			      .stack = record->stack,
			      .type = record->type,
			      .refines = record->header.flags & WIRE_FROM_CALLER,
			      .kind = SAMPLE_OBJECT});
}

/* What the interpreter itself asks for goes with its objects, what is mapped with its mapping. */
static void see_chunk(struct session *session, const struct wire_header *header, uint64_t address,
		      uint64_t stack, uint64_t size_bytes)
{
	if (header->flags & WIRE_FROM_INTERPRETER ||
	    !sampling_growth_unmapped(session, address, size_bytes))
		samples_free_seen(session->sampling->samples, address);
	else
		see(session, session->sampling->n_python + header->site,
		    (struct sighting){.address = address,
				      .stack = stack,
				      .size_bytes = size_bytes,
				      .kind = SAMPLE_CHUNK});
}

static void see_realloc(struct session *session, const struct wire_realloc *record)
{
	if (record->old_address && record->old_address != record->address)
		samples_free_seen(session->sampling->samples, record->old_address);
	if (record->address)
		see_chunk(session, &record->header, record->address, record->stack, record->size);
}

bool sampling_record(struct session *session, const struct wire_header *record)
{
	const struct wire_alloc *chunk = (const void *)record;
	struct sampling *sampling = session->sampling;

	if (sampling_growth_record(session, record))
		return true;
	switch (record->kind) {
	case WIRE_CREATE:
		see_object(session, (const void *)record);
		return true;
	case WIRE_NATIVE_ALLOC:
		see_chunk(session, record, chunk->address, chunk->stack, chunk->size);
		return true;
	case WIRE_NATIVE_REALLOC:
		see_realloc(session, (const void *)record);
		return true;
	case WIRE_FORK:
		/* One that shares the target's memory until it executes has no text of its own. */
		sampling->forked |= !(record->flags & WIRE_SHARES_MEMORY);
		return false;
	case WIRE_LIMIT:
		governor_note_limit(sampling->governor,
				    record->site == SAMPLING_GROUP_NATIVE_SLICES
					    ? GOVERNOR_GROUP_SLICES
					    : record->site,
				    sampling->now);
		return true;
	default:
		return false;
	}
}

/* --- a step --- */

bool sampling_window_is_open(const struct sampling *sampling)
{
	return sampling->open_window != 0;
}

static void note_learned(struct sampling *sampling, double now)
{
	struct governor_status status;

	if (sampling->learned_at > 0)
		return;
	governor_status(sampling->governor, now, &status);
	if (!status.learning)
		sampling->learned_at = now;
}

#define RUNNING_SECONDS 2.0 /* between two measurements */
#define RUNNING_WEIGHT 0.3  /* of a new one */

static void note_running(struct session *session, double now)
{
	struct sampling *sampling = session->sampling;
	double seconds = now - sampling->running_at, share;
	uint64_t cpu_ns;

	if (seconds < RUNNING_SECONDS || process_cpu_ns(session->facts.pid, &cpu_ns) < 0)
		return;
	share = (double)(cpu_ns - sampling->running_cpu_ns) / NS_PER_SECOND / seconds;
	sampling->running =
		isnan(sampling->running)
			? share
			: sampling->running + RUNNING_WEIGHT * (share - sampling->running);
	sampling->running_at = now;
	sampling->running_cpu_ns = cpu_ns;
	governor_note_running(sampling->governor, sampling->running);
	governor_note_sharing(sampling->governor, turn_sharing(session->options.turn));
	sampling_price_step(session, now);
}

static void count_hits(struct session *session, double now)
{
	struct sampling *sampling = session->sampling;

	if (now - sampling->counted_at < SAMPLING_COUNT_SECONDS)
		return;
	sampling->counted_at = now;
	if (sampling_count_sites(session) < 0)
		return;
	sampling_growth_count(session, now);
	note_running(session, now);
	governor_note_hits(sampling->governor, now, sampling->site_hits);
	note_learned(sampling, now);
	for (unsigned group = 0; group < GOVERNOR_ALWAYS_ON_GROUPS; group++)
		if (sampling->openings[group].open)
			capture_group_refill(session->capture, group,
					     governor_allowance(sampling->governor, group));
}

/* A look at the heap's types takes about so long: nothing else is due meanwhile. */
#define FOCUS_LOOK_ROOM_SECONDS 0.03
/* Learning comes first; nothing stays in the target before it has begun. */
#define LEARNING_FIRST_SECONDS 1.5
/* Acts at once at most: each takes some 10 ms, and the ring is to be emptied in between. */
#define ACTS_MAX 16

static int act(struct session *session, double *now, const struct governor_step *step)
{
	uint64_t began_ns = clock_monotonic_ns();
	int r = 0;

	if (step->act == GOVERNOR_OPEN)
		r = sampling_open_group(session, step, *now);
	else
		sampling_close_group(session, step->group, *now);
	*now += (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	session->sampling->now = *now;
	return r;
}

/* Of other sessions one has a window open: this one comes a little later. */
static void await_turn(struct session *session, double now, struct governor_step *step)
{
	bool window = step->act == GOVERNOR_OPEN && step->group >= GOVERNOR_ALWAYS_ON_GROUPS;

	if (window && !turn_take(session->options.turn, session, clock_monotonic_ns()))
		*step = (struct governor_step){.act = GOVERNOR_WAIT, .at = now + TURN_ASK_SECONDS};
}

/*
 * The child has inherited the breakpoints: all of them go, at once, and come
 * back a little later, for forks come in groups.
 */
static void after_fork(struct session *session, double *now)
{
	struct sampling *sampling = session->sampling;
	uint64_t began_ns = clock_monotonic_ns();

	if (!sampling->forked)
		return;
	sampling->forked = false;
	governor_pause(sampling->governor, *now, 0);
	sampling_close_all(session, *now);
	*now += (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	sampling->now = *now;
	sampling_note_fork(session, *now);
	governor_pause(sampling->governor, *now, SAMPLING_FORK_PAUSE_SECONDS);
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
	struct governor_step step = {.at = INFINITY};
	double now = time_seconds;
	int r;

	sampling->now = now;
	*ret_next_seconds = INFINITY;
	if (session->state != SESSION_PROBED)
		return 0;
	capture_hurry_look(session->capture);
	r = session_consume(session, 0);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ACTS_MAX; i++) {
		after_fork(session, &now);
		sampling_forks_fade(session, now);
		count_hits(session, now);
		step = (struct governor_step){.at = sampling_arm(session, now)};
		if (isfinite(step.at)) /* nothing else meanwhile */
			break;
		governor_step(sampling->governor, now, &step);
		await_turn(session, now, &step);
		if (step.act == GOVERNOR_WAIT || act(session, &now, &step) < 0)
			break;
	}
	*ret_next_seconds = step.act == GOVERNOR_WAIT ? next_step(sampling, now, step.at) : now;
	if (step.act != GOVERNOR_WAIT || turn_is_anothers(session->options.turn, session))
		return 0;
	if (!sampling->open_window && now >= LEARNING_FIRST_SECONDS)
		sampling_growth_step(session, now);
	if (!sampling->open_window && step.at - now > FOCUS_LOOK_ROOM_SECONDS)
		sampling_focus_step(session, now);
	/* A window that is open is looked after first. */
	if (!sampling->open_window && now - sampling->looked_at >= SAMPLING_LOOK_SECONDS &&
	    step.at - now > 0.005)
		r = sampling_look(session, now, false);
	if (r >= 0 && !sampling->open_window &&
	    now - sampling->accounted_at >= SAMPLING_ACCOUNT_SECONDS)
		r = sampling_account(session, now, false);
	if (now - sampling->stacks_asked_at >= SAMPLING_STACKS_SECONDS) {
		sampling->stacks_asked_at = now;
		capture_forget_stacks(session->capture);
	}
	if (sampling->forked)
		*ret_next_seconds = now;
	return r == -ENOMEM ? r : 0;
}

void sampling_stop(struct session *session)
{
	struct sampling *sampling = session->sampling;

	sampling_close_all(session, sampling->now);
	turn_give(session->options.turn, session);
}
