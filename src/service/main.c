/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "service/adhoc.h"
#include "service/check.h"
#include "service/daemon.h"
#include "service/descriptors.h"
#include "service/options.h"
#include "service/replay.h"

static int write_standard_output(void *context, const void *bytes, size_t size)
{
	(void)context;
	return file_write_fd(1, bytes, size);
}

static const struct sink standard_output = { .write = write_standard_output };

static int show_version(void)
{
	static const char text[] = "pyleakd " PYLEAKD_VERSION "\n";

	return file_write_fd(1, text, sizeof(text) - 1) < 0 ? STATUS_FAILED : STATUS_OK;
}

int main(int argc, char *argv[])
{
	char message[OPTIONS_MESSAGE_BYTES];
	struct options options;

	if (options_parse(argc, argv, &options, message) < 0) {
		log_error("%s", message);
		return STATUS_USAGE;
	}
	switch (options.command) {
	case COMMAND_ATTACH:
		descriptors_raise_limit();
		return adhoc_attach(&options);
	case COMMAND_DAEMON:
		descriptors_raise_limit();
		return daemon_run(&options);
	case COMMAND_RUN:
		return adhoc_run(&options);
	case COMMAND_CHECK:
		return check_run(&options, &standard_output);
	case COMMAND_REPLAY:
		return replay_run(&options);
	case COMMAND_HELP:
		return options_help(&standard_output) < 0 ? STATUS_FAILED : STATUS_OK;
	case COMMAND_VERSION:
		return show_version();
	}
	return STATUS_USAGE;
}
