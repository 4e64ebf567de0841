/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/file_mappings.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/cleanup.h"

#define KEPT_MAX 32 /* ranges whose answer is remembered, oldest replaced */

struct range {
	uint64_t start, end;
	bool on_disk;
};

struct file_mappings {
	pid_t pid;
	struct range kept[KEPT_MAX];
	size_t next; /* to be replaced */
};

int file_mappings_new(pid_t pid, struct file_mappings **ret)
{
	struct file_mappings *mappings = calloc(1, sizeof(*mappings));

	if (!mappings)
		return -ENOMEM;
	mappings->pid = pid;
	*ret = mappings;
	return 0;
}

void file_mappings_free(struct file_mappings *mappings)
{
	free(mappings);
}

static bool disk_status(const struct statfs *status)
{
	return status->f_type != TMPFS_MAGIC && status->f_type != RAMFS_MAGIC &&
	       status->f_type != HUGETLBFS_MAGIC;
}

/*
 * map_files leads to the file itself, deleted ones too, but takes privileges;
 * the name, seen from the process's own root, does without.
 */
static bool on_disk(pid_t pid, const struct range *range, const char *name)
{
	_cleanup_free_ char *path = NULL;
	struct statfs status;
	char link[96];

	if (name[0] != '/')
		return false;
	snprintf(link, sizeof(link), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, range->start,
		 range->end);
	if (!statfs(link, &status))
		return disk_status(&status);
	if (asprintf(&path, "/proc/%d/root%s", pid, name) < 0)
		return false;
	return !statfs(path, &status) && disk_status(&status);
}

static bool look_up(pid_t pid, uint64_t address, struct range *ret)
{
	_cleanup_fclose_ FILE *maps = NULL;
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return false;
	while (getline(&line, &capacity, maps) > 0) {
		struct range range;
		int name = 0;

		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %*s %n", &range.start,
			   &range.end, &name) < 2)
			return false;
		if (address < range.start)
			return false;
		if (address >= range.end)
			continue;
		range.on_disk = name > 0 && on_disk(pid, &range, line + name);
		*ret = range;
		return true;
	}
	return false;
}

bool file_mappings_has(struct file_mappings *mappings, uint64_t address)
{
	struct range *kept = mappings->kept;

	for (size_t i = 0; i < KEPT_MAX; i++)
		if (kept[i].start <= address && address < kept[i].end)
			return kept[i].on_disk;
	if (!look_up(mappings->pid, address, &kept[mappings->next]))
		return false;
	mappings->next = (mappings->next + 1) % KEPT_MAX;
	return kept[(mappings->next + KEPT_MAX - 1) % KEPT_MAX].on_disk;
}
