/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the governor's files share: its state, and every constant with its reason. */
#ifndef PYLEAKD_CAPTURE_GOVERNOR_PRIVATE_H
#define PYLEAKD_CAPTURE_GOVERNOR_PRIVATE_H

#include "capture/governor.h"

/* --- books ---------------------------------------------------------------------------------- */

#define MINUTE 60.0
/* 121 cells of half a second: a sum over them is never over less than the last minute. */
#define CELL_SECONDS 0.5
#define CELLS 121
/* What the books allow is used to this share: a cell's grain, a hit's cost that wanders. */
#define BUDGET_USED 0.95
/* One that hardly runs has the budget of one that runs so much: a thousandth of the clock's at 1 %.
 */
#define RUNNING_MIN 0.1
/* … and so much of the clock's, if that is what it was given: a minute pays a window and a trip. */
#define BUDGET_MIN 0.0006

/* --- always on ------------------------------------------------------------------------------ */

#define NO_GROUP 0xff
#define NATIVE_SLOT 7
#define HOTTEST_SLOT 6
#define ALWAYS_ON_SHARE 0.5
/* Of a budget that windows can't use up for their latency, slices keep this share … */
#define SLICES_KEEP 0.2
/* Whatever other probes take, sites keep this part of the share. */
#define SITES_KEEP 0.1
/*
 * A caller is on if it takes at most this of what may be on: what it adds to its
 * creation's windows is exactness, where little of its type passes elsewhere, and
 * the windows would pay for it.
 */
#define CALLER_SHARE 0.02
/* In the first windows, a few ms of a slowed target, rates look so much higher. */
#define CALLER_GUESS 16
/* What is on may exceed its share so far before the hottest goes: rates wander. */
#define ALWAYS_ON_HYSTERESIS 1.25
/* … but not over a minute. */
#define ALWAYS_ON_MINUTE 1.1
/* What was on before comes back only into this share of the room that is left. */
#define RETRIAL_ROOM 0.7
/* A stage is counted so long before the next (TRIAL.md, 4: half a second). */
#define TRIAL_SECONDS 0.5
/* After the climb, so often at most: each re-trial closes and opens groups, host-wide. */
#define RETRIAL_INTERVAL 10.0
#define REGROUP_INTERVAL 60.0
#define BACK_OFF_FIRST 30.0
#define BACK_OFF_MAX 3600.0
/* Being on so long forgives one drop. */
#define FORGIVE_SECONDS 600.0
/* Rates of what is on: a mean over the first seconds, then so slow an average. */
#define RATE_SECONDS 10.0
/* After a trip the hottest are dropped until so much of the group's hits is left. */
#define TRIP_REST 0.0625
/*
 * All always-on groups together may add this share of the window's delay between
 * two refills if all turn hot at once; the other half is for the detach.
 */
#define ALLOWANCE_DELAY_SHARE 0.5
/* … or of a minute's budget, if that is less. */
#define ALLOWANCE_BUDGET_SHARE 0.1
#define ALLOWANCE_MIN 32
#define REFILL_SECONDS 0.1
/* Between openings of always-on groups: one that is hot is out before the next is in. */
#define OPENING_SPACING 0.1
#define REFUSED_FIRST 5.0
#define REFUSED_MAX 60.0

/* --- windows -------------------------------------------------------------------------------- */

#define WINDOW_DELAY 0.025
/* Plans use this much of the bound: the rest is the grain of counts and wake-ups. */
#define DELAY_USED 0.93
#define FULL_WINDOW_SHARE 0.006
/* Shorter ones are all edge; longer ones make a beat of their own, and age what they saw. */
#define WINDOW_MIN 0.002
#define WINDOW_MAX 0.1
#define SLICE_SECONDS 0.1
/* More than this share of speed lost inside is a window at full speed loss. */
#define GENTLE_LOSS 0.25
/*
 * A rate that was only seen in full windows, where the target hardly moves, is
 * a guess on the low side: it must be so low for the site to be in slices, or
 * it is tried in one, which counts it at the target's own speed.
 */
#define GUESSED_LOSS 0.1
#define TRIED_A_ROUND 1
#define SLICED_LOW_RATIO 0.2 /* what counts against what slices said */
/* Slices are filled to a loss of this: a few per cent for what is inside. */
#define SLICE_LOSS 0.05
/* A slice adds at most this delay: that of a site that alone loses more is shorter. */
#define SLICE_DELAY 0.005
#define SLICE_DELAY_MAX 0.010 /* where it was hotter than was known */
#define SLICES_STRATUM_MIN 0.4
/* No site can take more from a target than this: 17 times slower is 0.94. */
#define LOSS_MAX 0.95
/*
 * Attaching and detaching are waiting, most of it before the first site is in and behind the last
 * that is out (docs/BENCHMARKS.md, Windows): a mean for plans, and for limits what it may be.
 */
