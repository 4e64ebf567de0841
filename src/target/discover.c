/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/discover.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/maps.h"
#include "target/proc.h"

#define PIDS_MAX (4U << 20) /* PID_MAX_LIMIT of include/linux/threads.h */

DEFINE_CLEANUP(struct maps *, maps_free)

bool discover_is_candidate(pid_t pid)
{
	CLEANUP(maps_free) struct maps *maps = NULL;
	const struct maps_entry *entries;
	size_t n;

	if (maps_load(pid, &maps, NULL) < 0)
		return false;
	n = maps_entries(maps, &entries);
	for (size_t i = 0; i < n; i++)
		if (maps_entry_names_python(&entries[i]))
			return true;
	return false;
}

int discover_candidates(pid_t **ret, size_t *ret_n)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n, kept = 0;
	int r = proc_list_ids("/proc", PIDS_MAX, &pids, &n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (pids[i] != getpid() && discover_is_candidate(pids[i]))
			pids[kept++] = pids[i];
	*ret = TAKE_PTR(pids);
	*ret_n = kept;
	return 0;
}
