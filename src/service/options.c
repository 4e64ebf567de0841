/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#define HELP_COLUMN 28
#define HELP_BYTES_MAX (64u << 10)
#define PERCENT_DIGITS_MAX 15

/* --- rows --- */

enum type {
	TYPE_FLAG,     /* bool */
	TYPE_PIDS,     /* struct options.pids */
	TYPE_DURATION, /* uint64_t, nanoseconds; bounds in seconds */
	TYPE_COUNT,    /* uint64_t */
	TYPE_PERCENT,  /* double */
	TYPE_FILE,     /* const char * */
	TYPE_CHOICE,   /* unsigned */
	TYPE_COMMAND,  /* takes the place of the command: --help, --version */
};

struct choice {
	const char *name;
	unsigned value;
	const char *refusal; /* what to do instead; NULL: it may be chosen */
};

static const struct choice mode_choices[] = {
	{"exact", MODE_EXACT, NULL},
	{"sampled", MODE_SAMPLED, NULL},
	{NULL, 0, NULL},
};

static const struct choice format_choices[] = {
	{"text", FORMAT_TEXT, NULL},
	{"json", FORMAT_JSON, NULL},
	{"folded", FORMAT_FOLDED, NULL},
	{"pprof", 0, "use text, json or folded"},
	{NULL, 0, NULL},
};

/* Which commands an option goes with. */
#define WITH(command) (1u << (command))
#define WITH_SESSION (WITH(COMMAND_ATTACH) | WITH(COMMAND_RUN))
#define WITH_REPORT (WITH_SESSION | WITH(COMMAND_REPLAY))
#define WITH_ANY (~0u)

struct row {
	char letter; /* 0: none */
	const char *name;
	const char *argument; /* as --help calls it; NULL: takes none */
	enum type type;
	size_t offset;	 /* in struct options */
	double min, max; /* in the unit that the user writes */
	const struct choice *choices;
	unsigned value; /* TYPE_COMMAND */
	unsigned with;
	const char *standard; /* the default, in words; NULL: not worth a word */
	const char *key;      /* in the configuration file; NULL: command line only */
	const char *help;
};

#define FIELD(field) .offset = offsetof(struct options, field)

static const struct row rows[] = {
	{'p', "pid", "PID", TYPE_PIDS, .min = 1, .max = OPTIONS_PID_MAX,
	 .with = WITH(COMMAND_ATTACH) | WITH(COMMAND_CHECK),
	 .help = "attach to this process; may be repeated"},
	{'d', "duration", "TIME", TYPE_DURATION, FIELD(duration_ns), .min = 0.1,
	 .max = 366.0 * 86400, .with = WITH_SESSION,
	 .standard = "until Ctrl-C, SIGTERM, SIGHUP or the target's exit",
	 .help = "stop after 30s, 5m, 2h ...; the call blocks until then"},
	{'m', "mode", "sampled|exact", TYPE_CHOICE, FIELD(mode), .choices = mode_choices,
	 .with = WITH_SESSION, .standard = "exact", .key = "mode",
	 .help = "sampled: windows under a budget; exact: every allocation traced"},
	{'b', "budget", "PCT", TYPE_PERCENT, FIELD(budget_percent), .min = 0.01, .max = 100,
	 .with = WITH_SESSION, .standard = "5", .key = "budget",
	 .help = "with sampled: the most slowdown, in percent, over any minute"},
	{'i', "interval", "TIME", TYPE_DURATION, FIELD(interval_ns), .min = 0.1, .max = 86400,
	 .with = WITH_SESSION, .standard = "5s", .key = "interval",
	 .help = "how often the live view or the periodic report is refreshed"},
	{'f', "format", "text|json|folded", TYPE_CHOICE, FIELD(format), .choices = format_choices,
	 .with = WITH_REPORT, .standard = "text", .help = "the report's form"},
	{'o', "output", "FILE", TYPE_FILE, FIELD(output), .with = WITH_REPORT,
	 .standard = "standard output",
	 .help = "where the final report goes, written whole or not at all"},
	{'n', "top", "N", TYPE_COUNT, FIELD(top), .min = 1, .max = OPTIONS_TOP_MAX,
	 .with = WITH_REPORT, .standard = "10", .key = "top",
	 .help = "how many sites the text shows"},
	{'s', "subprocesses", NULL, TYPE_FLAG, FIELD(subprocesses), .with = WITH_SESSION,
	 .key = "subprocesses", .help = "follow the target's children"},
	{0, "fail-on-leak", NULL, TYPE_FLAG, FIELD(fail_on_leak), .with = WITH_REPORT,
	 .help = "exit 3 where a site's verdict is leak"},
	{'r', "record", "FILE", TYPE_FILE, FIELD(record), .with = WITH_SESSION,
	 .help = "keep a recording of the first target, for replay"},
	{0, "no-probes", NULL, TYPE_FLAG, FIELD(no_probes), .with = WITH_SESSION,
	 .key = "no-probes",
	 .help = "watch only: the census and the totals, no breakpoint in the target"},
	{0, "config", "FILE", TYPE_FILE, FIELD(config), .with = WITH(COMMAND_DAEMON),
	 .standard = CONFIG_FILE_DEFAULT, .help = "the daemon's configuration"},
	{'h', "help", NULL, TYPE_COMMAND, .value = COMMAND_HELP, .with = WITH_ANY,
	 .help = "this text"},
	{'V', "version", NULL, TYPE_COMMAND, .value = COMMAND_VERSION, .with = WITH_ANY,
	 .help = "the version"},
};

