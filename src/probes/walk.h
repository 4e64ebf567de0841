/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Walks the paths that begin at an instruction: straight on, through direct
 * jumps in either direction, and along both arms of conditional jumps, each
 * path with a symbolic state of its own.  Depth first, bounded in every way.
 */
#ifndef PYLEAKD_PROBES_WALK_H
#define PYLEAKD_PROBES_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probes/decode.h"
#include "probes/symbolic.h"

#define WALK_DEPTH_MAX 32 /* paths that wait */
#define WALK_PENDING_MAX 4

struct walk_limits {
	unsigned path_steps;	/* instructions of one path */
	unsigned path_forks;	/* conditional jumps at which a path splits */
	unsigned path_branches; /* conditional jumps that it goes through in all */
	unsigned steps;		/* instructions of all paths together */
};

/* Something seen on a path that a later instruction has to confirm; the visitor's own. */
struct walk_pending {
	size_t at;
	expr key;
	unsigned kind;
	struct state_name name, other;
	uint16_t registers;
	bool named, other_named;
};

struct walk_path {
	size_t index; /* the instruction to be executed next */
	unsigned steps, branches;
	bool passed; /* has it executed the pivot? */
	unsigned n_pending;
	struct walk_pending pending[WALK_PENDING_MAX];
	struct state state;
};

struct walk {
	struct code *code; /* not owned */
	struct symbols *symbols;
	size_t n_waiting;
	struct walk_path path; /* the current one */
	struct walk_path waiting[WALK_DEPTH_MAX];
};

int walk_new(struct code *code, struct walk **ret);
void walk_free(struct walk *walk);

struct walk_visitor {
	/* At a conditional jump, before it is taken or not. */
	void (*conditional)(struct walk *walk, struct walk_path *path, void *context);
	/* After an instruction that stored something; path->index is it. May be NULL. */
	void (*stored)(struct walk *walk, struct walk_path *path, void *context);
	/*
	 * At a call, before its effect, and at a jump that leaves what can be followed (a tail
	 * call, as a rule). May be NULL; true ends the path.
	 */
	bool (*call)(struct walk *walk, struct walk_path *path, void *context);
};

/*
 * Paths do not split before pivot was executed (start itself to split at
 * once).  -ENOMEM; bounds that are reached end a path, which is no error.
 */
int walk_run(struct walk *walk, size_t start, size_t pivot, const struct walk_limits *limits,
	     const struct walk_visitor *visitor, void *context);

/*
 * The first instruction of at most back before index from which control runs
 * straight to it: none of those between jumps away, returns or calls.
 */
size_t walk_start_before(const struct code *code, size_t index, unsigned back);

#endif
