/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the files of the sampled mode share. */
#ifndef PYLEAKD_SERVICE_SAMPLING_PRIVATE_H
#define PYLEAKD_SERVICE_SAMPLING_PRIVATE_H

#include "capture/governor.h"
#include "capture/windows.h"
#include "cpython/glibc.h"
#include "cpython/liveness.h"
#include "ledger/samples.h"
#include "service/sampling.h"
#include "service/sampling_baseline.h"
#include "service/sampling_focus.h"
#include "service/session_private.h"

/* Among the capture's files. */
#define SAMPLING_PYTHON 0
#define SAMPLING_NATIVE 1
#define SAMPLING_FILES 2
#define SAMPLING_GROUP_NATIVE_SLICES GOVERNOR_GROUPS /* of the capture's */
#define SAMPLING_NO_GROUP UINT8_MAX
/* How often sites' hits are told to the governor. */
#define SAMPLING_COUNT_SECONDS 0.1
/* The ring is emptied at least this often. */
#define SAMPLING_IDLE_SECONDS 0.2
/* Looks at once, and how often at most. */
#define SAMPLING_LOOKS_MAX 4096
#define SAMPLING_LOOK_SECONDS 0.1
/* The judgement's name for what is resident outside of the interpreter's arenas. */
#define SAMPLING_REST_KEY (SESSION_HEAP_KEY - 1)
/* Forks come in groups: one closing is for all of them. */
#define SAMPLING_FORK_PAUSE_SECONDS 0.2
/* Growth is judged by points so far apart at most, however rarely a report is wanted. */
#define SAMPLING_ACCOUNT_SECONDS 2.0
/*
 * Code objects die unseen, and others take their addresses: which code a stack
 * is of is asked anew so often.
 */
#define SAMPLING_STACKS_SECONDS 30.0
/* Younger ones may be in flight: they count for nothing yet. */
#define SAMPLING_AGE_MIN_SECONDS 1.0
/*
 * Of the budget, what probes of new pools may take, and mappings once more: a
 * fifth of what sites that are always on may, which is half of it.
 */
#define SAMPLING_GROWTH_SHARE 0.1

/* Mappings are told whole, or not at all for a while. */
struct sampling_mappings {
	bool off;
	double counted_at, off_since, off_seconds, again_at, back_off;
	double credit;	/* seconds of the target */
	uint64_t calls; /* booked */
	uint64_t too_hot;
};

/*
 * A hit costs the target more than the trap and the program: its own code comes back to caches and
 * branch predictors that others have used.  What targets lose, against what is counted so
 * (docs/BENCHMARKS.md): 2.2 times a JSON handler, 1.5 to 2.3 a sqlite job, 1.9 to 2.5 numpy and
 * pandas.  The governor's books are of what is counted, its budget is what is left of the user's.
 */
#define SAMPLING_AFTER_RATIO 2.3

/* What a hit costs, as far as it is known. */
struct sampling_price {
	bool timed, measured;
	double since; /* timed or not; 0: never */
	uint64_t runs, run_ns; /* of the programs, when the timing began */
	double trap_seconds, program_seconds;
};

/* One opening of a group. */
struct sampling_opening {
	bool open;
	uint32_t window; /* number, 0: not a window */
	double opened;
	double stratum_seconds;
	double active_since; /* no window of its kind stands for what was before */
	double stratum_ends; /* of what it stands for; of learning windows: with them */
	bool complete, learning, limited;
	bool arming; /* its sites are in, and say nothing before arm_at */
	double arm_at, attach_seconds;
	double own_seconds; /* of the target, without what the probes took */
	double look_seconds; /* at what it saw, while its sites were still in and told */
	uint64_t hits_max;
	uint64_t hits, always_on_hits, cpu_ns; /* so far, when it was open */
};

/* Windows whose weights are corrected as more is learned of the target's pace in them. */
#define SAMPLING_WINDOWS_KEPT 64

struct sampling_kept {
	uint32_t window; /* 0: none */
	double seconds, stratum_seconds;
};

/* How far the target comes in windows of one kind; sums over them, the old ones fading. */
struct sampling_clock {
	double seconds, own_seconds; /* of the windows; of CPU, what the probes took left out */
	/* Hits of always-on sites in windows: at the usual pace, and as it was. */
	double expected_hits, hits;
	double relative_error; /* of the pace that comes of it */
	struct sampling_kept kept[SAMPLING_WINDOWS_KEPT];
	size_t n_windows;
};

struct sampling_forks {
	double a_minute; /* groups of forks lately, each counting less as it ages */
	double at;	 /* when that was counted */
	double group_began;
	uint64_t groups; /* in all */
	bool often;	 /* windows only */
	double often_since, often_seconds;
};

/* Headroom for the private copies of probed pages. */
struct sampling_room {
	bool lacks;
	double since, seconds; /* lacking now; in all, before that */
	char why[SESSION_MESSAGE_BYTES];
};

