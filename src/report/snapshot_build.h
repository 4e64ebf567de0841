/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Making a snapshot: an arena with the report's strings and rows in it.
 *
 *	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
 *	r = snapshot_new(&snapshot);
 *	snapshot->pid = 4242;
 *	snapshot->command = snapshot_string(snapshot, name);
 *	snapshot_add_site(snapshot, &site);        (all of it is copied)
 *	r = snapshot_finish(snapshot);             (sorted, ids given, first error told)
 *
 * Errors stick: what is added after a failure is dropped, snapshot_finish()
 * returns the first one.  Only what snapshot_new() made may be passed here;
 * after snapshot_finish() nothing is added any more.
 */
#ifndef PYLEAKD_REPORT_SNAPSHOT_BUILD_H
#define PYLEAKD_REPORT_SNAPSHOT_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "report/snapshot.h"

#define SNAPSHOT_BYTES_MAX (1ULL << 30) /* of the arena: beyond, -E2BIG */

/*
 * Empty: strings "", ratios that were not measured NAN, mode "exact".
 * On the heap; -ENOMEM.
 */
int snapshot_new(struct snapshot **ret);
void snapshot_free(struct snapshot *snapshot);

/* The snapshot's own copy (NULL is taken as ""); never NULL, "" where there is no memory. */
const char *snapshot_string(struct snapshot *snapshot, const char *text);

/*
 * Copies the site with its types, frames and strings. Where id is 0,
 * snapshot_finish() gives one. At most SNAPSHOT_FRAMES_MAX frames are kept
 * (the site is marked cut). 0 or -errno.
 */
int snapshot_add_site(struct snapshot *snapshot, const struct snapshot_site *site);
int snapshot_add_refusal(struct snapshot *snapshot, const char *what, const char *why);
/* One that came about as often as count says. */
int snapshot_add_refusals(struct snapshot *snapshot, const char *what, const char *why,
			  uint64_t count);
/* Added to what the reason has already; nothing for a count of 0. */
int snapshot_add_loss(struct snapshot *snapshot, enum reason reason, uint64_t count);
int snapshot_add_heap_type(struct snapshot *snapshot, const struct snapshot_type *type);

/*
 * Sorts sites (verdict, growth, outstanding bytes, then id), types and heap
 * types (most bytes first) and losses (most first), and gives sites that have
 * none an id of their own. 0, or the first failure since snapshot_new().
 */
int snapshot_finish(struct snapshot *snapshot);

/*
 * The id of a stack: of qualified names and files, leaf first, no lines and no
 * addresses; the same in every run and on every host. Never 0. Without frames:
 * of "no Python frame", or, with other, of the merged rest.
 */
uint64_t snapshot_site_id(const struct snapshot_site *site);

/*
 * One report may hold several sites of one id, as two lines of one function
 * are. The one whose leaf has the lowest line keeps it, the k-th behind it
 * (from 1) is given this.
 */
uint64_t snapshot_site_id_nth(uint64_t id, size_t k);

#endif
