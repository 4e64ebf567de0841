/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * One target, from attach to report.  A session is in exactly one state:
 *
 *	OPEN ──session_start──▶ PROBED    breakpoints in the target, records flow
 *	                   └──▶ WATCHED   no breakpoints (asked for, or refused): census only
 *	PROBED ─probes lost──▶ WATCHED
 *	any ────session_stop─▶ STOPPED    nothing left in the target; the report can be made
 *
 * Time is told by the caller (seconds since the session's start, from one
 * clock), so that a replay runs the same code.
 */
#ifndef PYLEAKD_SERVICE_SESSION_H
#define PYLEAKD_SERVICE_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fault.h"
#include "report/snapshot.h"
#include "service/recording.h"
#include "service/turn.h"

#define SESSION_SITES_MAX (64u << 10)
#define SESSION_CODES_MAX (64u << 10)
#define SESSION_TYPES_MAX (16u << 10)
#define SESSION_REFUSALS_MAX 32
#define SESSION_MESSAGE_BYTES 512

struct session;

/* How much of the heap is looked at; numbers stand in recordings. */
enum session_look {
	SESSION_LOOK_INTERVAL = 0, /* an interval ends */
	SESSION_LOOK_COMPLETE = 1, /* the last one: every object */
	SESSION_LOOK_EARLY = 2,	   /* before the first interval ends: not told to the judgement */
};

enum session_state { SESSION_OPEN, SESSION_PROBED, SESSION_WATCHED, SESSION_STOPPED };

struct session_options {
	bool no_probes;
	bool native; /* the C library and memory mappings too */
	bool sampled; /* in windows, under budget_ratio; otherwise everything is traced */
	double budget_ratio;
	size_t ring_bytes; /* 0: default */
	struct images *images; /* shared with other sessions; NULL: not */
	struct turn *turn; /* windows open while it is the session's; NULL: whenever they are due */
	const char *plan_cache; /* directory, or NULL: none */
	struct recording_writer *recording; /* stays the caller's; NULL: none */
};

/*
 * Opens a live process: finds its Python, confirms the layout. Nothing is put
 * into the target. On failure ret_message (SESSION_MESSAGE_BYTES) says what is
 * wrong and what to do, without a newline. -EAGAIN: Python has not started yet.
 */
int session_open(pid_t pid, const struct session_options *options, struct session **ret,
		 char *ret_message);
void session_free(struct session *session); /* stops */

/*
 * Puts the probes in, or, where they are refused or not wanted, goes on
 * without (the reasons are in the report). Fails only where nothing at all can
 * be seen.
 */
int session_start(struct session *session, char *ret_message);
/* Records end here, and all of them are taken; the probes go with session_stop(). */
void session_quiesce(struct session *session);
void session_stop(struct session *session);

/* Seconds since the sessions' start. */
struct session_clock {
	double (*now)(void *context);
	void *context;
};
/*
 * The end: a last look at the heap, where there is one to look at; records end,
 * the session stops.  Only the first call does something; the report tells of
 * that moment, or of an earlier one if the target's heap ended before.
 */
int session_finish(struct session *session, const struct session_clock *clock);
/* When that was; NAN: it was not yet. */
double session_ended_seconds(const struct session *session);
/*
 * Whether there is nothing to be seen any more, though the process may still
 * be there: its interpreter is being torn down, or it executed another program.
 */
bool session_is_over(const struct session *session);

enum session_state session_state(const struct session *session);
pid_t session_pid(const struct session *session);
const char *session_command(const struct session *session);
/* Readable when there are records; -1 without probes. */
int session_fd(const struct session *session);
/* Takes what the ring has, at most max_records (0: all). Returns how many, or -errno. */
int session_consume(struct session *session, size_t max_records);
/* What takes more than a few milliseconds is to wait: the target pays for each of them. */
bool session_window_is_open(const struct session *session);
/*
 * Does what is due: takes records, and in the sampled mode opens and closes
 * windows and looks at what lives. ret_next_seconds: when to be called again at
 * the latest, since the start; sooner does no harm.
 */
int session_step(struct session *session, double time_seconds, double *ret_next_seconds);
/*
 * To be called often: what is known of code objects is compared with the target now and then,
 * and stacks whose code objects died are asked for anew, so that what takes their addresses is
 * not taken for them.
 */
void session_refresh_stacks(struct session *session, double time_seconds);
/* Whether the target is still the process that was opened. */
bool session_target_alive(const struct session *session);
/* Children forked since the last call, up to n; returns how many. */
size_t session_children(struct session *session, pid_t *ret, size_t n);
/* Whether there were more than are kept, since the last call: nobody will be told of those. */
bool session_missed_children(struct session *session);
/* Frees children that are not followed of the breakpoints that they inherited. */
void session_release_children(struct session *session);

/*
 * Reconcile with the heap, and hand the sites' sums to the judgement.  The
 * last one comes before the probes go, since what is born without them would
 * be missed in the books.  Once the interpreter tears its heap down, the books
 * stay as they were.
 */
int session_tick(struct session *session, double time_seconds, enum session_look look);

/* Everything said so far; to be freed with snapshot_free(). */
int session_snapshot(struct session *session, double time_seconds, struct snapshot **ret);

#endif
