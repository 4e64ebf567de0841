/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Invented snapshots against committed text; UPDATE_GOLDEN=1 writes it anew, to be looked at. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buffer.h"
#include "base/file.h"
#include "report/names.h"
#include "snapshots.h"

#define REPORT_MAX (16u << 20)

static int add_to_buffer(void *context, const void *bytes, size_t size)
{
	return buffer_add(context, bytes, size);
}

static int make_report(const struct snapshot *snapshot, const char *format, bool colour,
		       const struct sink *sink)
{
	struct report_options options = {.top = 4, .colour = colour};

	if (strcmp(format, "json") == 0)
		return report_json(snapshot, sink);
	if (strcmp(format, "folded") == 0)
		return report_folded(snapshot, sink);
	return report_text(snapshot, &options, sink);
}

static void compare(const char *name, const char *format, bool colour, struct snapshot *snapshot)
{
	_cleanup_buffer_ struct buffer text = buffer_init(REPORT_MAX);
	struct sink sink = {add_to_buffer, &text};
	_cleanup_free_ char *golden = NULL;
	char path[256];

	assert_int_equal(buffer_add(&text, "", 0), 0);
	assert_int_equal(make_report(snapshot, format, colour, &sink), 0);
	snapshot_free(snapshot);
	snprintf(path, sizeof(path), "tests/golden/%s.%s", name,
		 strcmp(format, "text") == 0 ? "txt" : format);
	if (getenv("UPDATE_GOLDEN"))
		assert_int_equal(file_write_whole(path, text.data, text.size, 0644), 0);
	assert_int_equal(file_read(path, REPORT_MAX, &golden, NULL), 0);
	assert_string_equal(text.data, golden);
}

static void compare_all(const char *name, struct snapshot *(*make)(void))
{
	compare(name, "text", false, make());
	compare(name, "json", false, make());
	compare(name, "folded", false, make());
}

static void a_leak_comes_first_in_every_form(void **state)
{
	(void)state;
	compare_all("leaking", leaking);
}

static void colours_are_added_where_they_are_wanted(void **state)
{
	(void)state;
	compare("leaking-colour", "text", true, leaking());
}

static void what_is_missing_stands_at_the_top(void **state)
{
	(void)state;
	compare_all("incomplete", incomplete);
}

static void a_watch_shows_the_heap_by_type(void **state)
{
	(void)state;
	compare_all("watched", watched);
}

static void lines_of_one_leak_stand_beneath_its_head(void **state)
{
	(void)state;
	compare_all("sampled", sampled);
}

/* Sampled, and nothing found so far. */
static struct snapshot *early(void)
{
	struct snapshot *snapshot = snapshot_of("sampled");

	snapshot->duration_seconds = 12;
	return finished(snapshot);
}

static void samples_of_a_few_seconds_say_that_it_is_too_early(void **state)
{
	(void)state;
	compare("sampled-early", "text", false, early());
}

static void hostile_names_do_no_harm(void **state)
{
	(void)state;
	compare_all("hostile", hostile);
}

static void an_empty_session_is_a_report_too(void **state)
{
	(void)state;
	compare_all("empty", empty);
}

static void text_never_exceeds_its_columns(void **state)
{
	static struct snapshot *(*const makers[])(void) = {leaking, incomplete, watched,
							   hostile, empty,	sampled};
	static const unsigned columns[] = {60, 80, 100, 0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(makers) * ARRAY_SIZE(columns); i++) {
		_cleanup_buffer_ struct buffer text = buffer_init(REPORT_MAX);
		struct sink sink = {add_to_buffer, &text};
		struct report_options options = {.top = 10, .columns = columns[i % 4]};
		CLEANUP(snapshot_free) struct snapshot *snapshot = makers[i / 4]();
		/* A location and a function are cut at 40 and 32, and are not broken. */
		size_t most = options.columns == 0 ? 100 : options.columns == 60 ? 96 : 100;
		char *line, *rest;

		assert_int_equal(report_text(snapshot, &options, &sink), 0);
		rest = text.data;
		while ((line = strsep(&rest, "\n"))) {
			if (names_columns(line) > most)
				fail_msg("%u columns: %s", options.columns, line);
			if (*line && line[strlen(line) - 1] == ' ')
				fail_msg("trailing blank: '%s'", line);
		}
	}
}

static void each_json_report_is_one_line_of_valid_json(void **state)
{
	static struct snapshot *(*const makers[])(void) = {leaking, incomplete, watched,
							   hostile, empty,	sampled};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(makers); i++) {
		_cleanup_buffer_ struct buffer text = buffer_init(REPORT_MAX);
		struct sink sink = {add_to_buffer, &text};
		CLEANUP(snapshot_free) struct snapshot *snapshot = makers[i]();
		json_error_t error;
		json_t *json;

		assert_int_equal(report_json(snapshot, &sink), 0);
		assert_ptr_equal(strchr(text.data, '\n'), text.data + text.size - 1);
		json = json_loads(text.data, JSON_REJECT_DUPLICATES, &error);
		if (!json)
			fail_msg("%s", error.text);
		assert_int_equal(json_array_size(json_object_get(json, "sites")),
				 snapshot->n_sites);
		json_decref(json);
	}
}

/* Refuses the n-th write. */
struct failing {
	unsigned left;
};

static int fail_later(void *context, const void *bytes, size_t size)
{
	struct failing *failing = context;

	(void)bytes;
	(void)size;
	if (failing->left == 0)
		return -EPIPE;
	failing->left--;
	return 0;
}

static void a_sink_that_fails_at_any_write_is_told(void **state)
{
	static const char *const formats[] = {"text", "json", "folded"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		CLEANUP(snapshot_free) struct snapshot *snapshot = leaking();
		unsigned n = 0;
		int r;

		do {
			struct failing failing = {n++};
			struct sink sink = {fail_later, &failing};

			r = make_report(snapshot, formats[i], false, &sink);
			assert_true(r == 0 || r == -EPIPE);
		} while (r < 0);
		assert_true(n > 3); /* so it did fail at least thrice */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_leak_comes_first_in_every_form),
		cmocka_unit_test(colours_are_added_where_they_are_wanted),
		cmocka_unit_test(what_is_missing_stands_at_the_top),
		cmocka_unit_test(a_watch_shows_the_heap_by_type),
		cmocka_unit_test(lines_of_one_leak_stand_beneath_its_head),
		cmocka_unit_test(samples_of_a_few_seconds_say_that_it_is_too_early),
		cmocka_unit_test(hostile_names_do_no_harm),
		cmocka_unit_test(an_empty_session_is_a_report_too),
		cmocka_unit_test(text_never_exceeds_its_columns),
		cmocka_unit_test(each_json_report_is_one_line_of_valid_json),
		cmocka_unit_test(a_sink_that_fails_at_any_write_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
