/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The two clocks. Only service reads them; the other rooms take time as an argument. */
#ifndef PYLEAKD_BASE_CLOCK_H
#define PYLEAKD_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_SECOND 1000000000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_US 1000ULL

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now); /* can't fail for the clocks below */
	return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* Since some moment of the past, never backward; what intervals are measured by. */
static inline uint64_t clock_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* The same with the time asleep: what /proc/PID/stat's start times count in. */
static inline uint64_t clock_boottime_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

/* Since 1970, as people read it; it may jump. */
static inline uint64_t clock_realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

/* CPU time that this process has used, of all threads. */
static inline uint64_t clock_process_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

#endif
