/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/events.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

/* Its owner is the event loop from here on. */
static int leave_to_event(sd_event_source *source)
{
	int r = sd_event_source_set_floating(source, true);

	sd_event_source_unref(source);
	return r < 0 ? r : 0;
}

int events_add_timer(sd_event *event, uint64_t in_us, sd_event_time_handler_t handler,
		     int64_t priority, void *userdata, sd_event_source **ret)
{
	sd_event_source *source;
	int r;

	r = sd_event_add_time_relative(event, &source, CLOCK_MONOTONIC, in_us, 1, handler,
				       userdata);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(source, SD_EVENT_ON);
	sd_event_source_set_priority(source, priority);
	if (!ret)
		return leave_to_event(source);
	*ret = source;
	return 0;
}

int events_add_signal(sd_event *event, int number, sd_event_signal_handler_t handler,
		      void *userdata)
{
	sd_event_source *source;
	int r;

	r = sd_event_add_signal(event, &source, number | SD_EVENT_SIGNAL_PROCMASK, handler,
				userdata);
	if (r < 0)
		return r;
	r = sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IMPORTANT);
	if (r < 0) {
		sd_event_source_unref(source);
		return r;
	}
	return leave_to_event(source);
}

static bool is_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

size_t events_ending_signals(int *ret)
{
	size_t n = 0;

	ret[n++] = SIGINT;
	ret[n++] = SIGTERM;
	if (!is_ignored(SIGHUP))
		ret[n++] = SIGHUP;
	return n;
}

bool events_signal_is_ours_alone(int number, int code)
{
	return number == SIGHUP || code != SI_KERNEL;
}

int events_watch_exit(sd_event *event, pid_t pid, sd_event_io_handler_t handler, void *userdata,
		      struct session_sources *sources)
{
	sources->pidfd = pidfd_open(pid, 0);
	if (sources->pidfd < 0)
		return -errno;
	return sd_event_add_io(event, &sources->exit, sources->pidfd, EPOLLIN, handler, userdata);
}

int events_watch_ring(sd_event *event, const struct session *session, sd_event_io_handler_t handler,
		      void *userdata, struct session_sources *sources)
{
	int fd = session_fd(session);

	if (fd < 0)
		return 0;
	return sd_event_add_io(event, &sources->ring, fd, EPOLLIN | EPOLLET, handler, userdata);
}

void events_forget_ring(struct session_sources *sources)
{
	sources->ring = sd_event_source_disable_unref(sources->ring);
}

void session_sources_done(struct session_sources *sources)
{
	events_forget_ring(sources);
	sources->exit = sd_event_source_disable_unref(sources->exit);
	if (sources->pidfd >= 0)
		close(sources->pidfd);
	sources->pidfd = -1;
}
