/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "report/prometheus.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/names.h"

#define LABEL_BYTES_MAX 256
#define OTHER "other"

/* --- words of the format --- */

static void family(struct buffer *text, const char *name, const char *type, const char *help)
{
	buffer_printf(text, "# HELP pyleakd_%s %s\n# TYPE pyleakd_%s %s\n", name, help, name, type);
}

/* No further than the last whole character within LABEL_BYTES_MAX. */
static size_t cut(const char *value)
{
	size_t size = strnlen(value, LABEL_BYTES_MAX + 1);

	if (size <= LABEL_BYTES_MAX)
		return size;
	size = LABEL_BYTES_MAX;
	while (size > 0 && ((unsigned char)value[size] & 0xc0) == 0x80)
		size--;
	return size;
}

/* Foreign bytes between quotes: UTF-8, no controls, and the format's three escapes. */
static void value_of_label(struct buffer *text, const char *value)
{
	_cleanup_buffer_ struct buffer clean = buffer_init(8 * LABEL_BYTES_MAX);
	char part[LABEL_BYTES_MAX + 1];
	size_t size = cut(value);

	memcpy(part, value, size);
	part[size] = '\0';
	names_add_terminal(&clean, part);
	for (const char *at = clean.data ? clean.data : ""; *at; at++) {
		if (*at == '\\' || *at == '"')
			buffer_add_char(text, '\\');
		buffer_add_char(text, *at);
	}
}

static void label(struct buffer *text, bool first, const char *name, const char *value)
{
	buffer_printf(text, "%s%s=\"", first ? "{" : ",", name);
	value_of_label(text, value ? value : "");
	buffer_add_char(text, '"');
}

/* Behind the labels: the value, to the digits that a double has. */
static void number(struct buffer *text, double value)
{
	if (isnan(value))
		buffer_add_string(text, " NaN\n");
	else if (isinf(value))
		buffer_add_string(text, value > 0 ? " +Inf\n" : " -Inf\n");
	else
		buffer_printf(text, " %.15g\n", value);
}

static void plain(struct buffer *text, const char *name, double value)
{
	buffer_printf(text, "pyleakd_%s", name);
	number(text, value);
}

static void of_pid(struct buffer *text, const char *name, int32_t pid)
{
	buffer_printf(text, "pyleakd_%s{pid=\"%d\"", name, pid);
}

/* --- targets --- */

static void target_info(struct buffer *text, const struct prometheus_page *page)
{
	family(text, "target_info", "gauge", "A Python process that is looked at.");
	for (size_t i = 0; i < page->n_targets; i++) {
		const struct prometheus_target *target = &page->targets[i];

		of_pid(text, "target_info", target->pid);
		label(text, false, "command", target->command);
		label(text, false, "python", target->snapshot ? target->snapshot->python : "");
		label(text, false, "unit", target->unit);
		label(text, false, "container", target->container);
		buffer_add_char(text, '}');
		number(text, 1);
	}
	family(text, "target_state", "gauge", "1: how the process is looked at.");
	for (size_t i = 0; i < page->n_targets; i++) {
		of_pid(text, "target_state", page->targets[i].pid);
		label(text, false, "state", page->targets[i].state);
		buffer_add_char(text, '}');
		number(text, 1);
	}
}

static double resident(const struct prometheus_target *target)
{
	return (double)target->snapshot->resident_bytes;
}

static double python_live(const struct prometheus_target *target)
{
	return (double)target->snapshot->python_live_bytes;
}

static double growth(const struct prometheus_target *target)
{
	return target->growth_bytes_per_second;
}

static double leaks(const struct prometheus_target *target)
{
	double n = 0;

	for (size_t i = 0; i < target->snapshot->n_sites; i++)
		n += target->snapshot->sites[i].verdict == VERDICT_LEAK;
	return n;
}

static double time_to_limit(const struct prometheus_target *target)
{
	return target->time_to_limit_seconds;
}

static double overhead(const struct prometheus_target *target)
{
	return target->snapshot->overhead_ratio;
}

static double coverage(const struct prometheus_target *target)
{
	return target->snapshot->coverage_ratio;
}

static double windows(const struct prometheus_target *target)
{
	return (double)target->snapshot->windows;
}

static double census_interval(const struct prometheus_target *target)
{
	return target->census_interval_seconds;
}

static double cpu(const struct prometheus_target *target)
{
	return target->cpu_ratio;
}

static double paced(const struct prometheus_target *target)
{
	return target->paced;
}

