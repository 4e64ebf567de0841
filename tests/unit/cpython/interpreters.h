/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The CPython interpreters that this machine can run, as oracles: those that
 * `tools/interpreters.sh list` knows (Debian's own, unpacked ones, pyenv's), and
 * the paths that PYLEAKD_INTERPRETERS lists, separated by colons.  A test that
 * finds none is skipped, visibly.
 */
#ifndef TESTS_CPYTHON_INTERPRETERS_H
#define TESTS_CPYTHON_INTERPRETERS_H

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cpython/layout.h"
#include "cpython/memory.h"

#define ORACLES_MAX 64
#define ORACLE_WORDS_MAX 8
#define SCRIPT_MAX_BYTES 65536

struct interpreters {
	char *names[ORACLES_MAX];
	char *commands[ORACLES_MAX]; /* words separated by single blanks */
	size_t n;
};

/* Path of a file, given from the top of the tree. */
static inline void tree_path(char *path, size_t size, const char *name)
{
	char here[PATH_MAX];

	snprintf(here, sizeof(here), "%s", __FILE__);
	snprintf(path, size, "%s/../../../%s", dirname(here), name);
}

static inline void interpreters_add(struct interpreters *found, const char *name,
				    const char *command)
{
	if (found->n == ORACLES_MAX)
		return;
	found->names[found->n] = strdup(name);
	found->commands[found->n++] = strdup(command);
}

static inline void interpreters_add_known(struct interpreters *found)
{
	char tool[PATH_MAX], command[PATH_MAX + 16], line[4 * PATH_MAX];
	FILE *list;

	tree_path(tool, sizeof(tool), "tools/interpreters.sh");
	snprintf(command, sizeof(command), "bash '%s' list", tool);
	list = popen(command, "r");
	while (list && fgets(line, sizeof(line), list)) {
		char *rest = line, *name = strsep(&rest, "\t"), *how = strsep(&rest, "\t");

		if (how && strncmp(how, "chroot ", 7) == 0 && geteuid() != 0)
			print_message("skipped %s: chroot needs root\n", name);
		else if (how)
			interpreters_add(found, name, how);
	}
	if (list)
		pclose(list);
}

static inline void interpreters_find(struct interpreters *found)
{
	const char *listed = getenv("PYLEAKD_INTERPRETERS");
	_cleanup_free_ char *copy = listed ? strdup(listed) : NULL;
	char *rest = copy, *path;

	found->n = 0;
	interpreters_add_known(found);
	while (rest && (path = strsep(&rest, ":")))
		if (access(path, X_OK) == 0)
			interpreters_add(found, path, path);
	if (!found->n)
		print_message("no interpreter: set PYLEAKD_INTERPRETERS\n");
}

static inline void interpreters_done(struct interpreters *found)
{
	for (; found->n; found->n--) {
		free(found->names[found->n - 1]);
		free(found->commands[found->n - 1]);
	}
}

/* Each that is found; none is a skip. */
static inline void for_each_interpreter(void (*check)(const char *name, const char *command))
{
	struct interpreters found;

	interpreters_find(&found);
	if (!found.n)
		skip();
	for (size_t i = 0; i < found.n; i++)
		check(found.names[i], found.commands[i]);
	interpreters_done(&found);
}

/* With the debug hooks around their allocators. */
static inline void for_each_debugged(void (*check)(const char *name, const char *command))
{
	setenv("PYTHONMALLOC", "pymalloc_debug", 1);
	for_each_interpreter(check);
	unsetenv("PYTHONMALLOC");
}

/* A child that runs a script from this folder; it answers a line to each line that it is sent. */
struct child {
	pid_t pid;
	FILE *to, *from;
	char line[1 << 18]; /* the last answer, without its newline */
};

static inline char *script_read(const char *name)
{
	char path[PATH_MAX], relative[NAME_MAX];
	char *text = calloc(1, SCRIPT_MAX_BYTES);
	FILE *file;

	snprintf(relative, sizeof(relative), "tests/unit/cpython/%s", name);
	tree_path(path, sizeof(path), relative);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_non_null(text);
	assert_true(fread(text, 1, SCRIPT_MAX_BYTES - 1, file) > 0);
	fclose(file);
	return text;
}

static inline void child_exec(const char *command, const char *script, int to, int from, int errors)
{
	char *argv[ORACLE_WORDS_MAX + 3] = { NULL };
	char *rest = strdup(command);
	size_t n = 0;

	while (rest && n < ORACLE_WORDS_MAX)
		argv[n++] = strsep(&rest, " ");
	argv[n++] = (char *)"-c";
	argv[n++] = (char *)script;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv("PYTHONHASHSEED", "0", 1);
	setenv("PYTHONIOENCODING", "utf-8", 1);
	dup2(to, STDIN_FILENO);
	dup2(from, STDOUT_FILENO);
	if (errors >= 0)
		dup2(errors, STDERR_FILENO);
	execvp(argv[0], argv);
	_exit(127);
}

/* errors: where its standard error goes; -1: to ours. */
static inline void child_start_with(struct child *child, const char *command,
				    const char *script_name, int errors)
{
	char *script = script_read(script_name);
	int to[2], from[2];

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	child->pid = fork();
	assert_true(child->pid >= 0);
	if (child->pid == 0)
		child_exec(command, script, to[0], from[1], errors);
	close(to[0]);
	close(from[1]);
	child->to = fdopen(to[1], "w");
	child->from = fdopen(from[0], "r");
	free(script);
}

static inline void child_start(struct child *child, const char *command, const char *script_name)
{
	child_start_with(child, command, script_name, -1);
}

/* The next line that the child says. */
static inline const char *child_hear(struct child *child)
{
	if (!fgets(child->line, sizeof(child->line), child->from))
		fail_msg("the interpreter is gone");
	child->line[strcspn(child->line, "\n")] = '\0';
	return child->line;
}

static inline const char *child_ask(struct child *child, const char *question)
{
	fprintf(child->to, "%s\n", question);
	fflush(child->to);
	return child_hear(child);
}

static inline void child_stop(struct child *child)
{
	fclose(child->to);
	fclose(child->from);
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
}

/* The layout of a child whose script says "MINOR MICRO …" now; *ret_rest: what follows. */
static inline const struct layout *child_layout(struct child *child, const char **ret_rest)
{
	unsigned minor, micro;
	int end = 0;
	const struct layout *layout;

	assert_int_equal(sscanf(child_hear(child), "%u %u %n", &minor, &micro, &end), 2);
	layout = layout_find(minor, micro);
	assert_non_null(layout);
	*ret_rest = child->line + end;
	return layout;
}

#endif
