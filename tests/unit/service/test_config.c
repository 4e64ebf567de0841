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

#include "base/clock.h"
#include "base/file.h"
#include "service/config.h"

static int parse(const char *text, struct config *config, char *message)
{
	return config_parse("daemon.conf", text, strlen(text), config, message);
}

static void assert_defaults(const struct config *config)
{
	assert_int_equal(config->options.mode, MODE_SAMPLED);
	assert_true(config->options.budget_percent == 1);
	assert_int_equal(config->options.interval_ns, 5 * NS_PER_SECOND);
	assert_int_equal(config->options.top, 10);
	assert_true(config->options.subprocesses);
	assert_false(config->options.no_probes);
	assert_string_equal(config->listen_host, "127.0.0.1");
	assert_int_equal(config->listen_port, 9719);
	assert_int_equal(config->scan_interval_ns, 5 * NS_PER_SECOND);
	assert_int_equal(config->calm_ns, 600 * NS_PER_SECOND);
	assert_int_equal(config->include.n, 0);
	assert_int_equal(config->exclude.n, 0);
	assert_int_equal(config->max_targets, 100);
	assert_int_equal(config->max_sampled, 10);
	assert_true(config->cpu_percent == 1);
	assert_int_equal(config->memory_bytes, 256 << 20);
}

static void an_empty_file_means_the_defaults(void **state)
{
	static const char *const texts[] = {"", "\n\n", "# only words", "   # \n\t\n#=\n"};
	char message[CONFIG_MESSAGE_BYTES];
	struct config config;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(parse(texts[i], &config, message), 0);
		assert_defaults(&config);
		config_done(&config);
	}
}

/* What is commented out in the file that is installed is what is in force without it. */
static void the_file_that_is_installed_has_the_defaults(void **state)
{
	char *text, message[CONFIG_MESSAGE_BYTES];
	struct config config;
	size_t keys = 0;

	(void)state;
	assert_int_equal(config_load("deploy/pyleakd.conf", &config, message), 0);
	assert_defaults(&config);
	config_done(&config);
	assert_int_equal(file_read("deploy/pyleakd.conf", CONFIG_BYTES_MAX, &text, NULL), 0);
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (line[0] == '#' && line[1] != ' ' && line[1] != '\n') {
			line[0] = ' ';
			keys++;
		}
	}
	if (parse(text, &config, message) < 0)
		fail_msg("%s", message);
	assert_int_equal(config.include.n, 1);
	assert_int_equal(config.exclude.n, 1);
	config_done(&config);
	assert_int_equal(keys, 15);
	free(text);
}

static void every_key_is_taken_with_blanks_and_without(void **state)
{
	static const char text[] = "mode=sampled\n budget = 0.5\r\n\tinterval=250ms\ntop = 3\n"
				   "subprocesses = no\nno-probes = yes\nlisten = [::1]:80\n"
				   "scan-interval = 1m\ncalm=1h\ninclude = web*\n"
				   "include = worker [0-9]\nexclude = *=*\nmax-targets = 7\n"
				   "max-sampled = 0\ncpu-percent = 0.25\nmemory = 64M";
	char message[CONFIG_MESSAGE_BYTES];
	struct config config;

	(void)state;
	if (parse(text, &config, message) < 0)
		fail_msg("%s", message);
	assert_true(config.options.budget_percent == 0.5);
	assert_int_equal(config.options.interval_ns, 250 * NS_PER_MS);
	assert_int_equal(config.options.top, 3);
	assert_false(config.options.subprocesses);
	assert_true(config.options.no_probes);
	assert_string_equal(config.listen_host, "::1");
	assert_int_equal(config.listen_port, 80);
	assert_int_equal(config.scan_interval_ns, 60 * NS_PER_SECOND);
	assert_int_equal(config.calm_ns, 3600 * NS_PER_SECOND);
	assert_int_equal(config.max_targets, 7);
	assert_int_equal(config.max_sampled, 0);
	assert_true(config.cpu_percent == 0.25);
	assert_int_equal(config.memory_bytes, 64 << 20);
	assert_true(config_wants(&config, "web.py"));
	assert_true(config_wants(&config, "worker 3"));
	assert_false(config_wants(&config, "worker x"));
	assert_false(config_wants(&config, "web a=b"));
	config_done(&config);
}

