/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Inside this room: finding the arenas and confirming them. */
#ifndef PYLEAKD_CPYTHON_ARENAS_PRIVATE_H
#define PYLEAKD_CPYTHON_ARENAS_PRIVATE_H

#include "cpython/interpreter_private.h"

#define ARENA_OBJECT_BYTES 48 /* layout's arena_size in all versions; a test holds them together */

/*
 * Whether these are arena objects with pools; *ret_n_used: how many of the
 * first ones have an arena.  Corrects the layout's arena size where the target
 * says that it is doubled.  -EPROTO with the field that disagrees.
 */
int arenas_confirm(struct interpreter *interpreter, const struct interpreter_arenas *arenas,
		   size_t *ret_n_used, struct fault *reterr_fault);

#endif
