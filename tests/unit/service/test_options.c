/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "service/options.h"

#define ARGUMENTS_MAX 80

/* The line is split at blanks; "''" is an empty argument. */
static int parse(const char *line, struct options *ret, char *message)
{
	static char copy[4096];
	static char *arguments[ARGUMENTS_MAX + 1];
	char *rest = copy, *word;
	int n = 0;

	snprintf(copy, sizeof(copy), "pyleakd %s", line);
	while ((word = strsep(&rest, " ")) && n < ARGUMENTS_MAX)
		if (*word)
			arguments[n++] = strcmp(word, "''") == 0 ? word + 2 : word;
	arguments[n] = NULL;
	message[0] = '\0';
	return options_parse(n, arguments, ret, message);
}

static struct options parsed(const char *line)
{
	char message[OPTIONS_MESSAGE_BYTES];
	struct options options;

	if (parse(line, &options, message) < 0)
		fail_msg("%s: %s", line, message);
	return options;
}

static void defaults_are_those_of_the_contract(void **state)
{
	struct options options = parsed("--pid 4242");

	(void)state;
	assert_int_equal(options.command, COMMAND_ATTACH);
	assert_int_equal(options.n_pids, 1);
	assert_int_equal(options.pids[0], 4242);
	assert_int_equal(options.duration_ns, 0);
	assert_int_equal(options.interval_ns, 5 * NS_PER_SECOND);
	assert_int_equal(options.mode, MODE_SAMPLED);
	assert_int_equal(OPTIONS_BUDGET_PERCENT, 5);
	assert_int_equal(options.format, FORMAT_TEXT);
	assert_int_equal(options.top, 10);
	assert_null(options.output);
	assert_null(options.record);
	assert_false(options.subprocesses || options.fail_on_leak || options.no_probes);
}

static void every_option_is_understood_in_every_spelling(void **state)
{
	static const char *const lines[] = {
		"-p 1 -p 2 -d 1.5s -i 250ms -m exact -f json -o out -n 3 -s --fail-on-leak "
		"--no-probes",
		"--pid=1 --pid=2 --duration=1.5s --interval=250ms --mode=exact --format=json "
		"--output=out --top=3 --subprocesses --fail-on-leak --no-probes",
		"-p1 -p2 -d1.5s -i250ms -mexact -fjson -oout -sn3 --fail-on-leak --no-probes",
		"--pid 1 --pid 2 --pid 1 --duration 1.5 --interval 0.25 --mode exact --format json "
		"--output out --top 3 --subprocesses --fail-on-leak --no-probes",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct options options = parsed(lines[i]);

		assert_int_equal(options.n_pids, 2);
		assert_int_equal(options.pids[0], 1);
		assert_int_equal(options.pids[1], 2);
		assert_int_equal(options.duration_ns, 1500 * NS_PER_MS);
		assert_int_equal(options.interval_ns, 250 * NS_PER_MS);
		assert_int_equal(options.mode, MODE_EXACT);
		assert_int_equal(options.format, FORMAT_JSON);
		assert_string_equal(options.output, "out");
		assert_int_equal(options.top, 3);
		assert_true(options.subprocesses && options.fail_on_leak && options.no_probes);
	}
	assert_int_equal(parsed("-p 1 -m sampled").mode, MODE_SAMPLED);
	assert_true(parsed("-p 1 -m sampled -b 0.5").budget_percent == 0.5);
	assert_string_equal(parsed("-p 1 -r tape").record, "tape");
	assert_string_equal(parsed("-p 1 -o -").output, "-");
	assert_int_equal(parsed("-p 1 -d 5m").duration_ns, 300 * NS_PER_SECOND);
	assert_int_equal(parsed("-p 1 -d 2h").duration_ns, 7200 * NS_PER_SECOND);
	assert_int_equal(parsed("-p 1 -d 30").duration_ns, 30 * NS_PER_SECOND);
}

static void the_command_behind_run_keeps_its_own_options(void **state)
{
	static const char *const lines[] = {
		"run -d 5 -- python3 -c pass --pid 7",
		"run -d 5 python3 -c pass --pid 7",
		"-d 5 run -- python3 -c pass --pid 7",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct options options = parsed(lines[i]);

		assert_int_equal(options.command, COMMAND_RUN);
		assert_int_equal(options.duration_ns, 5 * NS_PER_SECOND);
		assert_string_equal(options.arguments[0], "python3");
		assert_string_equal(options.arguments[2], "pass");
		assert_string_equal(options.arguments[3], "--pid");
		assert_string_equal(options.arguments[4], "7");
		assert_null(options.arguments[5]);
		assert_int_equal(options.n_pids, 0);
	}
	assert_string_equal(parsed("run -- --odd").arguments[0], "--odd");
}

