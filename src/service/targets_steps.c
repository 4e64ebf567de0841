/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Sampled sessions' steps: when they are due, and what they may cost. */
#include "service/targets_private.h"

#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define STEP_SECONDS_MAX 1.0
#define US_PER_SECOND 1e6
#define CHILDREN_MAX 64

bool target_is_probed(const struct target *target)
{
	return target->session && session_state(target->session) == SESSION_PROBED;
}

/* --- our own CPU --- */

double targets_cpu_ratio(const struct targets *targets)
{
	return targets->config->cpu_percent / 100;
}

double targets_interval(const struct targets *targets)
{
	return (double)targets->config->options.interval_ns / NS_PER_SECOND;
}

void target_spend(struct targets *targets, struct target *target, uint64_t began_ns)
{
	pace_spend(&target->pace, targets_now(targets),
		   (double)(clock_process_cpu_ns() - began_ns) / NS_PER_SECOND,
		   targets_cpu_ratio(targets));
}

bool target_is_paced(const struct targets *targets, const struct target *target)
{
	return pace_is_over(&target->pace, targets_now(targets), targets_cpu_ratio(targets));
}

size_t targets_count_paced(const struct targets *targets)
{
	size_t n = 0;

	for (size_t i = 0; i < targets->n; i++)
		n += target_is_paced(targets, targets->items[i]);
	return n;
}

/* --- a step --- */

/* An open window is not left open for what is owed; who has one holds the turn. */
static double next_step(const struct targets *targets, const struct target *target,
			double wanted_at)
{
	double now = targets_now(targets);

	if (targets->turn.holder == target->session)
		return wanted_at;
	return fmax(wanted_at, now + pace_pause(&target->pace, now, targets_cpu_ratio(targets)));
}

static void account(struct targets *targets, struct target *target, double seconds)
{
	double pause_seconds =
		fmin(fmax(TARGETS_ACCOUNT_AGE_RATIO * seconds, TARGETS_ACCOUNT_SECONDS),
		     targets_interval(targets));

	if (seconds - target->told_seconds >= pause_seconds && targets->turn.holder == NULL &&
	    !target_is_paced(targets, target))
		target_take_account(targets, target, seconds);
}

static void look_after(struct targets *targets, struct target *target, double seconds)
{
	pid_t children[CHILDREN_MAX];

	session_refresh_stacks(target->session, seconds);
	/* They are targets of their own, or none; what they inherited is taken from them. */
	if (session_children(target->session, children, ARRAY_SIZE(children)) > 0)
		session_release_children(target->session);
	account(targets, target, seconds);
}

static void step(struct targets *targets, struct target *target)
{
	uint64_t began_ns = clock_process_cpu_ns();
	double seconds = targets_now(targets) - target->began, next_seconds = INFINITY;
	int r;

	r = session_step(target->session, seconds, &next_seconds);
	if (r < 0) {
		target_fail(targets, target, strerror(-r));
		return;
	}
	if (session_is_over(target->session)) {
		targets_remove(targets, target);
		return;
	}
	target->stepped_seconds = seconds;
	look_after(targets, target, seconds);
	target_spend(targets, target, began_ns);
	target->step_at = next_step(targets, target, target->began + next_seconds);
}

void targets_set_step_timer(struct targets *targets)
{
	double at = INFINITY, in_seconds;

	for (size_t i = 0; i < targets->n; i++)
		if (target_is_probed(targets->items[i]))
			at = fmin(at, targets->items[i]->step_at);
	in_seconds = fmin(fmax(at - targets_now(targets), 0), STEP_SECONDS_MAX);
	sd_event_source_set_time_relative(targets->step, (uint64_t)(in_seconds * US_PER_SECOND));
}

int targets_step(struct targets *targets)
{
	for (size_t i = targets->n; i-- > 0;) {
		struct target *target = targets->items[i];

		if (target_is_probed(target) && target->step_at <= targets_now(targets))
			step(targets, target);
	}
	targets_set_step_timer(targets);
	return 0;
}

/* A window's limit is reached, or the target comes to an end. */
int targets_on_ring(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct targets *targets = userdata;

	(void)fd;
	(void)events;
	for (size_t i = 0; i < targets->n; i++)
		if (targets->items[i]->sources.ring == source) {
			step(targets, targets->items[i]);
			break;
		}
	targets_set_step_timer(targets);
	return 0;
}
