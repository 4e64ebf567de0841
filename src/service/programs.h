/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the processes of one program have in common.  A program is a unit or a
 * container, and a command; its processes may live for minutes only, its sites
 * outlive them: what each of them gained at a site, past its own warm-up, is
 * added up and judged as one series.
 *
 *	worker 1   ___/‾ dies                    gained: +20 KB
 *	worker 2        ___/‾ dies                       +20 KB
 *	the program   20 KB, 40 KB, …            grows: a leak, though no worker lived to show it
 */
#ifndef PYLEAKD_SERVICE_PROGRAMS_H
#define PYLEAKD_SERVICE_PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "judge/judge.h"
#include "report/snapshot.h"
#include "service/retained.h"
#include "target/place.h"
#include "target/process.h"

#define PROGRAMS_MAX 256
#define PROGRAM_SITES_MAX 256 /* a program; those that gained least go first */
#define PROGRAM_NAME_MAX 256
/* Without a process, a program is remembered so long; a site without being seen. */
#define PROGRAMS_EXPIRE_SECONDS 3600.0
/* Of one process that are told apart, those first that have most. */
#define PROGRAM_SHARE_SITES_MAX 4096
/* What a process gains while it is younger than so many intervals is its start. */
#define PROGRAM_WARMUP_INTERVALS 2
/* From one point of the series to the next, in the time of all its processes together. */
#define PROGRAM_POINT_INTERVALS 4

struct program_site {
	uint64_t id;
	char function[PROGRAM_NAME_MAX], file[PROGRAM_NAME_MAX]; /* of the leaf; cut */
	double gained_bytes; /* by all processes, past their warm-up */
	double seen_at;
	struct retained_series series; /* of gained_bytes */
	struct judgement judgement;
};

struct program {
	uint64_t key;
	struct place place;
	char command[PROCESS_NAME_MAX];
	size_t n_processes, n_processes_ever;
	double left_at;					 /* by the last process */
	double gained_heap_bytes, gained_resident_bytes; /* as the sites' */
	double observed_seconds; /* of its processes, summed; the series' time */
	double pointed_seconds;	 /* at the last points */
	struct retained retained;
	struct program_site *sites; /* ascending by id */
	size_t n_sites;
};

/*
 * What of one process is in its program's sums: what it had at the last
 * account, by site.  A site that appears counts from there on, since estimates
 * begin late in a session, and what a line has in use at any time would look
 * as if each process had gained it; one that is seen no more has lost what it
 * had, and gains when it comes back.
 *
 *	account     1    2    3    4    5    6
 *	estimate    -    40   60   -    50   70
 *	counted               +20  -60  +50  +20     = 70 - 40
 */
struct program_share {		/* zeroed: of nothing yet */
	double session_started; /* another one: all begins anew */
	double duration_seconds, heap_bytes, resident_bytes;
	struct program_held *sites; /* ascending by id; also what is seen no more */
	size_t n_sites;
};

struct programs {
	struct program *items[PROGRAMS_MAX];
	size_t n;
};

int programs_new(struct programs **ret);
void programs_free(struct programs *programs);

/* A process joins its program. NULL: there are PROGRAMS_MAX, all with processes, or no memory. */
struct program *programs_join(struct programs *programs, const struct place *place,
			      const char *command);
void programs_leave(struct programs *programs, struct program *program, double now);
/* Programs that have had no process for too long go. */
void programs_expire(struct programs *programs, double now);

void program_share_done(struct program_share *share);
/*
 * A process of the program has a new account.  What it gained since the last
 * one counts where both are of one session and it is past its warm-up; share
 * remembers the new one.  interval_seconds: between two looks.  0 or -ENOMEM.
 */
int program_observe(struct program *program, struct program_share *share,
		    const struct snapshot *snapshot, double age_seconds, double now,
		    double interval_seconds);

/*
 * Survivors name a line, growth decides: the line's series grows, and so does
 * what the processes retain, by the census.  What takes the place of other
 * things (a bounded cache that each worker fills anew) is no leak.
 */
bool program_site_leaks(const struct program *program, const struct program_site *site);

#endif
