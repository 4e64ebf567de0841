/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Inside of src/target: files of /proc, and the "Key: value" texts in them. */
#ifndef PYLEAKD_TARGET_PROC_H
#define PYLEAKD_TARGET_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_PATH_MAX 128
#define PROC_STATUS_MAX (64U << 10) /* bytes; its longest line is the groups' */

/* -ESRCH where it is the process that is missing, at opening as at reading. */
int proc_read(pid_t pid, const char *name, size_t max_bytes, char **ret, size_t *ret_size);
/* /proc/PID/task/TID/NAME */
int proc_read_task(pid_t pid, pid_t tid, const char *name, size_t max_bytes, char **ret,
		   size_t *ret_size);

/* The text behind "Key:" and blanks at a line's start, NULL: there is none. text ends in NUL. */
const char *proc_field(const char *text, const char *key);
/* The same as a number; in bytes where the unit is kB. */
bool proc_field_u64(const char *text, const char *key, uint64_t *ret);

/*
 * Names of a directory that are numbers (pids, tids), ascending; the array is
 * the caller's, to free().  -E2BIG: more than max; -ESRCH: no such directory.
 */
int proc_list_ids(const char *path, size_t max, pid_t **ret, size_t *ret_n);

#endif