/* A number a target; one that is not known (NAN) has no series. */
static const struct {
	const char *name, *type, *help;
	double (*value)(const struct prometheus_target *target);
} target_rows[] = {
	{"target_resident_bytes", "gauge", "Memory that is resident.", resident},
	{"target_python_live_bytes", "gauge", "Live blocks of pymalloc, by its own counters.",
	 python_live},
	{"target_growth_bytes_per_second", "gauge", "Growth of the live blocks.", growth},
	{"target_leaks", "gauge", "Sites whose verdict is leak.", leaks},
	{"target_time_to_limit_seconds", "gauge",
	 "Until its memory limit is reached at the present growth; +Inf: not in sight.",
	 time_to_limit},
	{"target_overhead_ratio", "gauge", "Share of its time that probes took.", overhead},
	{"target_coverage_ratio", "gauge", "Share of the new blocks that are accounted for.",
	 coverage},
	{"target_census_interval_seconds", "gauge", "How often its heap is looked at.",
	 census_interval},
	{"target_cpu_ratio", "gauge", "Share of a core that looking at it took in the last minute.",
	 cpu},
	{"target_paced", "gauge", "1: it is looked at more rarely, the share being at its limit.",
	 paced},
	{"windows_total", "counter", "Windows opened in the present session.", windows},
};

static void target_numbers(struct buffer *text, const struct prometheus_page *page)
{
	for (size_t row = 0; row < ARRAY_SIZE(target_rows); row++) {
		family(text, target_rows[row].name, target_rows[row].type, target_rows[row].help);
		for (size_t i = 0; i < page->n_targets; i++) {
			const struct prometheus_target *target = &page->targets[i];
			double value = target->snapshot ? target_rows[row].value(target) : NAN;

			if (isnan(value))
				continue;
			of_pid(text, target_rows[row].name, target->pid);
			buffer_add_char(text, '}');
			number(text, value);
		}
	}
}

/* What of it, and not why: sentences have changing numbers in them. */
static bool refused_before(const struct snapshot *snapshot, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (strcmp(snapshot->refused[i].what, snapshot->refused[at].what) == 0)
			return true;
	return false;
}

static void refusals(struct buffer *text, const struct prometheus_page *page)
{
	family(text, "target_refused", "gauge",
	       "1: what was not done for the process's sake; its report says why.");
	for (size_t i = 0; i < page->n_targets; i++) {
		const struct snapshot *snapshot = page->targets[i].snapshot;

		for (size_t j = 0; snapshot && j < snapshot->n_refused; j++) {
			if (refused_before(snapshot, j))
				continue;
			of_pid(text, "target_refused", page->targets[i].pid);
			label(text, false, "what", snapshot->refused[j].what);
			buffer_add_char(text, '}');
			number(text, 1);
		}
	}
}

/* --- sites --- */

static double site_outstanding(const struct snapshot_site *site)
{
	return (double)site->outstanding_bytes;
}

static double site_growth(const struct snapshot_site *site)
{
	return isfinite(site->growth_bytes_per_second) ? site->growth_bytes_per_second : 0;
}

static double site_leak(const struct snapshot_site *site)
{
	return site->verdict == VERDICT_LEAK;
}

static const struct {
	const char *name, *help;
	double (*value)(const struct snapshot_site *site);
	bool any; /* the rest is 1 if any of it is, and no sum */
} site_rows[] = {
	{"site_outstanding_bytes", "Bytes made at a line that still live.", site_outstanding,
	 false},
	{"site_growth_bytes_per_second", "Growth of what was made at a line.", site_growth, false},
	{"site_leak", "1: the verdict on the line is leak.", site_leak, true},
};

static void site_series(struct buffer *text, const char *name, int32_t pid,
			const struct snapshot_site *site, double value)
{
	char id[17] = OTHER;

	if (site)
		snprintf(id, sizeof(id), "%016llx", (unsigned long long)site->id);
	of_pid(text, name, pid);
	label(text, false, "site", id);
	label(text, false, "function", site && site->n_frames ? site->frames[0].function : "");
	label(text, false, "file", site && site->n_frames ? site->frames[0].file : "");
	buffer_add_char(text, '}');
	number(text, value);
}

static void sites_of(struct buffer *text, size_t row, const struct prometheus_target *target,
		     size_t top)
{
	size_t shown = 0, n_rest = 0;
	double rest = 0;

	for (size_t i = 0; i < target->snapshot->n_sites; i++) {
		const struct snapshot_site *site = &target->snapshot->sites[i];
		double value = site_rows[row].value(site);

		if (!site->other && shown < top) {
			shown++;
			site_series(text, site_rows[row].name, target->pid, site, value);
		} else {
			n_rest++;
			rest = site_rows[row].any ? fmax(rest, value) : rest + value;
		}
	}
	if (n_rest)
		site_series(text, site_rows[row].name, target->pid, NULL, rest);
}

static void sites(struct buffer *text, const struct prometheus_page *page)
{
	for (size_t row = 0; row < ARRAY_SIZE(site_rows); row++) {
		family(text, site_rows[row].name, "gauge", site_rows[row].help);
		for (size_t i = 0; i < page->n_targets; i++)
			if (page->targets[i].snapshot)
				sites_of(text, row, &page->targets[i], page->top);
	}
}

