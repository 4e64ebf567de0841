/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Recordings of real sessions (tests/golden/replays/, made by make.sh there)
 * against the reports that those sessions made; then the same with faults.
 * UPDATE_GOLDEN=1 writes the reports anew, to be looked at.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "report/snapshot_build.h"
#include "service/replay.h"
#include "unit/cpython/failing_memory.h"

#define FILE_MAX (16u << 20)
#define TOP 10 /* the command line's default */
#define FAULTS 12
#define CUTS 12

static const char *const names[] = {"leaking-3.9", "leaking-3.11", "leaking-3.14", "threads-3.11"};

static char *load(const char *name, const char *suffix, size_t *ret_size)
{
	char path[256], *bytes;

	snprintf(path, sizeof(path), "tests/golden/replays/%s.%s", name, suffix);
	assert_int_equal(file_read(path, FILE_MAX, &bytes, ret_size), 0);
	return bytes;
}

/* With the fail_at-th read failing (0: none); *ret_reads, which may be NULL, are made in all. */
static int replay(const void *bytes, size_t size, unsigned long fail_at, bool from_there_on,
		  struct snapshot **ret, unsigned long *ret_reads)
{
	struct failing_memory failing = {.fail_at = fail_at, .from_there_on = from_there_on};
	struct recording_reader *reader;
	struct memory *memory;
	struct fault fault = {0};
	int r = recording_reader_new_from_bytes(bytes, size, &reader, &fault);

	if (r < 0)
		return r;
	assert_int_equal(recording_memory(reader, &failing.inner), 0);
	assert_int_equal(failing_memory_new(&failing, &memory), 0);
	r = replay_report(reader, memory, ret, &fault);
	if (r < 0)
		assert_non_null(fault.field);
	if (ret_reads)
		*ret_reads = failing.n_reads;
	memory_free(memory);
	memory_free(failing.inner);
	recording_reader_free(reader);
	return r;
}

static int add_to_buffer(void *context, const void *bytes, size_t size)
{
	return buffer_add(context, bytes, size);
}

static void compare(const char *name, const char *suffix, const struct snapshot *snapshot)
{
	_cleanup_buffer_ struct buffer text = buffer_init(FILE_MAX);
	const struct report_options options = {.top = TOP};
	const struct sink sink = {add_to_buffer, &text};
	_cleanup_free_ char *golden = NULL;
	char path[256];

	if (strcmp(suffix, "json") == 0)
		assert_int_equal(report_json(snapshot, &sink), 0);
	else
		assert_int_equal(report_text(snapshot, &options, &sink), 0);
	if (getenv("UPDATE_GOLDEN")) {
		snprintf(path, sizeof(path), "tests/golden/replays/%s.%s", name, suffix);
		assert_int_equal(file_write_whole(path, text.data, text.size, 0644), 0);
	}
	golden = load(name, suffix, NULL);
	assert_string_equal(text.data, golden);
}

static void a_replay_says_byte_for_byte_what_the_session_said(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct snapshot *snapshot;
		size_t size;
		_cleanup_free_ char *bytes = load(names[i], "rec", &size);

		assert_int_equal(replay(bytes, size, 0, false, &snapshot, NULL), 0);
		compare(names[i], "json", snapshot);
		compare(names[i], "txt", snapshot);
		snapshot_free(snapshot);
	}
}

/* Where only blocks on free lists were made: outstanding if it can't be read that they are. */
static bool makes_parked_blocks(const char *function)
{
	return strcmp(function, "churn") == 0 || strcmp(function, "turn_over") == 0;
}

/* Whether a frame is one of the untroubled replay's, or says that it could not be read. */
static bool is_known(const struct snapshot *truth, const struct snapshot_frame *frame)
{
	if (makes_parked_blocks(frame->function))
		return strcmp(frame->file, "/srv/replays/threads.py") == 0;
	if (frame->function[0] == '<' && frame->file[0] == '\0')
		return true;
	for (size_t i = 0; i < truth->n_sites; i++)
		for (size_t k = 0; k < truth->sites[i].n_frames; k++)
			if (strcmp(truth->sites[i].frames[k].function, frame->function) == 0 &&
			    strcmp(truth->sites[i].frames[k].file, frame->file) == 0)
				return true;
	return false;
}

static bool is_known_type(const struct snapshot *truth, const char *name)
{
	if (name[0] == '(')
		return true;
	for (size_t i = 0; i < truth->n_sites; i++)
		for (size_t k = 0; k < truth->sites[i].n_types; k++)
			if (strcmp(truth->sites[i].types[k].name, name) == 0)
				return true;
	return false;
}

