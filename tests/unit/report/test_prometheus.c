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

#include "base/buffer.h"
#include "report/prometheus.h"

#include "snapshots.h"

/* The golden reports' others. */
static struct snapshot *(*const others[])(void)__attribute__((unused)) = {empty, hostile, watched,
									  incomplete};

static const struct prometheus_target target_row = {
	.pid = 4242,
	.command = "web.py",
	.unit = "web.service",
	.container = "",
	.state = "sampled",
	.growth_bytes_per_second = 30000,
	.time_to_limit_seconds = INFINITY,
	.census_interval_seconds = 5,
	.cpu_ratio = 0.0125,
	.paced = true,
};

static char *page_of(const struct prometheus_target *targets, size_t n, size_t top)
{
	static const struct prometheus_count states[] = {{"watch", 3}, {"sampled", 1}};
	static const struct prometheus_count events[] = {{"record", 1204113}};
	static const struct prometheus_count losses[] = {{"ring_full", 7}};
	struct buffer text = buffer_init(1 << 20);
	const struct prometheus_page page = {
		.version = "0.1.0",
		.top = top,
		.n_targets = n,
		.targets = targets,
		.n_states = 2,
		.states = states,
		.n_events = 1,
		.events = events,
		.n_losses = 1,
		.losses = losses,
		.cpu_seconds = 1.25,
		.start_time_seconds = 1700003600.5,
		.resident_bytes = 30 << 20,
	};

	assert_int_equal(report_prometheus(&page, &text), 0);
	return buffer_take(&text);
}

static void assert_has(const char *text, const char *line)
{
	const char *at = strstr(text, line);

	if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n')
		fail_msg("no line %s in\n%s", line, text);
}

static void assert_lacks(const char *text, const char *part)
{
	if (strstr(text, part))
		fail_msg("%s is in\n%s", part, text);
}

/* The format wants a family's series in one block, behind its HELP and TYPE. */
static void assert_well_formed(const char *text)
{
	char family[128] = "";
	size_t n_types = 0;

	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		char name[128];

		if (sscanf(line, "# TYPE %127s ", name) == 1) {
			char again[160];

			snprintf(again, sizeof(again), "# TYPE %s ", name);
			if (strstr(strchr(line, '\n'), again))
				fail_msg("%s comes twice", name);
			snprintf(family, sizeof(family), "%s", name);
			n_types++;
		} else if (*line != '#') {
			assert_int_equal(sscanf(line, "%127[a-z_]", name), 1);
			assert_string_equal(name, family);
		}
	}
	assert_true(n_types > 20);
}

static void the_contracts_series_are_there(void **state)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = leaking();
	struct prometheus_target target = target_row;
	char *text;

	(void)state;
	target.snapshot = snapshot;
	text = page_of(&target, 1, 10);
	assert_well_formed(text);
	assert_has(text, "pyleakd_build_info{version=\"0.1.0\"} 1");
	assert_has(text, "pyleakd_target_info{pid=\"4242\",command=\"web.py\",python=\"3.11.2\","
			 "unit=\"web.service\",container=\"\"} 1");
	assert_has(text, "pyleakd_target_state{pid=\"4242\",state=\"sampled\"} 1");
	assert_has(text, "pyleakd_target_resident_bytes{pid=\"4242\"} 412000000");
	assert_has(text, "pyleakd_target_python_live_bytes{pid=\"4242\"} 231000000");
	assert_has(text, "pyleakd_target_growth_bytes_per_second{pid=\"4242\"} 30000");
	assert_has(text, "pyleakd_target_leaks{pid=\"4242\"} 1");
	assert_has(text, "pyleakd_target_time_to_limit_seconds{pid=\"4242\"} +Inf");
	assert_has(text, "pyleakd_target_overhead_ratio{pid=\"4242\"} 0.75");
	assert_has(text, "pyleakd_target_coverage_ratio{pid=\"4242\"} 0.9998");
	assert_has(text, "pyleakd_target_cpu_ratio{pid=\"4242\"} 0.0125");
	assert_has(text, "pyleakd_target_paced{pid=\"4242\"} 1");
	assert_has(text, "pyleakd_windows_total{pid=\"4242\"} 0");
	assert_has(text, "pyleakd_events_total{kind=\"record\"} 1204113");
	assert_has(text, "pyleakd_events_lost_total{reason=\"ring_full\"} 7");
	assert_has(text, "pyleakd_targets{state=\"watch\"} 3");
	assert_has(text, "process_cpu_seconds_total 1.25");
	assert_has(text, "process_resident_memory_bytes 31457280");
	assert_lacks(text, ":88");	/* no line numbers */
	assert_lacks(text, "dispatch"); /* no stacks */
	free(text);
}