#define ATTACH_EDGE 0.05
#define DETACH_EDGE 0.05
#define DETACH_EDGE_MAX 0.2
#define ATTACH_SECONDS 0.015
#define DETACH_SECONDS 0.040
/* The daemon's own way from a limit to the detach. */
#define WAKE_SECONDS 0.0015
#define HITS_MIN 64
/* Time ends a window, not its limit, as long as its rate is at most 1/LIMIT_USED of the planned. */
#define LIMIT_USED 0.85
/* A small budget's windows are cut so that a minute pays for at least so many. */
#define WINDOWS_A_MINUTE 2.5
/* A window that can't be paid isn't looked at again sooner. */
#define PUT_OFF_MIN 0.5
/* Between two windows, of whatever kind: their delays don't add up for one request. */
#define WINDOW_SPACING 0.2
#define STRATUM_MIN 1.0
#define STRATUM_MAX 600.0
/* Windows' attaching and detaching, of all streams, take at most this share of the host's time. */
#define HOST_SHARE 0.1
/*
 * A site's attach and detach take the host's fork lock, and the mmap lock of
 * whoever maps the file, for so long (FACTS.md: 9 ms for 171 sites with one other
 * Python, 16 with 200); the rest of the time is waiting, which disturbs nobody.
 */
#define HOST_SITE_SECONDS 100e-6
#define HOST_WINDOW_SECONDS 2e-3
/* An idle target's strata grow to so many times their length. */
#define IDLE_STRETCH_MAX 16

/*
 * Learning goes round all creation sites once, in so many parts: with all of them in, a busy
 * target hardly moves, for as long as their attach and detach take (100 ms and more), and what is
 * counted is not its own pace.  A part with a hot site is cut by its hits.
 */
#define LEARNING_PARTS 8
#define LEARNING_SECONDS 0.005
#define LEARNING_HITS 4000
/* … and all of them by this share of a minute's budget: windows are to follow. */
#define LEARNING_SHARE 0.25
#define LEARNING_SPACING 0.08

/* Of the windows' budget, while something grows: the rest is the floor of all others. */
#define FOCUS_SHARE 0.7
/*
 * Of the time at full speed loss windows of the focus have as much; shorter ones, so that there
 * are some in half a minute: each is one draw.
 */
#define FOCUS_WINDOW_MAX 0.012
#define STREAM_FLOOR 0.1       /* of the windows' budget, each kind that has hot sites */
#define SURVIVORS_FORGET 0.995 /* a window */
#define BURST_SECONDS 60.0
#define BURST_INTERVAL 600.0

enum stream_kind { CREATIONS, RAW, NATIVE, SLICES, FOCUS, STREAMS };
enum purpose { ALWAYS, WINDOWS, LEARNING, OTHER, PURPOSES };

struct cell {
	int64_t index; /* time / CELL_SECONDS */
	double cost[PURPOSES];
	double full; /* seconds of windows at full speed loss */
	double budget; /* as it was; 0: not told */
};

struct account {
	double began;
	double total;
	struct cell cells[CELLS];
	/* The present burst, or the last one: [burst_from, burst_until). */
	double burst_ratio, burst_from, burst_until;
};

enum unit_state {
	UNIT_UNKNOWN, /* no order of heat yet: in windows */
	UNIT_WAITING, /* order known, was never on or did not fit */
	UNIT_ON,
	UNIT_DROPPED, /* was on and turned hot */
};

/* Sites that are hot or cold together: one constructor's, or one site. */
struct unit {
	uint8_t stream; /* enum stream_kind: of its complete windows */
	uint8_t state;
	uint8_t group; /* always-on group it belongs in, NO_GROUP: none */
	uint8_t in;    /* group that it is in now */
	uint8_t last_in;
	bool in_deck;
	bool caller;  /* always on or off: what it would show in windows, creations do */
	bool focused; /* in windows of the focus, not in slices */
	bool was_focused;
	uint8_t part; /* of the learning */
	uint32_t members, n_members;
	double rate;  /* hits/s at full speed; NAN: not known */
	bool counted; /* the rate is counted at real speed, not guessed in windows */
	bool sliced;  /* or nearly so, in a slice */
	double counted_seconds, on_since, retry_at;
	uint64_t delta;	      /* since the last note */
	uint64_t window_hits; /* of the window that closed last, or is open */
	double recent;	      /* hits lately, for finding offenders */
	uint32_t windows_seen;
	uint32_t drops;
};

struct group {
	bool open, dirty, tripped, learning;
	double opened_at, closes_at, not_before;
	double last_trip;  /* or long ago */
	double limited_at; /* told by governor_note_limit(); 0: not */
	uint64_t seen;	   /* hits since it was opened that governor_note_hits() told of */
	uint32_t refusals;
	uint16_t *sites; /* of the last opening */
	size_t n_sites;
};

