/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/options_private.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

#define PERCENT_DIGITS_MAX 15

/* --- parsing --- */

struct parser {
	char *const *argv; /* NULL behind the last */
	size_t at;
	struct options options;
	bool command_given;
	uint64_t given;	    /* a bit a row */
	const char *dashes; /* before an option's name in messages: "--", or "" for a key */
	char *message;
};

static int __attribute__((format(printf, 2, 3)))
refuse(struct parser *parser, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(parser->message, OPTIONS_MESSAGE_BYTES, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static const char *time_example(const struct option_row *row)
{
	return row->max > 86400 ? "30s, 5m or 2h" : "500ms, 5s or 1m";
}

static int take_duration(struct parser *parser, const struct option_row *row, const char *text)
{
	uint64_t *value = (uint64_t *)((char *)&parser->options + row->offset);
	uint64_t ns;
	int r = parse_duration_ns(text, &ns);

	if (r == -EINVAL)
		return refuse(parser, "%s%s: '%.64s' is not a time: write for example %s",
			      parser->dashes, row->name, text, time_example(row));
	if (r < 0 || (double)ns < row->min * NS_PER_SECOND || (double)ns > row->max * NS_PER_SECOND)
		return refuse(parser, "%s%s: '%.64s' is out of bounds: from 100ms to %.0f days",
			      parser->dashes, row->name, text, floor(row->max / 86400));
	*value = ns;
	return 0;
}

static int take_number(struct parser *parser, const struct option_row *row, const char *text,
		       uint64_t *ret)
{
	if (parse_u64(text, (uint64_t)row->min, (uint64_t)row->max, ret) < 0)
		return refuse(parser, "%s%s: '%.64s' is not a number from %.0f to %.0f: give one",
			      parser->dashes, row->name, text, row->min, row->max);
	return 0;
}

static int take_count(struct parser *parser, const struct option_row *row, const char *text)
{
	return take_number(parser, row, text, (uint64_t *)((char *)&parser->options + row->offset));
}

static int take_pid(struct parser *parser, const struct option_row *row, const char *text)
{
	struct options *options = &parser->options;
	uint64_t pid;
	int r = take_number(parser, row, text, &pid);

	if (r < 0)
		return r;
	for (size_t i = 0; i < options->n_pids; i++)
		if (options->pids[i] == (pid_t)pid)
			return 0;
	if (options->n_pids == OPTIONS_PIDS_MAX)
		return refuse(parser, "--pid: more than %d processes: start a second pyleakd",
			      OPTIONS_PIDS_MAX);
	options->pids[options->n_pids++] = (pid_t)pid;
	return 0;
}

static int take_percent(struct parser *parser, const struct option_row *row, const char *text)
{
	size_t size = strspn(text, "0123456789.");
	double value = strtod(text, NULL); /* digits and points only: no locale, no hexadecimal */
	char *end;

	if (size == 0 || size > PERCENT_DIGITS_MAX || text[size] != '\0' ||
	    (strtod(text, &end), *end != '\0') || value < row->min || value > row->max)
		return refuse(parser, "%s%s: '%.64s' is not a percentage from %g to %g: give one",
			      parser->dashes, row->name, text, row->min, row->max);
	*(double *)((char *)&parser->options + row->offset) = value;
	return 0;
}

static int take_file(struct parser *parser, const struct option_row *row, const char *text)
{
	if (*text == '\0')
		return refuse(parser, "%s%s: the file has no name: give one", parser->dashes,
			      row->name);
	*(const char **)((char *)&parser->options + row->offset) = text;
	return 0;
}

static int take_choice(struct parser *parser, const struct option_row *row, const char *text)
{
	for (const struct option_choice *choice = row->choices; choice->name; choice++) {
		if (strcmp(choice->name, text) != 0)
			continue;
		if (choice->refusal)
			return refuse(parser, "%s%s %s is not there yet: %s", parser->dashes,
				      row->name, text, choice->refusal);
		*(unsigned *)((char *)&parser->options + row->offset) = choice->value;
		return 0;
	}
	return refuse(parser, "%s%s: '%.64s' is none of %s: choose one", parser->dashes, row->name,
		      text, row->argument);
}

static int take(struct parser *parser, const struct option_row *row, const char *text)
{
	parser->given |= 1ULL << (row - option_rows);
	switch (row->type) {
	case TYPE_FLAG:
		*(bool *)((char *)&parser->options + row->offset) = true;
		return 0;
	case TYPE_PIDS:
		return take_pid(parser, row, text);
	case TYPE_DURATION:
		return take_duration(parser, row, text);
	case TYPE_COUNT:
		return take_count(parser, row, text);
	case TYPE_PERCENT:
		return take_percent(parser, row, text);
	case TYPE_FILE:
		return take_file(parser, row, text);
	case TYPE_CHOICE:
		return take_choice(parser, row, text);
	case TYPE_COMMAND:
		break;
	}
	parser->options.command = row->value;
	return 1; /* whatever else is there does not matter */
}

static const struct option_row *row_of_name(const char *name, size_t size)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (strlen(option_rows[i].name) == size &&
		    strncmp(option_rows[i].name, name, size) == 0)
			return &option_rows[i];
	return NULL;
}

static const struct option_row *row_of_letter(char letter)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_rows[i].letter && option_rows[i].letter == letter)
			return &option_rows[i];
	return NULL;
}