static void the_other_commands_are_understood(void **state)
{
	struct options replay = parsed("replay tape --format json -n 3");

	(void)state;
	assert_int_equal(replay.command, COMMAND_REPLAY);
	assert_string_equal(replay.recording, "tape");
	assert_int_equal(replay.format, FORMAT_JSON);
	assert_string_equal(parsed("replay -n 3 -- -odd").recording, "-odd");
	assert_int_equal(parsed("").command, COMMAND_DAEMON);
	assert_null(parsed("").config);
	assert_int_equal(parsed("--config daemon.conf").command, COMMAND_DAEMON);
	assert_string_equal(parsed("--config daemon.conf").config, "daemon.conf");
	assert_int_equal(parsed("check").command, COMMAND_CHECK);
	assert_int_equal(parsed("check").n_pids, 0);
	assert_int_equal(parsed("check --pid 5").pids[0], 5);
	assert_int_equal(parsed("--help").command, COMMAND_HELP);
	assert_int_equal(parsed("-p 1 -h").command, COMMAND_HELP);
	assert_int_equal(parsed("run --version").command, COMMAND_VERSION);
	assert_int_equal(parsed("run -- cat --help").command, COMMAND_RUN);
}

static void the_mode_is_the_one_that_is_given_or_the_one_that_the_rest_needs(void **state)
{
	(void)state;
	assert_int_equal(parsed("run -- cat").mode, MODE_SAMPLED);
	assert_int_equal(parsed("-p 1 --no-probes").mode, MODE_SAMPLED);
	assert_int_equal(parsed("-p 1 -b 1").mode, MODE_SAMPLED);
	assert_int_equal(parsed("-p 1 -m exact").mode, MODE_EXACT);
	assert_int_equal(parsed("run -m exact -- cat -m sampled").mode, MODE_EXACT);
	assert_int_equal(parsed("-p 1 -r tape").mode, MODE_EXACT);
	assert_int_equal(parsed("-p 1 -r tape -m exact").mode, MODE_EXACT);
	assert_int_equal(parsed("run -r tape -- cat").mode, MODE_EXACT);
}

static void nonsense_is_refused_with_one_line_that_says_what_to_do(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"-d 5", "there is no process to look at: give --pid PID"},
		{"--config daemon.conf -d 5", "there is no process to look at: give --pid PID"},
		{"-p 1 --config daemon.conf", "--config does not go with --pid"},
		{"-p 1 -m sampled -r tape", "--record goes with --mode exact"},
		{"-p 1 -m fast", "--mode: 'fast' is none of sampled|exact"},
		{"-p 1 -m exact -b 5", "--budget goes with --mode sampled: choose that"},
		{"-p 1 -m exact -r tape -b 5", "--budget goes with --mode sampled: choose that"},
		{"-p 1 -r tape -b 5", "leave one of them out"},
		{"run -m sampled -r tape -- cat", "--record goes with --mode exact: choose that"},
		{"-p 1 -b x", "--budget: 'x' is not a percentage"},
		{"-p 1 -b 1.2.3", "is not a percentage"},
		{"-p 1 -b .", "is not a percentage"},
		{"-p 1 -b 101", "is not a percentage"},
		{"-p 1 -f pprof", "--format pprof is not there yet: use text, json or folded"},
		{"-p 1 -f xml", "'xml' is none of"},
		{"-p 0", "--pid: '0' is not a number from 1"},
		{"-p -5", "--pid: its PID is missing"},
		{"-p 1x", "--pid: '1x'"},
		{"-p 99999999", "--pid: '99999999'"},
		{"-p 18446744073709551617", "--pid: '18446744073709551617'"},
		{"-p", "--pid: its PID is missing"},
		{"--pid", "--pid: its PID is missing"},
		{"--pid=", "--pid: '' is not a number"},
		{"-p 1 -d 0", "--duration: '0' is out of bounds"},
		{"-p 1 -d 5x", "'5x' is not a time: write for example 30s"},
		{"-p 1 -d nan", "is not a time"},
		{"-p 1 -d 1e9", "is not a time"},
		{"-p 1 -d 400d", "out of bounds: from 100ms to 366 days"},
		{"-p 1 -i 1ms", "--interval: '1ms' is out of bounds"},
		{"-p 1 -i 2d", "out of bounds: from 100ms to 1 days"},
		{"-p 1 -n 0", "--top: '0' is not a number from 1 to 100000"},
		{"-p 1 -n -1", "--top: its N is missing"},
		{"-p 1 -o ''", "--output: the file has no name"},
		{"-p 1 -r same -o same", "name the same file"},
		{"-p 1 -p 2 -r tape", "a recording is of one process"},
		{"-p 1 --subprocesses=yes", "--subprocesses takes no value"},
		{"-p 1 --frobnicate", "unknown option '--frobnicate'"},
		{"-p 1 -x", "unknown option '-x'"},
		{"-p 1 --pi 2", "unknown option '--pi'"},
		{"-p 1 word", "'word' is no command"},
		{"frobnicate", "'frobnicate' is no command"},
		{"run", "run: there is no command"},
		{"run --", "run: there is no command"},
		{"run -p 1 -- cat", "--pid does not go with run"},
		{"replay", "replay: there is no recording"},
		{"replay a b", "'b' is too much"},
		{"replay a -d 5", "--duration does not go with replay"},
		{"check -p 1 -p 2", "give --pid once"},
		{"check -f json", "--format does not go with check"},
	};
	char message[OPTIONS_MESSAGE_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct options options;

		if (parse(cases[i].line, &options, message) != -EINVAL)
			fail_msg("taken: %s", cases[i].line);
		if (!strstr(message, cases[i].says))
			fail_msg("%s: %s", cases[i].line, message);
		assert_non_null(strstr(message, ": "));
		assert_null(strchr(message, '\n'));
	}
}

