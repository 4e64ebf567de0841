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
/* A probed session's account goes to its program so often while it is young, then as looks do. */
#define TARGETS_ACCOUNT_SECONDS 1.0
#define TARGETS_ACCOUNT_AGE_RATIO 0.125
/* However dear a census is, it comes at least so often. */
#define TARGETS_CENSUS_SECONDS_MAX 900.0

/* targets_sessions.c */
/* Into WATCHED, or UNREADABLE with the reason. */
void target_open(struct targets *targets, struct target *target);
/* A census, what it says, and whether probes go in or out. */
void target_look(struct targets *targets, struct target *target);
/* The session goes, with what it has counted. */
void target_close(struct targets *targets, struct target *target);
/* What the session has found out so far, to its program and to the pages. No look at the heap. */
int target_take_account(struct targets *targets, struct target *target, double seconds);
/* UNREADABLE, because of message; tried again later. */
void target_fail(struct targets *targets, struct target *target, const char *message);

/* targets_steps.c */
/* Sessions' steps that are due; the timer is set. */
int targets_step(struct targets *targets);
void targets_set_step_timer(struct targets *targets);
int targets_on_ring(sd_event_source *source, int fd, uint32_t events, void *userdata);
/* Whether it has, or may at any time have, breakpoints in. */
bool target_is_probed(const struct target *target);
/* From began_ns of our own CPU until now went to this target. */
void target_spend(struct targets *targets, struct target *target, uint64_t began_ns);
double targets_cpu_ratio(const struct targets *targets); /* that may go to a target */
double targets_interval(const struct targets *targets);

/* targets.c: the process is gone, or runs something else. The target is freed. */
void targets_remove(struct targets *targets, struct target *target);

#endif