static void what_is_wrong_is_said_with_its_line(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"frobnicate = 1", "daemon.conf:1: unknown key 'frobnicate'"},
		{"\n# x\nbudget = 101\n", "daemon.conf:3: budget: '101' is not a percentage"},
		{"budget = -1", "daemon.conf:1: budget: '-1' is not a percentage"},
		{"mode = exact", "mode: exact makes processes many times slower"},
		{"mode = fast", "mode: 'fast' is none of"},
		{"interval", "daemon.conf:1: 'interval' is not of the form key = value"},
		{"interval =", "interval: there is no value"},
		{"interval = 5x", "interval: '5x' is not a time"},
		{"scan-interval = 0", "scan-interval: '0' is not a time"},
		{"calm = 1ms", "calm: '1ms' is not a time"},
		{"top = 0", "top: '0' is not a number from 1"},
		{"max-targets = 0", "max-targets: '0' is not a number from 1 to 1024"},
		{"max-sampled = 1e3", "max-sampled: '1e3' is not a number"},
		{"cpu-percent = .", "cpu-percent: '.' is not a percentage"},
		{"cpu-percent = 1.2.3", "cpu-percent: '1.2.3' is not a percentage"},
		{"memory = 1M", "memory: '1M' is not a size from 16M on"},
		{"subprocesses = true", "subprocesses: 'true' is neither yes nor no"},
		{"listen = 9719", "listen: '9719' is no address with a port"},
		{"listen = localhost:9719", "listen: 'localhost:9719' is no address"},
		{"listen = 127.0.0.1:65536", "is no address with a port"},
		{"listen = [::1]", "is no address with a port"},
		{"listen = [::1:1", "is no address with a port"},
		{"pid = 5", "unknown key 'pid'"},
		{"= 5", "unknown key ''"},
		{"top = 3\nx\033[2J = 1\n", "daemon.conf:2: unknown key 'x?[2J'"},
	};
	char message[CONFIG_MESSAGE_BYTES];
	struct config config;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (parse(cases[i].text, &config, message) != -EINVAL)
			fail_msg("taken: %s", cases[i].text);
		if (!strstr(message, cases[i].says))
			fail_msg("%s: %s", cases[i].text, message);
		assert_null(strchr(message, '\n'));
		assert_defaults(&config);
	}
	assert_int_equal(config_load("/nowhere/at.all", &config, message), -ENOENT);
	assert_non_null(strstr(message, "/nowhere/at.all: can't be read (No such file"));
	assert_int_equal(config_parse("b", "top\0= 3", 7, &config, message), -EINVAL);
	assert_non_null(strstr(message, "b:1: there is a NUL byte"));
}

static void bounds_hold(void **state)
{
	static char text[CONFIG_LINE_MAX + CONFIG_PATTERNS_MAX * 16];
	char message[CONFIG_MESSAGE_BYTES];
	struct config config;

	(void)state;
	memset(text, '#', CONFIG_LINE_MAX);
	assert_int_equal(parse(text, &config, message), -EINVAL);
	assert_non_null(strstr(message, "the line has more than"));
	text[0] = '\0';
	for (int i = 0; i <= CONFIG_PATTERNS_MAX; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "include = a%d\n", i);
	assert_int_equal(parse(text, &config, message), -EINVAL);
	assert_non_null(strstr(message, "include: more than 64 patterns"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_file_means_the_defaults),
		cmocka_unit_test(the_file_that_is_installed_has_the_defaults),
		cmocka_unit_test(every_key_is_taken_with_blanks_and_without),
		cmocka_unit_test(what_is_wrong_is_said_with_its_line),
		cmocka_unit_test(bounds_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
