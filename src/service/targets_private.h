/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the files of the daemon's targets share. */
#ifndef PYLEAKD_SERVICE_TARGETS_PRIVATE_H
#define PYLEAKD_SERVICE_TARGETS_PRIVATE_H

#include "service/targets.h"

/* An opening that failed is tried again, ever more rarely: a process may run another program. */
#define TARGETS_RETRY_SECONDS 1.0
#define TARGETS_RETRY_SECONDS_MAX 300.0
/* Probes that a guard refused. */
#define TARGETS_PROBES_RETRY_SECONDS 60.0
/* However dear a census is, it comes at least so often. */
#define TARGETS_CENSUS_SECONDS_MAX 900.0

/* targets_sessions.c */
/* Into WATCHED, or UNREADABLE with the reason. */
void target_open(struct targets *targets, struct target *target);
/* A census, what it says, and whether probes go in or out. */
void target_look(struct targets *targets, struct target *target);
/* The session goes, with what it has counted. */
void target_close(struct targets *targets, struct target *target);
/* Sessions' steps that are due; the timer is set. */
int targets_step(struct targets *targets);

/* targets.c: the process is gone, or runs something else. The target is freed. */
void targets_remove(struct targets *targets, struct target *target);

#endif
