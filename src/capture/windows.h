/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Groups of sites that go in and out while a capture is loaded and attached.
 * Prepared with options.windows, capture_attach() puts in no site, only what
 * tells of forks, execs, exits and mappings; then groups are opened and closed:
 *
 *	define ─▶ closed ──open──▶ open ──close──▶ closed
 *	                            │ ▲
 *	              hit limit     ▼ │ refill
 *	                           silent: hits count, records stop, WIRE_LIMIT was sent
 *
 * A site is in one open group at most.  (A fresh-pool site may be in one of
 * capture_group_define_pools() besides.)  Of brk only new maxima are recorded.
 * Every hit counts whose site's condition holds, silent ones too, while the
 * capture is activated; each has cost the target a trap.
 */
#ifndef PYLEAKD_CAPTURE_WINDOWS_H
#define PYLEAKD_CAPTURE_WINDOWS_H

#include "capture/capture.h"

#define CAPTURE_GROUPS_MAX 16

/*
 * Which sites a group holds: indices into files[file].plan, in any order, of
 * any kinds. They are copied. Sites that were refused for good are passed over
 * at each opening. -EBUSY: the group is open; -EINVAL: no such group, file or
 * site, or one twice. Nothing is changed then. No sites: the group is empty.
 */
int capture_group_define(struct capture *capture, unsigned group, unsigned file,
			 const uint16_t *sites, size_t n_sites);
/*
 * A growth probe: all fresh-pool sites of this file, which in this group send
 * WIRE_NEW_POOL for addresses that were never a pool's before, and nothing else.
 */
int capture_group_define_pools(struct capture *capture, unsigned group, unsigned file);
/*
 * These addresses are pools already. No system call a pool. Before the group is
 * opened or after. Returns how many found no room, or -errno.
 */
int capture_know_pools(struct capture *capture, const uint64_t *addresses, size_t n);
int capture_know_pool(struct capture *capture, uint64_t address);

/* What an opening cost, and what came of it; of the current one, or the last. */
struct capture_group_use {
	uint64_t attach_ns, detach_ns;	       /* wall time of the calls */
	uint64_t attach_cpu_ns, detach_cpu_ns; /* CPU time of this thread in them */
	uint64_t hits;			       /* since it was opened, silent ones too */
	uint64_t untaken; /* of hits, within the limit: the site's condition did not hold */
	uint64_t opening_at_ns, opened_at_ns; /* CLOCK_MONOTONIC: begin and end of the call */
	uint64_t closing_at_ns, closed_at_ns;
	uint64_t produced_at_closing; /* ring position when the detach began, capture_produced() */
	size_t sites;		      /* breakpoints that are, or were, in */
	bool limited;		      /* the hit limit was reached: records stopped there */
};

/*
 * Compares the text at each site in the target, attaches, and the first time
 * reads the breakpoints back (REASON_BREAKPOINT_MISSING among the refusals).
 * hits_max: after that many hits the group's records stop and one WIRE_LIMIT
 * (header.site: the group) wakes the consumer; 0: no limit. An empty group
 * opens.  On failure nothing is left in.
 *
 * -EBUSY: it is open, or one of its sites is in another open group; -EBADF: not
 * attached; -EINVAL: not defined; -ESRCH, NOT_MAPPED: the target is gone (or
 * executed another program); -EOWNERDEAD, NO_LEADER.
 */
int capture_group_open(struct capture *capture, unsigned group, uint64_t hits_max,
		       struct fault *reterr_fault);
#define CAPTURE_SILENT UINT64_MAX /* hits_max: nothing is recorded until it is refilled */
/* ret may be NULL. -EALREADY: it is closed. When it returns no program of the group runs. */
int capture_group_close(struct capture *capture, unsigned group, struct capture_group_use *ret);
/*
 * Those of these groups (a bit each, from bit 0 on) that are open, at once, the
 * hottest first: waiting for the kernel is most of it, and is done once.
 * Returns how many were; capture_group_look() has each one's use.
 */
int capture_groups_close(struct capture *capture, uint32_t groups);
/* All of them: when the target forks, or the daemon ends. */
int capture_close_all(struct capture *capture);
/* So many more hits are allowed from now on, whatever was left; 0: any number. */
int capture_group_refill(struct capture *capture, unsigned group, uint64_t hits_max);

bool capture_group_is_open(const struct capture *capture, unsigned group);
/* -EINVAL: not defined. */
int capture_group_look(const struct capture *capture, unsigned group,
		       struct capture_group_use *ret);
/* Hits of a group since it was opened. No system call, like the two below. */
uint64_t capture_group_hits(const struct capture *capture, unsigned group);
/*
 * Hits of each site of a file's plan since the capture was loaded, on all CPUs;
 * not those of groups that tell new pools.
 */
int capture_site_hits(const struct capture *capture, unsigned file, uint64_t *ret, size_t n_sites);

/*
 * How often this thread's priority was raised to open and close: a thread that
 * is preempted while it holds the target's mmap lock stalls the target.
 */
struct capture_priority_use {
	uint64_t real_time; /* to SCHED_RR */
	uint64_t nice;	    /* to a nice value of -20 */
	uint64_t refused;   /* not at all: no such right */
	uint64_t cut_short; /* given back before the work was done: its time was over */
};
void capture_priority_use(const struct capture *capture, struct capture_priority_use *ret);
/*
 * Raises it, until it is given back, for as long as a window is open: on a host
 * whose processors are busy the window would otherwise last until this thread
 * has its turn.  Bounded by its CPU time like the above, if it is looked at now
 * and then.
 */
void capture_hurry(struct capture *capture, bool on);
void capture_hurry_look(struct capture *capture);

#endif
