/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "report/snapshot_build.h"
#include "service/programs.h"

DEFINE_CLEANUP(struct snapshot *, snapshot_free)
DEFINE_CLEANUP(struct programs *, programs_free)

#define INTERVAL 5.0

static const struct place web = {.unit = "web.service"};

/* Otherwise what is kept takes the place of something else. */
static bool heap_follows_leak = true;

/* One worker's snapshot: what its session holds at two sites. */
static struct snapshot *snapshot_of(double started, double age, uint64_t leaked, uint64_t cached)
{
	static const struct snapshot_frame leak = {"remember", "/srv/app.py", 7};
	static const struct snapshot_frame cache = {"fill", "/srv/cache.py", 3};
	struct snapshot *snapshot;

	assert_int_equal(snapshot_new(&snapshot), 0);
	snapshot->session_started = started;
	snapshot->duration_seconds = age;
	/* The census knows the cache from the start. */
	snapshot->python_live_bytes = 1500000 + (heap_follows_leak ? leaked : 0);
	snapshot->resident_bytes = 20500000 + (heap_follows_leak ? leaked : 0);
	snapshot_add_site(snapshot, &(struct snapshot_site){.outstanding_bytes = leaked,
							    .domain = "object",
							    .n_frames = 1,
							    .frames = &leak});
	snapshot_add_site(snapshot, &(struct snapshot_site){.outstanding_bytes = cached,
							    .domain = "object",
							    .n_frames = 1,
							    .frames = &cache});
	assert_int_equal(snapshot_finish(snapshot), 0);
	return snapshot;
}

/* What a line has in use: it is seen from the third look on, and wavers. */
static uint64_t cached_at(size_t look)
{
	return look < 3 ? 0 : 500000 + 1000 * (look % 2);
}

/* A worker that lives for `looks` intervals, leaks by rate, and fills a cache at its start. */
static void run_worker(struct programs *programs, double *now, size_t looks, uint64_t rate)
{
	struct program *program = programs_join(programs, &web, "gunicorn");
	struct program_share share = {0};
	double started = *now;

	assert_non_null(program);
	for (size_t i = 1; i <= looks; i++) {
		struct snapshot *snapshot =
			snapshot_of(started, (double)i * INTERVAL, i * rate, cached_at(i));

		*now += INTERVAL;
		assert_int_equal(
			program_observe(program, &share, snapshot, *now - started, *now, INTERVAL),
			0);
		snapshot_free(snapshot);
	}
	program_share_done(&share);
	programs_leave(programs, program, *now);
}

static const struct program_site *site_called(const struct program *program, const char *function)
{
	for (size_t i = 0; i < program->n_sites; i++)
		if (strcmp(program->sites[i].function, function) == 0)
			return &program->sites[i];
	fail_msg("no site %s", function);
	return NULL;
}

/* Each lives for six intervals: none of them has a history that says anything. */
static void a_programs_leak_is_found_though_its_workers_die(void **state)
{
	CLEANUP(programs_free) struct programs *programs = NULL;
	const struct program *program;
	double now = 0;

	(void)state;
	assert_int_equal(programs_new(&programs), 0);
	for (size_t worker = 0; worker < 8; worker++)
		run_worker(programs, &now, 6, 100000);
	assert_int_equal(programs->n, 1);
	program = programs->items[0];
	assert_int_equal(program->n_processes, 0);
	assert_int_equal(program->n_processes_ever, 8);
	assert_true(program->retained.growing);
	assert_true(program_site_leaks(program, site_called(program, "remember")));
	/* The cache of each is filled anew, and is no leak of the program. */
	assert_true(fabs(site_called(program, "fill")->gained_bytes) <= 8000);
	assert_int_not_equal(site_called(program, "fill")->judgement.verdict, VERDICT_LEAK);
	assert_string_equal(site_called(program, "remember")->file, "/srv/app.py");
}