/* What comes of the records alone is the same; names and sums are the truth's, or fewer. */
static void assert_nothing_made_up(const struct snapshot *truth, const struct snapshot *snapshot)
{
	uint64_t bytes = 0, true_bytes = 0;

	assert_int_equal(snapshot->pid, truth->pid);
	assert_string_equal(snapshot->python, truth->python);
	assert_true(snapshot->events <= truth->events);
	assert_true(isnan(snapshot->coverage_ratio) || snapshot->coverage_ratio <= 1.0);
	assert_true(snapshot->python_live_bytes <= truth->python_live_bytes * 11 / 10);
	for (size_t i = 0; i < truth->n_sites; i++)
		true_bytes += truth->sites[i].outstanding_bytes;
	for (size_t i = 0; i < snapshot->n_sites; i++) {
		const struct snapshot_site *site = &snapshot->sites[i];

		bytes += site->outstanding_bytes;
		for (size_t k = 0; k < site->n_frames; k++)
			assert_true(is_known(truth, &site->frames[k]));
		for (size_t k = 0; k < site->n_types; k++)
			assert_true(is_known_type(truth, site->types[k].name));
	}
	/* Without a single census, arenas are mappings like others. */
	if (snapshot->python_live_bytes)
		assert_true(bytes <= true_bytes + truth->parked_bytes);
}

/* The first reads, and others all over the session. */
static unsigned long nth_fault(unsigned i, unsigned long n_reads)
{
	return i < FAULTS / 3 ? i + 1 : 1 + n_reads * (i - FAULTS / 3) / (FAULTS - FAULTS / 3);
}

static void torture(const char *name, bool from_there_on)
{
	unsigned long n_reads, n_made;
	struct snapshot *truth, *snapshot;
	size_t size;
	_cleanup_free_ char *bytes = load(name, "rec", &size);

	assert_int_equal(replay(bytes, size, 0, false, &truth, &n_reads), 0);
	assert_true(n_reads > 1000);
	for (unsigned i = 0; i < FAULTS; i++) {
		unsigned long fail_at = nth_fault(i, n_reads);

		assert_int_equal(replay(bytes, size, fail_at, from_there_on, &snapshot, &n_made),
				 0);
		assert_true(n_made >= fail_at); /* it was visited */
		assert_int_equal(snapshot->events, truth->events);
		assert_nothing_made_up(truth, snapshot);
		snapshot_free(snapshot);
	}
	snapshot_free(truth);
}

static void any_read_may_fail_and_nothing_is_made_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		torture(names[i], false);
}

static void all_reads_may_fail_from_anywhere_on(void **state)
{
	(void)state;
	torture("leaking-3.11", true);
}

static bool says_that_it_is_cut_off(const struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->n_refused; i++)
		if (strcmp(snapshot->refused[i].why, reason_sentence(REASON_TRUNCATED)) == 0)
			return true;
	return false;
}

static void a_recording_cut_off_anywhere_is_reported_as_far_as_it_goes(void **state)
{
	struct snapshot *truth, *snapshot;
	uint64_t events = 0;
	size_t size;
	_cleanup_free_ char *bytes = load("leaking-3.11", "rec", &size);

	(void)state;
	assert_int_equal(replay(bytes, size, 0, false, &truth, NULL), 0);
	assert_false(says_that_it_is_cut_off(truth));
	for (size_t i = 0; i < CUTS; i++) {
		size_t cut = i + 1 < CUTS ? size * i / CUTS : size - 1;
		char *copy = malloc(cut + !cut); /* of its very size, for the sanitizer */
		int r;

		memcpy(copy, bytes, cut);
		r = replay(copy, cut, 0, false, &snapshot, NULL);
		free(copy);
		if (r < 0) { /* before the facts were whole */
			assert_int_equal(r, -EBADMSG);
			assert_int_equal(events, 0);
			continue;
		}
		assert_true(says_that_it_is_cut_off(snapshot));
		assert_true(snapshot->events >= events);
		events = snapshot->events;
		assert_true(snapshot->duration_seconds <= truth->duration_seconds);
		snapshot_free(snapshot);
	}
	assert_int_equal(events, truth->events); /* but for the trailer, all was there */
	snapshot_free(truth);
}

static void a_recording_of_no_session_is_refused(void **state)
{
	char path[] = "/tmp/pyleakd-replay.XXXXXX";
	struct recording_writer *writer;
	struct recording_reader *reader;
	struct snapshot *snapshot;
	struct memory *memory;
	struct fault fault;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(recording_writer_new(path, &writer), 0);
	assert_int_equal(recording_finish(writer), 0);
	recording_writer_free(writer);
	assert_int_equal(recording_reader_new(path, &reader, NULL), 0);
	assert_int_equal(recording_memory(reader, &memory), 0);
	assert_int_equal(replay_report(reader, memory, &snapshot, &fault), -EBADMSG);
	assert_int_equal(fault.reason, REASON_NOT_FOUND);
	assert_string_equal(fault.field, "pid");
	memory_free(memory);
	recording_reader_free(reader);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_replay_says_byte_for_byte_what_the_session_said),
		cmocka_unit_test(any_read_may_fail_and_nothing_is_made_up),
		cmocka_unit_test(all_reads_may_fail_from_anywhere_on),
		cmocka_unit_test(a_recording_cut_off_anywhere_is_reported_as_far_as_it_goes),
		cmocka_unit_test(a_recording_of_no_session_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
