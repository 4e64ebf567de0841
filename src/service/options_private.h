/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The rows of the command line, between their parser and the texts that are made of them. */
#ifndef PYLEAKD_SERVICE_OPTIONS_PRIVATE_H
#define PYLEAKD_SERVICE_OPTIONS_PRIVATE_H

#include "service/options.h"

enum option_type {
	TYPE_FLAG,     /* bool */
	TYPE_PIDS,     /* struct options.pids */
	TYPE_DURATION, /* uint64_t, nanoseconds; bounds in seconds */
	TYPE_COUNT,    /* uint64_t */
	TYPE_PERCENT,  /* double */
	TYPE_FILE,     /* const char * */
	TYPE_CHOICE,   /* unsigned */
	TYPE_COMMAND,  /* takes the place of the command: --help, --version */
};

struct option_choice {
	const char *name;
	unsigned value;
	const char *refusal; /* what to do instead; NULL: it may be chosen */
};

/* Which commands an option goes with. */
#define WITH(command) (1u << (command))
#define WITH_SESSION (WITH(COMMAND_ATTACH) | WITH(COMMAND_RUN))
#define WITH_REPORT (WITH_SESSION | WITH(COMMAND_REPLAY))
#define WITH_ANY (~0u)

struct option_row {
	char letter; /* 0: none */
	const char *name;
	const char *argument; /* as --help calls it; NULL: takes none */
	enum option_type type;
	size_t offset;	 /* in struct options */
	double min, max; /* in the unit that the user writes */
	const struct option_choice *choices;
	unsigned value; /* TYPE_COMMAND */
	unsigned with;
	const char *standard; /* the default, in words; NULL: not worth a word */
	const char *key;      /* in the configuration file; NULL: command line only */
	const char *help;
};

struct option_command {
	const char *word; /* NULL: an option makes it this one */
	enum command command;
	const char *usage, *help;
};

extern const struct option_row option_rows[];
extern const size_t n_option_rows; /* at most 64: a bit each in parser.given */

extern const struct option_command option_commands[];
extern const size_t n_option_commands;

#endif
