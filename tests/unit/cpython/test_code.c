/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpython/code.h"
#include "failing_memory.h"
#include "interpreters.h"

#define MAX_CODES 1000
#define FRAME_OBJECT_INTERPRETER_FRAME 24 /* PyFrameObject.f_frame, 3.11+ */

struct target {
	struct child child;
	const struct layout *layout;
	struct memory *memory;
	struct code_cache *cache;
};

static void target_start(struct target *target, const char *command, bool with_code_type)
{
	const char *rest;
	uint64_t code_type;

	child_start(&target->child, command, "frames.py");
	target->layout = child_layout(&target->child, &rest);
	code_type = with_code_type ? strtoull(rest, NULL, 10) : 0;
	assert_int_equal(memory_new_process(target->child.pid, &target->memory, NULL), 0);
	assert_int_equal(code_cache_new_in(target->memory, target->layout, code_type, MAX_CODES,
					   &target->cache),
			 0);
}

static void target_stop(struct target *target)
{
	code_cache_free(target->cache);
	memory_free(target->memory);
	child_stop(&target->child);
}

/* What the BPF walker would send of a frame: its code, and its position. */
static void frame_read(const struct target *target, uint64_t frame, uint64_t *code,
		       uint64_t *position)
{
	const struct layout *layout = target->layout;

	if (layout->minor >= 11)
		assert_int_equal(memory_read_u64(target->memory,
						 frame + FRAME_OBJECT_INTERPRETER_FRAME, &frame,
						 NULL),
				 0);
	assert_int_equal(memory_read_u64(target->memory, frame + layout->frame_code, code, NULL),
			 0);
	assert_int_equal(
		memory_read_u64(target->memory, frame + layout->frame_position, position, NULL), 0);
	if (layout->minor >= 14)
		*code &= ~7ull;
}

static void assert_text(const char *text, const char *hexadecimal)
{
	char expected[CODE_NAME_MAX_BYTES + 1] = "";
	size_t n = 0;

	for (; hexadecimal[0] != '-' && hexadecimal[0] && n < CODE_NAME_MAX_BYTES - 1;
	     hexadecimal += 2)
		assert_int_equal(sscanf(hexadecimal, "%2hhx", (unsigned char *)&expected[n++]), 1);
	/* Cut before a character that does not fit whole. */
	while (n == CODE_NAME_MAX_BYTES - 1 && (hexadecimal[0] == '8' || hexadecimal[0] == '9' ||
						hexadecimal[0] == 'a' || hexadecimal[0] == 'b')) {
		expected[--n] = '\0';
		hexadecimal -= 2;
		break;
	}
	assert_string_equal(text, expected);
}

static void check_frame(struct target *target, char *told)
{
	char *rest = told;
	uint64_t frame = strtoull(strsep(&rest, " "), NULL, 10), code, position;
	uint64_t code_told = strtoull(strsep(&rest, " "), NULL, 10);
	uint32_t line = (uint32_t)strtoul(strsep(&rest, " "), NULL, 10);
	uint32_t first_line = (uint32_t)strtoul(strsep(&rest, " "), NULL, 10);
	struct code_location location;
	struct fault fault = { 0 };

	frame_read(target, frame, &code, &position);
	assert_int_equal(code, code_told);
	if (code_cache_resolve(target->cache, code, position, &location, &fault) != 0)
		fail_msg("%s at %s", reason_sentence(fault.reason), fault.field);
	assert_int_equal(location.line, line);
	assert_int_equal(location.first_line, first_line);
	assert_text(location.function, strsep(&rest, " "));
	assert_text(location.file, strsep(&rest, " "));
}

static size_t check_frames(struct target *target)
{
	size_t n = 0;

	for (; child_hear(&target->child)[0]; n++)
		check_frame(target, target->child.line);
	return n;
}

static void check_interpreter(const char *name, const char *command, bool with_code_type)
{
	struct target target;
	size_t n;

	target_start(&target, command, with_code_type);
	n = check_frames(&target);
	target_stop(&target);
	print_message("%s: %zu frames\n", name, n);
	assert_true(n > 20);
}

static void check_all_frames(const char *name, const char *command)
{
	check_interpreter(name, command, true);
	check_interpreter(name, command, false);
}

