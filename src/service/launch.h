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

/* What ready() may say: look again at the next system call, or only when more is mapped. */
enum launch_answer { LAUNCH_SOON = 0, LAUNCH_OTHER_PROGRAM = 1, LAUNCH_READY = 2 };

struct launch {
	pid_t pid;
	bool traced;
	bool exited;
	bool mapping;	 /* it is in a system call that maps a file or executes one */
	int wait_status; /* once exited */
};

/*
 * Forks and executes argv (searched on PATH); returns when the exec is done.
 * -ENOENT, -EACCES …: it could not be executed, and nothing is left.  Blocks
 * SIGCHLD and the signals that end a session (events.h) in us for good: they
 * are taken while the child is waited for.
 */
int launch_start(char *const argv[], struct launch *ret);

/*
 * Lets the child run from one system call to the next until ready returns
 * LAUNCH_READY or an error (which is returned), or it exits (0), or the bound
 * is reached (-ETIME), or we are told to end (-EINTR, the signal passed on).
 * The child stays stopped; launch_release it.
 */
int launch_until(struct launch *launch, int (*ready)(pid_t pid, void *context), void *context);

/* Lets the child go. */
void launch_release(struct launch *launch);

/* Waits for its exit and reaps it; what ends sessions and came to us alone is passed on. */
void launch_wait(struct launch *launch);
/* What a shell would report: the exit status, or 128 + signal. */
int launch_exit_status(const struct launch *launch);

#endif
