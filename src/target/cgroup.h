/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * How much memory a process may still take before a control group above it is
 * full: every level counts, of version 1 and of version 2, whichever of them
 * has the memory controller.
 *
 *	/                      no limit
 *	/system.slice          max 4 G, uses 1 G      headroom 3 G
 *	/system.slice/web      max 512 M, uses 500 M  headroom 12 M   <- sets it
 *
 * Levels outside of our own view (cgroup namespace, mounts) can't be asked.
 */
#ifndef PYLEAKD_TARGET_CGROUP_H
#define PYLEAKD_TARGET_CGROUP_H

#include <stdint.h>
#include <sys/types.h>

#define CGROUP_PATH_MAX 8192 /* bytes, NUL included */
#define CGROUP_LEVELS_MAX 128
#define CGROUP_UNLIMITED UINT64_MAX

struct cgroup_headroom {
	/* Limit minus usage, the smallest of all levels: what is free without the kernel's help. */
	uint64_t free_bytes;
	/*
	 * The same with what the kernel can drop at once (inactive, clean file pages):
	 * the smallest of all levels.  Never below free_bytes.
	 */
	uint64_t reclaimable_bytes;
	/* The group that sets free_bytes, and its figures; "" where nothing limits. */
	char group[CGROUP_PATH_MAX];
	uint64_t limit_bytes, usage_bytes;
};

/* -ESRCH; -ENODATA: the process's group isn't visible from here, so that nothing is known. */
int cgroup_headroom(pid_t pid, struct cgroup_headroom *ret);

/*
 * The same of invented texts: what /proc/PID/cgroup and /proc/self/mountinfo
 * say; the groups' files are looked for below prefix.
 */
int cgroup_headroom_of(const char *cgroup, const char *mountinfo, const char *prefix,
		       struct cgroup_headroom *ret);

#endif