static void every_frame_of_a_running_interpreter_is_named_as_it_says(void **state)
{
	(void)state;
	for_each_interpreter(check_all_frames);
}

/* Position of the first instruction. */
static uint64_t position_of_start(const struct layout *layout, uint64_t code)
{
	return layout->minor >= 11 ? code + layout->code_code : 0;
}

static void assert_resolves_to(struct target *target, uint64_t code, const char *function)
{
	struct code_location location;

	assert_int_equal(code_cache_resolve(target->cache, code,
					    position_of_start(target->layout, code), &location,
					    NULL),
			 0);
	assert_string_equal(location.function, function);
	assert_string_equal(location.file, "made up");
}

static void assert_gone(struct target *target, uint64_t code)
{
	struct code_location location = { .line = 4711 };
	struct fault fault = { 0 };

	assert_true(code_cache_resolve(target->cache, code, position_of_start(target->layout, code),
				       &location, &fault) < 0);
	assert_int_equal(fault.reason, REASON_CODE_UNREADABLE);
	assert_int_equal(fault.where, code);
	assert_int_equal(location.line, 4711);
}

static void check_life_and_death(const char *name, const char *command)
{
	struct target target;
	uint64_t code;

	(void)name;
	target_start(&target, command, true);
	check_frames(&target);
	code = strtoull(child_ask(&target.child, "hold first"), NULL, 10);
	assert_resolves_to(&target, code, "first");
	child_ask(&target.child, "drop");
	assert_resolves_to(&target, code, "first"); /* what is remembered of it */
	assert_true(code_cache_forget(target.cache, code));
	assert_false(code_cache_forget(target.cache, code));
	assert_gone(&target, code);
	assert_string_equal(child_ask(&target.child, "reuse second"), "ok");
	assert_resolves_to(&target, code, "second");
	child_ask(&target.child, "drop");
	assert_string_equal(child_ask(&target.child, "reuse third"), "ok");
	assert_resolves_to(&target, code, "third"); /* noticed without having been told */
	target_stop(&target);
}

/* Within a look what was read stands; what was not, until something is made there. */
static void check_one_look(const char *name, const char *command)
{
	struct target target;
	uint64_t code;

	(void)name;
	target_start(&target, command, true);
	check_frames(&target);
	code = strtoull(child_ask(&target.child, "hold first"), NULL, 10);
	code_cache_begin_look(target.cache);
	assert_resolves_to(&target, code, "first");
	child_ask(&target.child, "drop");
	code_cache_forget(target.cache, code);
	assert_gone(&target, code);
	assert_string_equal(child_ask(&target.child, "reuse second"), "ok");
	assert_gone(&target, code);
	code_cache_expect(target.cache, code);
	assert_resolves_to(&target, code, "second");
	child_ask(&target.child, "drop");
	assert_string_equal(child_ask(&target.child, "reuse third"), "ok");
	assert_resolves_to(&target, code, "second"); /* not told, and not looked at */
	code_cache_begin_look(target.cache);
	assert_resolves_to(&target, code, "third");
	target_stop(&target);
}

static void within_a_look_a_code_object_is_read_once(void **state)
{
	(void)state;
	for_each_interpreter(check_one_look);
}

static void a_dead_code_object_and_its_heir_are_told_apart(void **state)
{
	(void)state;
	for_each_interpreter(check_life_and_death);
}

static void what_is_no_code_object_is_a_fault(void **state)
{
	struct interpreters found;
	struct target target;
	uint64_t code;

	(void)state;
	interpreters_find(&found);
	if (!found.n)
		skip();
	target_start(&target, found.commands[0], true);
	check_frames(&target);
	code = strtoull(child_ask(&target.child, "hold it"), NULL, 10);
	assert_gone(&target, 0);
	assert_gone(&target, 16);
	assert_gone(&target, UINT64_MAX - 8);
	assert_gone(&target, code + 8);
	target_stop(&target);
	interpreters_done(&found);
}