static void more_processes_than_fit_are_refused(void **state)
{
	static char line[OPTIONS_PIDS_MAX * 16];
	char message[OPTIONS_MESSAGE_BYTES];
	struct options options;

	(void)state;
	for (int i = 1; i <= OPTIONS_PIDS_MAX; i++)
		snprintf(line + strlen(line), sizeof(line) - strlen(line), "-p%d ", i);
	assert_int_equal(parsed(line).n_pids, OPTIONS_PIDS_MAX);
	snprintf(line + strlen(line), sizeof(line) - strlen(line), "-p999");
	assert_int_equal(parse(line, &options, message), -EINVAL);
	assert_non_null(strstr(message, "more than 64 processes"));
}

static int add_to_buffer(void *context, const void *bytes, size_t size)
{
	return buffer_add(context, bytes, size);
}

static void help_fits_a_terminal_and_names_every_option(void **state)
{
	_cleanup_buffer_ struct buffer text = buffer_init(1 << 20);
	struct sink sink = {add_to_buffer, &text};
	static const char *const names[] = {
		"--pid",    "--duration",  "--mode",   "--budget",	 "--interval",
		"--format", "--output",	   "--top",    "--subprocesses", "--fail-on-leak",
		"--record", "--no-probes", "--config", "--version",	 "--help"};

	(void)state;
	assert_int_equal(options_help(&sink), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_non_null(strstr(text.data, names[i]));
	for (char *line = text.data, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (strlen(line) > 110)
			fail_msg("too wide: %s", line);
	}
}

/* UPDATE_GOLDEN=1 writes it anew. */
static void the_manual_has_the_rows_of_the_options(void **state)
{
	static const char begin[] = ".\\\" options: begin\n", end[] = ".\\\" options: end\n";
	_cleanup_buffer_ struct buffer text = buffer_init(1 << 20), whole = buffer_init(1 << 20);
	struct sink sink = {add_to_buffer, &text};
	_cleanup_free_ char *manual = NULL;
	char *from, *to;

	(void)state;
	assert_int_equal(options_manual(&sink), 0);
	assert_int_equal(file_read("man/pyleakd.1", 1 << 20, &manual, NULL), 0);
	from = strstr(manual, begin);
	to = strstr(manual, end);
	assert_non_null(from);
	assert_non_null(to);
	from += strlen(begin);
	if (getenv("UPDATE_GOLDEN")) {
		buffer_add(&whole, manual, (size_t)(from - manual));
		buffer_add(&whole, text.data, text.size);
		buffer_add_string(&whole, to);
		assert_int_equal(file_write_whole("man/pyleakd.1", whole.data, whole.size, 0644),
				 0);
		return;
	}
	*to = '\0';
	assert_string_equal(from, text.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_contract),
		cmocka_unit_test(every_option_is_understood_in_every_spelling),
		cmocka_unit_test(the_command_behind_run_keeps_its_own_options),
		cmocka_unit_test(the_other_commands_are_understood),
		cmocka_unit_test(the_mode_is_the_one_that_is_given_or_the_one_that_the_rest_needs),
		cmocka_unit_test(nonsense_is_refused_with_one_line_that_says_what_to_do),
		cmocka_unit_test(more_processes_than_fit_are_refused),
		cmocka_unit_test(help_fits_a_terminal_and_names_every_option),
		cmocka_unit_test(the_manual_has_the_rows_of_the_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
