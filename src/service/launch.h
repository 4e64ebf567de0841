/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Starting a command so that it can be probed before its first line of Python
 * runs.  The child is traced (ptrace) through the dynamic loader's and the
 * interpreter's first system calls, until whoever waits says that it is ready,
 * and then let go for good; while the session lasts, nothing stops it.
 */
#ifndef PYLEAKD_SERVICE_LAUNCH_H
#define PYLEAKD_SERVICE_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

/* Stops at system calls that are looked at before the child is let go unready. */
#define LAUNCH_STOPS_MAX 200000

struct launch {
	pid_t pid;
	bool traced;
	bool exited;
	int wait_status; /* once exited */
};

/*
 * Forks and executes argv (searched on PATH); returns when the exec is done.
 * -ENOENT, -EACCES …: it could not be executed, and nothing is left.
 */
int launch_start(char *const argv[], struct launch *ret);

/*
 * Lets the child run from one system call to the next until ready returns
 * non-zero (which is returned: negative to give up), or it exits (0), or the
 * bound is reached (-ETIME). The child stays stopped; launch_release it.
 */
int launch_until(struct launch *launch, int (*ready)(pid_t pid, void *context), void *context);

/* Lets the child go. */
void launch_release(struct launch *launch);

/* Whether it has exited; reaps it. */
bool launch_reap(struct launch *launch, bool wait);
/* What a shell would report: the exit status, or 128 + signal. */
int launch_exit_status(const struct launch *launch);

#endif