static void workers_that_do_not_leak_are_not_charged_for_their_start(void **state)
{
	CLEANUP(programs_free) struct programs *programs = NULL;
	double now = 0;

	(void)state;
	assert_int_equal(programs_new(&programs), 0);
	for (size_t worker = 0; worker < 8; worker++)
		run_worker(programs, &now, 6, 0);
	assert_false(programs->items[0]->retained.growing);
	for (size_t i = 0; i < programs->items[0]->n_sites; i++)
		assert_true(programs->items[0]->sites[i].judgement.verdict < VERDICT_GROWING);
}

static void programs_differ_by_unit_container_and_command(void **state)
{
	static const struct place places[] = {{"a.service", ""}, {"b.service", ""}, {"", "c"}};
	CLEANUP(programs_free) struct programs *programs = NULL;
	const struct program *program[4];

	(void)state;
	assert_int_equal(programs_new(&programs), 0);
	for (size_t i = 0; i < 3; i++)
		program[i] = programs_join(programs, &places[i], "gunicorn");
	program[3] = programs_join(programs, &places[0], "celery");
	assert_int_equal(programs->n, 4);
	for (size_t i = 0; i < 4; i++)
		for (size_t j = 0; j < i; j++)
			assert_ptr_not_equal(program[i], program[j]);
	assert_ptr_equal(programs_join(programs, &places[1], "gunicorn"), program[1]);
	assert_int_equal(program[1]->n_processes, 2);
}

static void programs_age_out_and_are_bounded(void **state)
{
	CLEANUP(programs_free) struct programs *programs = NULL;
	struct program *first;
	char command[16];

	(void)state;
	assert_int_equal(programs_new(&programs), 0);
	first = programs_join(programs, &web, "first");
	for (size_t i = 1; i < PROGRAMS_MAX; i++) {
		snprintf(command, sizeof(command), "%zu", i);
		assert_non_null(programs_join(programs, &web, command));
	}
	assert_null(programs_join(programs, &web, "one too many"));
	programs_leave(programs, first, 10);
	assert_non_null(programs_join(programs, &web, "in its place"));
	assert_int_equal(programs->n, PROGRAMS_MAX);
	programs_leave(programs, programs->items[PROGRAMS_MAX - 1], 20);
	programs_expire(programs, 20 + PROGRAMS_EXPIRE_SECONDS);
	assert_int_equal(programs->n, PROGRAMS_MAX);
	programs_expire(programs, 21 + PROGRAMS_EXPIRE_SECONDS);
	assert_int_equal(programs->n, PROGRAMS_MAX - 1);
}

static struct snapshot *snapshot_of_one(size_t number, uint64_t bytes)
{
	struct snapshot_frame frame = {NULL, "/srv/app.py", 1};
	struct snapshot *snapshot;
	char function[32];

	snprintf(function, sizeof(function), "f%zu", number);
	frame.function = function;
	assert_int_equal(snapshot_new(&snapshot), 0);
	snapshot->session_started = 1;
	snapshot->duration_seconds = bytes > 1 ? INTERVAL : 0;
	snapshot_add_site(snapshot, &(struct snapshot_site){.outstanding_bytes = bytes,
							    .domain = "object",
							    .n_frames = 1,
							    .frames = &frame});
	assert_int_equal(snapshot_finish(snapshot), 0);
	return snapshot;
}

static void observe_one(struct program *program, struct program_share *share, size_t number,
			uint64_t bytes, double now)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = snapshot_of_one(number, bytes);

	assert_int_equal(program_observe(program, share, snapshot, 100, now, INTERVAL), 0);
}

