/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/proc.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

static int read_path(const char *path, size_t max_bytes, char **ret, size_t *ret_size)
{
	int r = file_read(path, max_bytes, ret, ret_size);

	return r == -ENOENT ? -ESRCH : r;
}

int proc_read(pid_t pid, const char *name, size_t max_bytes, char **ret, size_t *ret_size)
{
	char path[PROC_PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return read_path(path, max_bytes, ret, ret_size);
}

int proc_read_task(pid_t pid, pid_t tid, const char *name, size_t max_bytes, char **ret,
		   size_t *ret_size)
{
	char path[PROC_PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, name);
	return read_path(path, max_bytes, ret, ret_size);
}

const char *proc_field(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, length) == 0 && line[length] == ':') {
			line += length + 1;
			return line + strspn(line, " \t");
		}
	}
	return NULL;
}

bool proc_field_u64(const char *text, const char *key, uint64_t *ret)
{
	const char *value = proc_field(text, key);
	uint64_t number;

	if (!value || !scan_decimal(&value, value + strlen(value), &number))
		return false;
	if (strncmp(value, " kB", 3) == 0 && __builtin_mul_overflow(number, 1024U, &number))
		return false;
	*ret = number;
	return true;
}

static int compare_pids(const void *a, const void *b)
{
	const pid_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

struct ids {
	pid_t *ids;
	size_t n, capacity, max;
};

static int add_id(struct ids *list, pid_t id)
{
	size_t capacity = list->capacity ? list->capacity * 2 : 64;
	pid_t *ids;

	if (list->n == list->max)
		return -E2BIG;
	if (list->n == list->capacity) {
		ids = realloc(list->ids, capacity * sizeof(*ids));
		if (!ids)
			return -ENOMEM;
		list->ids = ids;
		list->capacity = capacity;
	}
	list->ids[list->n++] = id;
	return 0;
}

static int add_names(struct ids *list, DIR *directory)
{
	const struct dirent *entry;

	while (errno = 0, entry = readdir(directory)) {
		uint64_t id;
		int r;

		if (parse_u64(entry->d_name, 1, INT_MAX, &id) < 0)
			continue;
		r = add_id(list, (pid_t)id);
		if (r < 0)
			return r;
	}
	return errno == ENOENT ? -ESRCH : -errno;
}

int proc_list_ids(const char *path, size_t max, pid_t **ret, size_t *ret_n)
{
	_cleanup_closedir_ DIR *directory = opendir(path);
	struct ids list = {.max = max};
	int r;

	if (!directory)
		return errno == ENOENT ? -ESRCH : -errno;
	r = add_names(&list, directory);
	if (r < 0) {
		free(list.ids);
		return r;
	}
	if (list.n > 0)
		qsort(list.ids, list.n, sizeof(*list.ids), compare_pids);
	*ret = list.ids;
	*ret_n = list.n;
	return 0;
}
