/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which processes of this host may be running Python. */
#ifndef PYLEAKD_TARGET_DISCOVER_H
#define PYLEAKD_TARGET_DISCOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Does it map a file that is called like an interpreter or its library?  Only
 * the name is looked at: an interpreter linked into a program of another name
 * is not found so.  False also where it can't be read or is gone.
 */
bool discover_is_candidate(pid_t pid);

/* All such processes but ourselves, ascending; the array is the caller's, to free(). */
int discover_candidates(pid_t **ret, size_t *ret_n);

#endif