struct sampling {
	struct governor *governor;
	struct samples *samples;
	struct liveness *liveness;
	struct glibc *glibc; /* NULL: another allocator, whose blocks don't tell of their life */
	double budget_ratio;
	size_t n_python, n_sites; /* of the interpreter's plan; and with the C library's */
	uint64_t *site_hits;
	uint8_t *group_of_site; /* the governor's; SAMPLING_NO_GROUP: in none */
	struct sampling_opening openings[GOVERNOR_GROUPS];
	struct sampling_clock clocks[GOVERNOR_GROUPS];
	uint64_t started_cpu_ns; /* of the target */
	double covered_until[GOVERNOR_GROUPS]; /* windows: what the last one stands for ends here */

	uint32_t last_window, open_window;
	unsigned window_group; /* of the window that is open, or was last */
	uint64_t window_sightings_before; /* of the open window, before its detach began */
	/* In the ring: where the window began, UINT64_MAX: its sites go in; and where it closes. */
	uint64_t beginning_position;
	uint64_t closing_position; /* UINT64_MAX: it is not being closed */

	double now; /* of the present step */
	double counted_at, looked_at, accounted_at, stacks_asked_at;
	double observed_at; /* told to the judgement, last */
	bool observed;
	bool forked;   /* a child has inherited breakpoints: not yet taken care of */
	bool attached; /* some site was in, once */
	struct sampling_forks forks;
	struct sampling_room room;
	struct sampling_mappings mappings;
	struct sampling_price price;
	struct sampling_growth *growth; /* probes of what makes the heap larger */
	/* How much of its time the target runs, lately; NAN: not measured. */
	double running, running_at;
	uint64_t running_cpu_ns;
	double learned_at; /* when all always-on sites were in for the first time; 0: not yet */
	uint64_t windows;

	struct census_totals baseline, totals; /* of the pools */
	struct baseline *followed; /* NULL: too large a heap, or it could not be read */
	struct focus *focus;	   /* NULL: the heap could not be read */
	bool totals_valid;
};

/* Of live blocks, what the pools have gained since the start. */
static inline double sampling_gained_bytes(const struct sampling *sampling)
{
	return (double)sampling->totals.live_bytes - (double)sampling->baseline.live_bytes;
}

/* sampling_growth.c */
/* What is resident outside of the arenas. */
uint64_t sampling_rest_bytes(const struct session *session, const struct census_totals *totals);

/* sampling_sites.c */
int sampling_sites_init(struct session *session, struct sampling *sampling);
int sampling_make_governor(struct session *session, struct sampling *sampling);
/* All of the step's sites, or none. */
int sampling_open_sites(struct session *session, const struct governor_step *step);
/* Records flow from now on, until so many hits more; CAPTURE_SILENT: they stop. */
void sampling_refill(struct session *session, unsigned group, uint64_t hits_max);
void sampling_close_sites(struct session *session, unsigned group, struct capture_group_use *ret);
/* Of the last opening, whether it is still open or not; either file's parts together. */
void sampling_group_use(const struct session *session, unsigned group,
			struct capture_group_use *ret);
uint64_t sampling_group_hits(const struct session *session, unsigned group);
/* Into site_hits. */
int sampling_count_sites(struct session *session);

/* sampling_windows.c */
/* A window that was opened begins, if its time has come; else when that is. INFINITY: none. */
double sampling_arm(struct session *session, double now);
int sampling_open_group(struct session *session, const struct governor_step *step, double now);
void sampling_close_group(struct session *session, unsigned group, double now);
void sampling_close_all(struct session *session, double now); /* at once */
/* Other sites are in windows from now on, or in none: what the last ones stand for ends here. */
void sampling_cut_strata(struct session *session, double now);
/* The same; and windows of the focus hold other sites, and have another pace. */
void sampling_refocus(struct session *session, double now);

/* sampling_guards.c */
/* Whether breakpoints have room in the target's memory group now; if not, the report says so. */
bool sampling_has_room(struct session *session, double time_seconds);
/* The target has forked: one of a group of forks. */
void sampling_note_fork(struct session *session, double time_seconds);
/* Time passes without: cold sites come back. */
void sampling_forks_fade(struct session *session, double time_seconds);
/* Whether what has just been read of the heap is of its end, or of another program's: no answer. */
bool sampling_heap_ended(struct session *session);
void sampling_add_refusals(const struct session *session, double time_seconds,
			   struct snapshot *snapshot);

/* sampling_price.c */
/* What a hit costs until it is measured in the target, seconds. */
double sampling_price_init(struct sampling_price *price);
/* Measures it now and then, and tells the governor. */
void sampling_price_step(struct session *session, double now);

/* sampling_mappings.c */
/* What they have cost the target since this was asked last, seconds; too much turns them off. */
double sampling_mappings_count(struct session *session, double now);
void sampling_mappings_add_refusal(const struct session *session, double time_seconds,
				   struct snapshot *snapshot);

/* sampling_looks.c */
int sampling_look(struct session *session, double time_seconds, bool all);
/* At what this window, which has had its end, has seen, and nothing else. */
void sampling_look_at_window(struct session *session, uint32_t window, double time_seconds);

#endif
