/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/adhoc.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "service/adhoc_private.h"
#include "service/events.h"
#include "service/live_view.h"
#include "target/process.h"

/* Looks at the heap before the first interval is over. */
#define EARLY_LOOKS 4
#define NS_PER_SECOND_D ((double)NS_PER_SECOND)
#define US_PER_SECOND 1e6
#define STEP_SECONDS_MAX 1.0

double adhoc_now(const struct adhoc *adhoc)
{
	return (double)(clock_monotonic_ns() - adhoc->started_ns) / NS_PER_SECOND_D;
}

static double now_of_adhoc(void *context)
{
	return adhoc_now(context);
}

struct session_clock adhoc_clock(struct adhoc *adhoc)
{
	return (struct session_clock){ now_of_adhoc, adhoc };
}

bool adhoc_has_target(const struct adhoc *adhoc, pid_t pid)
{
	for (size_t i = 0; i < adhoc->n_targets; i++)
		if (session_pid(adhoc->sessions[i]) == pid)
			return true;
	return false;
}

/* Once for each target. */
static void end_target(struct adhoc *adhoc, size_t i)
{
	const struct session_clock clock = adhoc_clock(adhoc);
	int r;

	sd_event_source_set_enabled(adhoc->exits[i].exit, SD_EVENT_OFF);
	sd_event_source_set_enabled(adhoc->exits[i].ring, SD_EVENT_OFF);
	r = session_finish(adhoc->sessions[i], &clock);
	if (--adhoc->n_running == 0 || r < 0)
		sd_event_exit(adhoc->event, r);
}

/* A pid that ended is no error: what it left in the ring is still taken. */
static int on_exit_of_target(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct adhoc *adhoc = userdata;

	(void)fd;
	(void)events;
	for (size_t i = 0; i < adhoc->n_targets; i++)
		if (adhoc->exits[i].exit == source)
			end_target(adhoc, i);
	return 0;
}

static int on_ring(sd_event_source *source, int fd, uint32_t events, void *userdata);

int adhoc_add(struct adhoc *adhoc, struct session *session)
{
	struct session_sources *sources = &adhoc->exits[adhoc->n_targets];
	int r;

	if (adhoc->n_targets == ADHOC_TARGETS_MAX)
		return -E2BIG;
	r = events_watch_exit(adhoc->event, session_pid(session), on_exit_of_target, adhoc,
			      sources);
	adhoc->n_running += r >= 0;
	if (r == -ESRCH) /* gone already: its report is still made */
		session_stop(session);
	else if (r < 0)
		return r;
	r = events_watch_ring(adhoc->event, session, on_ring, adhoc, sources);
	if (r < 0) {
		adhoc->n_running -= sources->exit != NULL;
		session_sources_done(sources);
		return r;
	}
	adhoc->sessions[adhoc->n_targets++] = session;
	return 0;
}

/* Whether it has a session now; a child that is no Python, or can't be read, has none. */
static bool follow_child(struct adhoc *adhoc, pid_t pid)
{
	char message[SESSION_MESSAGE_BYTES];
	struct session *session;
	int r;

	if (adhoc_has_target(adhoc, pid))
		return true;
	if (adhoc->n_targets == ADHOC_TARGETS_MAX)
		return false;
	if (session_open(pid, &adhoc->session_options, &session, message) < 0)
		return false;
	r = session_start(session, message);
	if (r == 0)
		r = adhoc_add(adhoc, session);
	if (r < 0) {
		session_free(session);
		return false;
	}
	log_info("following process %d, a child", pid);
	return true;
}

void adhoc_follow_descendants(struct adhoc *adhoc, pid_t pid)
{
	_cleanup_free_ pid_t *queue = malloc(ADHOC_TARGETS_MAX * sizeof(*queue));
	size_t n = 1;

	if (!queue)
		return;
	queue[0] = pid;
	for (size_t at = 0; at < n; at++) {
		_cleanup_free_ pid_t *children = NULL;
		size_t n_children;

		if (process_children(queue[at], &children, &n_children) < 0)
			continue;
		for (size_t i = 0; i < n_children && n < ADHOC_TARGETS_MAX; i++) {
			follow_child(adhoc, children[i]);
			adhoc_consume(adhoc);
			queue[n++] = children[i];
		}
	}
}

