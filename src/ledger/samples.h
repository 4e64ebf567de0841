/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What sampled sightings say is outstanding, by stack.  Pure: no system call,
 * no clock, no log; time, randomness and what was read of the target are
 * arguments.
 *
 *	samples_see ──► candidate ──guard──► looked at ──► sample ──► looked at again
 *	  │ newer one at     │ too young at     │ dead, re-used,      after 1, 2, 4 … 60 s
 *	  ▼ the address      ▼ the detach       ▼ parked
 *	 gone               gone               gone         counted in samples_totals
 *
 * A candidate is an address that was seen; a sample is one at which something
 * lived when the heap was read, with a fingerprint that each later look is
 * compared by.  Both hang on one table, address → slot.
 *
 * Weights.  A sample counts 2^level times its window's weight; one of an
 * always-on site counts 2^level.  The level is 0 until there are more than the
 * limits allow: then half of those of the stack that has most, drawn at
 * random, go, and the level of the others rises by one, so that no sum changes
 * in the mean.  Likewise two old windows become one where there are too many.
 *
 * Displacement.  Where a type is made at other sites too, which are not in, what
 * one site shows may stand for an object that another one made at the same
 * address (docs/estimator.md).  So a sighting counts only where the sites that
 * make its type were all in: by itself, with weight 1, where all of them are
 * always on, and else from a window that held those that are not, with its
 * weight.  Which sites make a type is learned from complete windows.
 *
 * Finer sites.  Where all objects pass one site, which is hot, a constructor's
 * callers may be always on, each for what is made through it.  Their sightings
 * are second ones of an object that the hot site, if it is in, has shown just
 * before: they take its place, and its count among the type's makers, so that
 * what is left at the hot site is what passes no caller that is on.
 *
 * Windows that are not complete ("slices") go round some sites in turn.  A type
 * that is made at sites of one slice counts from slices alone as long as those
 * go on, the others from complete windows alone: from both it would count twice.
 */
#ifndef PYLEAKD_LEDGER_SAMPLES_H
#define PYLEAKD_LEDGER_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sample_tier {
	SAMPLE_ALWAYS_ON, /* the site is attached all the time */
	SAMPLE_WINDOW,    /* the site is attached in windows only */
};

/* The same numbers as enum liveness_kind. */
enum sample_kind { SAMPLE_OBJECT, SAMPLE_POOL_BLOCK, SAMPLE_CHUNK };

enum sample_answer {
	SAMPLE_LIVE, /* with the fingerprint that was given, if there was one */
	SAMPLE_CHANGED, /* with another one, which does not prove another object */
	SAMPLE_DEAD,
	SAMPLE_REUSED,
	SAMPLE_PARKED,
	SAMPLE_ZOMBIE,
	SAMPLE_UNKNOWN,
};

struct samples;

/*
 * Memory: 64 bytes a slot and 17 a cell of the table; with the defaults at most
 * 4.1 MiB of samples, 2.1 of stacks, types and sites, 0.6 of windows a target, taken as
 * they are needed (samples_totals() says how much it is).
 */
#define SAMPLES_DEFAULT 32768u
#define SAMPLES_CANDIDATES_DEFAULT 16384u
#define SAMPLES_STACKS_DEFAULT 16384u
#define SAMPLES_TYPES_MAX 4096u
#define SAMPLES_WINDOWS_MAX 8192u /* with living samples, at once */

struct samples_limits {
	size_t max_samples, max_candidates; /* 0: the defaults; together below 2^24 */
	size_t max_stacks; /* 0: the default; sightings of further ones are refused, counted */
	uint64_t seed; /* of what is thinned */
};

/* limits NULL: defaults. 0, or -ENOMEM; -EINVAL: limits beyond the bounds. */
int samples_new(const struct samples_limits *limits, struct samples **ret);
void samples_free(struct samples *samples);

/* One hit. */
struct sighting {
	uint64_t address; /* of the object, or the block; 0 is ignored */
	uint64_t stack; /* the caller's key, any number */
	uint64_t type; /* ob_type at the hit; 0: none */
	uint64_t size_bytes; /* 0: not known */
	uint16_t site;
	enum sample_kind kind;
	enum sample_tier tier;
	uint32_t window; /* that is open, whatever the site's tier; 0: none */
	double time; /* seconds since the session began */
	/* The object that was seen at the address last, once more, at a site that fewer pass. */
	bool refines;
};

