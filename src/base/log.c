/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#define MESSAGE_BYTES_MAX 4096

static void log_to_standard_error(void *context, enum log_level level, const char *text)
{
	(void)context;
	(void)level;
	fprintf(stderr, "pyleakd: %s\n", text);
}

/* The program's only one: whoever has something to say does not hand a logger through. */
static struct {
	log_sink *sink;
	void *context;
	enum log_level highest;
} settings = {.sink = log_to_standard_error, .highest = LOG_LEVEL_NOTICE};

void log_configure(log_sink *sink, void *context, enum log_level highest)
{
	settings.sink = sink ? sink : log_to_standard_error;
	settings.context = context;
	settings.highest = highest;
}

void log_message(enum log_level level, const char *format, ...)
{
	char text[MESSAGE_BYTES_MAX];
	int saved_errno = errno;
	va_list arguments;

	if (level > settings.highest)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	settings.sink(settings.context, level, text);
	errno = saved_errno;
}