/* The value behind the first series that begins so; a failure where there is none. */
static double value_of(const char *text, const char *begin)
{
	const char *at = strstr(text, begin);

	if (!at)
		fail_msg("no %s in\n%s", begin, text);
	return strtod(strrchr(strndupa(at, strcspn(at, "\n")), ' '), NULL);
}

static double sum_of(const char *text, const char *begin)
{
	double sum = 0;

	for (const char *at = text; (at = strstr(at, begin)); at++)
		sum += value_of(at, begin);
	return sum;
}

static void what_is_beyond_the_top_is_summed_as_other(void **state)
{
	static const char outstanding[] = "pyleakd_site_outstanding_bytes{pid=";
	CLEANUP(snapshot_free) struct snapshot *snapshot = leaking();
	struct prometheus_target target = target_row;
	char *all, *two;
	double total = 0;

	(void)state;
	target.snapshot = snapshot;
	for (size_t i = 0; i < snapshot->n_sites; i++)
		total += (double)snapshot->sites[i].outstanding_bytes;
	all = page_of(&target, 1, 100);
	two = page_of(&target, 1, 2);
	assert_true(sum_of(all, outstanding) == total);
	assert_true(sum_of(two, outstanding) == total);
	/* The merged rest of the ledger is no site of its own. */
	assert_true(value_of(all, "pyleakd_site_outstanding_bytes{pid=\"4242\",site=\"other\"") ==
		    64000);
	assert_has(all, "pyleakd_site_leak{pid=\"4242\",site=\"other\",function=\"\",file=\"\"} 0");
	assert_true(value_of(two, "pyleakd_site_leak{pid=\"4242\",site=\"") == 1);
	assert_non_null(strstr(two, "function=\"remember\",file=\"/srv/shop/app/cache.py\"} 1\n"));
	assert_lacks(two, "iterencode");
	free(all);
	free(two);
}

/* A leak beyond the top still shows. */
static void a_leak_in_the_rest_is_a_leak_of_the_rest(void **state)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = snapshot_of("sampled");
	struct prometheus_target target = target_row;
	char *text;

	(void)state;
	add_leak(snapshot);
	add_leak(snapshot);
	add_leak(snapshot);
	finished(snapshot);
	target.snapshot = snapshot;
	text = page_of(&target, 1, 1);
	assert_has(text,
		   "pyleakd_site_leak{pid=\"4242\",site=\"other\",function=\"\",file=\"\"} 1");
	assert_has(text, "pyleakd_target_leaks{pid=\"4242\"} 3");
	free(text);
}

static void what_is_not_known_has_no_series(void **state)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = finished(snapshot_of("watch"));
	struct prometheus_target targets[] = {target_row, target_row};
	char *text;

	(void)state;
	targets[0].snapshot = snapshot;
	targets[1].pid = 7;
	targets[1].state = "new";
	targets[1].growth_bytes_per_second = NAN;
	text = page_of(targets, 2, 10);
	assert_well_formed(text);
	assert_lacks(text, "pyleakd_target_coverage_ratio{");
	assert_lacks(text, "pyleakd_target_resident_bytes{pid=\"7\"");
	assert_has(text, "pyleakd_target_state{pid=\"7\",state=\"new\"} 1");
	assert_has(text, "pyleakd_target_info{pid=\"7\",command=\"web.py\",python=\"\","
			 "unit=\"web.service\",container=\"\"} 1");
	free(text);
}

