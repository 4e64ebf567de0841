/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Where a process runs, as people call it: its unit and its container, from its control group. */
#ifndef PYLEAKD_TARGET_PLACE_H
#define PYLEAKD_TARGET_PLACE_H

#include <sys/types.h>

#define PLACE_NAME_MAX 256 /* bytes, NUL included; longer names are cut */

struct place {
	char unit[PLACE_NAME_MAX];	/* "web.service", "session-3.scope"; "": none */
	char container[PLACE_NAME_MAX]; /* 64 hexadecimal digits; "": none */
};

/* -ESRCH: no such process. */
int place_of(pid_t pid, struct place *ret);
/* The same from the text of /proc/PID/cgroup; version 2's line counts before the others. */
void place_of_text(const char *cgroup, struct place *ret);

#endif