/* --- programs --- */

static void of_program(struct buffer *text, const char *name,
		       const struct prometheus_program *program)
{
	buffer_printf(text, "pyleakd_%s", name);
	label(text, true, "command", program->command);
	label(text, false, "unit", program->unit);
	label(text, false, "container", program->container);
}

static void program_site(struct buffer *text, const char *name,
			 const struct prometheus_program *program,
			 const struct prometheus_program_site *site, double value)
{
	char id[17];

	snprintf(id, sizeof(id), "%016llx", (unsigned long long)site->id);
	of_program(text, name, program);
	label(text, false, "site", id);
	label(text, false, "function", site->function);
	label(text, false, "file", site->file);
	buffer_add_char(text, '}');
	number(text, value);
}

static void program_sites(struct buffer *text, const struct prometheus_page *page, const char *name,
			  const char *help,
			  double (*value)(const struct prometheus_program_site *site))
{
	family(text, name, "gauge", help);
	for (size_t i = 0; i < page->n_programs; i++)
		for (size_t j = 0; j < page->programs[i].n_sites && j < page->top; j++)
			program_site(text, name, &page->programs[i], &page->programs[i].sites[j],
				     value(&page->programs[i].sites[j]));
}

static double program_site_gained(const struct prometheus_program_site *site)
{
	return site->gained_bytes;
}

static double program_site_growth(const struct prometheus_program_site *site)
{
	return site->growth_bytes_per_second;
}

static double program_site_leak(const struct prometheus_program_site *site)
{
	return site->leak;
}

static void programs(struct buffer *text, const struct prometheus_page *page)
{
	family(text, "program_processes", "gauge", "Processes of one unit or container, and name.");
	for (size_t i = 0; i < page->n_programs; i++) {
		of_program(text, "program_processes", &page->programs[i]);
		buffer_add_char(text, '}');
		number(text, (double)page->programs[i].n_processes);
	}
	program_sites(text, page, "program_site_gained_bytes",
		      "Bytes that all of a program's processes gained at a line.",
		      program_site_gained);
	program_sites(text, page, "program_site_growth_bytes_per_second",
		      "Growth of that, summed over the processes.", program_site_growth);
	program_sites(text, page, "program_site_leak",
		      "1: a line grows over a program's successive processes.", program_site_leak);
}

/* --- the daemon --- */

static void counts(struct buffer *text, const char *name, const char *type, const char *help,
		   const char *label_name, const struct prometheus_count *rows, size_t n)
{
	family(text, name, type, help);
	for (size_t i = 0; i < n; i++) {
		buffer_printf(text, "pyleakd_%s", name);
		label(text, true, label_name, rows[i].label);
		buffer_printf(text, "} %llu\n", (unsigned long long)rows[i].count);
	}
}

static void process_row(struct buffer *text, const char *name, const char *type, const char *help,
			double value)
{
	buffer_printf(text, "# HELP process_%s %s\n# TYPE process_%s %s\nprocess_%s", name, help,
		      name, type, name);
	number(text, value);
}

static void process(struct buffer *text, const struct prometheus_page *page)
{
	process_row(text, "cpu_seconds_total", "counter", "CPU time of pyleakd.",
		    page->cpu_seconds);
	process_row(text, "resident_memory_bytes", "gauge", "Resident memory of pyleakd.",
		    (double)page->resident_bytes);
	process_row(text, "virtual_memory_bytes", "gauge", "Virtual memory of pyleakd.",
		    (double)page->virtual_bytes);
	process_row(text, "start_time_seconds", "gauge", "When pyleakd started, since 1970.",
		    page->start_time_seconds);
	process_row(text, "open_fds", "gauge", "Open file descriptors of pyleakd.",
		    (double)page->open_fds);
	process_row(text, "max_fds", "gauge", "File descriptors that pyleakd may open.",
		    (double)page->max_fds);
}

int report_prometheus(const struct prometheus_page *page, struct buffer *text)
{
	family(text, "build_info", "gauge", "The version that runs.");
	buffer_add_string(text, "pyleakd_build_info");
	label(text, true, "version", page->version);
	buffer_add_char(text, '}');
	number(text, 1);
	counts(text, "targets", "gauge", "Python processes, by how they are looked at.", "state",
	       page->states, page->n_states);
	family(text, "targets_over", "gauge", "Python processes beyond max-targets.");
	plain(text, "targets_over", (double)page->targets_over);
	target_info(text, page);
	target_numbers(text, page);
	refusals(text, page);
	sites(text, page);
	programs(text, page);
	counts(text, "events_total", "counter", "Records taken from the kernel.", "kind",
	       page->events, page->n_events);
	counts(text, "events_lost_total", "counter", "What was seen and not accounted for.",
	       "reason", page->losses, page->n_losses);
	process(text, page);
	return text->error;
}
