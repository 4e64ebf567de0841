/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What people call a process. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "target/proc.h"
#include "target/process.h"

#define CMDLINE_BYTES_MAX (1U << 20) /* of a longer one, "comm" has to serve */
#define ARGUMENTS_MAX 64	     /* of an interpreter, before its script */

/* Arguments one after another; each ends in NUL, because the buffer does. */
struct arguments {
	const char *at, *end;
};

static const char *next_argument(struct arguments *arguments)
{
	const char *argument = arguments->at;

	if (argument >= arguments->end)
		return NULL;
	arguments->at += strlen(argument) + 1;
	return argument;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static bool is_interpreter(const char *name)
{
	return strncmp(name, "python", 6) == 0 || strncmp(name, "pypy", 4) == 0;
}

enum option { OPTION_FLAGS, OPTION_TAKES_NEXT, OPTION_MODULE, OPTION_COMMAND };

/*
 * A cluster of the interpreter's short options ("-Bum"): what ends it.  *rest is
 * set to what follows the letter in the same argument ("-mflask").
 */
static enum option classify_option(const char *argument, const char **rest)
{
	if (strcmp(argument, "--check-hash-based-pycs") == 0)
		return OPTION_TAKES_NEXT;
	if (argument[1] == '-')
		return OPTION_FLAGS;
	for (const char *letter = argument + 1; *letter; letter++) {
		*rest = letter + 1;
		switch (*letter) {
		case 'm':
			return OPTION_MODULE;
		case 'c':
			return OPTION_COMMAND;
		case 'X':
		case 'W':
			return **rest ? OPTION_FLAGS : OPTION_TAKES_NEXT;
		default:
			break;
		}
	}
	return OPTION_FLAGS;
}

/* The script or module that the interpreter runs; NULL: none that has a name. */
static const char *script_of(struct arguments *arguments)
{
	for (unsigned i = 0; i < ARGUMENTS_MAX; i++) {
		const char *argument = next_argument(arguments);
		const char *rest = NULL;

		if (!argument || strcmp(argument, "-") == 0)
			return NULL;
		if (argument[0] != '-')
			return argument[0] ? base_name(argument) : NULL;
		switch (classify_option(argument, &rest)) {
		case OPTION_COMMAND:
			return NULL;
		case OPTION_MODULE:
			return *rest ? rest : next_argument(arguments);
		case OPTION_TAKES_NEXT:
			next_argument(arguments);
			break;
		case OPTION_FLAGS:
			break;
		}
	}
	return NULL;
}

/* "gunicorn: worker [app]": a title that the process has given itself, not a path. */
static bool is_title(const char *argument)
{
	const char *colon = strstr(argument, ": ");
	const char *slash = strchr(argument, '/');

	return colon && (!slash || colon < slash);
}

void process_display_name_of(const char *cmdline, size_t size, const char *comm,
			     char ret[static PROCESS_NAME_MAX])
{
	struct arguments arguments = {cmdline, cmdline + size};
	const char *program = next_argument(&arguments);
	const char *name, *script = NULL;

	if (!program || !*program) {
		name = comm;
	} else if (is_title(program)) {
		name = program;
	} else {
		name = base_name(program);
		if (is_interpreter(name))
			script = script_of(&arguments);
	}
	snprintf(ret, PROCESS_NAME_MAX, "%s", script ? script : name);
	text_make_printable(ret);
}

int process_display_name(pid_t pid, char ret[static PROCESS_NAME_MAX])
{
	_cleanup_free_ char *cmdline = NULL;
	struct process_stat stat;
	size_t size = 0;
	pid_t tid;
	int r;

	r = process_stat(pid, &stat);
	if (r < 0)
		return r;
	r = process_living_thread(pid, &tid);
	if (r == 0)
		r = proc_read_task(pid, tid, "cmdline", CMDLINE_BYTES_MAX, &cmdline, &size);
	if (r < 0 && r != -EFBIG)
		return r;
	process_display_name_of(cmdline ? cmdline : "", size, stat.name, ret);
	return 0;
}