static void sites_are_bounded_and_those_that_gained_most_stay(void **state)
{
	CLEANUP(programs_free) struct programs *programs = NULL;
	struct program_share share = {0};
	struct program *program;
	double now = 0;

	(void)state;
	assert_int_equal(programs_new(&programs), 0);
	program = programs_join(programs, &web, "gunicorn");
	for (size_t i = 0; i < PROGRAM_SITES_MAX + 50; i++) {
		now += INTERVAL;
		observe_one(program, &share, i, 1, now);
		observe_one(program, &share, i, 1001 + i, now);
		program_share_done(&share); /* its process ends */
	}
	assert_int_equal(program->n_sites, PROGRAM_SITES_MAX);
	assert_true(site_called(program, "f300")->gained_bytes == 1300);
	for (size_t i = 1; i < program->n_sites; i++)
		assert_true(program->sites[i - 1].id < program->sites[i].id);
	program_share_done(&share);
}

/* What a line has in use comes and goes in the samples; at its end a process has gained nothing. */
static void what_comes_and_goes_adds_up_to_nothing(void **state)
{
	static const uint64_t estimates[] = {0, 40000, 60000, 0, 0, 50000, 70000};
	CLEANUP(programs_free) struct programs *programs = NULL;
	struct program_share share = {0};
	struct program *program;
	double now = 0;

	(void)state;
	assert_int_equal(programs_new(&programs), 0);
	program = programs_join(programs, &web, "gunicorn");
	for (size_t i = 0; i < sizeof(estimates) / sizeof(*estimates); i++)
		observe_one(program, &share, 1, estimates[i], now += INTERVAL);
	assert_int_equal(program->n_sites, 1);
	assert_true(program->sites[0].gained_bytes == 70000 - 40000);
	program_share_done(&share);
}

static void lines_of_one_function_are_one_site(void **state)
{
	static const struct snapshot_frame frames[] = {{"f", "/srv/app.py", 1},
						       {"f", "/srv/app.py", 2}};
	CLEANUP(programs_free) struct programs *programs = NULL;
	struct program_share share = {0};
	struct program *program;

	(void)state;
	assert_int_equal(programs_new(&programs), 0);
	program = programs_join(programs, &web, "gunicorn");
	for (uint64_t look = 1; look <= 2; look++) {
		CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;

		assert_int_equal(snapshot_new(&snapshot), 0);
		snapshot->session_started = 1;
		for (size_t i = 0; i < 2; i++)
			snapshot_add_site(snapshot,
					  &(struct snapshot_site){.outstanding_bytes = 1000 * look,
								  .domain = "object",
								  .n_frames = 1,
								  .frames = &frames[i]});
		assert_int_equal(snapshot_finish(snapshot), 0);
		assert_int_equal(program_observe(program, &share, snapshot, 100, 0, INTERVAL), 0);
	}
	assert_int_equal(program->n_sites, 1);
	assert_true(program->sites[0].gained_bytes == 2000);
	program_share_done(&share);
}

/* Each worker fills a cache while others go: the line gains, the processes do not. */
static void a_line_is_no_leak_of_processes_that_do_not_grow(void **state)
{
	CLEANUP(programs_free) struct programs *programs = NULL;
	const struct program *program;
	double now = 0;

	(void)state;
	assert_int_equal(programs_new(&programs), 0);
	heap_follows_leak = false;
	for (size_t worker = 0; worker < 8; worker++)
		run_worker(programs, &now, 6, 100000);
	heap_follows_leak = true;
	program = programs->items[0];
	assert_int_equal(site_called(program, "remember")->judgement.verdict, VERDICT_LEAK);
	assert_false(program_site_leaks(program, site_called(program, "remember")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_programs_leak_is_found_though_its_workers_die),
		cmocka_unit_test(workers_that_do_not_leak_are_not_charged_for_their_start),
		cmocka_unit_test(programs_differ_by_unit_container_and_command),
		cmocka_unit_test(programs_age_out_and_are_bounded),
		cmocka_unit_test(sites_are_bounded_and_those_that_gained_most_stay),
		cmocka_unit_test(what_comes_and_goes_adds_up_to_nothing),
		cmocka_unit_test(lines_of_one_function_are_one_site),
		cmocka_unit_test(a_line_is_no_leak_of_processes_that_do_not_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