static void look_after_children(struct adhoc *adhoc, struct session *session)
{
	pid_t children[64];
	size_t n = session_children(session, children, ARRAY_SIZE(children));
	bool missed = session_missed_children(session);
	size_t n_followed = 0;

	if (adhoc->options->subprocesses)
		for (size_t i = 0; i < n; i++)
			n_followed += follow_child(adhoc, children[i]);
	if (n_followed < n || missed)
		session_release_children(session);
}

static int consume_one(struct adhoc *adhoc, size_t i)
{
	struct session *session = adhoc->sessions[i];
	double next_seconds;
	int r;

	if (session_state(session) == SESSION_STOPPED)
		return 0;
	/* While others are being attached their time has not begun: no window opens. */
	if (!adhoc->looping) {
		r = session_consume(session, 0);
		return r < 0 ? r : 0;
	}
	r = session_step(session, adhoc_now(adhoc), &next_seconds);
	if (r < 0)
		return r;
	adhoc->next_step_seconds = fmin(adhoc->next_step_seconds, next_seconds);
	session_refresh_stacks(session, adhoc_now(adhoc));
	look_after_children(adhoc, session);
	if (session_is_over(session))
		end_target(adhoc, i);
	return 0;
}

int adhoc_consume(struct adhoc *adhoc)
{
	int r;

	for (size_t i = 0; i < adhoc->n_targets; i++) {
		r = consume_one(adhoc, i);
		if (r < 0)
			return r;
	}
	return 0;
}

/* When the earliest of the sessions has something to do. */
static int set_step_timer(struct adhoc *adhoc)
{
	double in_seconds = fmax(adhoc->next_step_seconds - adhoc_now(adhoc), 0);

	if (!adhoc->step)
		return 0;
	return sd_event_source_set_time_relative(
		adhoc->step, (uint64_t)(fmin(in_seconds, STEP_SECONDS_MAX) * US_PER_SECOND));
}

/* A stack came that was not seen before, or the ring fills, or the target comes to an end. */
static int on_ring(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct adhoc *adhoc = userdata;
	int r = 0;

	(void)fd;
	(void)events;
	for (size_t i = 0; i < adhoc->n_targets && r >= 0; i++)
		if (adhoc->exits[i].ring == source)
			r = consume_one(adhoc, i);
	if (r >= 0)
		r = set_step_timer(adhoc);
	return r < 0 ? sd_event_exit(adhoc->event, r) : 0;
}

static int on_consume(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct adhoc *adhoc = userdata;
	int r;

	(void)usec;
	adhoc->step = source;
	adhoc->next_step_seconds = INFINITY;
	r = adhoc_consume(adhoc);
	if (r >= 0)
		r = set_step_timer(adhoc);
	return r < 0 ? sd_event_exit(adhoc->event, r) : 0;
}

/* Intervals that looking at the heaps took longer than are passed over, not made up for. */
static uint64_t next_interval(const struct adhoc *adhoc, uint64_t usec)
{
	uint64_t interval_us = adhoc->options->interval_ns / NS_PER_US;
	uint64_t now = clock_monotonic_ns() / NS_PER_US;

	return usec + interval_us > now ? usec + interval_us : now + interval_us;
}