/* Between quotes nothing ends them, and every byte is UTF-8 without controls. */
/* What, a series each, though it was refused more than once; why is the report's. */
static void what_was_refused_is_a_series_without_its_sentence(void **state)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = incomplete();
	struct prometheus_target target = target_row;
	const char *line =
		"pyleakd_target_refused{pid=\"4242\",what=\"probes in the C library\"} 1";
	char *text;

	(void)state;
	target.snapshot = snapshot;
	text = page_of(&target, 1, 10);
	assert_well_formed(text);
	assert_has(text, line);
	assert_null(strstr(strstr(text, line) + 1, line));
	assert_has(text, "pyleakd_target_refused{pid=\"4242\","
			 "what=\"freeing a forked child of breakpoints\"} 1");
	assert_lacks(text, "raise the limit");
	free(text);
}

static void hostile_names_stay_within_their_label(void **state)
{
	static char long_name[4000];
	static const char *const names[] = {
		"a\"} 1\npyleakd_target_leaks{pid=\"1\"} 99\n#",
		"back\\slash\\",
		"\\",
		"\"",
		"tab\tcr\rnul",
		"\033]0;title\a",
		"\xff\xfe\x80",
		"caf\xc3\xa9",
		"\xe2\x80\xae!",
		"",
		long_name,
	};

	(void)state;
	for (size_t i = 0; i + 2 < sizeof(long_name); i += 2)
		memcpy(long_name + i, "\xc3\xa9", 2);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CLEANUP(snapshot_free) struct snapshot *snapshot = snapshot_of("sampled");
		struct prometheus_target target = target_row;
		size_t lines = 0;
		char *text;

		add_stable(snapshot, names[i], 5000);
		finished(snapshot);
		target.snapshot = snapshot;
		target.command = target.unit = target.container = names[i];
		text = page_of(&target, 1, 10);
		assert_well_formed(text);
		assert_lacks(text, "\npyleakd_target_leaks{pid=\"1\"} 99");
		for (char *at = text; *at; at++) {
			unsigned char byte = (unsigned char)*at;

			lines += byte == '\n';
			assert_true(byte == '\n' || (byte >= ' ' && byte < 0xfe && byte != 0x7f));
		}
		assert_true(strlen(text) < 16384 + lines);
		free(text);
	}
	/* A backslash and a quote are escaped, in this order. */
	{
		CLEANUP(snapshot_free) struct snapshot *snapshot = snapshot_of("sampled");
		struct prometheus_target target = target_row;
		char *text;

		add_stable(snapshot, "a\\\"b", 5000);
		finished(snapshot);
		target.snapshot = snapshot;
		text = page_of(&target, 1, 10);
		assert_non_null(strstr(text, "function=\"a\\\\\\\"b\""));
		free(text);
	}
}

static void a_program_shows_its_sites_over_all_its_processes(void **state)
{
	static const struct prometheus_program_site sites[] = {
		{0xabc, "remember", "/srv/app.py", 40000, 500, true},
		{0xdef, "other_one", "/srv/app.py", 10, 0, false},
	};
	const struct prometheus_program program = {"gunicorn", "web.service", "", 2, 500, 2, sites};
	struct buffer text = buffer_init(1 << 20);
	const struct prometheus_page page = {
		.version = "0", .top = 1, .n_programs = 1, .programs = &program};

	(void)state;
	assert_int_equal(report_prometheus(&page, &text), 0);
	assert_well_formed(text.data);
	assert_has(text.data, "pyleakd_program_processes{command=\"gunicorn\",unit=\"web.service\","
			      "container=\"\"} 2");
	assert_has(text.data, "pyleakd_program_site_leak{command=\"gunicorn\",unit=\"web.service\","
			      "container=\"\",site=\"0000000000000abc\",function=\"remember\","
			      "file=\"/srv/app.py\"} 1");
	assert_lacks(text.data, "other_one");
	buffer_done(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_contracts_series_are_there),
		cmocka_unit_test(what_is_beyond_the_top_is_summed_as_other),
		cmocka_unit_test(a_leak_in_the_rest_is_a_leak_of_the_rest),
		cmocka_unit_test(what_is_not_known_has_no_series),
		cmocka_unit_test(what_was_refused_is_a_series_without_its_sentence),
		cmocka_unit_test(hostile_names_stay_within_their_label),
		cmocka_unit_test(a_program_shows_its_sites_over_all_its_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
