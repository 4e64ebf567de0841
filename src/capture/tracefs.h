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

/* What an event is of; two are the same if all of this is. */
struct tracefs_sites {
	const char *path;
	const unsigned long *offsets; /* in the file; rising, may repeat themselves */
	size_t n;
	bool uretprobe;
	int program_fd;
	__u64 cookie; /* what the program is told of the event */
};

/* Defines an event.  -EINVAL: an offset that the file does not have. */
int tracefs_event_new(const struct tracefs_sites *sites, struct tracefs_event **ret);
/* Closes it, and removes the definition. */
void tracefs_event_free(struct tracefs_event *event);

bool tracefs_event_is(const struct tracefs_event *event, const struct tracefs_sites *sites);

/* Breakpoints into the process. Errors are the kernel's; -EBUSY: it is attached. */
int tracefs_event_attach(struct tracefs_event *event, pid_t pid);
/* A program that runs just then may end later: tracefs_wait(). */
void tracefs_event_detach(struct tracefs_event *event);
bool tracefs_event_is_attached(const struct tracefs_event *event);

/*
 * Events that are not used just now: those of slices come again, and to remove
 * one takes 100 ms.  Each that is kept costs the hits of its sites some
 * nanoseconds.  Zeroed is empty.
 */
#define TRACEFS_KEPT_MAX 32

struct tracefs_kept {
	struct tracefs_event *events[TRACEFS_KEPT_MAX]; /* the one that was put longest ago first */
	size_t n;
};

/* NULL: there is none of these. */
struct tracefs_event *tracefs_kept_take(struct tracefs_kept *kept,
					const struct tracefs_sites *sites);
/* Detached; now the store's, which removes the oldest where it is full. */
void tracefs_kept_put(struct tracefs_kept *kept, struct tracefs_event *event);
void tracefs_kept_done(struct tracefs_kept *kept);

#endif
