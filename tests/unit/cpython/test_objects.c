/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpython/objects.h"
#include "cpython/types.h"
#include "failing_memory.h"
#include "opened.h"

#define MAX_TYPES 10000
#define ADDRESSES_MAX 10000
#define SIZES_MAX 16
#define SMALL_REQUEST_BYTES 512 /* larger ones pymalloc gives to malloc */

struct target {
	struct child child;
	struct live live;
	struct interpreter *interpreter;
	struct type_cache *types;
	struct census *census;
};

static void target_start(struct target *target, const char *command)
{
	opened_start(&target->child, &target->live, &target->interpreter, command, "objects.py",
		     -1);
	assert_int_equal(type_cache_new(target->interpreter, MAX_TYPES, &target->types), 0);
	target->census = NULL;
}

static void target_stop(struct target *target)
{
	census_free(target->census);
	type_cache_free(target->types);
	opened_stop(&target->child, &target->live, target->interpreter);
}

static void target_take_census(struct target *target)
{
	census_free(target->census);
	target->census = NULL;
	assert_int_equal(census_take(target->interpreter, false, &target->census, NULL), 0);
}

/* What the interpreter told of one object. */
struct told {
	struct object_look look; /* what was found */
	uint64_t type;
	char name[64];
	bool at_least_one;
	uint64_t sizes[SIZES_MAX]; /* ascending */
	size_t n_sizes;
};

