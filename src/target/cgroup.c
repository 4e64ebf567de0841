/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/cgroup.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "target/mountinfo.h"
#include "target/proc.h"
#include "target/process.h"

#define CGROUP_BYTES_MAX (1U << 20)
#define MOUNTINFO_BYTES_MAX (16U << 20)
#define MOUNTS_MAX 100000 /* fs.mount-max of Linux */
#define VALUE_BYTES_MAX 64
#define STAT_BYTES_MAX (64U << 10)
/* Version 1 writes "no limit" as the largest multiple of the page size (mm/page_counter.c). */
#define VERSION1_UNLIMITED (1ULL << 62)

/* The names of one version's files. memsw: memory and swap together, which may be limited too. */
struct version {
	const char *type;	/* of the file system */
	const char *controller; /* in /proc/PID/cgroup and in the mount's options; "": none */
	const char *limits[2];	/* the smaller one counts */
	const char *usage;
	const char *swap_limit, *swap_usage;	  /* NULL: no such thing */
	const char *inactive, *dirty, *writeback; /* rows of memory.stat, with all below */
};

static const struct version versions[] = {
	{
		.type = "cgroup",
		.controller = "memory",
		.limits = {"memory.limit_in_bytes", NULL},
		.usage = "memory.usage_in_bytes",
		.swap_limit = "memory.memsw.limit_in_bytes",
		.swap_usage = "memory.memsw.usage_in_bytes",
		.inactive = "total_inactive_file",
		.dirty = "total_dirty",
		.writeback = "total_writeback",
	},
	{
		.type = "cgroup2",
		.controller = "",
		/* Beyond "high" nobody is killed, but put to sleep: just as bad for a service. */
		.limits = {"memory.max", "memory.high"},
		.usage = "memory.current",
		.inactive = "inactive_file",
		.dirty = "file_dirty",
		.writeback = "file_writeback",
	},
};

/* One file's number. -ENOENT: no such file; "max" and its kind are CGROUP_UNLIMITED. */
static int read_value(const char *group, const char *file, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char *path = NULL;
	const char *at;
	size_t size;
	int r;

	if (asprintf(&path, "%s/%s", group, file) < 0)
		return -ENOMEM;
	r = file_read(path, VALUE_BYTES_MAX, &text, &size);
	if (r < 0)
		return r;
	at = text;
	if (strcmp(text, "max\n") == 0 || strcmp(text, "max") == 0)
		*ret = CGROUP_UNLIMITED;
	else if (!scan_decimal(&at, text + size, ret))
		return -EBADMSG;
	if (*ret >= VERSION1_UNLIMITED)
		*ret = CGROUP_UNLIMITED;
	return 0;
}

/* A file that a kernel or a level does not have (the root, mostly) limits nothing. */
static int read_limit(const char *group, const char *file, uint64_t *ret)
{
	int r = file ? read_value(group, file, ret) : -ENOENT;

	if (r == -ENOENT) {
		*ret = CGROUP_UNLIMITED;
		return 0;
	}
	return r;
}

/* "name value" lines. */
static uint64_t stat_row(const char *text, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		uint64_t value;

		if (*line == '\n')
			line++;
		if (strncmp(line, name, length) != 0 || line[length] != ' ')
			continue;
		line += length + 1;
		return scan_decimal(&line, line + strlen(line), &value) ? value : 0;
	}
	return 0;
}

/* File pages that were not used lately and need not be written first; 0 where unknown. */
static uint64_t read_reclaimable(const char *group, const struct version *version)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char *path = NULL;
	uint64_t inactive, unclean;

	if (asprintf(&path, "%s/memory.stat", group) < 0)
		return 0;
	if (file_read(path, STAT_BYTES_MAX, &text, NULL) < 0)
		return 0;
	inactive = stat_row(text, version->inactive);
	unclean = stat_row(text, version->dirty) + stat_row(text, version->writeback);
	return inactive > unclean ? inactive - unclean : 0;
}

