/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The text exposition format (version 0.0.4) of what the daemon knows: a family
 * of metrics is one block, whatever its number of targets.  No line numbers
 * and no stacks in labels; at most `top` sites a target, the rest summed under
 * site="other".
 */
#ifndef PYLEAKD_REPORT_PROMETHEUS_H
#define PYLEAKD_REPORT_PROMETHEUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "report/snapshot.h"

struct prometheus_target {
	const struct snapshot *snapshot; /* NULL: nothing is known yet */
	int32_t pid;
	const char *command, *unit, *container;
	const char *state;
	double growth_bytes_per_second; /* of what it retains; NAN: not known */
	double time_to_limit_seconds;	/* INFINITY: not in sight */
	double census_interval_seconds; /* NAN: none is planned */
	double cpu_ratio;		/* of a core, that looking at it took lately */
	bool paced;			/* that was its limit: it is looked at more rarely */
};

struct prometheus_program_site {
	uint64_t id;
	const char *function, *file;
	double gained_bytes, growth_bytes_per_second;
	bool leak;
};

struct prometheus_program {
	const char *command, *unit, *container;
	size_t n_processes;
	double growth_bytes_per_second;
	size_t n_sites;
	const struct prometheus_program_site *sites;
};

/* A counter with one label's value: pyleakd_events_total{kind}, …. */
struct prometheus_count {
	const char *label;
	uint64_t count;
};

struct prometheus_page {
	const char *version;
	size_t top;
	size_t n_targets;
	const struct prometheus_target *targets;
	size_t n_programs;
	const struct prometheus_program *programs;
	size_t n_events, n_losses, n_states;
	const struct prometheus_count *events, *losses, *states;
	uint64_t targets_over; /* Pythons that are too many */
	/* Of the daemon itself. */
	double cpu_seconds, start_time_seconds;
	uint64_t resident_bytes, virtual_bytes, open_fds, max_fds;
};

/* 0, or the buffer's error. */
int report_prometheus(const struct prometheus_page *page, struct buffer *text);

#endif
