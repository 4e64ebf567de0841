/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which sites are on, when windows open and for how long, at a fixed price
 * (docs/governor.md).  Pure: time, measured counts and a seed are arguments.
 *
 *   groups 0..7   always on, by heat: 0 was never hit, 1..6 a decade each, 7 native
 *   groups 8..12  windows: creations, raw blocks, native, slices of lukewarm sites, the focus
 *
 * Times are seconds of one clock that never goes back; costs are seconds of the target.
 * The caller's loop: governor_step(); do what it says; tell what came of it by a note; again.
 * After each closing and every ~100 ms: governor_note_hits(), then refill each open always-on
 * group by governor_allowance().
 */
#ifndef PYLEAKD_CAPTURE_GOVERNOR_H
#define PYLEAKD_CAPTURE_GOVERNOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GOVERNOR_ALWAYS_ON_GROUPS 8
#define GOVERNOR_GROUP_CREATIONS 8
#define GOVERNOR_GROUP_RAW 9
#define GOVERNOR_GROUP_NATIVE 10
#define GOVERNOR_GROUP_SLICES 11
#define GOVERNOR_GROUP_FOCUS 12
#define GOVERNOR_GROUPS 13

#define GOVERNOR_SITES_MAX 16384
#define GOVERNOR_NOT_GOVERNED 0xff	 /* site_kinds: never opened */
#define GOVERNOR_CONSTRUCTOR_NONE 0xffff /* site_constructors: goes by itself */

struct governor_options {
	/* Of the time that the target runs, averaged over a minute; (0, 1) */
	double budget_ratio;
	double always_on_share;	     /* of the budget; 0: half */
	double window_delay_seconds; /* bound on one window's added delay; 0: 0.025 */
	double full_window_share;    /* of time in windows at full speed loss; 0: 0.006 */
	/*
	 * Of the host's time in which windows attach or detach, forks everywhere waiting for it; 0:
	 * 0.1.  governor_note_sharing() divides it among targets.
	 */
	double host_share;
	double hit_seconds; /* measured on this kernel: trap and program together; > 0 */
	/* First guess of a whole attach and detach; corrected by what is noted. 0: 15, 40 ms. */
	double attach_seconds, detach_seconds;
	size_t n_sites;
	/*
	 * enum wire_site_kind.  Opened are CREATE, ALLOC, FRESH, NATIVE_ALLOC (all of its kinds)
	 * and REALLOC_*, which go together; frees and destructions never are.  CALLER sites are
	 * always on or off; windows hold them only to learn their heat.
	 */
	const uint8_t *site_kinds;
	/* Same number, same stream: hot or cold together. NULL: each site by itself. */
	const uint16_t *site_constructors;
	/* hits/s at full speed, cached by program; NAN: not known; NULL: none is. */
	const double *known_rates;
	uint64_t seed;
};

struct governor;

/* -EINVAL: an option is out of bounds; -ENOMEM. The options' arrays are not kept. */
int governor_new(const struct governor_options *options, double now, struct governor **ret);
void governor_free(struct governor *governor);

enum governor_act { GOVERNOR_WAIT, GOVERNOR_OPEN, GOVERNOR_CLOSE };

struct governor_step {
	enum governor_act act;
	double at; /* WAIT: until then, or the next note; OPEN, CLOSE: now */
	unsigned group;
	/* OPEN: what the group holds; the governor's, valid until the next call. */
	const uint16_t *sites;
	size_t n_sites;
	uint64_t hits_max; /* OPEN: cut at either, a window by hits or time … */
	double seconds;	   /* … an always-on group by hits only (INFINITY) */
	/*
	 * Windows: the time that one stands for, and when it began.  A slice's is the round in
	 * which each lukewarm site has its turn once; missed strata are added to the next window's.
	 */
	double stratum_seconds, stratum_began;
	/* No window stands for what was before: all sites of its kind were on. */
	double active_since;
	bool learning;
	bool complete; /* all sites of its kind are in, here or in always-on groups */
};

