/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The flag that _Py_NewReference tests: is anybody tracing?
 *
 *	3.8-3.11  int _Py_tracemalloc_config.tracing           (4 bytes)
 *	3.12      int _PyRuntime.tracemalloc.config.tracing    (4 bytes)
 *	3.13-     _PyRuntime.ref_tracer.tracer_func            (8 bytes, a function)
 *
 * The structure around it differs from build to build, so its address comes
 * from the code of exported functions, never from a table.
 */
#ifndef PYLEAKD_PROBES_TRACING_FLAG_H
#define PYLEAKD_PROBES_TRACING_FLAG_H

#include <stdbool.h>
#include <stdint.h>

#include "probes/symbolic.h"
#include "probes/walk.h"
#include "target/image.h"

struct tracing_flag {
	const struct image *image; /* not owned; NULL: one without slots (tests) */
	uint64_t vaddr;
	unsigned size_bytes;
	/* The symbol that it is a part of, and where in it; anchor 0: not known. */
	uint64_t anchor;
	int64_t displacement;
};

/* -ENOENT: none of the ways to it led anywhere. */
int tracing_flag_find(struct walk *walk, const struct image *image, struct tracing_flag *ret);

/* Is it a function's address, with destructions announced as well (3.13 and later)? */
bool tracing_flag_is_tracer(const struct tracing_flag *flag);

/* The fixed address that an expression means, through the GOT too; false: none. */
bool tracing_flag_resolve(const struct image *image, const struct symbols *symbols, expr e,
			  uint64_t *ret_vaddr);

/* Is e a load of the flag? A base that can't be told counts, if the displacement is a rare one. */
bool tracing_flag_is_load(const struct tracing_flag *flag, const struct symbols *symbols, expr e);

/* Displacements that fit 8 bits occur everywhere, and are no evidence without a base. */
bool tracing_flag_is_far(const struct tracing_flag *flag);

#endif
