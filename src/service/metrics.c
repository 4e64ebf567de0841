/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/metrics.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/reasons.h"
#include "base/text.h"
#include "report/names.h"
#include "report/prometheus.h"
#include "service/programs.h"
#include "target/proc.h"

#define TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define TYPE_JSON "application/json"
#define NAME_BYTES_MAX (64u << 10)
#define PIDS_MAX (1u << 22)
#define FDS_MAX (1u << 20)

static int append(void *context, const void *bytes, size_t size)
{
	return buffer_add(context, bytes, size);
}

/* --- /metrics --- */

static struct prometheus_target target_row(const struct targets *targets,
					   const struct target *target)
{
	bool judged = target->retained.heap[0].n >= JUDGE_INTERVALS_MIN;
	return (struct prometheus_target){
		.snapshot = target->snapshot,
		.pid = target->id.pid,
		.command = target->command,
		.unit = target->place.unit,
		.container = target->place.container,
		.state = target_state_name(target->state),
		.growth_bytes_per_second = judged ? target->retained.growth_bytes_per_second : NAN,
		.time_to_limit_seconds = target->time_to_limit_seconds,
		.census_interval_seconds = target->session ? target->pause_seconds : NAN,
		.cpu_ratio = pace_average(&target->pace, targets_now(targets)),
		.paced = target_is_paced(targets, target),
	};
}

static int compare_gained(const void *a, const void *b)
{
	const struct prometheus_program_site *one = a, *other = b;

	if (one->leak != other->leak)
		return one->leak ? -1 : 1;
	return (one->gained_bytes < other->gained_bytes) -
	       (one->gained_bytes > other->gained_bytes);
}

/* The sites that gained most first; the rows are the caller's, to free(). */
static int program_row(const struct program *program, struct prometheus_program *ret)
{
	struct prometheus_program_site *sites = calloc(program->n_sites + 1, sizeof(*sites));

	if (!sites)
		return -ENOMEM;
	for (size_t i = 0; i < program->n_sites; i++)
		sites[i] = (struct prometheus_program_site){
			.id = program->sites[i].id,
			.function = program->sites[i].function,
			.file = program->sites[i].file,
			.gained_bytes = program->sites[i].gained_bytes,
			.growth_bytes_per_second =
				program->sites[i].judgement.growth_bytes_per_second,
			.leak = program_site_leaks(program, &program->sites[i]),
		};
	qsort(sites, program->n_sites, sizeof(*sites), compare_gained);
	*ret = (struct prometheus_program){
		.command = program->command,
		.unit = program->place.unit,
		.container = program->place.container,
		.n_processes = program->n_processes,
		.growth_bytes_per_second = program->retained.growth_bytes_per_second,
		.n_sites = program->n_sites,
		.sites = sites,
	};
	return 0;
}

static void own_memory(struct prometheus_page *page)
{
	_cleanup_free_ char *status = NULL;
	_cleanup_free_ pid_t *fds = NULL;
	struct rlimit limit;
	size_t n_fds;

	if (proc_read(getpid(), "status", PROC_STATUS_MAX, &status, NULL) == 0) {
		proc_field_u64(status, "VmRSS", &page->resident_bytes);
		proc_field_u64(status, "VmSize", &page->virtual_bytes);
	}
	if (proc_list_ids("/proc/self/fd", FDS_MAX, &fds, &n_fds) == 0)
		page->open_fds = n_fds;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		page->max_fds = limit.rlim_cur;
}

struct losses {
	struct prometheus_count rows[ARRAY_SIZE(((struct targets_counters *)0)->losses)];
	size_t n;
};

/* Of sessions that ended and of those that go on. */
static void sum_counters(const struct targets *targets, uint64_t *ret_events,
			 struct losses *ret_losses)
{
	struct targets_counters sum = targets->ended;

	for (size_t i = 0; i < targets->n; i++) {
		const struct snapshot *snapshot = targets->items[i]->snapshot;

		if (!snapshot || targets->items[i]->snapshot_ended)
			continue;
		sum.events += snapshot->events;
		for (size_t j = 0; j < snapshot->n_losses; j++)
			sum.losses[snapshot->losses[j].reason] += snapshot->losses[j].count;
	}
	*ret_events = sum.events;
	ret_losses->n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(sum.losses); i++)
		if (sum.losses[i])
			ret_losses->rows[ret_losses->n++] = (struct prometheus_count){
				reason_label((enum reason)i), sum.losses[i]};
}

static int write_page(const struct metrics *metrics, const struct prometheus_target *rows,
		      const struct prometheus_program *programs, size_t n_programs,
		      struct buffer *body)
{
	const struct targets *targets = metrics->targets;
	struct prometheus_count states[TARGET_STATES];
	struct prometheus_count events = {"record", 0};
	struct losses losses;
	struct prometheus_page page = {
		.version = PYLEAKD_VERSION,
		.top = targets->config->options.top,
		.n_targets = targets->n,
		.targets = rows,
		.n_programs = n_programs,
		.programs = programs,
		.n_events = 1,
		.events = &events,
		.losses = losses.rows,
		.n_states = TARGET_STATES,
		.states = states,
		.targets_over = targets->over,
		.cpu_seconds = (double)clock_process_cpu_ns() / NS_PER_SECOND,
		.start_time_seconds = metrics->started,
	};

