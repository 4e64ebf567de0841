/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which processes are targets, and which of them is worked on next. */
#include "service/targets.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "report/snapshot_build.h"
#include "service/plan_cache.h"
#include "service/programs.h"
#include "service/scan.h"
#include "service/targets_private.h"

#define ANCESTORS_MAX 64
/* Work waits for windows to close, in steps of a few ms, but not for ever. */
#define WINDOW_WAIT_SECONDS 0.005
#define OVERDUE_SECONDS_MAX 5.0
#define IDLE_SECONDS 1.0

DEFINE_CLEANUP(struct targets *, targets_free)

const char *target_state_name(enum target_state state)
{
	static const char *const names[TARGET_STATES] = {
		[TARGET_NEW] = "new",
		[TARGET_WATCHED] = "watch",
		[TARGET_SAMPLED] = "sampled",
		[TARGET_UNREADABLE] = "unreadable",
	};

	return names[state];
}

double targets_now(const struct targets *targets)
{
	return (double)(clock_monotonic_ns() - targets->started_ns) / NS_PER_SECOND;
}

/* --- the list --- */

/* Where pid is, or would be. */
static size_t place_in_list(const struct targets *targets, pid_t pid)
{
	size_t low = 0, high = targets->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (targets->items[middle]->id.pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct target *targets_find(const struct targets *targets, pid_t pid)
{
	size_t at = place_in_list(targets, pid);

	return at < targets->n && targets->items[at]->id.pid == pid ? targets->items[at] : NULL;
}

static void target_free(struct targets *targets, struct target *target)
{
	target_close(targets, target);
	if (target->program)
		programs_leave(targets->programs, target->program, targets_now(targets));
	program_share_done(&target->share);
	snapshot_free(target->snapshot);
	session_sources_done(&target->sources);
	free(target);
}

void targets_remove(struct targets *targets, struct target *target)
{
	size_t at = place_in_list(targets, target->id.pid);

	target_free(targets, target);
	targets->n--;
	memmove(targets->items + at, targets->items + at + 1,
		(targets->n - at) * sizeof(*targets->items));
}

static int insert(struct targets *targets, struct target *target)
{
	size_t at = place_in_list(targets, target->id.pid);

	if (targets->n == targets->room) {
		size_t room = targets->room ? 2 * targets->room : 16;
		struct target **items = reallocarray(targets->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		targets->items = items;
		targets->room = room;
	}
	memmove(targets->items + at + 1, targets->items + at,
		(targets->n - at) * sizeof(*targets->items));
	targets->items[at] = target;
	targets->n++;
	return 0;
}

/* --- scanning --- */

static int on_exit_of_target(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct targets *targets = userdata;

	(void)fd;
	(void)events;
	for (size_t i = 0; i < targets->n; i++)
		if (targets->items[i]->sources.exit == source) {
			targets_remove(targets, targets->items[i]);
			break;
		}
	return 0;
}

static bool is_descendant_of_target(const struct targets *targets, pid_t pid)
{
	struct process_stat stat;

	for (size_t i = 0; i < ANCESTORS_MAX && process_stat(pid, &stat) == 0; i++) {
		pid = stat.parent;
		if (pid <= 1)
			return false;
		if (targets_find(targets, pid))
			return true;
	}
	return false;
}

/* 0: it is none, or went meanwhile. */
static int add_process(struct targets *targets, pid_t pid)
{
	_cleanup_free_ struct target *target = calloc(1, sizeof(*target));
	int r;

	if (!target)
		return -ENOMEM;
	target->sources = SESSION_SOURCES_NONE;
	target->work_at = targets_now(targets);
	pace_init(&target->pace, target->work_at, targets_cpu_ratio(targets));
	if (process_identify(pid, &target->id) < 0 || place_of(pid, &target->place) < 0 ||
	    process_display_name(pid, target->command) < 0)
		return 0;
	if (!config_wants(targets->config, target->command))
		return 0;
	if (!targets->config->options.subprocesses && is_descendant_of_target(targets, pid))
		return 0;
	if (targets->n >= targets->config->max_targets || targets->full) {
		targets->over++;
		return 0;
	}
	r = events_watch_exit(targets->event, pid, on_exit_of_target, targets, &target->sources);
	if (r == 0)
		r = insert(targets, target);
	if (r < 0) {
		session_sources_done(&target->sources);
		return r == -ESRCH ? 0 : r;
	}
	TAKE_PTR(target);
	return 0;
}

/* Those that another program took the place of, or that the configuration wants no more. */
static void drop_gone(struct targets *targets)
{
	for (size_t i = targets->n; i-- > 0;) {
		struct target *target = targets->items[i];

		if (!process_is_alive(&target->id) ||
		    !config_wants(targets->config, target->command))
			targets_remove(targets, target);
	}
}

/* What is held stays; nothing is added until it has become less. */
static void look_at_own_memory(struct targets *targets)
{
	struct process_memory memory;
	bool was_full = targets->full;

	if (process_memory(getpid(), &memory) < 0)
		return;
	targets->full = memory.resident_bytes > targets->config->memory_bytes;
	if (targets->full && !was_full)
		log_warning("pyleakd's own memory is at its limit, no more processes are opened: "
			    "raise \"memory\" in the configuration, or exclude some");
}

int targets_scan(struct targets *targets)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r;

	look_at_own_memory(targets);
	drop_gone(targets);
	targets->over = 0;
	r = scan_run(targets->scan, targets_now(targets), &pids, &n);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (!targets_find(targets, pids[i]))
			r = add_process(targets, pids[i]);
	targets->n_scans++;
	programs_expire(targets->programs, targets_now(targets));
	return r;
}

/* --- working --- */

static void work_on(struct targets *targets, struct target *target)
{
	if (target->session)
		target_look(targets, target);
	else
		target_open(targets, target);
}

double targets_work(struct targets *targets)
{
	struct target *next = NULL;
	double now = targets_now(targets);

	for (size_t i = 0; i < targets->n; i++)
		if (!next || targets->items[i]->work_at < next->work_at)
			next = targets->items[i];
	if (!next)
		return IDLE_SECONDS;
	if (next->work_at > now)
		return fmin(next->work_at - now, IDLE_SECONDS);
	/* A window would stay open for as long as this takes. */
	if (targets->turn.holder && now - next->work_at < OVERDUE_SECONDS_MAX)
		return WINDOW_WAIT_SECONDS;
	work_on(targets, next);
	return 0;
}

size_t targets_count(const struct targets *targets, enum target_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < targets->n; i++)
		n += targets->items[i]->state == state;
	return n;
}

bool targets_ready(const struct targets *targets)
{
	return targets->n_scans > 1 ||
	       (targets->n_scans == 1 && targets_count(targets, TARGET_NEW) == 0);
}

/* --- the whole --- */

static int on_step(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct targets *targets = userdata;
	int r;

	(void)source;
	(void)usec;
	r = targets_step(targets);
	return r < 0 ? sd_event_exit(targets->event, r) : 0;
}

int targets_new(sd_event *event, const struct config *config, struct targets **ret)
{
	CLEANUP(targets_free) struct targets *targets = calloc(1, sizeof(*targets));
	int r;

	if (!targets)
		return -ENOMEM;
	targets->event = sd_event_ref(event);
	targets->config = config;
	targets->plan_cache = plan_cache_directory();
	targets->started_ns = clock_monotonic_ns();
	r = programs_new(&targets->programs);
	if (r == 0)
		r = images_new(&targets->images);
	if (r == 0)
		r = scan_new(&targets->scan);
	if (r < 0)
		return r;
	r = events_add_timer(event, 0, on_step, SD_EVENT_PRIORITY_NORMAL - 1, targets,
			     &targets->step);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(targets);
	return 0;
}

void targets_free(struct targets *targets)
{
	if (!targets)
		return;
	for (size_t i = 0; i < targets->n; i++)
		target_free(targets, targets->items[i]);
	free(targets->items);
	programs_free(targets->programs);
	images_free(targets->images);
	scan_free(targets->scan);
	sd_event_source_disable_unref(targets->step);
	sd_event_unref(targets->event);
	free(targets);
}
