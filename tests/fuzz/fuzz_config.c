/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Fuzzes the reader of the daemon's configuration. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "service/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

/* Whatever the bytes: what is in force lies within its bounds. */
static void check_values(const struct config *config)
{
	check(config->options.mode == MODE_SAMPLED);
	check(config->options.budget_percent >= 0.01 && config->options.budget_percent <= 100);
	check(config->options.interval_ns >= NS_PER_SECOND / 10);
	check(config->options.top >= 1 && config->options.top <= OPTIONS_TOP_MAX);
	check(config->scan_interval_ns >= NS_PER_SECOND / 10);
	check(config->max_targets >= 1 && config->max_targets <= CONFIG_TARGETS_MAX);
	check(config->max_sampled <= CONFIG_TARGETS_MAX);
	check(config->cpu_percent >= 0.01 && config->cpu_percent <= 100);
	check(config->include.n <= CONFIG_PATTERNS_MAX && config->exclude.n <= CONFIG_PATTERNS_MAX);
	check(strlen(config->listen_host) < CONFIG_HOST_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char message[CONFIG_MESSAGE_BYTES] = "";
	struct config config;
	int r = config_parse("fuzz", (const char *)data, size, &config, message);

	check_values(&config);
	if (r < 0) {
		check(strncmp(message, "fuzz:", 5) == 0);
		check(!strchr(message, '\n') && !strchr(message, '\033'));
	}
	config_wants(&config, "web.py");
	config_done(&config);
	return 0;
}
