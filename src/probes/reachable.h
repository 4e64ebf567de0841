/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which code of a file rewritten by BOLT is still run.
 *
 * BOLT moves functions into a new .text and leaves what they were in
 * .bolt.org.text: executable, described by unwind entries, and dead.  But
 * functions that it skipped (the evaluation loop, in some versions) live on
 * there.  Seen with BOLT 19: its .eh_frame describes both copies, so that does
 * not tell them apart; who refers to them does.
 *
 * Alive is what symbols, data and live code refer to, by whole functions.
 * Whatever looks like a reference counts as one: what is alive is never taken
 * for dead, the other way round is possible and only costs probes.
 */
#ifndef PYLEAKD_PROBES_REACHABLE_H
#define PYLEAKD_PROBES_REACHABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probes/decode.h"
#include "target/image.h"

struct reachable;

/* -ENOENT: the image has no such code. The image's ranges must outlive it. */
int reachable_new(const struct code *code, const struct image *image, struct reachable **ret);
void reachable_free(struct reachable *reachable);

/* Is the code at vaddr run, as far as one can tell? */
bool reachable_is_live(const struct reachable *reachable, uint64_t vaddr);
/* Lets no matcher begin in what isn't. */
void reachable_leave_out_dead(const struct reachable *reachable, struct code *code);

/*
 * The parts of reachable_new(), for tests: nothing but what lies outside of
 * the old code is alive at first; then what was marked, and what it refers to.
 */
int reachable_new_of(const struct image_range *functions, size_t n_functions,
		     struct image_range old, struct reachable **ret);
void reachable_mark(struct reachable *reachable, uint64_t vaddr);
void reachable_mark_start(struct reachable *reachable, uint64_t vaddr);
void reachable_follow(struct reachable *reachable, const struct code *code);

#endif
