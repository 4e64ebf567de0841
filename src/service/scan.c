/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/scan.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/discover.h"
#include "target/proc.h"
#include "target/process.h"

#define PIDS_MAX (4u << 20) /* PID_MAX_LIMIT of include/linux/threads.h */

struct seen {
	struct process_id id;
	bool python; /* at the last look */
	double next_at, pause_seconds;
};

struct scan {
	struct seen *seen; /* ascending by pid */
	size_t n;
};

int scan_new(struct scan **ret)
{
	struct scan *scan = calloc(1, sizeof(*scan));

	if (!scan)
		return -ENOMEM;
	*ret = scan;
	return 0;
}

void scan_free(struct scan *scan)
{
	if (!scan)
		return;
	free(scan->seen);
	free(scan);
}

/* before: the same pid at the last scan, or NULL. False: it is gone. */
static bool look(const struct seen *before, pid_t pid, double now, struct seen *ret)
{
	*ret = (struct seen){.pause_seconds = SCAN_PAUSE_SECONDS / 2};
	if (process_identify(pid, &ret->id) < 0)
		return false;
	if (before && before->id.start_ticks == ret->id.start_ticks) {
		*ret = *before;
		if (now < before->next_at)
			return true;
	}
	ret->python = discover_is_candidate(pid);
	ret->pause_seconds = fmin(2 * ret->pause_seconds, SCAN_PAUSE_SECONDS_MAX);
	ret->next_at = now + ret->pause_seconds;
	return true;
}

int scan_run(struct scan *scan, double now, pid_t **ret, size_t *ret_n)
{
	_cleanup_free_ pid_t *pids = NULL;
	struct seen *seen;
	size_t n_pids, at = 0, n = 0, n_python = 0;
	int r = proc_list_ids("/proc", PIDS_MAX, &pids, &n_pids);

	if (r < 0)
		return r;
	seen = calloc(n_pids + 1, sizeof(*seen));
	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < n_pids; i++) {
		while (at < scan->n && scan->seen[at].id.pid < pids[i])
			at++;
		if (pids[i] == getpid() ||
		    !look(at < scan->n && scan->seen[at].id.pid == pids[i] ? &scan->seen[at] : NULL,
			  pids[i], now, &seen[n]))
			continue;
		if (seen[n++].python)
			pids[n_python++] = pids[i];
	}
	free(scan->seen);
	scan->seen = seen;
	scan->n = n;
	*ret = TAKE_PTR(pids);
	*ret_n = n_python;
	return 0;
}
