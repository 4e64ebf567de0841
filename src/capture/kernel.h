/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What this kernel's probes can do and cost, found out by trying: versions are
 * never compared, because distributions backport.
 */
#ifndef PYLEAKD_CAPTURE_KERNEL_H
#define PYLEAKD_CAPTURE_KERNEL_H

#include <stdbool.h>

/* Of three values, because it may be that it can't be asked for. */
enum kernel_answer { KERNEL_UNKNOWN, KERNEL_NO, KERNEL_YES };

/* How a program gets to many instructions of a process (tracefs_link.h). */
enum kernel_attach {
	KERNEL_ATTACH_NONE,
	KERNEL_ATTACH_MULTI,   /* a link to many uprobes, with a cookie for each */
	KERNEL_ATTACH_TRACEFS, /* one uprobe event; the instruction pointer tells the site */
};

/* For tests, and for those whose kernel says one thing and does another: "multi", "tracefs". */
#define KERNEL_ATTACH_VARIABLE "PYLEAKD_ATTACH"

struct kernel_features {
	bool host_pids; /* we see pids as the kernel's programs do: the initial pid namespace */
	bool btf;
	bool ring_buffer;
	bool atomics; /* that return what was there; with them comes the current task's type */
	bool attach_cookie;
	bool uprobe_multi;
	bool trampolines; /* fexit on system calls; without, the raw tracepoint sys_exit */
	enum kernel_answer whole_process; /* does a link's pid stand for all its threads? */
	bool tracefs;			  /* uprobe events can be had; asked only if need be */
	enum kernel_attach attach;	  /* the one that is used */
	const char *attach_reason;	  /* why, a static text */
	int error; /* -errno of the first thing that failed, 0: nothing did */
};

/*
 * Some 50 ms, most of which is waiting for the kernel's grace periods; where
 * tracefs is used some 200, and events of dead pyleakds are removed.
 */
void kernel_features_probe(struct kernel_features *ret);

/* What the probes can't do without, as a static text, or NULL: nothing is missing. */
const char *kernel_features_missing(const struct kernel_features *features);

/* What is used, as a static text. */
const char *kernel_attach_name(enum kernel_attach attach);

/* All that `pyleakd check` tells of the kernel. */
struct capture_kernel {
	char release[65]; /* uname -r */
	struct kernel_features features;
	bool run_statistics; /* BPF_ENABLE_STATS */
	/* Nanoseconds that a hit costs the target, with a program that does nothing; 0: unknown. */
	double emulated_ns;  /* a conditional jump */
	double stepped_ns;   /* any other instruction */
	double uretprobe_ns; /* entry and return, the first instruction an emulated one */
	/* Does a probe on a 5-byte NOP overwrite what the code keeps below its stack pointer? */
	enum kernel_answer nop5_clobbers;
};

/*
 * Nanoseconds that a hit of an emulated instruction costs, with a program that
 * does nothing: the trap. Measured once in a process's life, in some 50 ms,
 * most of which is waiting for the kernel; 0: it can't be.
 */
double capture_trap_ns(void);

/*
 * Probes this very process and a child of it, for less than a second.  What
 * can't be found out stays unknown. Leaves an [uprobes] mapping in us.
 */
void capture_probe_kernel(struct capture_kernel *ret);

#endif
