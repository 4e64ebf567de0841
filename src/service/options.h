/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The command line.  Options are rows (name, type, bounds, default,
 * configuration key, help); the parser, --help and the manual's table come
 * from them.
 */
#ifndef PYLEAKD_SERVICE_OPTIONS_H
#define PYLEAKD_SERVICE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "report/snapshot.h"

#define OPTIONS_PIDS_MAX 64
#define OPTIONS_MESSAGE_BYTES 512
#define OPTIONS_TOP_MAX 100000
#define OPTIONS_PID_MAX (1 << 22) /* PID_MAX_LIMIT of Linux, include/linux/threads.h, 6.18 */

enum exit_status {
	STATUS_OK = 0,
	STATUS_FAILED = 1, /* could not start or go on */
	STATUS_USAGE = 2,
	STATUS_LEAK = 3, /* --fail-on-leak, and there is one */
};

enum command {
	COMMAND_ATTACH, /* pyleakd --pid PID */
	COMMAND_DAEMON, /* pyleakd [--config FILE] */
	COMMAND_RUN,
	COMMAND_CHECK,
	COMMAND_REPLAY,
	COMMAND_HELP,
	COMMAND_VERSION,
};

enum session_mode { MODE_EXACT, MODE_SAMPLED };

#define CONFIG_FILE_DEFAULT "/etc/pyleakd.conf"

#define OPTIONS_BUDGET_PERCENT 5 /* where it is not given */

enum report_format { FORMAT_TEXT, FORMAT_JSON, FORMAT_FOLDED };

struct options {
	enum command command;
	pid_t pids[OPTIONS_PIDS_MAX]; /* no pid twice */
	size_t n_pids;
	uint64_t duration_ns;	/* 0: until Ctrl-C, SIGTERM, SIGHUP or the target's exit */
	enum session_mode mode; /* MODE_SAMPLED; with record MODE_EXACT */
	double budget_percent;	/* of MODE_SAMPLED; NAN: not given */
	uint64_t interval_ns;	/* 5 s */
	enum report_format format;
	const char *output; /* NULL: standard output; what output_new() takes */
	uint64_t top;	    /* 10 */
	bool subprocesses;
	bool fail_on_leak;
	const char *record; /* NULL: none is kept */
	bool no_probes;
	const char *config;	/* COMMAND_DAEMON; NULL: CONFIG_FILE_DEFAULT, where that is */
	const char *recording;	/* COMMAND_REPLAY */
	char *const *arguments; /* COMMAND_RUN: the command, NULL behind the last */
};

/*
 * Strings in *ret are argv's. -EINVAL: not a usage that is known, and
 * ret_message (OPTIONS_MESSAGE_BYTES) says "what went wrong: what to do",
 * without a newline. argv is not changed.
 */
int options_parse(int argc, char *const argv[], struct options *ret, char *ret_message);

/*
 * One line of a configuration file: the option whose key it is takes the value.
 * -ENOENT: no option has that key, nothing is said; -EINVAL: as above.  After an
 * error options is untouched.
 */
int options_set(struct options *options, const char *key, const char *value, char *ret_message);

/* --help; and the manual's table of options, in man(7) macros. 0 or the sink's error. */
int options_help(const struct sink *sink);
int options_manual(const struct sink *sink);

#endif