static int look_at_all(struct adhoc *adhoc, double now, enum session_look look)
{
	int r;

	for (size_t i = 0; i < adhoc->n_targets; i++) {
		if (session_state(adhoc->sessions[i]) == SESSION_STOPPED)
			continue;
		r = session_tick(adhoc->sessions[i], now, look);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A look takes long, and whoever has a window open waits for it: it comes a little later. */
#define WINDOW_OPEN_US 5000

static bool window_is_open(const struct adhoc *adhoc)
{
	for (size_t i = 0; i < adhoc->n_targets; i++)
		if (session_window_is_open(adhoc->sessions[i]))
			return true;
	return false;
}

/*
 * What ends within its first interval was looked at too: after a sixteenth of
 * it, an eighth, a quarter and a half.
 */
static int on_early(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct adhoc *adhoc = userdata;
	int r;

	if (window_is_open(adhoc))
		return sd_event_source_set_time_relative(source, WINDOW_OPEN_US);
	r = look_at_all(adhoc, adhoc_now(adhoc), SESSION_LOOK_EARLY);
	if (r < 0)
		return sd_event_exit(adhoc->event, r);
	if (++adhoc->early_looks == EARLY_LOOKS)
		return sd_event_source_set_enabled(source, SD_EVENT_OFF);
	usec += adhoc->options->interval_ns / NS_PER_US >> (EARLY_LOOKS + 1 - adhoc->early_looks);
	return sd_event_source_set_time(source, usec);
}

static int on_interval(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct adhoc *adhoc = userdata;
	double now = adhoc_now(adhoc);
	int r;

	if (window_is_open(adhoc))
		return sd_event_source_set_time_relative(source, WINDOW_OPEN_US);
	r = look_at_all(adhoc, now, SESSION_LOOK_INTERVAL);
	if (r < 0)
		return sd_event_exit(adhoc->event, r);
	live_view_show(adhoc->sessions, adhoc->n_targets, now, adhoc->options);
	return sd_event_source_set_time(source, next_interval(adhoc, usec));
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct adhoc *adhoc = userdata;

	(void)source;
	if (events_signal_is_ours_alone((int)info->ssi_signo, info->ssi_code))
		adhoc->signal = (int)info->ssi_signo;
	return sd_event_exit(adhoc->event, 0);
}

static int on_duration(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct adhoc *adhoc = userdata;

	(void)source;
	(void)usec;
	return sd_event_exit(adhoc->event, 0);
}

static int add_timer(struct adhoc *adhoc, uint64_t in_us, sd_event_time_handler_t handler,
		     int64_t priority)
{
	return events_add_timer(adhoc->event, in_us, handler, priority, adhoc, NULL);
}

static int add_signals(struct adhoc *adhoc)
{
	int signals[EVENTS_ENDING_MAX];
	size_t n = events_ending_signals(signals);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = events_add_signal(adhoc->event, signals[i], on_signal, adhoc);
	return r;
}

int adhoc_init(struct adhoc *adhoc, const struct options *options)
{
	int r;

	*adhoc = (struct adhoc){ .options = options, .started_ns = clock_monotonic_ns() };
	adhoc->sessions = calloc(ADHOC_TARGETS_MAX, sizeof(struct session *));
	adhoc->exits = calloc(ADHOC_TARGETS_MAX, sizeof(*adhoc->exits));
	if (!adhoc->sessions || !adhoc->exits)
		return -ENOMEM;
	for (size_t i = 0; i < ADHOC_TARGETS_MAX; i++)
		adhoc->exits[i] = SESSION_SOURCES_NONE;
	r = sd_event_new(&adhoc->event);
	if (r < 0)
		return r;
	return add_signals(adhoc);
}

void adhoc_done(struct adhoc *adhoc)
{
	for (size_t i = 0; i < adhoc->n_targets; i++) {
		session_sources_done(&adhoc->exits[i]);
		session_free(adhoc->sessions[i]);
	}
	free(adhoc->sessions);
	free(adhoc->exits);
	output_free(adhoc->output);
	sd_event_unref(adhoc->event);
}

int adhoc_loop(struct adhoc *adhoc)
{
	int r;

	if (adhoc->n_running == 0)
		return 0;
	adhoc->looping = true;
	adhoc->started_ns = clock_monotonic_ns(); /* attaching is not of the report's time */
	r = add_timer(adhoc, 0, on_consume, SD_EVENT_PRIORITY_NORMAL);
	if (r < 0)
		return r;
	r = add_timer(adhoc, adhoc->options->interval_ns / NS_PER_US, on_interval,
		      SD_EVENT_PRIORITY_NORMAL - 1);
	if (r < 0)
		return r;
	r = add_timer(adhoc, adhoc->options->interval_ns / NS_PER_US >> EARLY_LOOKS, on_early,
		      SD_EVENT_PRIORITY_NORMAL - 1);
	if (r < 0)
		return r;
	if (adhoc->options->duration_ns) {
		r = add_timer(adhoc, adhoc->options->duration_ns / NS_PER_US, on_duration,
			      SD_EVENT_PRIORITY_NORMAL - 2);
		if (r < 0)
			return r;
	}
	return sd_event_loop(adhoc->event);
}
