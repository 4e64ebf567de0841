/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

/* --- rows --- */

enum type { TYPE_TIME, TYPE_COUNT, TYPE_PERCENT, TYPE_SIZE, TYPE_PATTERN, TYPE_ADDRESS };

struct row {
	const char *key;
	enum type type;
	size_t offset;	 /* in struct config */
	double min, max; /* seconds, percent, bytes */
};

#define FIELD(field) .offset = offsetof(struct config, field)

static const struct row rows[] = {
	{"listen", TYPE_ADDRESS, FIELD(listen_host)},
	{"scan-interval", TYPE_TIME, FIELD(scan_interval_ns), .min = 0.1, .max = 3600},
	{"calm", TYPE_TIME, FIELD(calm_ns), .min = 1, .max = 86400},
	{"include", TYPE_PATTERN, FIELD(include)},
	{"exclude", TYPE_PATTERN, FIELD(exclude)},
	{"max-targets", TYPE_COUNT, FIELD(max_targets), .min = 1, .max = CONFIG_TARGETS_MAX},
	{"max-sampled", TYPE_COUNT, FIELD(max_sampled), .min = 0, .max = CONFIG_TARGETS_MAX},
	{"cpu-percent", TYPE_PERCENT, FIELD(cpu_percent), .min = 0.01, .max = 100},
	{"memory", TYPE_SIZE, FIELD(memory_bytes), .min = 16 << 20, .max = 1ULL << 40},
};

/* --- values --- */

static int __attribute__((format(printf, 2, 3))) refuse(char *message, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, OPTIONS_MESSAGE_BYTES, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static int take_time(const struct row *row, const char *value, uint64_t *ret, char *message)
{
	uint64_t ns;

	if (parse_duration_ns(value, &ns) < 0 || (double)ns < row->min * NS_PER_SECOND ||
	    (double)ns > row->max * NS_PER_SECOND)
		return refuse(
			message,
			"%s: '%.64s' is not a time from %gs to %gs: write for example 5s or 1m",
			row->key, value, row->min, row->max);
	*ret = ns;
	return 0;
}

static int take_count(const struct row *row, const char *value, uint64_t *ret, char *message)
{
	if (parse_u64(value, (uint64_t)row->min, (uint64_t)row->max, ret) < 0)
		return refuse(message, "%s: '%.64s' is not a number from %.0f to %.0f: give one",
			      row->key, value, row->min, row->max);
	return 0;
}

static int take_percent(const struct row *row, const char *value, double *ret, char *message)
{
	size_t size = strspn(value, "0123456789.");
	char *end;
	double percent = strtod(value, &end); /* digits and points only */

	if (size == 0 || value[size] || *end || percent < row->min || percent > row->max)
		return refuse(message, "%s: '%.64s' is not a percentage from %g to %g: give one",
			      row->key, value, row->min, row->max);
	*ret = percent;
	return 0;
}

static int take_size(const struct row *row, const char *value, uint64_t *ret, char *message)
{
	uint64_t bytes;

	if (parse_size_bytes(value, &bytes) < 0 || (double)bytes < row->min ||
	    (double)bytes > row->max)
		return refuse(message,
			      "%s: '%.64s' is not a size from 16M on: write for example 64M",
			      row->key, value);
	*ret = bytes;
	return 0;
}

static int take_pattern(const struct row *row, const char *value, struct config_patterns *patterns,
			char *message)
{
	char *copy;

	if (patterns->n == CONFIG_PATTERNS_MAX)
		return refuse(message, "%s: more than %d patterns: join some by *", row->key,
			      CONFIG_PATTERNS_MAX);
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	patterns->patterns[patterns->n++] = copy;
	return 0;
}

/* "127.0.0.1:9719", "[::1]:9719". */
static int take_address(const char *value, struct config *config, char *message)
{
	bool brackets = value[0] == '[';
	const char *host = value + brackets;
	size_t size = strcspn(host, brackets ? "]" : ":");
	const char *colon = host + size + (brackets && host[size]);
	unsigned char address[sizeof(struct in6_addr)];
	char text[CONFIG_HOST_BYTES];
	uint64_t port;

	if (size < sizeof(text)) {
		memcpy(text, host, size);
		text[size] = '\0';
		if (inet_pton(brackets ? AF_INET6 : AF_INET, text, address) == 1 && *colon == ':' &&
		    parse_u64(colon + 1, 0, UINT16_MAX, &port) == 0) {
			memcpy(config->listen_host, text, size + 1);
			config->listen_port = (uint16_t)port;
			return 0;
		}
	}
	return refuse(message,
		      "listen: '%.64s' is no address with a port: write for example "
		      "127.0.0.1:9719 or [::1]:9719",
		      value);
}

static int take_own(const struct row *row, const char *value, struct config *config, char *message)
{
	void *field = (char *)config + row->offset;

	switch (row->type) {
	case TYPE_TIME:
		return take_time(row, value, field, message);
	case TYPE_COUNT:
		return take_count(row, value, field, message);
	case TYPE_PERCENT:
		return take_percent(row, value, field, message);
	case TYPE_SIZE:
		return take_size(row, value, field, message);
	case TYPE_PATTERN:
		return take_pattern(row, value, field, message);
	case TYPE_ADDRESS:
		return take_address(value, config, message);
	}
	return -EINVAL;
}

static int take(const char *key, const char *value, struct config *config, char *message)
{
	int r;

	if (!*value)
		return refuse(message, "%.64s: there is no value: give one, or take the line out",
			      key);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(rows[i].key, key) == 0)
			return take_own(&rows[i], value, config, message);
	r = options_set(&config->options, key, value, message);
	if (r == -ENOENT)
		return refuse(message, "unknown key '%.64s': see pyleakd(1) for those there are",
			      key);
	if (r == 0 && config->options.mode == MODE_EXACT)
		return refuse(message, "mode: exact makes processes many times slower: use sampled "
				       "here, and pyleakd --pid for one of them");
	return r;
}