_Static_assert(sizeof(enum session_mode) == sizeof(unsigned), "choices are stored as unsigned");
_Static_assert(sizeof(enum report_format) == sizeof(unsigned), "choices are stored as unsigned");
_Static_assert(ARRAY_SIZE(rows) <= 64, "a bit each in parser.given");

static const struct {
	const char *word;
	enum command command;
	const char *usage, *help;
} commands[] = {
	{NULL, COMMAND_DAEMON, "pyleakd [--config FILE]",
	 "the daemon: all Python processes of the host"},
	{NULL, COMMAND_ATTACH, "pyleakd --pid PID [options]",
	 "an ad hoc session on one or more processes"},
	{"run", COMMAND_RUN, "pyleakd run [options] -- COMMAND...",
	 "start a command and watch it from its first instruction"},
	{"check", COMMAND_CHECK, "pyleakd check [--pid PID]",
	 "what this host, and this target, supports"},
	{"replay", COMMAND_REPLAY, "pyleakd replay RECORDING [options]",
	 "the report of a recorded session, without root"},
};

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

static const char *time_example(const struct row *row)
{
	return row->max > 86400 ? "30s, 5m or 2h" : "500ms, 5s or 1m";
}

static int take_duration(struct parser *parser, const struct row *row, const char *text)
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

static int take_number(struct parser *parser, const struct row *row, const char *text,
		       uint64_t *ret)
{
	if (parse_u64(text, (uint64_t)row->min, (uint64_t)row->max, ret) < 0)
		return refuse(parser, "%s%s: '%.64s' is not a number from %.0f to %.0f: give one",
			      parser->dashes, row->name, text, row->min, row->max);
	return 0;
}

static int take_count(struct parser *parser, const struct row *row, const char *text)
{
	return take_number(parser, row, text, (uint64_t *)((char *)&parser->options + row->offset));
}

static int take_pid(struct parser *parser, const struct row *row, const char *text)
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

static int take_percent(struct parser *parser, const struct row *row, const char *text)
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

static int take_file(struct parser *parser, const struct row *row, const char *text)
{
	if (*text == '\0')
		return refuse(parser, "%s%s: the file has no name: give one", parser->dashes,
			      row->name);
	*(const char **)((char *)&parser->options + row->offset) = text;
	return 0;
}

static int take_choice(struct parser *parser, const struct row *row, const char *text)
{
	for (const struct choice *choice = row->choices; choice->name; choice++) {
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

static int take(struct parser *parser, const struct row *row, const char *text)
{
	parser->given |= 1ULL << (row - rows);
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

static const struct row *row_of_name(const char *name, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strlen(rows[i].name) == size && strncmp(rows[i].name, name, size) == 0)
			return &rows[i];
	return NULL;
}

static const struct row *row_of_letter(char letter)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].letter && rows[i].letter == letter)
			return &rows[i];
	return NULL;
}

