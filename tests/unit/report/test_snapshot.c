/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "report/names.h"
#include "report/paths.h"
#include "report/snapshot_build.h"

DEFINE_CLEANUP(struct snapshot *, snapshot_free)

static struct snapshot *new_snapshot(void)
{
	struct snapshot *snapshot;

	assert_int_equal(snapshot_new(&snapshot), 0);
	return snapshot;
}

static void add(struct snapshot *snapshot, enum verdict verdict, double growth, uint64_t bytes,
		uint32_t line)
{
	struct snapshot_frame frames[] = {{"leaf", "/a.py", line}, {"root", "/b.py", 100}};
	struct snapshot_site site = {.verdict = verdict,
				     .growth_bytes_per_second = growth,
				     .outstanding_bytes = bytes,
				     .domain = "object",
				     .n_frames = 2,
				     .frames = frames};

	assert_int_equal(snapshot_add_site(snapshot, &site), 0);
}

static void sites_are_ordered_by_verdict_then_growth_then_bytes(void **state)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = new_snapshot();
	static const uint32_t expected[] = {5, 4, 3, 7, 6, 2, 8, 1};

	(void)state;
	add(snapshot, VERDICT_WARMING, 900, 9000, 1);
	add(snapshot, VERDICT_STABLE, 0, 10, 2);
	add(snapshot, VERDICT_GROWING, 50, 1, 3);
	add(snapshot, VERDICT_LEAK, 1, 1, 4);
	add(snapshot, VERDICT_LEAK, 2, 1, 5);
	add(snapshot, VERDICT_STABLE, 0, 20, 6);
	add(snapshot, VERDICT_STABLE, 0, 30, 7);
	add(snapshot, VERDICT_STABLE, -1, 9999, 8);
	assert_int_equal(snapshot_finish(snapshot), 0);
	assert_int_equal(snapshot->n_sites, ARRAY_SIZE(expected));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_int_equal(snapshot->sites[i].frames[0].line, expected[i]);
}

static uint64_t id_of(const char *function, const char *file, uint32_t line)
{
	struct snapshot_frame frame = {function, file, line};

	return snapshot_site_id(&(struct snapshot_site){.n_frames = 1, .frames = &frame});
}

static void an_id_is_of_names_and_files_and_not_of_lines(void **state)
{
	struct snapshot_site none = {0}, other = {.other = true};

	(void)state;
	assert_true(id_of("f", "/a.py", 1) == id_of("f", "/a.py", 2));
	assert_true(id_of("f", "/a.py", 1) != id_of("g", "/a.py", 1));
	assert_true(id_of("f", "/a.py", 1) != id_of("f", "/b.py", 1));
	assert_true(id_of("ab", "c", 1) != id_of("a", "bc", 1));
	assert_true(snapshot_site_id(&none) != snapshot_site_id(&other));
	/*
	 * Stands in dashboards: the same on every host, in every version.  Computed apart, in
	 * Python: FNV-1a of "remember\0/srv/app/cache.py\0", then splitmix64's finalizer.
	 */
	assert_true(id_of("remember", "/srv/app/cache.py", 88) == 0x3c5d1085c0c3555cULL);
}

static uint64_t id_at_line(const struct snapshot *snapshot, uint32_t line)
{
	for (size_t i = 0; i < snapshot->n_sites; i++)
		if (snapshot->sites[i].frames[0].line == line)
			return snapshot->sites[i].id;
	fail_msg("no site at line %u", line);
	return 0;
}

static void of_sites_that_share_an_id_the_lowest_line_keeps_it(void **state)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = new_snapshot();
	struct snapshot_frame frames[] = {{"leaf", "/a.py", 0}, {"root", "/b.py", 0}};
	struct snapshot_site site = {.n_frames = 2, .frames = frames};
	uint64_t id = snapshot_site_id(&site);

	(void)state;
	add(snapshot, VERDICT_LEAK, 3, 100, 30);
	add(snapshot, VERDICT_STABLE, 0, 100, 10);
	add(snapshot, VERDICT_LEAK, 9, 100, 20);
	assert_int_equal(snapshot_finish(snapshot), 0);
	assert_true(id_at_line(snapshot, 10) == id);
	assert_true(id_at_line(snapshot, 20) == snapshot_site_id_nth(id, 1));
	assert_true(id_at_line(snapshot, 30) == snapshot_site_id_nth(id, 2));
	assert_true(snapshot_site_id_nth(id, 1) != snapshot_site_id_nth(id, 2));
}