/* What is to be done now. The same again until a note says that it was done. */
void governor_step(struct governor *governor, double now, struct governor_step *ret);

/* now: after the attach. */
void governor_note_opened(struct governor *governor, unsigned group, double now,
			  double attach_seconds);
/* The attach was refused: what was asked for is tried again later, ever more rarely. */
void governor_note_refused(struct governor *governor, unsigned group, double now);
/* now: after the detach. hits: of the group since it was opened, ragged edges too. */
void governor_note_closed(struct governor *governor, unsigned group, double now,
			  double detach_seconds, uint64_t hits, bool limited);
/* site_hits: n_sites cumulative counts, all CPUs. */
void governor_note_hits(struct governor *governor, double now, const uint64_t *site_hits);
/*
 * What else took the target's time since this was told last (growth probes: pools, brk, mmap;
 * their hits × their seconds). Before governor_note_hits(); always-on sites make room for it.
 */
void governor_note_other(struct governor *governor, double now, double seconds);
/* A group has reached its limit (WIRE_LIMIT): the next step closes it. */
void governor_note_limit(struct governor *governor, unsigned group, double now);
/* So many more samples of a site have survived: shares move to where they come from. */
void governor_note_survivors(struct governor *governor, uint16_t site, uint32_t n);

/*
 * These sites are looked at more than others from now on (what grows is made there), in windows
 * of their own that hold all of them; none: no longer.  Creation sites whose heat is known; those
 * that are always on stay so.  True: that changes something.
 */
bool governor_focus(struct governor *governor, double now, const uint16_t *sites, size_t n);

/* Everything closes and comes back after so many seconds (a fork, no headroom, frozen). */
void governor_pause(struct governor *governor, double now, double seconds);
/*
 * Nothing stays on (a target that forks often: its children inherit what is in); what was goes into
 * windows with the rest. false: the cheapest come back, as at the beginning.
 */
void governor_windows_only(struct governor *governor, double now, bool only);
/*
 * Of its time the target runs so much, as was measured lately (1: all of it, or more on several
 * threads; until told, that). One that mostly waits has as much less to lose.
 */
void governor_note_running(struct governor *governor, double share);
/* A hit costs so much now: as was measured lately in the target itself. > 0. */
void governor_note_hit_seconds(struct governor *governor, double seconds);
/* So many sessions share what windows may take of the host; until told, 1. */
void governor_note_sharing(struct governor *governor, unsigned n_sessions);
/*
 * A higher budget, of the time that the target runs, for a while: at most a minute in ten; returns
 * the seconds granted.
 */
double governor_burst(struct governor *governor, double now, double ratio, double seconds);
/* What it was for is known: it ends here. */
void governor_burst_end(struct governor *governor, double now);

/* Hits that an always-on group may have until the next governor_note_hits(). */
uint64_t governor_allowance(const struct governor *governor, unsigned group);

/* As it was, by counted hits and times: over the last minute (or what there was of it). */
double governor_overhead(const struct governor *governor, double now);
double governor_overhead_total(const struct governor *governor, double now);

/* hits/s at full speed, as measured, to be cached by program; NAN: not known. n_sites of them. */
void governor_rates(const struct governor *governor, double *ret);

/* The share of time in which a site is on, by the present plan: 1, or a window's share. */
double governor_site_duty(const struct governor *governor, uint16_t site);

struct governor_status {
	/* Sum: what is governed, but for callers that are off. */
	size_t sites_always_on, sites_lukewarm, sites_hot;
	bool learning, paused;
	double always_on_hits_per_second;
	uint64_t windows, windows_limited, windows_missed, sites_dropped;
	double full_share; /* of the last minute, in windows at full speed loss */
};
void governor_status(const struct governor *governor, double now, struct governor_status *ret);

#endif