/*
 * Whatever lived at the address before is dead.  Never fails: what can't be
 * kept is counted.  A window's first sighting opens it; there may be several
 * open at once.  Window numbers are never used again; what comes after the
 * window's end still ends what lived at the address.
 */
void samples_see(struct samples *samples, const struct sighting *sighting);
/* A free seen at the address (where frees are probed). */
void samples_free_seen(struct samples *samples, uint64_t address);

struct window_facts {
	uint32_t window; /* not 0 */
	double opened, closed;
	/* The target's progress (docs/estimator.md) from the opening to the START of the detach. */
	double progress;
	/* The same of the whole stratum; 0: to be told later by samples_window_weight(). */
	double stratum_progress;
	/* How many of the window's sightings samples_see() had been given by then. */
	uint64_t sightings_before_detach;
	uint8_t stream; /* below SAMPLES_STREAMS */
	bool complete; /* all sites that make this kind of block were attached */
	/*
	 * One of several in which each site is once: they tell who makes what, by their progress,
	 * and nothing else.
	 */
	bool learning;
};

/*
 * Windows that go round together, each of which could have seen the same kind of
 * block: for objects one stream, for raw blocks another, for the C library's a
 * third.  The strata of one stream are disjoint and have one window each.
 * Windows that are not complete are best a stream of their own.
 */
#define SAMPLES_STREAMS 5

#define SAMPLES_GUARD_SHARE 10 /* the last of so many sightings is too young */

#define SAMPLES_SITES_MAX 16384

enum sample_site { SAMPLE_SITE_OFF, SAMPLE_SITE_WINDOW, SAMPLE_SITE_ALWAYS };
/*
 * A site went in or out. Until it is told of any, a site is taken to be what its
 * last sighting's tier says. Sites from SAMPLES_SITES_MAX on are ignored.
 */
void samples_site_is(struct samples *samples, uint16_t site, enum sample_site state);

/*
 * A window's end.  Its candidates that are younger, in sightings, than a tenth
 * of those before the detach, rounded up, are gone: they may have been in
 * flight.  The others are due for their look at once.  The weight, where the
 * stratum is known already, becomes stratum_progress / progress, as by
 * samples_window_weight().  0; -EINVAL: the window is over already, or 0, or its
 * stream is none; -ENOSPC: there is no room for it, and it has no candidates.
 */
int samples_window_end(struct samples *samples, const struct window_facts *facts);
/*
 * Sets a window's weight: 1 / the probability that what was made in its stratum
 * was in the window.  What the guard took is put on top of it: of n sightings
 * that left k, n / k.  Until a weight is known its samples are in no sum.  May be
 * corrected any time; forgotten windows are ignored.
 */
void samples_window_weight(struct samples *samples, uint32_t window, double weight);

#define SAMPLE_WORDS 3

/* What is to be looked at. */
struct sample_due {
	uint64_t address, type, fingerprint[SAMPLE_WORDS];
	uint64_t handle;
	enum sample_kind kind;
	bool has_fingerprint;
	uint8_t size_class; /* with a fingerprint */
};

/*
 * Those whose time has come, at most max.  Call it until it gives less, with
 * samples_looked() in between: it only takes answers to the last call.
 */
size_t samples_due(struct samples *samples, double time, struct sample_due *ret, size_t max);
/* The same of candidates of a window that has had its end, and of nothing else; of no window: 0. */
size_t samples_due_of_window(struct samples *samples, uint32_t window, double time,
			     struct sample_due *ret, size_t max);
/* All samples are to be looked at now, whatever their time. */
void samples_make_due(struct samples *samples, double time);
/* When the next becomes due, a lower bound; INFINITY: none. */
double samples_next_due(const struct samples *samples);

struct sample_seen {
	uint64_t handle;
	enum sample_answer answer;
	/* Where it is SAMPLE_LIVE or SAMPLE_ZOMBIE: */
	uint64_t type, fingerprint[SAMPLE_WORDS];
	uint64_t size_bytes, buffer_bytes; /* kept in steps of 8 */
	uint8_t size_class; /* of the block in the pools; SAMPLES_CLASS_NONE: in none */
};
#define SAMPLES_CLASS_NONE 127 /* a chunk of the C library, a mapping */
#define SAMPLES_CLASS_BUFFERS 126 /* in sums: what objects own, too large for the pools */
#define SAMPLES_CLASSES 128

