/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Uprobe events of tracefs: one event for many instructions of a file, with one
 * program, where the kernel has no links to many uprobes.  (One perf event for
 * each instruction would take some 100 ms each to close.)
 *
 *	uprobe_events:  p:pyleakd_4711_90210/e3 /proc/self/fd/9:0x1a2b	 defined
 *			p:pyleakd_4711_90210/e3 /proc/self/fd/9:0x1c44	 appended
 *	perf event, of a kernel thread	◀── program		 held
 *	perf event, of the target				 attached
 *
 * The event is held by one for a task without memory, which puts no breakpoint
 * anywhere: with it the kernel keeps the event registered, and the program stays
 * where hits of all its perf events look for it (struct trace_event_call's
 * prog_array).  So attaching sees the first hit, and detaching is over when the
 * breakpoints are out; else each waits for the kernel's grace periods, 100 ms,
 * one event after the other.
 *
 * Definitions outlive whoever made them, so that they carry pyleakd's pid and
 * start time in their group's name, and those of the dead are removed by the
 * next one that opens tracefs.  What is open goes with its descriptor.
 *
 * A perf event's pid names a task, but breakpoints and programs go by its
 * address space (kernel/trace/trace_uprobe.c, __uprobe_perf_filter(), 5.15 to
 * 6.18): one event stands for all threads, those to come too.  A child that is
 * forked inherits the breakpoints, and each is taken out at its first hit there.
 */
#ifndef PYLEAKD_CAPTURE_TRACEFS_H
#define PYLEAKD_CAPTURE_TRACEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <linux/types.h>

/*
 * A directory, to be closed by the caller: tracefs where it is mounted, else a
 * mount of our own that is nowhere in the tree of files.  -errno: there is none,
 * or no right to it.
 */
int tracefs_open(void);
/* Removes the events of pyleakds that run no more; returns how many, or -errno. */
int tracefs_remove_leftovers(void);

struct tracefs_event;

/*
 * Defines an event; offsets, of the file and not of its mapping, in rising
 * order, may repeat themselves.  cookie: what the program is told of the event.  -EINVAL: an offset
 * that the file does not have.
 */
int tracefs_event_new(const char *path, const unsigned long *offsets, size_t n, bool uretprobe,
		      int program_fd, __u64 cookie, struct tracefs_event **ret);
/* Closes it, and removes the definition. */
void tracefs_event_free(struct tracefs_event *event);

/* Is it of just these instructions? */
bool tracefs_event_is(const struct tracefs_event *event, const unsigned long *offsets, size_t n);

/* Breakpoints into the process. Errors are the kernel's; -EBUSY: it is attached. */
int tracefs_event_attach(struct tracefs_event *event, pid_t pid);
/* A program that runs just then may end later: tracefs_wait(). */
void tracefs_event_detach(struct tracefs_event *event);
bool tracefs_event_is_attached(const struct tracefs_event *event);

/* Until every program that runs now has ended, where programs are not preempted (6.18 does). */
void tracefs_wait(void);

#endif
