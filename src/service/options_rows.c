/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The rows, and the texts that are made of them: --help and the manual's table. */
#include "service/options_private.h"

#include "base/buffer.h"
#include "base/cleanup.h"

#define HELP_COLUMN 28
#define HELP_BYTES_MAX (64u << 10)

/* --- rows --- */

static const struct option_choice mode_choices[] = {
	{"exact", MODE_EXACT, NULL},
	{"sampled", MODE_SAMPLED, NULL},
	{NULL, 0, NULL},
};

static const struct option_choice format_choices[] = {
	{"text", FORMAT_TEXT, NULL},
	{"json", FORMAT_JSON, NULL},
	{"folded", FORMAT_FOLDED, NULL},
	{"pprof", 0, "use text, json or folded"},
	{NULL, 0, NULL},
};

#define FIELD(field) .offset = offsetof(struct options, field)

const struct option_row option_rows[] = {
	{'p', "pid", "PID", TYPE_PIDS, .min = 1, .max = OPTIONS_PID_MAX,
	 .with = WITH(COMMAND_ATTACH) | WITH(COMMAND_CHECK),
	 .help = "attach to this process; may be repeated"},
	{'d', "duration", "TIME", TYPE_DURATION, FIELD(duration_ns), .min = 0.1,
	 .max = 366.0 * 86400, .with = WITH_SESSION,
	 .standard = "until Ctrl-C, SIGTERM, SIGHUP or the target's exit",
	 .help = "stop after 30s, 5m, 2h ...; the call blocks until then"},
	{'m', "mode", "sampled|exact", TYPE_CHOICE, FIELD(mode), .choices = mode_choices,
	 .with = WITH_SESSION, .standard = "sampled; exact with --record", .key = "mode",
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

const size_t n_option_rows = ARRAY_SIZE(option_rows);

_Static_assert(ARRAY_SIZE(option_rows) <= 64, "a bit each in parser.given");
_Static_assert(sizeof(enum session_mode) == sizeof(unsigned), "choices are stored as unsigned");
_Static_assert(sizeof(enum report_format) == sizeof(unsigned), "choices are stored as unsigned");

const struct option_command option_commands[] = {
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
const size_t n_option_commands = ARRAY_SIZE(option_commands);

/* --- help and manual --- */

static void help_row(struct buffer *text, const struct option_row *row)
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
	for (size_t i = 0; i < n_option_commands; i++)
		buffer_printf(&text, "%-38s %s\n", option_commands[i].usage,
			      option_commands[i].help);
	buffer_add_string(&text, "\nOptions:\n");
	for (size_t i = 0; i < n_option_rows; i++)
		help_row(&text, &option_rows[i]);
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

static void manual_row(struct buffer *text, const struct option_row *row)
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

	for (size_t i = 0; i < n_option_rows; i++)
		manual_row(&text, &option_rows[i]);
	return write_buffer(sink, &text);
}
