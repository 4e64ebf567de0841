/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The CPython interpreters that this machine can run, as oracles: Debian's own,
 * those of `pyenv root`, and what PYLEAKD_INTERPRETERS lists, separated by
 * colons.  A test that finds none is skipped, visibly.
 */
#ifndef TESTS_CPYTHON_INTERPRETERS_H
#define TESTS_CPYTHON_INTERPRETERS_H

#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define INTERPRETERS_MAX 64

struct interpreters {
	char *paths[INTERPRETERS_MAX];
	size_t n;
};

static inline void interpreters_add(struct interpreters *found, const char *path)
{
	if (found->n < INTERPRETERS_MAX && access(path, X_OK) == 0)
		found->paths[found->n++] = strdup(path);
}

static inline void interpreters_add_glob(struct interpreters *found, const char *pattern)
{
	glob_t matches;

	if (glob(pattern, 0, NULL, &matches) == 0) {
		for (size_t i = 0; i < matches.gl_pathc; i++)
			interpreters_add(found, matches.gl_pathv[i]);
		globfree(&matches);
	}
}

static inline void interpreters_add_pyenv(struct interpreters *found)
{
	static const char *const versions[] = {"3.[89].*", "3.1[0-5].*"};
	char root[PATH_MAX], pattern[PATH_MAX + 64];
	FILE *pipe = popen("pyenv root 2>/dev/null", "r");

	if (!pipe)
		return;
	if (!fgets(root, sizeof(root), pipe))
		root[0] = '\0';
	pclose(pipe);
	root[strcspn(root, "\n")] = '\0';
	for (size_t i = 0; root[0] && i < ARRAY_SIZE(versions); i++) {
		snprintf(pattern, sizeof(pattern), "%s/versions/%s/bin/python3", root, versions[i]);
		interpreters_add_glob(found, pattern);
	}
}

static inline void interpreters_find(struct interpreters *found)
{
	const char *listed = getenv("PYLEAKD_INTERPRETERS");
	_cleanup_free_ char *copy = listed ? strdup(listed) : NULL;
	char *rest = copy, *path;

	found->n = 0;
	interpreters_add_glob(found, "/usr/bin/python3.[89]");
	interpreters_add_glob(found, "/usr/bin/python3.1[0-5]");
	interpreters_add_pyenv(found);
	while (rest && (path = strsep(&rest, ":")))
		interpreters_add_glob(found, path);
	if (!found->n)
		print_message("no interpreter: set PYLEAKD_INTERPRETERS\n");
}

static inline void interpreters_done(struct interpreters *found)
{
	while (found->n)
		free(found->paths[--found->n]);
}

/* Path of a file that lies beside this one. */
static inline void interpreters_script(char *path, size_t size, const char *name)
{
	char here[PATH_MAX];

	snprintf(here, sizeof(here), "%s", __FILE__);
	snprintf(path, size, "%s/%s", dirname(here), name);
}

/* What a script beside this file prints. pclose() it. */
static inline FILE *interpreters_run(const char *interpreter, const char *script)
{
	char path[PATH_MAX], command[3 * PATH_MAX];

	interpreters_script(path, sizeof(path), script);
	snprintf(command, sizeof(command), "'%s' '%s'", interpreter, path);
	return popen(command, "r");
}

#endif
