/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "cpython/pymalloc.h"
#include "opened.h"

#define ADDRESSES_MAX 10000
/* What the child itself allocates between its own count and its silence. */
#define STATS_SLACK_BLOCKS 4

struct target {
	struct child child;
	struct live live;
	struct interpreter *interpreter;
	FILE *errors;
};

/* False: nothing to test there (an interpreter that cannot be opened is cpython's own test). */
static void target_start(struct target *target, const char *command)
{
	target->errors = tmpfile();
	assert_non_null(target->errors);
	opened_start(&target->child, &target->live, &target->interpreter, command, "heap.py",
		     fileno(target->errors));
}

static void target_stop(struct target *target)
{
	opened_stop(&target->child, &target->live, target->interpreter);
	fclose(target->errors);
}

static void target_census(const struct target *target, bool without_blocks, struct census **ret)
{
	struct fault fault = { 0 };

	if (census_take(target->interpreter, without_blocks, ret, &fault) != 0)
		fail_msg("%s: %s", reason_sentence(fault.reason), fault.field);
}

/* What sys._debugmallocstats() says. */
struct stats {
	uint64_t class_blocks[PYMALLOC_CLASSES_MAX];
	uint64_t live_blocks, pools, arenas, arena_bytes;
};

static void stats_read(FILE *errors, struct stats *stats)
{
	char line[1024];
	unsigned long long n, size, pools, blocks;

	*stats = (struct stats){ 0 };
	rewind(errors);
	while (fgets(line, sizeof(line), errors)) {
		if (sscanf(line, " %llu %llu %llu %llu %*u", &n, &size, &pools, &blocks) == 4) {
			assert_int_equal(size, 16 * (n + 1));
			stats->class_blocks[n] = blocks;
			stats->live_blocks += blocks;
			stats->pools += pools;
		} else if (sscanf(line, "# arenas allocated current = %llu", &n) == 1) {
			stats->arenas = n;
		} else if (sscanf(line, "%*u arenas * %llu bytes/arena", &n) == 1) {
			stats->arena_bytes = n;
		}
	}
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static void assert_census_is(const struct census_totals *totals, const struct stats *stats)
{
	uint64_t off = 0, bytes = 0;

	for (size_t i = 0; i < PYMALLOC_CLASSES_MAX; i++) {
		off += distance(totals->class_blocks[i], stats->class_blocks[i]);
		bytes += totals->class_blocks[i] * 16 * (i + 1);
	}
	assert_true(stats->live_blocks > 100000);
	if (off > STATS_SLACK_BLOCKS)
		fail_msg("%lu blocks off of %lu", off, stats->live_blocks);
	assert_int_equal(totals->arenas, stats->arenas);
	assert_int_equal(totals->arena_bytes, stats->arenas * stats->arena_bytes);
	assert_true(distance(totals->pools, stats->pools) <= 1);
	assert_int_equal(totals->live_bytes, bytes);
	assert_int_equal(totals->pools_torn, 0);
	assert_int_equal(totals->pools_unread, 0);
}

static int count_block(uint64_t address, uint64_t size_bytes, void *context)
{
	struct census_totals *counted = context;

	(void)address;
	counted->live_blocks++;
	counted->live_bytes += size_bytes;
	return 0;
}

static void check_counts(const char *name, const char *command)
{
	struct target target;
	struct census *census, *headers;
	struct stats stats;
	struct census_totals counted = { 0 };

	target_start(&target, command);
	assert_string_equal(child_ask(&target.child, "stats"), "now");
	usleep(300000); /* it is silent by then; there is nothing to be heard of that */
	target_census(&target, false, &census);
	target_census(&target, true, &headers);
	stats_read(target.errors, &stats);
	assert_census_is(census_totals(census), &stats);
	assert_census_is(census_totals(headers), &stats);
	census_live_visit(census, count_block, &counted);
	assert_int_equal(counted.live_blocks, census_totals(census)->live_blocks);
	assert_int_equal(counted.live_bytes, census_totals(census)->live_bytes);
	print_message("%s: %lu blocks\n", name, counted.live_blocks);
	census_free(headers);
	census_free(census);
	target_stop(&target);
}

static void every_size_class_is_counted_as_the_interpreter_counts_it(void **state)
{
	(void)state;
	for_each_interpreter(check_counts);
}

static void the_debug_hooks_change_nothing(void **state)
{
	(void)state;
	for_each_debugged(check_counts);
}

static size_t addresses_of(char *line, uint64_t *addresses)
{
	size_t n = 0;

	for (char *word; n < ADDRESSES_MAX && (word = strsep(&line, " "));)
		addresses[n++] = strtoull(word, NULL, 10);
	return n;
}

static size_t count_answers(const struct census *census, const uint64_t *addresses, size_t n,
			    enum census_answer answer)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t start = 0, size = 0;

		if (census_block(census, addresses[i], &start, &size) != answer)
			continue;
		found++;
		if (size) {
			assert_in_range(addresses[i], start, start + size - 1);
			assert_int_equal(start % 16, 0);
		}
	}
	return found;
}

