/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * From stack ids to sites: the frames of each stack, symbolised when they
 * arrive (the code objects may be gone later), and the site they belong to.
 *
 * A site is one leaf line reached through one chain of functions; which line
 * of a caller was running does not make a site of its own.
 *
 *	id 0xa1  (code 1, +20) (code 2, +8)   → handle:18 < main    ┐ site 0
 *	id 0xa2  (code 1, +20) (code 2, +30)  → handle:18 < main    ┘
 *	id 0xb7  (code 1, +44) (code 2, +8)   → handle:21 < main      site 1
 */
#ifndef PYLEAKD_SERVICE_STACKS_H
#define PYLEAKD_SERVICE_STACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpython/code.h"
#include "pyleakd/wire.h"
#include "report/snapshot.h"

/* Sites that are always there. */
enum stacks_special {
	STACKS_NO_FRAME = 0, /* the thread ran no Python */
	STACKS_UNREADABLE = 1, /* it did, but which could not be read */
	STACKS_UNKNOWN = 2, /* the stack's frames were never delivered */
	STACKS_OTHER = 3, /* merged */
	STACKS_SPECIALS
};

struct stacks;

struct stacks_site {
	const struct snapshot_frame *frames; /* leaf first; strings are the code cache's */
	size_t n_frames;
	uint64_t key; /* of functions, files and the leaf's line: the judgement's name for it */
	bool cut;
};

/* codes stays the caller's and must outlive the stacks. */
int stacks_new(struct code_cache *codes, size_t max_sites, struct stacks **ret);
void stacks_free(struct stacks *stacks);

/* Frames of a stack. Ones that can't be read any more are kept as such and counted. */
int stacks_learn(struct stacks *stacks, const struct wire_stack *record);

/* Index of the site that a stack id belongs to; a special one where it is not known. */
uint32_t stacks_site_of(const struct stacks *stacks, uint64_t stack);
const struct stacks_site *stacks_site(const struct stacks *stacks, uint32_t index);
size_t stacks_n_sites(const struct stacks *stacks);
uint64_t stacks_unreadable_frames(const struct stacks *stacks);

#endif
