/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What ad hoc sessions and the daemon both hang into an event loop. */
#ifndef PYLEAKD_SERVICE_EVENTS_H
#define PYLEAKD_SERVICE_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
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

/*
 * Signals at which a session ends with its report, into ret (EVENTS_ENDING_MAX);
 * returns how many.  SIGHUP, a terminal's end, is one of them unless it is
 * ignored: then whoever started us (nohup) wants us to outlive the terminal.
 * A blocked signal is queued even where it is ignored, so that must be asked.
 */
#define EVENTS_ENDING_MAX 3
size_t events_ending_signals(int *ret);

/*
 * Whether a command of ours has to be sent it too.  A terminal's Ctrl-C reaches
 * its whole foreground group; its end reaches the leader of the session alone
 * (tty_signal_session_leader(), drivers/tty/tty_jobctrl.c, 6.18).
 */
bool events_signal_is_ours_alone(int number, int code);

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