static void check_life(const char *name, const char *command)
{
	static uint64_t addresses[ADDRESSES_MAX];
	struct target target;
	struct census *census;
	size_t n, found;

	target_start(&target, command);
	child_ask(&target.child, "keep");
	n = addresses_of(target.child.line, addresses);
	target_census(&target, false, &census);
	found = count_answers(census, addresses, n, CENSUS_LIVE);
	assert_true(n > 4000);
	assert_int_equal(found, n);
	census_free(census);

	child_ask(&target.child, "drop");
	n = addresses_of(target.child.line, addresses);
	target_census(&target, false, &census);
	found = count_answers(census, addresses, n, CENSUS_DEAD);
	print_message("%s: %zu of %zu dead\n", name, found, n);
	assert_int_equal(n, 1000);
	assert_true(found >= 990); /* a few blocks may have been given out again */
	assert_int_equal(found + count_answers(census, addresses, n, CENSUS_LIVE), n);
	census_free(census);
	target_stop(&target);
}

static void what_lives_is_live_and_what_was_freed_is_dead(void **state)
{
	(void)state;
	for_each_interpreter(check_life);
}

static void check_churn(const char *name, const char *command)
{
	static uint64_t addresses[ADDRESSES_MAX];
	struct target target;
	uint64_t torn = 0, unread = 0, pools = 0, unknown = 0;
	size_t n;

	target_start(&target, command);
	child_ask(&target.child, "keep");
	n = addresses_of(target.child.line, addresses);
	assert_string_equal(child_ask(&target.child, "churn"), "ok");
	for (unsigned i = 0; i < 12; i++) {
		struct census *census;
		size_t live, not_known;

		target_census(&target, false, &census);
		live = count_answers(census, addresses, n, CENSUS_LIVE);
		not_known = count_answers(census, addresses, n, CENSUS_UNREAD);
		assert_int_equal(live + not_known, n);
		unknown += not_known;
		torn += census_totals(census)->pools_torn;
		unread += census_totals(census)->pools_unread;
		pools += census_totals(census)->pools;
		census_free(census);
	}
	print_message("%s: of %lu pools %lu torn, %lu unread; %lu addresses unknown\n", name, pools,
		      torn, unread, unknown);
	assert_true(torn + unread < pools / 100 + 10);
	target_stop(&target);
}

static void what_lives_amid_churn_is_never_called_dead(void **state)
{
	(void)state;
	for_each_interpreter(check_churn);
}

static void check_sub_interpreter(const char *name, const char *command)
{
	static uint64_t addresses[ADDRESSES_MAX];
	struct target target;
	struct census *census;
	size_t n;

	target_start(&target, command);
	if (strcmp(child_ask(&target.child, "sub"), "none") != 0) {
		n = addresses_of(target.child.line, addresses);
		target_census(&target, false, &census);
		assert_int_equal(n, 3000);
		assert_int_equal(count_answers(census, addresses, n, CENSUS_LIVE), n);
		print_message("%s: %zu blocks of a sub-interpreter\n", name, n);
		census_free(census);
	}
	target_stop(&target);
}

static void a_sub_interpreters_heap_is_counted_too(void **state)
{
	(void)state;
	for_each_interpreter(check_sub_interpreter);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void check_speed(const char *name, const char *command)
{
	struct target target;
	struct census *census;
	double begin, headers, blocks;

	target_start(&target, command);
	assert_string_equal(child_ask(&target.child, "grow 80"), "ok");
	begin = seconds();
	target_census(&target, true, &census);
	headers = seconds() - begin;
	census_free(census);
	begin = seconds();
	target_census(&target, false, &census);
	blocks = seconds() - begin;
	print_message("%s: %lu MiB in %lu pools: headers %.1f ms, blocks %.1f ms of CPU\n", name,
		      census_totals(census)->live_bytes >> 20, census_totals(census)->pools,
		      headers * 1e3, blocks * 1e3);
	assert_true(blocks < 1.0); /* a bound for sanitizers and busy machines */
	census_free(census);
	target_stop(&target);
}

static void a_heap_of_a_hundred_mebibytes_is_no_burden(void **state)
{
	struct interpreters found;

	(void)state;
	interpreters_find(&found);
	if (!found.n)
		skip();
	check_speed(found.names[0], found.commands[0]);
	interpreters_done(&found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_class_is_counted_as_the_interpreter_counts_it),
		cmocka_unit_test(the_debug_hooks_change_nothing),
		cmocka_unit_test(what_lives_is_live_and_what_was_freed_is_dead),
		cmocka_unit_test(what_lives_amid_churn_is_never_called_dead),
		cmocka_unit_test(a_sub_interpreters_heap_is_counted_too),
		cmocka_unit_test(a_heap_of_a_hundred_mebibytes_is_no_burden),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