	for (size_t i = 0; i < TARGET_STATES; i++)
		states[i] = (struct prometheus_count){
			target_state_name((enum target_state)i),
			targets_count(targets, (enum target_state)i),
		};
	sum_counters(targets, &events.count, &losses);
	page.n_losses = losses.n;
	own_memory(&page);
	return report_prometheus(&page, body);
}

static int metrics_text(const struct metrics *metrics, struct buffer *body)
{
	const struct targets *targets = metrics->targets;
	_cleanup_free_ struct prometheus_target *rows = calloc(targets->n + 1, sizeof(*rows));
	struct prometheus_program programs[PROGRAMS_MAX];
	size_t n_programs = 0;
	int r = rows ? 0 : -ENOMEM;

	for (size_t i = 0; i < targets->n && r == 0; i++)
		rows[i] = target_row(targets, targets->items[i]);
	for (; n_programs < targets->programs->n && r == 0; n_programs++) {
		r = program_row(targets->programs->items[n_programs], &programs[n_programs]);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = write_page(metrics, rows, programs, n_programs, body);
	for (size_t i = 0; i < n_programs; i++)
		free((void *)programs[i].sites);
	return r;
}

/* --- /api --- */

static json_t *text_value(const char *text)
{
	_cleanup_buffer_ struct buffer clean = buffer_init(NAME_BYTES_MAX);

	names_add_utf8(&clean, text ? text : "");
	return json_string(clean.data ? clean.data : "");
}

static json_t *number_value(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static size_t count_leaks(const struct snapshot *snapshot)
{
	size_t n = 0;

	for (size_t i = 0; i < snapshot->n_sites; i++)
		n += snapshot->sites[i].verdict == VERDICT_LEAK;
	return n;
}

static json_t *target_value(const struct targets *targets, const struct target *target)
{
	const struct snapshot *snapshot = target->snapshot;
	json_t *value = json_pack(
		"{s:i, s:o, s:o, s:o, s:s, s:o, s:b, s:b}", "pid", target->id.pid, "command",
		text_value(target->command), "unit", text_value(target->place.unit), "container",
		text_value(target->place.container), "state", target_state_name(target->state),
		"reason", text_value(target->reason), "growing", target->retained.growing, "paced",
		target_is_paced(targets, target));

	if (!value || !snapshot)
		return value;
	json_object_set_new(value, "python", text_value(snapshot->python));
	json_object_set_new(value, "resident_bytes",
			    json_integer((json_int_t)snapshot->resident_bytes));
	json_object_set_new(value, "python_live_bytes",
			    json_integer((json_int_t)snapshot->python_live_bytes));
	json_object_set_new(value, "growth_bytes_per_second",
			    number_value(target->retained.growth_bytes_per_second));
	json_object_set_new(value, "overhead_ratio", number_value(snapshot->overhead_ratio));
	json_object_set_new(value, "leaks", json_integer((json_int_t)count_leaks(snapshot)));
	return value;
}

static int targets_text(const struct targets *targets, struct buffer *body)
{
	json_t *array = json_array();
	char *text;

	for (size_t i = 0; i < targets->n; i++)
		json_array_append_new(array, target_value(targets, targets->items[i]));
	text = json_dumps(array, JSON_REAL_PRECISION(15));
	json_decref(array);
	if (!text)
		return -ENOMEM;
	buffer_printf(body, "%s\n", text);
	free(text);
	return body->error;
}

static unsigned report_page(const struct targets *targets, const char *pid_text,
			    struct buffer *body, const char **ret_type)
{
	const struct sink sink = {append, body};
	size_t digits = strspn(pid_text, "0123456789");
	const struct target *target = NULL;
	char number[16] = "";
	uint64_t pid;

	if (digits < sizeof(number) && strcmp(pid_text + digits, "/report") == 0) {
		memcpy(number, pid_text, digits);
		if (parse_u64(number, 1, PIDS_MAX, &pid) == 0)
			target = targets_find(targets, (pid_t)pid);
	}
	if (!target) {
		buffer_add_string(body, "no such target: /api/v1/targets lists them\n");
		return 404;
	}
	if (!target->snapshot) {
		buffer_printf(body, "no report yet: %s\n",
			      target->reason[0] ? target->reason : "it was not looked at so far");
		return 503;
	}
	*ret_type = TYPE_JSON;
	report_json(target->snapshot, &sink);
	return 200;
}

/* --- which page --- */

unsigned metrics_page(void *context, const char *path, struct buffer *body, const char **ret_type)
{
	static const char targets_path[] = "/api/v1/targets";
	const struct metrics *metrics = context;
	const struct targets *targets = metrics->targets;
	int r = 0;

	if (strcmp(path, "/metrics") == 0) {
		*ret_type = TYPE_METRICS;
		r = metrics_text(metrics, body);
	} else if (strcmp(path, targets_path) == 0) {
		*ret_type = TYPE_JSON;
		r = targets_text(targets, body);
	} else if (strncmp(path, targets_path, strlen(targets_path)) == 0 &&
		   path[strlen(targets_path)] == '/') {
		return report_page(targets, path + strlen(targets_path) + 1, body, ret_type);
	} else if (strcmp(path, "/healthz") == 0) {
		buffer_add_string(body, "ok\n");
	} else if (strcmp(path, "/readyz") == 0) {
		bool ready = targets_ready(targets);

		buffer_add_string(body, ready ? "ready\n" : "the first scan is not over\n");
		return ready ? 200 : 503;
	} else {
		buffer_add_string(body, "no such page\n");
		return 404;
	}
	if (r < 0 && body->error == 0)
		body->error = r;
	return 200;
}
