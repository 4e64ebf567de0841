/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The host's Python processes, again and again: what was found to be none is
 * looked at ever more rarely, since it may still execute one.
 */
#ifndef PYLEAKD_SERVICE_SCAN_H
#define PYLEAKD_SERVICE_SCAN_H

#include <stddef.h>
#include <sys/types.h>

/* From the second look at a process on, up to the longest pause between two. */
#define SCAN_PAUSE_SECONDS 1.0
#define SCAN_PAUSE_SECONDS_MAX 60.0

struct scan;
int scan_new(struct scan **ret);
void scan_free(struct scan *scan);

/*
 * Processes that may be running Python, ascending, ourselves left out; the
 * array is the caller's, to free().  now: seconds, rising.
 */
int scan_run(struct scan *scan, double now, pid_t **ret, size_t *ret_n);

#endif