static int compare_sizes(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void told_parse(struct told *told, char *line)
{
	char *rest = line, *word;

	*told = (struct told){ .look.object = strtoull(strsep(&rest, " "), NULL, 10) };
	told->type = strtoull(strsep(&rest, " "), NULL, 10);
	snprintf(told->name, sizeof(told->name), "%s", strsep(&rest, " "));
	told->at_least_one = strsep(&rest, " ")[0] == '>';
	while (rest && (word = strsep(&rest, " ")) && told->n_sizes < SIZES_MAX)
		told->sizes[told->n_sizes++] = (strtoull(word, NULL, 10) + 15) / 16 * 16;
	qsort(told->sizes, told->n_sizes, sizeof(told->sizes[0]), compare_sizes);
}

static bool in_heap_of_process(const struct target *target, uint64_t address)
{
	uint8_t byte;

	return memory_read(target->live.memory, address, &byte, 1, NULL) == 0;
}

/* Sizes of the buffers that lie in pools; the others must at least be there. */
static size_t sizes_found(const struct target *target, const struct told *told, uint64_t *sizes,
			  size_t *ret_large)
{
	size_t n = 0;

	*ret_large = 0;
	for (size_t i = 0; i < told->look.n_buffers; i++) {
		uint64_t start, size, address = told->look.buffers[i];
		enum census_answer answer = census_block(target->census, address, &start, &size);

		if (answer == CENSUS_OUTSIDE) {
			assert_true(in_heap_of_process(target, address));
			++*ret_large;
			continue;
		}
		if (answer != CENSUS_LIVE || start != address)
			fail_msg("a %s has a buffer at %lx in the block at %lx: %d", told->name,
				 address, start, answer);
		sizes[n++] = size;
	}
	qsort(sizes, n, sizeof(*sizes), compare_sizes);
	return n;
}

static void check_buffers_of(const struct target *target, const struct told *told)
{
	uint64_t found[OBJECT_BUFFERS_MAX];
	size_t large, n_small = 0, n = sizes_found(target, told, found, &large);

	assert_int_equal(told->look.error, 0);
	assert_int_equal(told->look.type, told->type);
	assert_int_equal(told->look.state, OBJECT_ALIVE);
	if (told->at_least_one) {
		if (n + large == 0)
			fail_msg("a %s has no buffer", told->name);
		return;
	}
	while (n_small < told->n_sizes && told->sizes[n_small] <= SMALL_REQUEST_BYTES)
		n_small++;
	if (n != n_small || memcmp(found, told->sizes, n * sizeof(*found)) != 0)
		fail_msg("a %s at %lx has %zu buffers, first of %lu, for %zu of %lu", told->name,
			 told->look.object, n, n ? found[0] : 0, n_small, told->sizes[0]);
	/* An empty dict's keys are static. */
	if (large != told->n_sizes - n_small && strcmp(told->name, "dict") != 0)
		fail_msg("a %s has %zu large buffers for %zu", told->name, large,
			 told->n_sizes - n_small);
}

static void check_single_look(const struct target *target, const struct told *told)
{
	uint64_t buffers[OBJECT_BUFFERS_MAX];
	enum object_state object_is;
	size_t n;

	assert_int_equal(
		object_buffers(target->types, told->look.object, told->type, buffers, &n, NULL), 0);
	assert_int_equal(n, told->look.n_buffers);
	if (n)
		assert_memory_equal(buffers, told->look.buffers, n * sizeof(*buffers));
	assert_int_equal(object_state(target->types, told->look.object, &object_is, NULL), 0);
	assert_int_equal(object_is, OBJECT_ALIVE);
}

static void check_buffers(const char *name, const char *command)
{
	static struct told told[ADDRESSES_MAX];
	static struct object_look looks[ADDRESSES_MAX];
	struct target target;
	size_t n = 0;

	target_start(&target, command);
	for (child_ask(&target.child, "buffers"); target.child.line[0]; child_hear(&target.child)) {
		told_parse(&told[n], target.child.line);
		looks[n] = told[n].look;
		n++;
	}
	assert_true(n > 130);
	target_take_census(&target);
	objects_look(target.types, looks, n);
	for (size_t i = 0; i < n; i++) {
		told[i].look = looks[i];
		check_buffers_of(&target, &told[i]);
		check_single_look(&target, &told[i]);
	}
	print_message("%s: %zu objects\n", name, n);
	target_stop(&target);
}

static void every_object_owns_the_buffers_that_its_size_tells(void **state)
{
	(void)state;
	for_each_interpreter(check_buffers);
}

static void the_debug_hooks_do_not_hide_them(void **state)
{
	struct interpreters found;

	(void)state;
	interpreters_find(&found);
	if (!found.n)
		skip();
	setenv("PYTHONMALLOC", "pymalloc_debug", 1);
	for (size_t i = 0; i < found.n; i++) {
		struct target target;
		struct object_look look;

		target_start(&target, found.commands[i]);
		child_ask(&target.child, "buffers");
		look.object = strtoull(target.child.line, NULL, 10);
		target_take_census(&target);
		objects_look(target.types, &look, 1);
		assert_int_equal(look.error, 0);
		assert_int_equal(look.n_buffers, 1);
		assert_int_equal(census_block(target.census, look.buffers[0], NULL, NULL),
				 CENSUS_LIVE);
		target_stop(&target);
	}
	unsetenv("PYTHONMALLOC");
	interpreters_done(&found);
}

static uint64_t objects_named(const struct type_count *counts, size_t n, const char *name)
{
	uint64_t objects = 0;

	for (size_t i = 0; i < n; i++)
		if (strcmp(counts[i].name, name) == 0)
			objects += counts[i].objects;
	return objects;
}

static void check_sums(const struct target *target, const struct type_count *counts, size_t n)
{
	uint64_t objects = 0, bytes = 0;

	for (size_t i = 0; i < n; i++) {
		objects += counts[i].objects;
		bytes += counts[i].bytes;
		assert_true(i == 0 || counts[i - 1].bytes >= counts[i].bytes);
	}
	assert_int_equal(objects, census_totals(target->census)->live_blocks);
	assert_int_equal(bytes, census_totals(target->census)->live_bytes);
}

static void check_types(const char *name, const char *command)
{
	struct target target;
	_cleanup_free_ struct type_count *counts = NULL;
	struct range {
		char name[64];
		unsigned long least, most;
	} ranges[64];
	size_t n, n_ranges = 0;

	target_start(&target, command);
	for (child_ask(&target.child, "types"); target.child.line[0]; child_hear(&target.child)) {
		struct range *range = &ranges[n_ranges++];

		assert_int_equal(sscanf(target.child.line, "%63s %lu %lu", range->name,
					&range->least, &range->most),
				 3);
	}
	target_take_census(&target);
	assert_int_equal(heap_types(target.types, target.census, &counts, &n, NULL), 0);
	check_sums(&target, counts, n);
	for (size_t i = 0; i < n_ranges; i++) {
		unsigned long objects = objects_named(counts, n, ranges[i].name);

		if (objects < ranges[i].least || objects > ranges[i].most)
			fail_msg("%s: %lu %s for %lu to %lu", name, objects, ranges[i].name,
				 ranges[i].least, ranges[i].most);
	}
	assert_true(objects_named(counts, n, "(unread)") == 0);
	print_message("%s: %zu types, %lu raw buffers, %lu parked\n", name, n,
		      objects_named(counts, n, "(raw buffers)"),
		      objects_named(counts, n, "(free lists)"));
	target_stop(&target);
}

static void the_heaps_types_are_counted_as_the_collector_counts_them(void **state)
{
	(void)state;
	for_each_interpreter(check_types);
}

static void the_debug_hooks_do_not_change_types(void **state)
{
	(void)state;
	for_each_debugged(check_types);
}

static void check_parked(const char *name, const char *command)
{
	struct target target;
	struct object_look looks[200] = { 0 };
	size_t n = 0, parked = 0;

	target_start(&target, command);
	for (char *word, *line = (char *)child_ask(&target.child, "parked");
	     n < ARRAY_SIZE(looks) && (word = strsep(&line, " "));)
		looks[n++].object = strtoull(word, NULL, 10);
	target_take_census(&target);
	objects_look(target.types, looks, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(looks[i].error, 0);
		assert_int_equal(looks[i].n_buffers, 0);
		parked += looks[i].state == OBJECT_PARKED &&
			  census_block(target.census, looks[i].object, NULL, NULL) == CENSUS_LIVE;
	}
	print_message("%s: %zu of %zu parked\n", name, parked, n);
	assert_int_equal(n, 80);
	assert_true(parked >= 75); /* a few may have been taken again */
	target_stop(&target);
}

static void objects_on_free_lists_are_parked(void **state)
{
	(void)state;
	for_each_interpreter(check_parked);
}

static void check_names(const char *name, const char *command)
{
	struct target target;

	(void)name;
	target_start(&target, command);
	for (child_ask(&target.child, "names"); target.child.line[0]; child_hear(&target.child)) {
		char *rest = target.child.line;
		uint64_t type = strtoull(strsep(&rest, " "), NULL, 10);
		const char *found = NULL, *again = NULL;

		assert_int_equal(type_cache_name(target.types, type, &found, NULL), 0);
		assert_string_equal(found, rest);
		assert_int_equal(type_cache_name(target.types, type, &again, NULL), 0);
		assert_ptr_equal(found, again);
	}
	target_stop(&target);
}

static void types_are_called_what_they_call_themselves(void **state)
{
	(void)state;
	for_each_interpreter(check_names);
}

static void what_is_no_object_is_an_error_of_its_own(void **state)
{
	struct interpreters found;
	struct target target;
	struct object_look looks[4] = { 0 };
	struct fault fault = { 0 };
	const char *name = "untouched";
	struct told told;

	(void)state;
	interpreters_find(&found);
	if (!found.n)
		skip();
	target_start(&target, found.commands[0]);
	child_ask(&target.child, "buffers");
	told_parse(&told, target.child.line);
	looks[0].object = 0;
	looks[1].object = told.look.object + 8;
	looks[2].object = told.look.object;
	looks[3].object = UINT64_MAX - 3;
	objects_look(target.types, looks, 4);
	assert_true(looks[0].error < 0 && looks[1].error < 0 && looks[3].error < 0);
	assert_int_equal(looks[2].error, 0);
	assert_true(type_cache_name(target.types, told.look.object, &name, &fault) < 0);
	assert_string_equal(name, "untouched");
	/* What follows a list in the heap may pass for a type's flags; its type is no metatype. */
	assert_true(fault.where == told.look.object || fault.where == told.type);
	target_stop(&target);
	interpreters_done(&found);
}

#define TORTURED 60

/* Looks with the N-th read failing: each object is an error, or what it is without. */
static bool look_with_failure(const struct target *target, const struct object_look *truths,
			      unsigned long n)
{
	struct failing_memory failing = { .inner = target->live.memory, .fail_at = n };
	struct object_look looks[TORTURED] = { 0 };
	struct memory *memory;
	struct type_cache *types;
	size_t failed = 0;

	for (size_t i = 0; i < TORTURED; i++)
		looks[i].object = truths[i].object;
	assert_int_equal(failing_memory_new(&failing, &memory), 0);
	assert_int_equal(type_cache_new_in(memory, interpreter_layout(target->interpreter), 0,
					   MAX_TYPES, &types),
			 0);
	objects_look(types, looks, TORTURED);
	for (size_t i = 0; i < TORTURED; i++) {
		if (looks[i].error) {
			assert_int_equal(looks[i].n_buffers, 0);
			failed++;
			continue;
		}
		assert_int_equal(looks[i].type, truths[i].type);
		assert_int_equal(looks[i].n_buffers, truths[i].n_buffers);
		assert_memory_equal(looks[i].buffers, truths[i].buffers,
				    truths[i].n_buffers * sizeof(truths[i].buffers[0]));
	}
	assert_true(failed < TORTURED);
	type_cache_free(types);
	memory_free(memory);
	return failing_visited(&failing);
}

static void check_torture(const char *name, const char *command)
{
	struct target target;
	struct object_look truths[TORTURED] = { 0 };
	unsigned long n = 0;

	target_start(&target, command);
	for (child_ask(&target.child, "buffers"); target.child.line[0]; child_hear(&target.child))
		if (n < TORTURED)
			truths[n++].object = strtoull(target.child.line, NULL, 10);
	objects_look(target.types, truths, TORTURED);
	for (n = 1; look_with_failure(&target, truths, n);)
		n++;
	print_message("%s: %lu reads\n", name, n - 1);
	assert_true(n > TORTURED);
	target_stop(&target);
}

static void any_read_may_fail_without_a_wrong_buffer(void **state)
{
	(void)state;
	for_each_interpreter(check_torture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_object_owns_the_buffers_that_its_size_tells),
		cmocka_unit_test(the_debug_hooks_do_not_hide_them),
		cmocka_unit_test(the_heaps_types_are_counted_as_the_collector_counts_them),
		cmocka_unit_test(the_debug_hooks_do_not_change_types),
		cmocka_unit_test(objects_on_free_lists_are_parked),
		cmocka_unit_test(types_are_called_what_they_call_themselves),
		cmocka_unit_test(any_read_may_fail_without_a_wrong_buffer),
		cmocka_unit_test(what_is_no_object_is_an_error_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
