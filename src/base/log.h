/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Messages of the program to whoever runs it.  Only service logs: libraries
 * return errors.  A message goes to the sink; the default one writes lines
 * "pyleakd: text" to standard error.
 */
#ifndef PYLEAKD_BASE_LOG_H
#define PYLEAKD_BASE_LOG_H

/* syslog(3)'s numbers, which the journal wants. */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

typedef void log_sink(void *context, enum log_level level, const char *text);

/* Where messages go from now on (NULL: standard error), and up to which level. Returns nothing. */
void log_configure(log_sink *sink, void *context, enum log_level highest);

/* One message, without a newline; longer than 4 KiB is cut. errno is kept. */
void log_message(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_message(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