/* The value that stands in the next argument. */
static int take_next(struct parser *parser, const struct row *row)
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
	const struct row *row = row_of_name(name, size);

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
		const struct row *row = row_of_letter(*letter);
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
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!commands[i].word || strcmp(commands[i].word, word) != 0)
			continue;
		parser->options.command = commands[i].command;
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
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].command == command && commands[i].word)
			return commands[i].word;
	return "--pid";
}

static int check_rows(struct parser *parser)
{
	enum command command = parser->options.command;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (parser->given >> i & 1 && !(rows[i].with & WITH(command)))
			return refuse(parser, "--%s does not go with %s: leave it out",
				      rows[i].name, command_word(command));
	if (!isnan(parser->options.budget_percent) && parser->options.mode != MODE_SAMPLED)
		return refuse(parser, "--budget goes with --mode sampled: choose that, or leave it "
				      "out");
	if (parser->options.record && parser->options.mode == MODE_SAMPLED)
		return refuse(parser, "--record goes with --mode exact: choose that, or leave it "
				      "out");
	return 0;
}

/* Without a process or a command to look at, it is the daemon. */
static int choose_daemon(struct parser *parser)
{
	uint64_t config = 1ULL << (row_of_name("config", strlen("config")) - rows);

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
	const struct row *row = NULL;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows) && !row; i++)
		row = rows[i].key && strcmp(rows[i].key, key) == 0 ? &rows[i] : NULL;
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

/* --- help and manual --- */

static void help_row(struct buffer *text, const struct row *row)
{
	size_t start = text->size;

	if (row->letter)
		buffer_printf(text, "  -%c, --%s", row->letter, row->name);
	else
		buffer_printf(text, "      --%s", row->name);
	if (row->argument)
		buffer_printf(text, " %s", row->argument);
	if (text->error == 0 && text->size - start > HELP_COLUMN - 2) {
		buffer_add_char(text, '\n');
		start = text->size;
	}
	while (text->error == 0 && text->size - start < HELP_COLUMN)
		buffer_add_char(text, ' ');
	buffer_add_string(text, row->help);
	if (row->standard)
		buffer_printf(text, "\n%*s(default: %s)", HELP_COLUMN, "", row->standard);
	buffer_add_char(text, '\n');
}

static int write_buffer(const struct sink *sink, const struct buffer *text)
{
	return text->error < 0 ? text->error : sink->write(sink->context, text->data, text->size);
}

int options_help(const struct sink *sink)
{
	_cleanup_buffer_ struct buffer text = buffer_init(HELP_BYTES_MAX);

	buffer_add_string(&text, "pyleakd finds out which line of a Python process leaks memory, "
				 "from outside.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		buffer_printf(&text, "%-38s %s\n", commands[i].usage, commands[i].help);
	buffer_add_string(&text, "\nOptions:\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		help_row(&text, &rows[i]);
	buffer_printf(&text,
		      "\nExit status: %d the session ran to its end; %d it could not start "
		      "or go on;\n%d usage; %d --fail-on-leak, and there is a leak.\n",
		      STATUS_OK, STATUS_FAILED, STATUS_USAGE, STATUS_LEAK);
	return write_buffer(sink, &text);
}

/* roff takes "-" for a hyphen, and a line that begins with "." or "'" for a macro. */
static void manual_text(struct buffer *text, const char *words)
{
	for (; *words; words++) {
		if (*words == '-' || *words == '\\')
			buffer_add_char(text, '\\');
		buffer_add_char(text, *words);
	}
}

static void manual_row(struct buffer *text, const struct row *row)
{
	buffer_add_string(text, ".TP\n");
	if (row->letter)
		buffer_printf(text, "\\fB\\-%c\\fR, ", row->letter);
	buffer_add_string(text, "\\fB\\-\\-");
	manual_text(text, row->name);
	buffer_add_string(text, "\\fR");
	if (row->argument)
		buffer_printf(text, " \\fI%s\\fR", row->argument);
	buffer_add_char(text, '\n');
	manual_text(text, row->help);
	if (row->standard) {
		buffer_add_string(text, " (default: ");
		manual_text(text, row->standard);
		buffer_add_char(text, ')');
	}
	buffer_add_string(text, ".\n");
}

int options_manual(const struct sink *sink)
{
	_cleanup_buffer_ struct buffer text = buffer_init(HELP_BYTES_MAX);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		manual_row(&text, &rows[i]);
	return write_buffer(sink, &text);
}