/* The value that stands in the next argument. */
static int take_next(struct parser *parser, const struct option_row *row)
{
	const char *value = parser->argv[parser->at];

	if (!value || (value[0] == '-' && value[1] != '\0'))
		return refuse(parser, "--%s: its %s is missing: pyleakd --help", row->name,
			      row->argument);
	parser->at++;
	return take(parser, row, value);
}

static int parse_long(struct parser *parser, const char *argument)
{
	const char *name = argument + 2;
	size_t size = strcspn(name, "=");
	const struct option_row *row = row_of_name(name, size);

	if (!row)
		return refuse(parser, "unknown option '%.64s': pyleakd --help lists them",
			      argument);
	if (!row->argument && name[size] == '=')
		return refuse(parser, "--%s takes no value: leave it out", row->name);
	if (name[size] == '=')
		return take(parser, row, name + size + 1);
	return row->argument ? take_next(parser, row) : take(parser, row, NULL);
}

/* "-s", "-n5", "-n 5", "-sn5". */
static int parse_letters(struct parser *parser, const char *argument)
{
	for (const char *letter = argument + 1; *letter; letter++) {
		const struct option_row *row = row_of_letter(*letter);
		int r;

		if (!row)
			return refuse(parser, "unknown option '%.64s': pyleakd --help lists them",
				      argument);
		if (row->argument && letter[1])
			return take(parser, row, letter + 1);
		r = row->argument ? take_next(parser, row) : take(parser, row, NULL);
		if (r != 0 || row->argument)
			return r;
	}
	return 0;
}

static int parse_command_word(struct parser *parser, const char *word)
{
	for (size_t i = 0; i < n_option_commands; i++) {
		if (!option_commands[i].word || strcmp(option_commands[i].word, word) != 0)
			continue;
		parser->options.command = option_commands[i].command;
		parser->command_given = true;
		return 0;
	}
	return refuse(parser, "'%.64s' is no command: use --pid PID, run, check or replay", word);
}

static int parse_word(struct parser *parser, const char *word)
{
	struct options *options = &parser->options;

	if (!parser->command_given)
		return parse_command_word(parser, word);
	if (options->command == COMMAND_REPLAY && !options->recording) {
		options->recording = word;
		return 0;
	}
	return refuse(parser, "'%.64s' is too much: pyleakd --help shows what goes with what",
		      word);
}

static int parse_argument(struct parser *parser)
{
	const char *argument = parser->argv[parser->at++];

	if (argument[0] == '-' && argument[1] == '-')
		return parse_long(parser, argument);
	if (argument[0] == '-' && argument[1] != '\0')
		return parse_letters(parser, argument);
	return parse_word(parser, argument);
}

/* Where the command to be run begins: behind "--", or at the first word behind "run". */
static bool at_end_of_options(const struct parser *parser)
{
	const char *argument = parser->argv[parser->at];

	if (!argument || strcmp(argument, "--") == 0)
		return true;
	return parser->command_given && parser->options.command == COMMAND_RUN &&
	       argument[0] != '-';
}

static int parse_all(struct parser *parser)
{
	while (!at_end_of_options(parser)) {
		int r = parse_argument(parser);

		if (r != 0)
			return r;
	}
	if (parser->argv[parser->at] && strcmp(parser->argv[parser->at], "--") == 0)
		parser->at++;
	if (parser->command_given && parser->options.command == COMMAND_RUN)
		parser->options.arguments = parser->argv + parser->at;
	else
		for (; parser->argv[parser->at]; parser->at++) {
			int r = parse_word(parser, parser->argv[parser->at]);

			if (r < 0)
				return r;
		}
	return 0;
}

