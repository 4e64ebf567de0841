/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a report says, once: an immutable snapshot of a session that every
 * format prints.  Strings are the snapshot's own (one arena inside it).
 * Unknown is not zero: see the fields' comments.
 */
#ifndef PYLEAKD_REPORT_SNAPSHOT_H
#define PYLEAKD_REPORT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/reasons.h"
#include "judge/judge.h"

struct snapshot_frame {
	const char *function; /* qualified name */
	const char *file;
	uint32_t line; /* 0: unknown */
};

struct snapshot_type {
	const char *name;
	uint64_t objects;
	uint64_t bytes;
};

/* What a sampled site's estimate and verdict rest on. */
struct snapshot_evidence {
	uint64_t survivors; /* samples that live */
	uint64_t windows;   /* of those, that they came from */
	uint64_t new_pools, new_pool_bytes; /* it needed at addresses that were never pools */
	uint64_t breaks, break_bytes;	    /* new maxima of the break, by its calls */
	uint64_t mapped_bytes;		    /* that it mapped, outstanding; exact */
	uint64_t growth_bytes; /* of the estimate, what pools and break tell, and no sample */
};

struct snapshot_site {
	uint64_t id; /* of qualified names and files */
	enum verdict verdict;
	uint64_t outstanding_bytes, outstanding_objects;
	double growth_bytes_per_second, growth_low, growth_high;
	bool estimated; /* outstanding_* are estimates; otherwise exact, and the interval a point */
	uint64_t outstanding_low, outstanding_high; /* bytes, 95 % */
	double confidence_ratio;
	const char *domain; /* "object", "mem", "raw", "native" */
	size_t n_types;
	const struct snapshot_type *types; /* most bytes first */
	size_t n_frames;
	const struct snapshot_frame *frames; /* leaf first; none: no Python frame */
	bool cut;			     /* the stack was deeper */
	bool other;			     /* the merged rest */
	bool zombies; /* not the site's objects that live, but those whose deallocator ran */
	struct snapshot_evidence evidence; /* where it is estimated */
	/*
	 * A leak is a set of lines: those of one finding have the same number (0: it stands by
	 * itself), and one of them is the head. finding is the head's id, or the site's own;
	 * snapshot_finish() gives it.
	 */
	uint32_t finding_number;
	bool finding_head;
	uint64_t finding;
};

/* Of which moment the report is. */
enum snapshot_moment {
	MOMENT_SESSION_END, /* the target ran on */
	MOMENT_FINALIZATION, /* the interpreter was about to tear its heap down */
	MOMENT_EXIT, /* the process ended otherwise: killed, or by os._exit() */
	MOMENT_EXEC, /* it went on as another program */
	SNAPSHOT_MOMENTS
};

/* As the JSON report has it; static. */
const char *snapshot_moment_key(enum snapshot_moment moment);
/* As the text has it, behind "as of"; NULL for the session's end. */
const char *snapshot_moment_sentence(enum snapshot_moment moment);

struct snapshot_refusal {
	const char *what;
	const char *why;
	uint64_t count;
};

struct snapshot_loss {
	enum reason reason;
	uint64_t count;
};

struct snapshot {
	int32_t pid;
	const char *command;
	const char *python;    /* "3.11.2" */
	double target_started; /* seconds since the epoch */
	const char *mode;      /* "exact", "sampled", "watch" */
	enum snapshot_moment moment;
	double reconciled_seconds; /* when the heap was last read, after the start; NAN: never */
	double session_started, duration_seconds;
	double budget_ratio;   /* of the sampled mode; NAN: there is none */
	double overhead_ratio; /* NAN: not measured */
	uint64_t windows;      /* of the sampled mode, that were opened */
	uint64_t events, events_lost;
	double coverage_ratio; /* NAN: not known */
	uint64_t resident_bytes, python_live_bytes, python_live_blocks;
	double python_growth_bytes_per_second;
	uint64_t native_live_bytes;
	/* The ledger against the pools' own books, by the last census: coverage_ratio's source. */
	uint64_t born_live_blocks, born_held_blocks;
	uint64_t held_checked_blocks, held_live_blocks;
	int64_t seen_net_blocks, pools_net_blocks;
	uint64_t seen_allocations;
	uint64_t parked_bytes, parked_blocks; /* on the interpreter's free lists */
	size_t n_sites;
	const struct snapshot_site *sites; /* in the report's order */
	size_t n_refused;
	const struct snapshot_refusal *refused;
	size_t n_losses;
	const struct snapshot_loss *losses;
	/* The heap's own table of live objects by type, where it was taken (--no-probes). */
	size_t n_heap_types;
	const struct snapshot_type *heap_types;
};

/* Bounds that the builder (snapshot_build.h) holds snapshots to. */
#define SNAPSHOT_FRAMES_MAX 129 /* a site's: WIRE_MAX_FRAMES, and one that says something */

/* Whoever is written to: a file, a buffer, a socket. Returns 0 or -errno. */
struct sink {
	int (*write)(void *context, const void *bytes, size_t size);
	void *context;
};

struct report_options {
	size_t top; /* sites that the text shows */
	bool colour;
	unsigned columns; /* 0: 100; at least 60 are used */
};

int report_text(const struct snapshot *snapshot, const struct report_options *options,
		const struct sink *sink);
/* One object, one line. */
int report_json(const struct snapshot *snapshot, const struct sink *sink);
/* Brendan Gregg's folded stacks: root first, ';' between, a space, outstanding bytes. */
int report_folded(const struct snapshot *snapshot, const struct sink *sink);

#endif
