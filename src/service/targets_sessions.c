/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* A target's session: opened, looked at, with probes and without, closed. */
#include "service/targets_private.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "report/snapshot_build.h"
#include "service/programs.h"
#include "target/cgroup.h"

/* Of the ring of one sampled target: windows have a limit, so it need not hold a second's worth. */
#define RING_BYTES (1u << 20)

DEFINE_CLEANUP(struct session *, session_free)
DEFINE_CLEANUP(struct snapshot *, snapshot_free)

/* --- the end --- */

static void keep_counters(struct targets *targets, const struct snapshot *snapshot)
{
	targets->ended.events += snapshot->events;
	for (size_t i = 0; i < snapshot->n_losses; i++)
		targets->ended.losses[snapshot->losses[i].reason] += snapshot->losses[i].count;
}

/*
 * An exit is told of when the memory is gone, but the session has what it found
 * out before: of the last seconds, which may be a tenth of a worker's life.
 */
static void take_last_account(struct targets *targets, struct target *target)
{
	if (target_is_probed(target) && target->stepped_seconds > target->told_seconds)
		target_take_account(targets, target, target->stepped_seconds);
}

void target_close(struct targets *targets, struct target *target)
{
	take_last_account(targets, target);
	if (target->session && target->snapshot && !target->snapshot_ended)
		keep_counters(targets, target->snapshot);
	target->snapshot_ended = true;
	events_forget_ring(&target->sources);
	/* Had it ended some other way, its turn would never end. */
	turn_give(&targets->turn, target->session);
	session_free(target->session);
	target->session = NULL;
	target->told_seconds = target->stepped_seconds = 0;
}

void target_fail(struct targets *targets, struct target *target, const char *message)
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
		target_fail(targets, target, message);
		return r;
	}
	r = events_watch_ring(targets->event, session, targets_on_ring, targets, &target->sources);
	if (r < 0) {
		target_fail(targets, target, "its records can't be waited for");
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

/* Of a young one its program tells; later its own history does. */
static bool grows(const struct target *target)
{
	return target->retained.growing || (target->program && target->program->retained.growing &&
					    target->retained.heap[0].n < JUDGE_INTERVALS_MIN);
}

static void sample(struct targets *targets, struct target *target)
{
	target_close(targets, target);
	if (start(targets, target, true) < 0)
		return;
	note_refusal(targets, target);
	log_info("process %d (%s) grows: %s", target->id.pid, target->command,
		 target->state == TARGET_SAMPLED ? "sampled" : "probes are refused");
	targets_set_step_timer(targets);
}

void target_open(struct targets *targets, struct target *target)
{
	uint64_t began_ns = clock_process_cpu_ns();

	if (!target->program)
		target->program = programs_join(targets->programs, &target->place, target->command);
	if (grows(target) && may_sample(targets, target))
		sample(targets, target);
	else
		start(targets, target, false);
	target_spend(targets, target, began_ns);
}

/* --- a look --- */

/* Once a refusal: its sentence has times in it, and these go on. */
static void log_refusal(struct target *target)
{
	const struct snapshot_refusal *refusal = target->snapshot->refused;
	uint64_t key = target->snapshot->n_refused ? hash_string(refusal->what) : 0;

	if (key && key != target->refusal_logged)
		log_notice("process %d (%s): %s refused: %s", target->id.pid, target->command,
			   refusal->what, refusal->why);
	target->refusal_logged = key;
}

/* Probes for which there is no room yet go in when there is; until then it is only watched. */
static void tell_state(struct target *target)
{
	bool waits = strcmp(target->snapshot->mode, "watch") == 0 && target->snapshot->n_refused;

	if (target_is_probed(target))
		target->state = waits ? TARGET_WATCHED : TARGET_SAMPLED;
}

static void tell_reason(struct targets *targets, struct target *target)
{
	const struct snapshot *snapshot = target->snapshot;
	const char *why = "";

	log_refusal(target);
	target->reason[0] = '\0';
	if (snapshot->n_refused && (target->probes_refused || target_is_probed(target))) {
		snprintf(target->reason, sizeof(target->reason), "%s: %s",
			 snapshot->refused[0].what, snapshot->refused[0].why);
		return;
	}
	if (target_is_probed(target) || !target->retained.growing)
		return;
	if (targets->config->options.no_probes)
		why = "it grows, and no-probes is set";
	else if (targets->full)
		why = "it grows, and pyleakd's own memory is at its limit";
	else if (!target->probes_refused)
		why = "it grows, and max-sampled others are sampled";
	snprintf(target->reason, sizeof(target->reason), "%s", why);
}

static void change_stage(struct targets *targets, struct target *target)
{
	double now = targets_now(targets);

	if (grows(target))
		target->calm_since = now;
	if (!target_is_probed(target) && grows(target) && may_sample(targets, target)) {
		sample(targets, target);
	} else if (target_is_probed(target) &&
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

int target_take_account(struct targets *targets, struct target *target, double seconds)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
	int r = session_snapshot(target->session, seconds, &snapshot);

	if (r < 0)
		return r;
	if (target->program)
		program_observe(target->program, &target->share, snapshot,
				snapshot->session_started + snapshot->duration_seconds -
					snapshot->target_started,
				targets_now(targets), targets_interval(targets));
	snapshot_free(target->snapshot);
	target->snapshot = TAKE_PTR(snapshot);
	target->snapshot_ended = false;
	target->told_seconds = seconds;
	return 0;
}

static int look(struct targets *targets, struct target *target)
{
	double now;
	int r;

	r = session_tick(target->session, targets_now(targets) - target->began,
			 SESSION_LOOK_INTERVAL);
	now = targets_now(targets);
	if (r == 0)
		r = target_take_account(targets, target, now - target->began);
	if (r < 0)
		return r;
	retained_observe(&target->retained, now, (double)target->snapshot->python_live_bytes,
			 (double)target->snapshot->resident_bytes);
	target->time_to_limit_seconds = time_to_limit(target);
	return 0;
}

/* The dearer a census is, the rarer it comes: of one that is probed, it is half of what is done. */
static double pause_of(const struct targets *targets, const struct target *target)
{
	double paid = target->census_seconds / targets_cpu_ratio(targets);

	if (target_is_probed(target))
		paid *= 2;
	return fmax(targets_interval(targets), fmin(paid, TARGETS_CENSUS_SECONDS_MAX));
}

void target_look(struct targets *targets, struct target *target)
{
	uint64_t began_ns = clock_process_cpu_ns();
	int r;

	r = look(targets, target);
	target->census_seconds = (double)(clock_process_cpu_ns() - began_ns) / NS_PER_SECOND;
	if (r < 0) {
		target_fail(targets, target, strerror(-r));
		return;
	}
	target->pause_seconds = pause_of(targets, target);
	target->work_at = targets_now(targets) + target->pause_seconds;
	if (session_is_over(target->session)) {
		targets_remove(targets, target);
		return;
	}
	tell_state(target);
	tell_reason(targets, target);
	change_stage(targets, target);
	target_spend(targets, target, began_ns);
}