static void everything_is_copied(void **state)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = new_snapshot();
	char function[] = "function", file[] = "file", name[] = "dict", domain[] = "mem";
	struct snapshot_frame frame = {function, file, 1};
	struct snapshot_type type = {name, 1, 2};
	struct snapshot_site site = {
		.domain = domain, .n_types = 1, .types = &type, .n_frames = 1, .frames = &frame};

	(void)state;
	assert_int_equal(snapshot_add_site(snapshot, &site), 0);
	memset(function, 'x', 8);
	memset(file, 'x', 4);
	memset(name, 'x', 4);
	memset(domain, 'x', 3);
	assert_int_equal(snapshot_finish(snapshot), 0);
	assert_string_equal(snapshot->sites[0].frames[0].function, "function");
	assert_string_equal(snapshot->sites[0].frames[0].file, "file");
	assert_string_equal(snapshot->sites[0].types[0].name, "dict");
	assert_string_equal(snapshot->sites[0].domain, "mem");
}

static void deeper_stacks_are_cut_and_marked(void **state)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = new_snapshot();
	static struct snapshot_frame frames[SNAPSHOT_FRAMES_MAX + 1];
	struct snapshot_site site = {.n_frames = ARRAY_SIZE(frames), .frames = frames};

	(void)state;
	assert_int_equal(snapshot_add_site(snapshot, &site), 0);
	assert_int_equal(snapshot_finish(snapshot), 0);
	assert_int_equal(snapshot->sites[0].n_frames, SNAPSHOT_FRAMES_MAX);
	assert_true(snapshot->sites[0].cut);
}

static void add_paths(struct snapshot *snapshot, const char *const *files, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct snapshot_frame frame = {"f", files[i], 1};
		struct snapshot_site site = {.n_frames = 1, .frames = &frame};

		assert_int_equal(snapshot_add_site(snapshot, &site), 0);
	}
	assert_int_equal(snapshot_finish(snapshot), 0);
}

static void paths_are_shortened_only_where_they_stay_clear(void **state)
{
	static const char *const files[][2] = {
		{"/srv/shop/app/cache.py", "app/cache.py"},
		{"/srv/shop/lib/stats.py", "lib/stats.py"},
		{"/usr/lib/python3.11/json/encoder.py", "json/encoder.py"},
		{"/opt/v/lib/python3.11/site-packages/flask/app.py", "flask/app.py"},
		{"/a/lib/python3.11/site-packages/x/y.py",
		 "/a/lib/python3.11/site-packages/x/y.py"},
		{"/b/lib/python3.11/site-packages/x/y.py",
		 "/b/lib/python3.11/site-packages/x/y.py"},
		{"<string>", "<string>"},
		{"<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"},
		{"relative.py", "relative.py"},
	};
	CLEANUP(snapshot_free) struct snapshot *snapshot = new_snapshot();
	const char *given[ARRAY_SIZE(files)];
	struct paths paths;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		given[i] = files[i][0];
	add_paths(snapshot, given, ARRAY_SIZE(files));
	assert_int_equal(paths_init(&paths, snapshot, SIZE_MAX, 3), 0);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		assert_string_equal(paths_shorten(&paths, files[i][0]), files[i][1]);
	assert_string_equal(paths_shorten(&paths, "/never/seen.py"), "/never/seen.py");
	paths_done(&paths);
}

static void what_is_no_utf8_is_replaced_and_the_rest_is_kept(void **state)
{
	static const char *const cases[][2] = {
		{"plain", "plain"},
		{"\xce\xb1\xe2\x82\xac\xf0\x9f\x90\x8d", "\xce\xb1\xe2\x82\xac\xf0\x9f\x90\x8d"},
		{"\xff", "\xef\xbf\xbd"},
		{"a\x80z", "a\xef\xbf\xbdz"},
		{"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"}, /* overlong */
		{"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"}, /* cut off */
		{"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buffer_ struct buffer buffer = buffer_init(1024);

		assert_int_equal(names_add_utf8(&buffer, cases[i][0]), 0);
		assert_string_equal(buffer.data, cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sites_are_ordered_by_verdict_then_growth_then_bytes),
		cmocka_unit_test(an_id_is_of_names_and_files_and_not_of_lines),
		cmocka_unit_test(of_sites_that_share_an_id_the_lowest_line_keeps_it),
		cmocka_unit_test(everything_is_copied),
		cmocka_unit_test(deeper_stacks_are_cut_and_marked),
		cmocka_unit_test(paths_are_shortened_only_where_they_stay_clear),
		cmocka_unit_test(what_is_no_utf8_is_replaced_and_the_rest_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