/* --- what goes with what --- */

static const char *command_word(enum command command)
{
	for (size_t i = 0; i < n_option_commands; i++)
		if (option_commands[i].command == command && option_commands[i].word)
			return option_commands[i].word;
	return "--pid";
}

static bool is_given(const struct parser *parser, const char *name)
{
	return parser->given >> (row_of_name(name, strlen(name)) - option_rows) & 1;
}

static int check_rows(struct parser *parser)
{
	enum command command = parser->options.command;

	for (size_t i = 0; i < n_option_rows; i++)
		if (parser->given >> i & 1 && !(option_rows[i].with & WITH(command)))
			return refuse(parser, "--%s does not go with %s: leave it out",
				      option_rows[i].name, command_word(command));
	return 0;
}

/* What is recorded is the exact mode, so --record says that it is meant. */
static int check_mode(struct parser *parser)
{
	struct options *options = &parser->options;
	bool budget = !isnan(options->budget_percent);

	if (options->record && !is_given(parser, "mode")) {
		if (budget)
			return refuse(parser, "--record goes with --mode exact, --budget with "
					      "--mode sampled: leave one of them out");
		options->mode = MODE_EXACT;
	}
	if (budget && options->mode != MODE_SAMPLED)
		return refuse(parser, "--budget goes with --mode sampled: choose that, or leave it "
				      "out");
	if (options->record && options->mode == MODE_SAMPLED)
		return refuse(parser, "--record goes with --mode exact: choose that, or leave it "
				      "out");
	return 0;
}

/* Without a process or a command to look at, it is the daemon. */
static int choose_daemon(struct parser *parser)
{
	uint64_t config = 1ULL << (row_of_name("config", strlen("config")) - option_rows);

	if (parser->command_given || parser->options.n_pids > 0)
		return 0;
	if (parser->given & ~config)
		return refuse(parser, "there is no process to look at: give --pid PID");
	parser->options.command = COMMAND_DAEMON;
	return 0;
}

static int check_command(struct parser *parser)
{
	const struct options *options = &parser->options;

	if (options->command == COMMAND_RUN && !options->arguments[0])
		return refuse(parser, "run: there is no command: pyleakd run -- COMMAND...");
	if (options->command == COMMAND_REPLAY && !options->recording)
		return refuse(parser, "replay: there is no recording: pyleakd replay RECORDING");
	if (options->command == COMMAND_CHECK && options->n_pids > 1)
		return refuse(parser, "check looks at one process: give --pid once");
	if (options->record && options->n_pids > 1)
		return refuse(parser, "a recording is of one process: give --pid once");
	if (options->record && options->output && strcmp(options->record, options->output) == 0)
		return refuse(parser, "--record and --output name the same file: give two");
	return 0;
}

int options_parse(int argc, char *const argv[], struct options *ret, char *ret_message)
{
	struct parser parser = {
		.argv = argv,
		.at = argc > 0 ? 1 : 0,
		.dashes = "--",
		.message = ret_message,
		.options = {.command = COMMAND_ATTACH,
			    .mode = MODE_SAMPLED,
			    .interval_ns = 5 * NS_PER_SECOND,
			    .top = 10,
			    .budget_percent = NAN},
	};
	int r = parse_all(&parser);

	if (r == 0)
		r = choose_daemon(&parser);
	if (r == 0)
		r = check_rows(&parser);
	if (r == 0)
		r = check_mode(&parser);
	if (r == 0)
		r = check_command(&parser);
	if (r < 0)
		return r;
	*ret = parser.options;
	return 0;
}

int options_set(struct options *options, const char *key, const char *value, char *ret_message)
{
	struct parser parser = {.options = *options, .dashes = "", .message = ret_message};
	bool yes = strcmp(value, "yes") == 0;
	const struct option_row *row = NULL;
	int r = 0;

	for (size_t i = 0; i < n_option_rows && !row; i++)
		row = option_rows[i].key && strcmp(option_rows[i].key, key) == 0 ? &option_rows[i]
										 : NULL;
	if (!row)
		return -ENOENT;
	if (row->type != TYPE_FLAG)
		r = take(&parser, row, value);
	else if (yes || strcmp(value, "no") == 0)
		*(bool *)((char *)&parser.options + row->offset) = yes;
	else
		r = refuse(&parser, "%s: '%.64s' is neither yes nor no: write one", key, value);
	if (r == 0)
		*options = parser.options;
	return r;
}