/* --- lines --- */

static char *trimmed(char *text)
{
	size_t size;

	while (isspace((unsigned char)*text))
		text++;
	size = strlen(text);
	while (size > 0 && isspace((unsigned char)text[size - 1]))
		text[--size] = '\0';
	return text;
}

/* line is changed. */
static int take_line(char *line, struct config *config, char *message)
{
	char *text = trimmed(line), *equals;

	if (*text == '\0' || *text == '#')
		return 0;
	equals = strchr(text, '=');
	if (!equals)
		return refuse(message, "'%.64s' is not of the form key = value: write it so", text);
	*equals = '\0';
	return take(trimmed(text), trimmed(equals + 1), config, message);
}

static int parse_lines(const char *text, size_t size, struct config *config, size_t *ret_line,
		       char *message)
{
	char line[CONFIG_LINE_MAX];
	const char *end = text + size;

	for (*ret_line = 1; text < end; ++*ret_line) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((newline ? newline : end) - text);
		int r;

		if (n >= sizeof(line))
			return refuse(message, "the line has more than %zu bytes: shorten it",
				      sizeof(line) - 1);
		memcpy(line, text, n);
		line[n] = '\0';
		if (memchr(line, '\0', n))
			return refuse(message, "there is a NUL byte: this is no text file");
		r = take_line(line, config, message);
		if (r < 0)
			return r;
		text += n + (newline != NULL);
	}
	return 0;
}

void config_init(struct config *config)
{
	*config = (struct config){
		.options = {.command = COMMAND_DAEMON,
			    .mode = MODE_SAMPLED,
			    .budget_percent = CONFIG_BUDGET_PERCENT,
			    .interval_ns = 5 * NS_PER_SECOND,
			    .top = 10,
			    .subprocesses = true},
		.listen_host = "127.0.0.1",
		.listen_port = 9719,
		.scan_interval_ns = 5 * NS_PER_SECOND,
		.calm_ns = 600 * NS_PER_SECOND,
		.max_targets = 100,
		.max_sampled = 10,
		.cpu_percent = 1,
		.memory_bytes = 256 << 20,
	};
}

static void patterns_done(struct config_patterns *patterns)
{
	for (size_t i = 0; i < patterns->n; i++)
		free(patterns->patterns[i]);
	patterns->n = 0;
}

void config_done(struct config *config)
{
	patterns_done(&config->include);
	patterns_done(&config->exclude);
}

int config_parse(const char *name, const char *text, size_t size, struct config *config,
		 char *ret_message)
{
	char message[OPTIONS_MESSAGE_BYTES] = "no memory: free some and try again";
	size_t line;
	int r;

	config_init(config);
	r = parse_lines(text, size, config, &line, message);
	if (r < 0) {
		config_done(config);
		config_init(config);
		snprintf(ret_message, CONFIG_MESSAGE_BYTES, "%.200s:%zu: %s", name, line, message);
		text_make_printable(ret_message);
	}
	return r;
}

int config_load(const char *path, struct config *config, char *ret_message)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	config_init(config);
	r = file_read(path, CONFIG_BYTES_MAX, &text, &size);
	if (r < 0) {
		snprintf(ret_message, CONFIG_MESSAGE_BYTES,
			 "%.200s: can't be read (%s): give a configuration file that can", path,
			 strerror(-r));
		text_make_printable(ret_message);
		return r;
	}
	return config_parse(path, text, size, config, ret_message);
}

/* --- what it says --- */

static bool matches(const struct config_patterns *patterns, const char *command)
{
	for (size_t i = 0; i < patterns->n; i++)
		if (fnmatch(patterns->patterns[i], command, 0) == 0)
			return true;
	return false;
}

bool config_wants(const struct config *config, const char *command)
{
	if (config->include.n > 0 && !matches(&config->include, command))
		return false;
	return !matches(&config->exclude, command);
}
