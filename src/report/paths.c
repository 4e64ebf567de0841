/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "report/paths.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/hash.h"

#define FILES_MAX (1u << 20)

/* Behind "lib/python3.11/", "lib64/python3.8/"; NULL: path has no such part. */
static const char *behind_library(const char *path)
{
	const char *at = path;

	while ((at = strstr(at, "/python3."))) {
		at += strlen("/python3.");
		at += strspn(at, "0123456789t");
		if (*at == '/')
			return at + 1;
	}
	return NULL;
}

/* The path from where a Python programmer would begin to read it; NULL: from nowhere special. */
static const char *importable(const char *path)
{
	static const char *const markers[] = {"/site-packages/", "/dist-packages/"};
	const char *at;

	for (size_t i = 0; i < sizeof(markers) / sizeof(markers[0]); i++) {
		at = strstr(path, markers[i]);
		if (at)
			return at + strlen(markers[i]);
	}
	at = behind_library(path);
	return at && *at ? at : NULL;
}

static size_t directory_bytes(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash + 1 - path) : 0;
}

/* Shortens what is shared so far to what path has in common with it. */
static void share(struct paths *paths, const char *path)
{
	size_t most = directory_bytes(path);
	size_t n = 0, same = 0;

	if (!paths->shared) {
		paths->shared = path;
		paths->shared_bytes = most;
		return;
	}
	while (n < paths->shared_bytes && n < most && path[n] == paths->shared[n]) {
		n++;
		if (path[n - 1] == '/')
			same = n;
	}
	paths->shared_bytes = same;
}

static const char *shorten(const struct paths *paths, const char *path)
{
	const char *at = importable(path);

	if (at)
		return at;
	if (paths->shared && strncmp(path, paths->shared, paths->shared_bytes) == 0)
		return path + paths->shared_bytes;
	return path;
}

static int note(struct paths *paths, const char *path)
{
	uint64_t key = hash_string(shorten(paths, path));
	uint64_t *full = table_find(&paths->full, key);

	if (!full)
		return table_put(&paths->full, key, hash_string(path));
	if (*full != hash_string(path))
		*full = 0;
	return 0;
}

const char *paths_shorten(const struct paths *paths, const char *path)
{
	const char *at = shorten(paths, path);
	const uint64_t *full = table_find(&paths->full, hash_string(at));

	return *at && full && *full == hash_string(path) ? at : path;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

int paths_init(struct paths *paths, const struct snapshot *snapshot, size_t n_sites,
	       size_t n_frames)
{
	*paths = (struct paths){.full = table_init(FILES_MAX)};
	n_sites = least(n_sites, snapshot->n_sites);
	for (size_t i = 0; i < n_sites; i++) {
		const struct snapshot_site *site = &snapshot->sites[i];

		for (size_t j = 0; j < least(n_frames, site->n_frames); j++)
			if (site->frames[j].file[0] == '/' && !importable(site->frames[j].file))
				share(paths, site->frames[j].file);
	}
	for (size_t i = 0; i < n_sites; i++) {
		const struct snapshot_site *site = &snapshot->sites[i];

		for (size_t j = 0; j < least(n_frames, site->n_frames); j++) {
			int r = note(paths, site->frames[j].file);

			if (r < 0) {
				paths_done(paths);
				return r;
			}
		}
	}
	return 0;
}

void paths_done(struct paths *paths)
{
	table_done(&paths->full);
}
