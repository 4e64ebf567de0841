/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What ad hoc sessions and the daemon both hang into an event loop. */
#ifndef PYLEAKD_SERVICE_EVENTS_H
#define PYLEAKD_SERVICE_EVENTS_H

#include <stdint.h>
#include <systemd/sd-event.h>

#include "service/session.h"

/*
 * A timer that stays enabled: its handler sets the next time.  ret NULL: its
 * owner is the event loop; else the caller, by sd_event_source_unref().
 */
int events_add_timer(sd_event *event, uint64_t in_us, sd_event_time_handler_t handler,
		     int64_t priority, void *userdata, sd_event_source **ret);
/* Blocked for the process, and the event loop's. */
int events_add_signal(sd_event *event, int number, sd_event_signal_handler_t handler,
		      void *userdata);

/* How a target's exit, and its records, are noticed. */
struct session_sources {
	int pidfd; /* -1: none */
	sd_event_source *exit;
	sd_event_source *ring; /* NULL without probes */
};
#define SESSION_SOURCES_NONE ((struct session_sources){.pidfd = -1})

/* *sources is SESSION_SOURCES_NONE before. -ESRCH: the process is gone already. */
int events_watch_exit(sd_event *event, pid_t pid, sd_event_io_handler_t handler, void *userdata,
		      struct session_sources *sources);
/*
 * Edge-triggered: called for what the programs find worth waking somebody for,
 * and not for every record that lies there.  Nothing where there is no ring.
 */
int events_watch_ring(sd_event *event, const struct session *session, sd_event_io_handler_t handler,
		      void *userdata, struct session_sources *sources);
/* Before the session is freed, whose ring it is. */
void events_forget_ring(struct session_sources *sources);
void session_sources_done(struct session_sources *sources);

#endif
