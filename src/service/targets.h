/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The daemon's targets: the Python processes of this host, each with a session.
 *
 *	     scan                 opened                  grows
 *	(process) ──▶ NEW ────────────────▶ WATCHED ─────────────▶ SAMPLED
 *	               │ can't be read         ▲  ▲  nothing grew for `calm`  │
 *	               ▼                       │  └───────────────────────────┘
 *	           UNREADABLE ─ tried again ───┘  probes refused: WATCHED, with the reason
 *
 * A target goes with its process.  What takes long (opening a process, a
 * census) is done one at a time, by targets_work(), and while no window is open.
 */
#ifndef PYLEAKD_SERVICE_TARGETS_H
#define PYLEAKD_SERVICE_TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "report/snapshot.h"
#include "service/config.h"
#include "service/events.h"
#include "service/pace.h"
#include "service/programs.h"
#include "service/retained.h"
#include "service/session.h"
#include "target/images.h"
#include "target/place.h"
#include "target/process.h"

enum target_state { TARGET_NEW, TARGET_WATCHED, TARGET_SAMPLED, TARGET_UNREADABLE };
#define TARGET_STATES 4
const char *target_state_name(enum target_state state); /* "new", "watch", "sampled", … */

struct target {
	struct process_id id;
	char command[PROCESS_NAME_MAX];
	struct place place;
	enum target_state state;
	char reason[SESSION_MESSAGE_BYTES]; /* why not more than that; "": nothing to say */
	struct program *program;	    /* the programs' */
	struct program_share share;

	struct session *session; /* NULL: NEW, UNREADABLE */
	struct session_sources sources;
	double began;			      /* the session; all times are seconds of the daemon */
	double step_at;			      /* of a sampled session */
	double work_at;			      /* an opening, or the next census */
	double calm_since;		      /* nothing grows since */
	double stepped_seconds, told_seconds; /* of the session: its last step, and account */
	struct pace pace;		      /* our own CPU that goes to it */
	unsigned failures;
	bool probes_refused; /* by a guard: not tried before probes_at */
	double probes_at;
	uint64_t refusal_logged; /* a hash of what; 0: none */

	struct snapshot *snapshot;    /* of the last census; NULL: none yet */
	bool snapshot_ended;	      /* its session is over, and its counters kept */
	double time_to_limit_seconds; /* of its control groups; INFINITY: none in sight */
	struct retained retained;
	double census_seconds; /* CPU that the last look took */
	double pause_seconds;  /* from one to the next */
};

/* What ended sessions have seen: counters never go back. */
struct targets_counters {
	uint64_t events, losses[400]; /* by enum reason */
};

struct programs;

struct targets {
	sd_event *event;
	const struct config *config;
	const char *plan_cache;
	struct turn turn;
	struct images *images;
	struct scan *scan;
	struct programs *programs;
	struct target **items; /* ascending by pid */
	size_t n, room;
	size_t n_scans;
	uint64_t over; /* Pythons beyond max-targets, or memory, at the last scan */
	bool full;     /* our own memory is at its limit: nothing more is opened */
	struct targets_counters ended;
	sd_event_source *step; /* the timer of sampled sessions */
	uint64_t started_ns;
};

/* config stays the caller's, and may change between two calls. */
int targets_new(sd_event *event, const struct config *config, struct targets **ret);
/* Nothing is left in any process. */
void targets_free(struct targets *targets);

double targets_now(const struct targets *targets);
/* Processes that came, and those that went. */
int targets_scan(struct targets *targets);
/*
 * The one piece of work that is most overdue, if any.  Returns in how many
 * seconds to be called again.
 */
double targets_work(struct targets *targets);
struct target *targets_find(const struct targets *targets, pid_t pid);
size_t targets_count(const struct targets *targets, enum target_state state);
/* Whether our own CPU is at its limit with the target: looks come more rarely. */
bool target_is_paced(const struct targets *targets, const struct target *target);
size_t targets_count_paced(const struct targets *targets);
/* Whether every Python that the first scan found was tried. */
bool targets_ready(const struct targets *targets);

#endif
