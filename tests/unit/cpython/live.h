/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* A running interpreter, opened: its memory, the image that holds CPython, where it is loaded. */
#ifndef TESTS_CPYTHON_LIVE_H
#define TESTS_CPYTHON_LIVE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cpython/interpreter.h"
#include "target/maps.h"

#define LIVE_THREADS_MAX 256

struct live {
	pid_t pid;
	struct memory *memory;
	struct image *image;
	uint64_t bias;
	pid_t native_ids[LIVE_THREADS_MAX];
	size_t n_native_ids;
};

static inline int live_open_file(pid_t pid, uint64_t start, uint64_t end, const char *name)
{
	char path[4096 + 64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, start, end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/root%s", pid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Is CPython of any version in this mapping's file? Then it becomes the live's image. */
static inline bool live_try(struct live *live, const char *line)
{
	struct interpreter_version version;
	struct maps_entry entry;
	_cleanup_close_ int fd = -1;
	uint64_t start, end, offset;
	char permissions[8], name[4096] = "";
	const char *why;
	int error;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %4095s", &start, &end,
		   permissions, &offset, name) < 5 ||
	    permissions[2] != 'x' || name[0] != '/')
		return false;
	fd = live_open_file(live->pid, start, end, name);
	if (fd < 0 || image_new(fd, &live->image, NULL))
		return false;
	error = interpreter_identify(live->image, &version, &why, NULL);
	entry = (struct maps_entry){ .start = start, .end = end, .offset = offset };
	if ((error && error != -EOPNOTSUPP) ||
	    maps_load_bias(&entry, live->image, &live->bias)) {
		image_free(live->image);
		live->image = NULL;
		return false;
	}
	return true;
}

static inline void live_threads(struct live *live)
{
	_cleanup_closedir_ DIR *directory = NULL;
	struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", live->pid);
	directory = opendir(path);
	live->n_native_ids = 0;
	while (directory && (entry = readdir(directory)) &&
	       live->n_native_ids < LIVE_THREADS_MAX)
		if (entry->d_name[0] != '.')
			live->native_ids[live->n_native_ids++] =
				(pid_t)strtol(entry->d_name, NULL, 10);
}

static inline void live_close(struct live *live)
{
	memory_free(live->memory);
	image_free(live->image);
	*live = (struct live){ 0 };
}

/* False: no CPython in it. */
static inline bool live_open(struct live *live, pid_t pid)
{
	_cleanup_fclose_ FILE *maps = NULL;
	char path[64], line[8192];

	*live = (struct live){ .pid = pid };
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	while (maps && !live->image && fgets(line, sizeof(line), maps))
		live_try(live, line);
	live_threads(live);
	if (live->image && !memory_new_process(pid, &live->memory, NULL))
		return true;
	live_close(live);
	return false;
}

static inline int live_interpreter(struct live *live, struct interpreter **ret,
				   struct fault *reterr_fault)
{
	return interpreter_new(live->memory, live->image, live->bias, live->native_ids,
			       live->n_native_ids, ret, reterr_fault);
}

#endif
