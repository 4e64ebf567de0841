/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* A target's session: opened, looked at, with probes and without, closed. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "report/snapshot_build.h"
#include "service/programs.h"
#include "service/targets_private.h"
#include "target/cgroup.h"

/* Of the ring of one sampled target: windows have a limit, so it need not hold a second's worth. */
#define RING_BYTES (4u << 20)
#define STEP_SECONDS_MAX 1.0
#define US_PER_SECOND 1e6

DEFINE_CLEANUP(struct session *, session_free)
DEFINE_CLEANUP(struct snapshot *, snapshot_free)

/* --- the end --- */

static void keep_counters(struct targets *targets, const struct snapshot *snapshot)
{
	targets->ended.events += snapshot->events;
	for (size_t i = 0; i < snapshot->n_losses; i++)
		targets->ended.losses[snapshot->losses[i].reason] += snapshot->losses[i].count;
}

void target_close(struct targets *targets, struct target *target)
{
	if (target->session && target->snapshot && !target->snapshot_ended)
		keep_counters(targets, target->snapshot);
	target->snapshot_ended = true;
	events_forget_ring(&target->sources);
	/* Had it ended some other way, its turn would never end. */
	turn_give(&targets->turn, target->session);
	session_free(target->session);
	target->session = NULL;
}

static void fail(struct targets *targets, struct target *target, const char *message)
{
	double pause_seconds = TARGETS_RETRY_SECONDS * exp2(target->failures);

	target_close(targets, target);
	snapshot_free(target->snapshot);
	target->snapshot = NULL;
	target->state = TARGET_UNREADABLE;
	target->failures++;
	snprintf(target->reason, sizeof(target->reason), "%s", message);
	target->work_at = targets_now(targets) + fmin(pause_seconds, TARGETS_RETRY_SECONDS_MAX);
}

/* --- the beginning --- */

static int on_ring(sd_event_source *source, int fd, uint32_t events, void *userdata);

static int start(struct targets *targets, struct target *target, bool sampled)
{
	const struct session_options options = {
		.no_probes = !sampled,
		.native = true,
		.sampled = sampled,
		.budget_ratio = targets->config->options.budget_percent / 100,
		.ring_bytes = RING_BYTES,
		.images = targets->images,
		.turn = &targets->turn,
		.plan_cache = targets->plan_cache,
	};
	CLEANUP(session_free) struct session *session = NULL;
	char message[SESSION_MESSAGE_BYTES] = "";
	int r;

	r = session_open(target->id.pid, &options, &session, message);
	if (r == 0)
		r = session_start(session, message);
	if (r == 0 && session_state(session) == SESSION_STOPPED)
		r = -ESRCH;
	if (r < 0) {
		fail(targets, target, message);
		return r;
	}
	r = events_watch_ring(targets->event, session, on_ring, targets, &target->sources);
	if (r < 0) {
		fail(targets, target, "its records can't be waited for");
		return r;
	}
	target->session = TAKE_PTR(session);
	target->began = target->step_at = target->work_at = targets_now(targets);
	target->failures = 0;
	target->reason[0] = '\0';
	target->state =
		session_state(target->session) == SESSION_PROBED ? TARGET_SAMPLED : TARGET_WATCHED;
	return 0;
}

/* Its guards refused the probes: the session goes on without, and says why. */
static void note_refusal(struct targets *targets, struct target *target)
{
	target->probes_refused = target->state != TARGET_SAMPLED;
	target->probes_at = targets_now(targets) + TARGETS_PROBES_RETRY_SECONDS;
	target->calm_since = targets_now(targets);
}

static bool may_sample(const struct targets *targets, const struct target *target)
{
	return !targets->config->options.no_probes && !targets->full &&
	       targets_now(targets) >= target->probes_at &&
	       targets_count(targets, TARGET_SAMPLED) < targets->config->max_sampled;
}

static bool program_grows(const struct target *target)
{
	return target->program && target->program->retained.growing;
}

static void set_step_timer(struct targets *targets);

static void sample(struct targets *targets, struct target *target)
{
	target_close(targets, target);
	if (start(targets, target, true) < 0)
		return;
	note_refusal(targets, target);
	log_info("process %d (%s) grows: %s", target->id.pid, target->command,
		 target->state == TARGET_SAMPLED ? "sampled" : "probes are refused");
	set_step_timer(targets);
}

void target_open(struct targets *targets, struct target *target)
{
	if (!target->program)
		target->program = programs_join(targets->programs, &target->place, target->command);
	if (program_grows(target) && may_sample(targets, target))
		sample(targets, target);
	else
		start(targets, target, false);
}

/* --- a look --- */

static void tell_reason(struct targets *targets, struct target *target)
{
	const struct snapshot *snapshot = target->snapshot;

	target->reason[0] = '\0';
	if (target->state == TARGET_SAMPLED)
		return;
	if (target->probes_refused && snapshot->n_refused)
		snprintf(target->reason, sizeof(target->reason), "%s: %s",
			 snapshot->refused[0].what, snapshot->refused[0].why);
	else if (target->retained.growing && targets->config->options.no_probes)
		snprintf(target->reason, sizeof(target->reason), "it grows, and no-probes is set");
	else if (target->retained.growing && targets->full)
		snprintf(target->reason, sizeof(target->reason),
			 "it grows, and pyleakd's own memory is at its limit");
	else if (target->retained.growing && !target->probes_refused)
		snprintf(target->reason, sizeof(target->reason),
			 "it grows, and max-sampled others are sampled");
}