static uint64_t saturating_sub(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void narrow(struct cgroup_headroom *headroom, const char *group, uint64_t limit,
		   uint64_t usage, uint64_t reclaimable)
{
	uint64_t free_bytes = saturating_sub(limit, usage);
	uint64_t with_reclaim = saturating_sub(limit, saturating_sub(usage, reclaimable));

	if (with_reclaim < headroom->reclaimable_bytes)
		headroom->reclaimable_bytes = with_reclaim;
	if (free_bytes >= headroom->free_bytes)
		return;
	headroom->free_bytes = free_bytes;
	headroom->limit_bytes = limit;
	headroom->usage_bytes = usage;
	snprintf(headroom->group, sizeof(headroom->group), "%s", group);
}

static int narrow_by_pair(struct cgroup_headroom *headroom, const char *group,
			  const struct version *version, uint64_t limit, const char *usage_file)
{
	uint64_t usage;
	int r;

	if (limit == CGROUP_UNLIMITED)
		return 0;
	r = read_value(group, usage_file, &usage);
	if (r < 0)
		return r == -ENOENT ? -ENODATA : r;
	narrow(headroom, group, limit, usage, read_reclaimable(group, version));
	return 0;
}

static int narrow_by_group(struct cgroup_headroom *headroom, const char *group,
			   const struct version *version)
{
	uint64_t limit, other, swap_limit;
	int r;

	r = read_limit(group, version->limits[0], &limit);
	if (r < 0)
		return r;
	r = read_limit(group, version->limits[1], &other);
	if (r < 0)
		return r;
	r = read_limit(group, version->swap_limit, &swap_limit);
	if (r < 0)
		return r;
	r = narrow_by_pair(headroom, group, version, other < limit ? other : limit, version->usage);
	if (r < 0)
		return r;
	return narrow_by_pair(headroom, group, version, swap_limit, version->swap_usage);
}

/* From the group up to where its hierarchy is mounted; group is cut down on the way. */
static int narrow_by_levels(struct cgroup_headroom *headroom, char *group, size_t mount_length,
			    const struct version *version)
{
	struct stat status;

	if (stat(group, &status) < 0)
		return errno == ENOENT ? -ENODATA : -errno;
	for (unsigned level = 0; level < CGROUP_LEVELS_MAX; level++) {
		int r = narrow_by_group(headroom, group, version);

		if (r < 0 || strlen(group) <= mount_length)
			return r;
		*strrchr(group + mount_length, '/') = '\0';
	}
	return -E2BIG;
}

/* A line "N:CONTROLLERS:PATH" of /proc/PID/cgroup, up to end; false: it is none, or too long. */
static bool parse_group_line(const char *line, const char *end, char controllers[static 256],
			     char path[static CGROUP_PATH_MAX])
{
	const char *first = memchr(line, ':', (size_t)(end - line));
	const char *second = first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
	int n_controllers, n_path;

	if (!second)
		return false;
	n_controllers = (int)(second - first - 1);
	n_path = (int)(end - second - 1);
	return snprintf(controllers, 256, "%.*s", n_controllers, first + 1) < 256 &&
	       snprintf(path, CGROUP_PATH_MAX, "%.*s", n_path, second + 1) < CGROUP_PATH_MAX;
}

/* The group's path in its hierarchy, relative to our cgroup namespace. */
static bool find_group_line(const char *cgroup, const struct version *version,
			    char ret[static CGROUP_PATH_MAX])
{
	for (const char *line = cgroup; *line;) {
		const char *end = strchrnul(line, '\n');
		char controllers[256];

		if (parse_group_line(line, end, controllers, ret) && ret[0] == '/' &&
		    (version->controller[0] ? mountinfo_has_option(controllers, version->controller)
					    : controllers[0] == '\0'))
			return true;
		line = *end ? end + 1 : end;
	}
	return false;
}

static bool has_parent_component(const char *path)
{
	size_t length = strlen(path);

	return strstr(path, "/../") || (length >= 3 && strcmp(path + length - 3, "/..") == 0);
}

/*
 * The directory of the group below a mount of its hierarchy whose root holds
 * it.  Both paths are relative to our cgroup namespace and may begin with
 * "/..": outside of it only what the mount's root names can be reached.
 */
static bool group_directory(const struct mountinfo *mount, const char *path, const char *prefix,
			    char ret[static CGROUP_PATH_MAX], size_t *ret_mount_length)
{
	size_t root_length = strcmp(mount->root, "/") == 0 ? 0 : strlen(mount->root);
	const char *below = path + root_length;
	const char *mount_point = strcmp(mount->mount_point, "/") == 0 ? "" : mount->mount_point;
	int length;

	if (strncmp(path, mount->root, root_length) != 0 || (*below && *below != '/') ||
	    has_parent_component(below))
		return false;
	if (strcmp(below, "/") == 0)
		below = "";
	length = snprintf(ret, CGROUP_PATH_MAX, "%s%s%s", prefix, mount_point, below);
	*ret_mount_length = strlen(prefix) + strlen(mount_point);
	return length > 0 && length < CGROUP_PATH_MAX;
}

static bool is_mount_of(const struct mountinfo *mount, const struct version *version)
{
	return strcmp(mount->type, version->type) == 0 &&
	       (!version->controller[0] ||
		mountinfo_has_option(mount->super_options, version->controller));
}

/* Where one version's group of the process is. -ENODATA: out of our sight. */
static int find_group(const char *path, const char *mountinfo, const char *prefix,
		      const struct version *version, char ret[static CGROUP_PATH_MAX],
		      size_t *ret_mount_length)
{
	const char *at = *mountinfo ? mountinfo : NULL;

	for (unsigned i = 0; at && i < MOUNTS_MAX; i++) {
		struct mountinfo mount;
		struct stat status;

		if (mountinfo_next(&at, &mount) && is_mount_of(&mount, version) &&
		    group_directory(&mount, path, prefix, ret, ret_mount_length) &&
		    stat(ret, &status) == 0)
			return 0;
	}
	return -ENODATA;
}

static int narrow_by_version(struct cgroup_headroom *headroom, const struct version *version,
			     const char *path, const char *mountinfo, const char *prefix)
{
	_cleanup_free_ char *group = malloc(CGROUP_PATH_MAX);
	size_t mount_length;
	int r;

	if (!group)
		return -ENOMEM;
	r = find_group(path, mountinfo, prefix, version, group, &mount_length);
	if (r < 0)
		return r;
	return narrow_by_levels(headroom, group, mount_length, version);
}

int cgroup_headroom_of(const char *cgroup, const char *mountinfo, const char *prefix,
		       struct cgroup_headroom *ret)
{
	struct cgroup_headroom headroom = {.free_bytes = CGROUP_UNLIMITED,
					   .reclaimable_bytes = CGROUP_UNLIMITED,
					   .limit_bytes = CGROUP_UNLIMITED};

	/* The memory controller is of one version only: where version 1 has it, 2 has not. */
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		char path[CGROUP_PATH_MAX];
		int r;

		if (!find_group_line(cgroup, &versions[i], path))
			continue;
		r = narrow_by_version(&headroom, &versions[i], path, mountinfo, prefix);
		if (r < 0)
			return r;
		break;
	}
	*ret = headroom;
	return 0;
}

int cgroup_headroom(pid_t pid, struct cgroup_headroom *ret)
{
	_cleanup_free_ char *cgroup = NULL;
	_cleanup_free_ char *mountinfo = NULL;
	pid_t tid;
	int r;

	/* A first thread that has ended was moved to the root (cgroup_exit of the kernel). */
	r = process_living_thread(pid, &tid);
	if (r == 0)
		r = proc_read_task(pid, tid, "cgroup", CGROUP_BYTES_MAX, &cgroup, NULL);
	if (r < 0)
		return r;
	r = file_read("/proc/self/mountinfo", MOUNTINFO_BYTES_MAX, &mountinfo, NULL);
	if (r < 0)
		return r;
	return cgroup_headroom_of(cgroup, mountinfo, "", ret);
}