/* A kind of window: strata one after the other, a window in each. */
struct stream {
	bool active, planned, done;
	double active_since; /* before that all its sites were on */
	double share; /* of the windows' budget */
	double survivors;
	double began, seconds, at; /* the stratum, and its window's opening */
	double missed_seconds;
	double length;
	double loss;	       /* planned: share of speed lost inside */
	double loss_seen;      /* of the window that closed last */
	double cost, cost_max; /* planned, and at its worst */
	uint64_t hits_max;
	double cost_seen; /* average of what windows cost */
	double attach_seconds, detach_seconds;
	uint32_t idle_stretch;
	uint64_t windows;
	/* The window that closed last, until its hits are told by governor_note_hits(). */
	bool to_tell;
	double own_seconds;
	/* SLICES: the deck, and where its slices begin. */
	uint32_t *deck;
	size_t n_deck, deck_at, deck_end;
	size_t n_slices, slice;
	double deck_began;
};

struct governor {
	double budget;	       /* of the clock's time, by how much of it the target runs */
	double budget_running; /* of that */
	double always_on_share, delay, full_share, host_share, hit;
	unsigned n_sharing; /* host_share */
	size_t n_sites, n_units;
	uint16_t *unit_of; /* site → unit, 0xffff: not governed */
	uint16_t *members; /* sites by unit */
	uint64_t *last_hits;
	struct unit *units;
	uint32_t *order; /* scratch: unit indices */
	struct group groups[GOVERNOR_GROUPS];
	struct stream streams[STREAMS];
	struct account account;
	uint64_t random;
	double began, last_note, paused_until;
	double other_loss, other_noted; /* of other probes: their share of the target's time */
	double last_trip, next_opening;
	double quiet_until;	/* no window opens before */
	double ahead[PURPOSES]; /* hits booked at a closing that a note will tell again */
	double last_cost;	/* booked since the last note */
	double trial_until, next_regroup;
	bool climbing;
	bool windows_only;
	uint32_t learning_left;
	double learning_at;
	uint64_t windows, windows_limited, windows_missed, sites_dropped;
};

/* --- governor_account.c --------------------------------------------------------------------- */

void account_book(struct account *account, double now, enum purpose purpose, double cost);
void account_book_full(struct account *account, double now, double seconds);
double account_spent(const struct account *account, double now, enum purpose purpose);
double account_full(const struct account *account, double now);
double account_budget(const struct account *account, double now, double base);
/* What the budget is now; the last minute's is the mean of what it was. */
void account_note_budget(struct account *account, double now, double budget);
double account_base(const struct account *account, double now, double base);
/* What the last minute's budget was, in seconds of the target. */
double account_allowed(const struct account *account, double now, double base);

/* --- governor_units.c ----------------------------------------------------------------------- */

int units_make(struct governor *governor, const struct governor_options *options);
double units_on_rate(const struct governor *governor);
/* hits/s that may be on all the time. */
double units_on_rate_allowed(const struct governor *governor);
bool unit_is_lukewarm(const struct governor *governor, const struct unit *unit);
double trip_cost(const struct governor *governor);
bool trip_can_be_paid(const struct governor *governor, double now);
/* More sites may come on: what that may cost is there. */
bool admission_can_be_paid(const struct governor *governor, double now);
void units_admit(struct governor *governor, double now);
void units_trim(struct governor *governor, double now);
void units_after_trip(struct governor *governor, unsigned group, double now);
void unit_drop(struct governor *governor, struct unit *unit, double now);
/* Sites of an always-on group as it should be, into its array. */
void group_fill_always_on(struct governor *governor, unsigned group);

/* --- governor_status.c ---------------------------------------------------------------------- */

/* Seconds of delay that all always-on groups may add between two refills. */
double allowance_delay(const struct governor *governor);
/* Hits that a group's sites are expected to have between two refills. */
double expected_hits(const struct governor *governor, unsigned group);

/* --- governor_windows.c --------------------------------------------------------------------- */

double governor_random(struct governor *governor); /* [0, 1) */
/* Returns what the window cost, hits that were told already included. */
double stream_note_closed(struct governor *governor, struct stream *stream, double now,
			  double open_seconds, double silent_seconds, uint64_t hits, bool limited);
void streams_note_hits(struct governor *governor);
void streams_share(struct governor *governor);
void streams_cut(struct governor *governor, double now);
void streams_pause(struct governor *governor, double until);
/* The window that is due, or the time of the next. */
void streams_step(struct governor *governor, double now, struct governor_step *ret);
double stream_edge_seconds(const struct stream *stream);
void group_add_unit(const struct governor *governor, struct group *group, const struct unit *unit);
double stream_loss_of_rate(const struct governor *governor, double rate);
double stream_length_before_limit(const struct governor *governor, const struct stream *stream,
				  double used);
void stream_plan_length(struct governor *governor, enum stream_kind kind);
void stream_limit_hits(const struct governor *governor, struct stream *stream);

/* --- governor_slices.c ---------------------------------------------------------------------- */

void stream_plan_slice(struct governor *governor, double began);
void stream_plan_focus(struct governor *governor);
/* Learning is for creation sites whose heat no cache knows. */
void learning_plan(struct governor *governor, double now);
/* The next part, where its time has come. */
void learning_step(struct governor *governor, double now, struct governor_step *ret);
void learning_closed(struct governor *governor, double now);

#endif