static void a_position_outside_of_the_code_is_a_fault(void **state)
{
	struct interpreters found;
	struct target target;
	struct code_location location;
	struct fault fault = { 0 };
	uint64_t code, start;

	(void)state;
	interpreters_find(&found);
	if (!found.n)
		skip();
	target_start(&target, found.commands[0], true);
	check_frames(&target);
	code = strtoull(child_ask(&target.child, "hold it"), NULL, 10);
	start = position_of_start(target.layout, code);
	assert_int_equal(code_cache_resolve(target.cache, code, start - 2, &location, NULL), 0);
	assert_int_equal(location.line, 1);
	assert_int_equal(code_cache_resolve(target.cache, code, start + 10000, &location, &fault),
			 -ERANGE);
	assert_int_equal(fault.reason, REASON_CODE_UNREADABLE);
	target_stop(&target);
	interpreters_done(&found);
}

static void a_full_cache_says_so_and_keeps_what_it_has(void **state)
{
	struct interpreters found;
	struct target target;
	struct code_cache *small;
	struct code_location location;
	struct fault fault = { 0 };
	uint64_t one, two;

	(void)state;
	interpreters_find(&found);
	if (!found.n)
		skip();
	target_start(&target, found.commands[0], true);
	check_frames(&target);
	assert_int_equal(code_cache_new_in(target.memory, target.layout, 0, 1, &small), 0);
	one = strtoull(child_ask(&target.child, "hold one"), NULL, 10);
	assert_int_equal(code_cache_resolve(small, one, position_of_start(target.layout, one),
					    &location, NULL),
			 0);
	two = strtoull(child_ask(&target.child, "hold two"), NULL, 10);
	assert_int_not_equal(one, two);
	assert_int_equal(code_cache_resolve(small, two, position_of_start(target.layout, two),
					    &location, &fault),
			 -ENOSPC);
	assert_int_equal(fault.reason, REASON_CODE_CACHE_FULL);
	assert_int_equal(code_cache_resolve(small, one, position_of_start(target.layout, one),
					    &location, NULL),
			 0);
	assert_string_equal(location.function, "one");
	code_cache_free(small);
	target_stop(&target);
	interpreters_done(&found);
}

static void assert_is_torture(const struct code_location *location)
{
	assert_string_equal(location->function, "torture");
	assert_string_equal(location->file, "made up");
	assert_int_equal(location->first_line, 1);
}

/* One look with the N-th read failing; whatever comes of it, the next look succeeds. */
static bool resolve_with_failure(const struct target *target, uint64_t code, unsigned long n)
{
	struct failing_memory failing = { .inner = target->memory, .fail_at = n };
	struct code_location location = { .line = 4711 };
	struct fault fault = { 0 };
	struct memory *memory;
	struct code_cache *cache;
	uint64_t position = position_of_start(target->layout, code);

	assert_int_equal(failing_memory_new(&failing, &memory), 0);
	assert_int_equal(code_cache_new_in(memory, target->layout, 0, MAX_CODES, &cache), 0);
	if (code_cache_resolve(cache, code, position, &location, &fault) == 0) {
		assert_is_torture(&location);
	} else {
		assert_true(failing_visited(&failing));
		assert_int_equal(fault.reason, REASON_CODE_UNREADABLE);
		assert_int_equal(location.line, 4711);
		assert_int_equal(code_cache_resolve(cache, code, position, &location, NULL), 0);
		assert_is_torture(&location);
	}
	code_cache_free(cache);
	memory_free(memory);
	return failing_visited(&failing);
}

static void check_torture(const char *name, const char *command)
{
	struct target target;
	unsigned long n = 1;
	uint64_t code;

	(void)name;
	target_start(&target, command, false);
	check_frames(&target);
	code = strtoull(child_ask(&target.child, "hold torture"), NULL, 10);
	while (resolve_with_failure(&target, code, n))
		n++;
	assert_true(n > 8); /* object, type, its name, names and table, and their types */
	target_stop(&target);
}

static void any_read_may_fail_and_the_next_look_succeeds(void **state)
{
	(void)state;
	for_each_interpreter(check_torture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_frame_of_a_running_interpreter_is_named_as_it_says),
		cmocka_unit_test(a_dead_code_object_and_its_heir_are_told_apart),
		cmocka_unit_test(within_a_look_a_code_object_is_read_once),
		cmocka_unit_test(what_is_no_code_object_is_a_fault),
		cmocka_unit_test(a_position_outside_of_the_code_is_a_fault),
		cmocka_unit_test(any_read_may_fail_and_the_next_look_succeeds),
		cmocka_unit_test(a_full_cache_says_so_and_keeps_what_it_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
