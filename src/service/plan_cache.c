/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/plan_cache.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *format_path(const char *base, const char *rest)
{
	static char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s%s", base, rest);

	return n > 0 && (size_t)n < sizeof(path) ? path : NULL;
}

const char *plan_cache_directory(void)
{
	const char *directory;

	directory = getenv("PYLEAKD_CACHE_DIRECTORY");
	if (directory && *directory)
		return directory;
	directory = getenv("CACHE_DIRECTORY");
	if (directory && *directory)
		return directory;
	if (geteuid() == 0)
		return "/var/cache/pyleakd";
	directory = getenv("XDG_CACHE_HOME");
	if (directory && *directory)
		return format_path(directory, "/pyleakd");
	directory = getenv("HOME");
	return directory && *directory ? format_path(directory, "/.cache/pyleakd") : NULL;
}
