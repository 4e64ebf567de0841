/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A process, told apart by pid and start time: pids are used again.
 *
 * Everything is read from /proc at the moment of the call
 * and may be outdated when it returns.  -ESRCH: no such process (any more).
 */
#ifndef PYLEAKD_TARGET_PROCESS_H
#define PYLEAKD_TARGET_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_NAME_MAX 256 /* bytes of a display name, NUL included */
#define PROCESS_THREADS_MAX 65536
#define PROCESS_CHILDREN_MAX 65536
#define PROCESS_NAMESPACES_MAX 33 /* of pids: the first, and MAX_PID_NS_LEVEL of Linux */

struct process_id {
	pid_t pid;
	uint64_t start_ticks; /* since boot: field 22 of /proc/PID/stat */
};

/* -ESRCH: there is no such process. */
int process_identify(pid_t pid, struct process_id *ret);

/*
 * Does this very process still run?  False for a zombie of which no thread is
 * left, and for another process that got the same pid.
 */
bool process_is_alive(const struct process_id *id);

/* What /proc/PID/stat says, as far as it is used. */
struct process_stat {
	char name[64]; /* "comm": any bytes, cut by the kernel */
	char state; /* R, S, D, T, t, Z, X, I */
	pid_t parent;
	uint32_t flags; /* PF_* of the kernel */
	uint32_t n_threads;
	uint64_t start_ticks;
};
int process_stat_parse(const char *text, size_t size, struct process_stat *ret); /* -EBADMSG */
int process_stat(pid_t pid, struct process_stat *ret);

/* A kernel thread has no memory of its own and no program. */
bool process_is_kernel_thread(const struct process_stat *stat);
/* On its way out: it may have no memory any more, and not be dead yet. */
bool process_is_exiting(const struct process_stat *stat);

/* When it was started, in seconds since 1970. */
int process_started(const struct process_id *id, double *ret_seconds);

/*
 * The name as people say it: the script ("web.py"), module ("-m flask" is
 * "flask") or, for anything else, the program's base name.  Always text for a
 * terminal: control characters become "?".
 */
int process_display_name(pid_t pid, char ret[static PROCESS_NAME_MAX]);
/* The same from the bytes of /proc/PID/cmdline; comm serves where they are empty. */
void process_display_name_of(const char *cmdline, size_t size, const char *comm,
			     char ret[static PROCESS_NAME_MAX]);

struct process_thread {
	pid_t tid; /* in the pid namespace of our /proc */
	pid_t inner_tid; /* in the thread's own, innermost, pid namespace */
};
/*
 * All threads, ascending by tid; threads that end meanwhile are left out.  The
 * array is the caller's, to free().  -E2BIG: more than PROCESS_THREADS_MAX.
 */
int process_threads(pid_t pid, struct process_thread **ret, size_t *ret_n);

/*
 * A thread that still has memory.  It is the first one (its tid is the pid)
 * unless that has ended while others go on, when /proc/PID/maps, mem and exe
 * are empty and everything has to be read by this thread's id.  -ESRCH: none.
 */
int process_living_thread(pid_t pid, pid_t *ret_tid);
/* Is the first thread gone while others go on? The kernel then refuses breakpoints. */
bool process_leader_is_gone(pid_t pid);

/* Ids of the process in its pid namespaces, outermost first; how many; -errno. */
int process_namespace_ids(pid_t pid, pid_t ret[static PROCESS_NAMESPACES_MAX]);

/* Processes whose parent is pid, ascending; the array is the caller's, to free(). */
int process_children(pid_t pid, pid_t **ret, size_t *ret_n);

struct process_memory {
	uint64_t resident_bytes;
	uint64_t anonymous_bytes; /* of these: heaps, stacks, private copies of file pages */
	uint64_t file_bytes;
	uint64_t shared_bytes; /* shared memory, tmpfs */
	uint64_t swapped_bytes;
};
/*
 * What /proc/PID/status says: no lock of the target's is taken, but the kernel
 * batches its counters (a few pages a thread or CPU).
 */
int process_memory(pid_t pid, struct process_memory *ret);

/* CPU time of all its threads, gone ones too, in nanoseconds. -ESRCH. */
int process_cpu_ns(pid_t pid, uint64_t *ret);

/* Does a seccomp filter judge its system calls (any thread's)? */
int process_has_seccomp_filter(pid_t pid, bool *ret);

/* Is it in another namespace than we are? kind: "mnt", "pid", … as in /proc/PID/ns. */
int process_in_other_namespace(pid_t pid, const char *kind, bool *ret);

#endif