/* A candidate without a definite answer is gone; a sample keeps its place and counts as unknown. */
void samples_looked(struct samples *samples, double time, const struct sample_seen *seen, size_t n);

/* The sites that make a type, as far as complete windows have told. */
#define SAMPLES_MAKERS_MAX 16 /* of a type: sites beyond these are of no weight */
size_t samples_type_makers(const struct samples *samples, uint64_t type,
			   uint16_t ret[static SAMPLES_MAKERS_MAX]);
/* Is more than MIXED_RATIO of the type made at sites that are not always on, as far as is known? */
bool samples_type_is_mixed(const struct samples *samples, uint64_t type);
#define SAMPLES_MIXED_RATIO 0.2
#define SAMPLES_MIXED_SIGHTINGS_MIN 8
/*
 * The same where finer sites make the type: what passes none of them needn't be
 * hot, so that a small part of the type may be all that leaks of it.
 */
#define SAMPLES_FINER_RATIO 0.02

struct samples_totals {
	uint64_t sightings;
	uint64_t refused_sightings; /* no room for their stack or window, or no memory */
	uint64_t replaced, freed; /* candidates and samples: a newer sighting, a free */
	uint64_t too_young; /* candidates that the guard took */
	uint64_t other_windows; /* candidates that windows of the other kind tell of */
	uint64_t became_samples;
	uint64_t dead, reused, parked, unknown; /* answers */
	uint64_t displaced; /* not kept: of a mixed type, outside complete windows */
	uint64_t thinned; /* candidates and samples */
	uint64_t windows, complete_windows, merged_windows;
	size_t candidates, samples, zombies, unknown_now; /* now */
	size_t memory_bytes;
};
void samples_totals(const struct samples *samples, struct samples_totals *ret);

/* --- sums: what lives now ---------------------------------------------------------------------
 * All are computed when asked for, in O(n log n) of the samples, into memory
 * that is the caller's to free().  0, or -ENOMEM.
 */
struct samples_query {
	double time; /* now */
	double min_age_seconds; /* younger ones don't count */
	bool at_rest; /* only those that were found unchanged at their last look */
	bool zombies; /* only those with a reference count of 0; otherwise only the others */
};

/*
 * What of one stack, size class and window lives.  count, bytes: of the samples
 * themselves.  expanded_*: with the levels' weights, without the window's.
 */
struct samples_cell {
	uint64_t stack;
	/* Own blocks, and small ones that they own; SAMPLES_CLASS_BUFFERS: larger ones. */
	uint8_t size_class;
	uint8_t stream; /* the window's */
	uint32_t window; /* 0: always-on, of weight 1 */
	uint32_t ordinal; /* the window's place among its stream's, from 0 */
	uint32_t count; /* 0 for buffers */
	double weight; /* the window's; 1 */
	double expanded_count, expanded_bytes;
	/* Of expanded_bytes, Σ w (w − 1) bytes²: 0 while nothing was thinned. */
	double thinning_variance;
};
/* In the order of stack, class, window. */
int samples_cells(const struct samples *samples, const struct samples_query *query,
		  struct samples_cell **ret, size_t *ret_n);

struct samples_type_sum {
	uint64_t stack, type;
	uint32_t count;
	double estimated_count, estimated_bytes, estimated_buffer_bytes; /* with all weights */
};
/* In the order of stack, then estimated bytes, falling. */
int samples_types(const struct samples *samples, const struct samples_query *query,
		  struct samples_type_sum **ret, size_t *ret_n);

#define SAMPLES_SLICES 16

/* When those that live were made. */
struct samples_cohorts {
	uint64_t stack;
	uint32_t counts[SAMPLES_SLICES]; /* the session in equal slices, oldest first */
	uint32_t always_on[SAMPLES_SLICES]; /* of these, of no window */
	double estimated_counts[SAMPLES_SLICES]; /* with all weights */
	uint32_t count;
	double oldest_seconds; /* age */
	/* Seconds: when the sites that made them came in, to be seen, and when the last was in. */
	double since, until;
	double older_half_ratio; /* share made in the older half of the session, by count */
};
int samples_cohorts(const struct samples *samples, const struct samples_query *query,
		    struct samples_cohorts **ret, size_t *ret_n);

/* Windows of the stream that ended since the session began; their ordinals are below. */
uint32_t samples_stream_windows(const struct samples *samples, unsigned int stream);

#endif
