/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A leak is a set of lines: one leaking call leaves objects at several of them,
 * with equal counts in every cohort.  Pure, on plain arrays.
 *
 *	slice             0   1   2   3   4   5
 *	a  Session()      3   0   7   2   5   4      a and b: the same calls, one finding,
 *	b  its dict       3   0   7   2   4   5      whose head is a, if it holds b's objects
 *	c  another leak   4   1   5   3   4   5      c: nearly the same rate, other calls
 *
 * a's and b's running sums never part by more than one: what was made at a
 * slice's end may be counted in the next.  c's do.
 */
#ifndef PYLEAKD_LEDGER_FINDINGS_H
#define PYLEAKD_LEDGER_FINDINGS_H

#include <stddef.h>
#include <stdint.h>

#define FINDING_SLICES_MAX 64
#define FINDING_LINES_MAX 2048 /* more are refused: n² comparisons */
#define FINDING_SLICES_MIN 4 /* with less to compare, counts join nothing */

struct finding_line {
	uint64_t stack;
	double bytes; /* what it keeps, buffers included: decides where nothing else does */
	/* Always-on, or which stream of windows: lines of two are not compared by counts. */
	uint32_t vantage;
	uint32_t counts[FINDING_SLICES_MAX]; /* living, by cohort: time slices or windows */
};

/* Objects of one line hold so many of another's; both are indices into the lines. */
struct finding_hold {
	uint32_t owner, member;
	uint32_t count;
};

struct finding_place {
	uint32_t finding; /* 0 … */
	uint32_t head; /* index of the finding's line that the others hang on first */
};

/*
 * Puts n lines with n_slices cohorts each into findings, numbered in the order
 * of their heads' bytes, falling.  Lines are joined where their cohorts are
 * equal, and where at least half of the fewer of two lines' objects hold, or are
 * held by, the other's (a line with one object that holds a thousand, though, is
 * where the leak is kept, not a line of it).  The head is the line that holds
 * most and is held least, by bytes where that says nothing.  ret: n places.
 *
 * 0; -E2BIG: n or n_slices above their bounds; -EINVAL: a hold's index; -ENOMEM.
 */
int findings_group(const struct finding_line *lines, size_t n, size_t n_slices,
		   const struct finding_hold *holds, size_t n_holds, struct finding_place *ret);

#endif