static void change_stage(struct targets *targets, struct target *target)
{
	double now = targets_now(targets);
	bool grows = target->retained.growing || program_grows(target);

	if (grows)
		target->calm_since = now;
	if (target->state == TARGET_WATCHED && grows && may_sample(targets, target)) {
		sample(targets, target);
	} else if (target->state == TARGET_SAMPLED &&
		   now - target->calm_since > (double)targets->config->calm_ns / NS_PER_SECOND) {
		target_close(targets, target);
		start(targets, target, false);
		log_info("process %d (%s) has stopped to grow: watched", target->id.pid,
			 target->command);
	}
}

/* INFINITY: it does not grow, or nothing limits it. */
static double time_to_limit(const struct target *target)
{
	struct cgroup_headroom headroom;
	double growth = target->retained.resident_growth_bytes_per_second;

	if (!target->retained.growing || !(growth > 0) ||
	    cgroup_headroom(target->id.pid, &headroom) < 0 ||
	    headroom.reclaimable_bytes == CGROUP_UNLIMITED)
		return INFINITY;
	return (double)headroom.reclaimable_bytes / growth;
}

/* What was seen, to the history of the process and of its program. */
static void observe(struct targets *targets, struct target *target, const struct snapshot *snapshot)
{
	double now = targets_now(targets);

	retained_observe(&target->retained, now, (double)snapshot->python_live_bytes,
			 (double)snapshot->resident_bytes);
	target->time_to_limit_seconds = time_to_limit(target);
	if (target->program)
		program_observe(target->program, target->snapshot, snapshot,
				snapshot->session_started + snapshot->duration_seconds -
					snapshot->target_started,
				now, (double)targets->config->options.interval_ns / NS_PER_SECOND);
}

static int take_snapshot(struct targets *targets, struct target *target)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
	double seconds = targets_now(targets) - target->began;
	int r;

	r = session_tick(target->session, seconds, SESSION_LOOK_INTERVAL);
	if (r == 0)
		r = session_snapshot(target->session, targets_now(targets) - target->began,
				     &snapshot);
	if (r < 0)
		return r;
	observe(targets, target, snapshot);
	snapshot_free(target->snapshot);
	target->snapshot = TAKE_PTR(snapshot);
	target->snapshot_ended = false;
	return 0;
}

/* The dearer a census is, the rarer it comes. */
static double pause_of(const struct targets *targets, const struct target *target)
{
	double interval = (double)targets->config->options.interval_ns / NS_PER_SECOND;
	double paid = target->census_seconds * 100 / targets->config->cpu_percent;

	return fmax(interval, fmin(paid, TARGETS_CENSUS_SECONDS_MAX));
}

void target_look(struct targets *targets, struct target *target)
{
	uint64_t began_ns = clock_process_cpu_ns();
	int r;

	r = take_snapshot(targets, target);
	target->census_seconds = (double)(clock_process_cpu_ns() - began_ns) / NS_PER_SECOND;
	if (r < 0) {
		fail(targets, target, strerror(-r));
		return;
	}
	target->pause_seconds = pause_of(targets, target);
	target->work_at = targets_now(targets) + target->pause_seconds;
	if (session_is_over(target->session)) {
		targets_remove(targets, target);
		return;
	}
	tell_reason(targets, target);
	change_stage(targets, target);
}

/* --- steps --- */

static void step(struct targets *targets, struct target *target)
{
	pid_t children[64];
	double seconds = targets_now(targets) - target->began, next_seconds = INFINITY;
	int r;

	r = session_step(target->session, seconds, &next_seconds);
	if (r < 0) {
		fail(targets, target, strerror(-r));
		return;
	}
	target->step_at = target->began + next_seconds;
	session_refresh_stacks(target->session, seconds);
	/* They are targets of their own, or none; what they inherited is taken from them. */
	if (session_children(target->session, children, ARRAY_SIZE(children)) > 0)
		session_release_children(target->session);
	if (session_is_over(target->session))
		targets_remove(targets, target);
}

static void set_step_timer(struct targets *targets)
{
	double at = INFINITY, in_seconds;

	for (size_t i = 0; i < targets->n; i++)
		if (targets->items[i]->state == TARGET_SAMPLED)
			at = fmin(at, targets->items[i]->step_at);
	in_seconds = fmin(fmax(at - targets_now(targets), 0), STEP_SECONDS_MAX);
	sd_event_source_set_time_relative(targets->step, (uint64_t)(in_seconds * US_PER_SECOND));
}

int targets_step(struct targets *targets)
{
	for (size_t i = targets->n; i-- > 0;) {
		struct target *target = targets->items[i];

		if (target->state == TARGET_SAMPLED && target->step_at <= targets_now(targets))
			step(targets, target);
	}
	set_step_timer(targets);
	return 0;
}

/* A window's limit is reached, or the target comes to an end. */
static int on_ring(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct targets *targets = userdata;

	(void)fd;
	(void)events;
	for (size_t i = 0; i < targets->n; i++)
		if (targets->items[i]->sources.ring == source) {
			step(targets, targets->items[i]);
			break;
		}
	set_step_timer(targets);
	return 0;
}
