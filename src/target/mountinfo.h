/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Inside of src/target: lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)). */
#ifndef PYLEAKD_TARGET_MOUNTINFO_H
#define PYLEAKD_TARGET_MOUNTINFO_H

#include <stdbool.h>

#define MOUNTINFO_FIELD_MAX 4096 /* bytes of a path, NUL included; longer lines are passed over */

struct mountinfo {
	char root[MOUNTINFO_FIELD_MAX]; /* the part of the file system that is mounted */
	char mount_point[MOUNTINFO_FIELD_MAX];
	char type[64]; /* "cgroup", "cgroup2" … */
	char super_options[MOUNTINFO_FIELD_MAX]; /* "rw,memory" */
};

/*
 * Parses the line that *at stands on and moves *at to the next one, NULL after
 * the last.  False: the line is malformed or too long, and is to be passed over.
 */
bool mountinfo_next(const char **at, struct mountinfo *ret);

/* Is option one of the comma-separated options? */
bool mountinfo_has_option(const char *options, const char *option);

#endif
