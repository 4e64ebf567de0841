/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * This thread's priority, raised for the moments in which it holds the target's
 * mmap lock, or the host's fork lock: preempted then, it would stall others
 * (54-68 ms were seen with the target at nice -20).  An attach takes some 3 ms
 * of CPU and waits for the kernel otherwise.
 */
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "capture/capture_private.h"
#include "capture/windows.h"

/* The lowest of the real-time priorities is above all that is none. */
#define PRIORITY_REAL_TIME 1
#define PRIORITY_NICE (-20)
/*
 * Of this thread's CPU time: ten times what a few hundred sites take, waiting
 * takes from nobody.  The kernel itself can't be interrupted, so that it is
 * looked at between two links; what remains is bounded by REFUSED_SITES_MAX and
 * the kernel's own limit for real-time threads.
 */
#define PRIORITY_MAX_CPU_NS (100 * NS_PER_MS)

static bool raise_to_real_time(struct priority *priority)
{
	const struct sched_param wanted = {.sched_priority = PRIORITY_REAL_TIME};

	priority->policy = sched_getscheduler(0);
	if (priority->policy < 0 || sched_getparam(0, &priority->param))
		return false;
	/* Children that this thread may fork get nothing of it. */
	return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &wanted) == 0;
}

static bool raise_nice(struct priority *priority)
{
	errno = 0;
	priority->nice = getpriority(PRIO_PROCESS, 0); /* 0: this thread, on Linux */
	if (priority->nice == -1 && errno)
		return false;
	return setpriority(PRIO_PROCESS, 0, PRIORITY_NICE) == 0;
}

static bool is_real_time(void)
{
	int policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;

	return policy == SCHED_RR || policy == SCHED_FIFO || policy == SCHED_DEADLINE;
}

void priority_raise(struct priority *priority, struct capture_priority_use *use)
{
	*priority = (struct priority){.use = use};
	if (is_real_time()) /* it was started so */
		return;
	priority->raised_at_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	if (raise_to_real_time(priority)) {
		priority->raised = PRIORITY_IS_REAL_TIME;
		priority->use->real_time++;
	} else if (raise_nice(priority)) {
		priority->raised = PRIORITY_IS_NICE;
		priority->use->nice++;
	} else {
		priority->use->refused++;
	}
}

void priority_give_back(struct priority *priority)
{
	int policy = priority->policy;

	if (priority->raised == PRIORITY_IS_REAL_TIME) {
		/* Without the right to drop the flag again (sched(7)), with it. */
		if (sched_setscheduler(0, policy, &priority->param))
			sched_setscheduler(0, policy | SCHED_RESET_ON_FORK, &priority->param);
	} else if (priority->raised == PRIORITY_IS_NICE) {
		setpriority(PRIO_PROCESS, 0, priority->nice);
	}
	priority->raised = PRIORITY_AS_IT_WAS;
}

void priority_look(struct priority *priority)
{
	if (!priority || priority->raised == PRIORITY_AS_IT_WAS ||
	    clock_ns(CLOCK_THREAD_CPUTIME_ID) - priority->raised_at_cpu_ns < PRIORITY_MAX_CPU_NS)
		return;
	priority_give_back(priority);
	priority->use->cut_short++;
}

void capture_hurry(struct capture *capture, bool on)
{
	if (!on)
		priority_give_back(&capture->hurry);
	else if (capture->hurry.raised == PRIORITY_AS_IT_WAS)
		priority_raise(&capture->hurry, &capture->priority_use);
}

void capture_hurry_look(struct capture *capture)
{
	if (capture->hurry.raised != PRIORITY_AS_IT_WAS)
		priority_look(&capture->hurry);
}
