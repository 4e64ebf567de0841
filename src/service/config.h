/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The daemon's configuration: lines "key = value"; blank lines and lines that
 * begin with "#" are passed over.  A key that options have means what the
 * option means; the others are rows here.  deploy/pyleakd.conf has all of them
 * with their defaults.
 */
#ifndef PYLEAKD_SERVICE_CONFIG_H
#define PYLEAKD_SERVICE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "service/options.h"

#define CONFIG_BYTES_MAX (64u << 10) /* of the file */
#define CONFIG_LINE_MAX 1024	     /* bytes of a line */
#define CONFIG_PATTERNS_MAX 64	     /* of include, and of exclude */
#define CONFIG_MESSAGE_BYTES (OPTIONS_MESSAGE_BYTES + 256)
#define CONFIG_HOST_BYTES 64
#define CONFIG_TARGETS_MAX 1024
#define CONFIG_BUDGET_PERCENT 1 /* where it is not given */

struct config_patterns {
	size_t n;
	char *patterns[CONFIG_PATTERNS_MAX]; /* of fnmatch(3); the config's */
};

struct config {
	struct options options; /* mode, budget, interval, top, subprocesses, no-probes */
	char listen_host[CONFIG_HOST_BYTES]; /* an IPv4 or IPv6 address */
	uint16_t listen_port;		     /* 0: one that is free */
	uint64_t scan_interval_ns;
	uint64_t calm_ns; /* so long nothing must have grown until the probes go */
	struct config_patterns include, exclude;
	uint64_t max_targets, max_sampled;
	double cpu_percent;    /* of a core, that looking at one target may take of our own */
	uint64_t memory_bytes; /* of our own */
};

/* All defaults. */
void config_init(struct config *config);
void config_done(struct config *config);

/*
 * Reads a file, or its bytes (name is what messages call it).  On failure
 * ret_message (CONFIG_MESSAGE_BYTES) is "name:line: what went wrong: what to
 * do", one line, and config is as config_init() makes it: -EINVAL, -errno of
 * the file, -ENOMEM.  config is initialised either way.
 */
int config_load(const char *path, struct config *config, char *ret_message);
int config_parse(const char *name, const char *text, size_t size, struct config *config,
		 char *ret_message);

/* Is a process that is called so to be looked at? */
bool config_wants(const struct config *config, const char *command);

#endif
