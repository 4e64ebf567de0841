/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Against every interpreter at hand: what is found in it is what it says itself. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpython/interpreter_private.h"
#include "failing_memory.h"
#include "interpreters.h"
#include "live.h"

#define TRUTH_THREADS_MAX 16
#define SAMPLES 20000

struct truths {
	char version[32];
	struct {
		uint64_t ident;
		pid_t native_id;
	} threads[TRUTH_THREADS_MAX];
	size_t n_threads;
	uint64_t code_type;
	size_t arenas;
};

struct subject {
	struct child child;
	struct truths truths;
	struct live live;
};

static void hear_truths(struct child *child, struct truths *truths)
{
	*truths = (struct truths){ .n_threads = 0 };
	for (;;) {
		const char *line = child_hear(child);
		uint64_t ident;
		int native_id;

		if (strcmp(line, "ready") == 0)
			return;
		if (sscanf(line, "thread %" SCNu64 " %d", &ident, &native_id) == 2) {
			assert_true(truths->n_threads < TRUTH_THREADS_MAX);
			truths->threads[truths->n_threads].ident = ident;
			truths->threads[truths->n_threads++].native_id = native_id;
		}
		sscanf(line, "version %31s", truths->version);
		sscanf(line, "code_type %" SCNu64, &truths->code_type);
		sscanf(line, "arenas %zu", &truths->arenas);
	}
}

static void subject_start(struct subject *subject, const char *command)
{
	child_start(&subject->child, command, "truths.py");
	hear_truths(&subject->child, &subject->truths);
	assert_true(live_open(&subject->live, subject->child.pid));
}

static void subject_stop(struct subject *subject)
{
	live_close(&subject->live);
	child_stop(&subject->child);
}

static struct interpreter *confirmed(struct subject *subject)
{
	struct interpreter *interpreter = NULL;
	struct fault fault = { 0 };
	int error = live_interpreter(&subject->live, &interpreter, &fault);

	if (error)
		fail_msg("Python %s: %s (%s)", subject->truths.version, strerror(-error),
			 fault.field ? fault.field : "");
	return interpreter;
}

/* Runs check on each interpreter, its environment having NAME=VALUE (NULL: as it is). */
static void with_each(const char *name, const char *value, void (*check)(struct subject *subject))
{
	struct interpreters found;

	interpreters_find(&found);
	for (size_t i = 0; i < found.n; i++) {
		struct subject subject;

		print_message("%s %s\n", found.names[i], value ? value : "");
		if (name)
			setenv(name, value, 1);
		subject_start(&subject, found.commands[i]);
		if (name)
			unsetenv(name);
		check(&subject);
		subject_stop(&subject);
	}
	if (!found.n)
		skip();
	interpreters_done(&found);
}

/* The word that tells the end lies where the layout says, and is empty while Python runs. */
static void check_finalizing(const struct interpreter *interpreter)
{
	bool finalizing = true;

	assert_int_equal(interpreter_is_finalizing(interpreter, &finalizing, NULL), 0);
	assert_false(finalizing);
}

static void check_threads(const struct subject *subject, const struct interpreter *interpreter)
{
	const struct truths *truths = &subject->truths;
	struct interpreter_thread *threads;
	size_t n, n_found = 0;

	assert_int_equal(interpreter_threads(interpreter, &threads, &n, NULL), 0);
	assert_int_equal(n, truths->n_threads);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++)
			if (threads[i].pthread_address == truths->threads[k].ident) {
				n_found++;
				if (interpreter_version(interpreter)->minor >= 11)
					assert_int_equal(threads[i].native_id,
							 truths->threads[k].native_id);
			}
	assert_int_equal(n_found, n);
	free(threads);
}

/* Arenas that are in use: their objects have an address. */
static size_t count_arenas(const struct interpreter *interpreter)
{
	struct interpreter_arenas *states;
	size_t n, n_used = 0;

	assert_int_equal(interpreter_arenas(interpreter, &states, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < states[i].maxarenas; k++) {
			uint64_t object = states[i].arenas +
					  k * (uint64_t)interpreter_layout(interpreter)->arena_size;
			uint64_t address;

			assert_int_equal(memory_read_u64(interpreter_memory(interpreter), object,
							 &address, NULL),
					 0);
			n_used += address != 0;
		}
	free(states);
	return n_used;
}

static void check_found(struct subject *subject)
{
	struct interpreter *interpreter = confirmed(subject);
	struct interpreter_stack_roots roots;

	assert_string_equal(interpreter_version(interpreter)->text, subject->truths.version);
	assert_int_equal(interpreter_layout(interpreter)->minor,
			 interpreter_version(interpreter)->minor);
	assert_int_equal(interpreter_allocator(interpreter), ALLOCATOR_PYMALLOC);
	check_threads(subject, interpreter);
	check_finalizing(interpreter);
	assert_true(subject->truths.arenas > 1);
	assert_int_equal(count_arenas(interpreter), subject->truths.arenas);
	assert_int_equal(interpreter_stack_roots(interpreter, &roots, NULL), 0);
	assert_int_equal(roots.code_type_address, subject->truths.code_type);
	interpreter_free(interpreter);
}

static void what_is_found_is_what_the_interpreter_says(void **state)
{
	(void)state;
	with_each(NULL, NULL, check_found);
}

/* What the frame walker would read in this thread. */
static uint64_t current_tstate(const struct interpreter *interpreter,
			       const struct interpreter_stack_roots *roots, uint64_t thread_pointer)
{
	uint64_t address = roots->tstate_current_address
				   ? roots->tstate_current_address
				   : thread_pointer + (uint64_t)roots->tstate_tls_offset;
	uint64_t tstate = 0;

	assert_int_equal(memory_read_u64(interpreter_memory(interpreter), address, &tstate, NULL),
			 0);
	return tstate;
}

static void check_current(struct subject *subject)
{
	struct interpreter *interpreter = confirmed(subject);
	uint64_t ident = subject->truths.threads[subject->truths.n_threads - 1].ident, tstate = 0;
	struct interpreter_stack_roots roots;
	struct interpreter_thread *threads;
	size_t n;

	assert_int_equal(interpreter_stack_roots(interpreter, &roots, NULL), 0);
	assert_int_equal(roots.tls_module, 0);
	for (int i = 0; i < SAMPLES && !tstate; i++)
		tstate = current_tstate(interpreter, &roots, ident);
	assert_int_equal(interpreter_threads(interpreter, &threads, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		if (threads[i].pthread_address == ident)
			assert_int_equal(tstate, threads[i].tstate);
	free(threads);
	interpreter_free(interpreter);
}

static void the_thread_that_runs_is_current(void **state)
{
	(void)state;
	with_each("TRUTHS_SPIN", "1", check_current);
}

static enum interpreter_allocator expected_allocator;

static void check_allocator(struct subject *subject)
{
	struct interpreter *interpreter = confirmed(subject);

	assert_int_equal(interpreter_allocator(interpreter), expected_allocator);
	assert_int_equal(count_arenas(interpreter) > 0,
			 expected_allocator == ALLOCATOR_PYMALLOC ||
				 expected_allocator == ALLOCATOR_PYMALLOC_DEBUG);
	interpreter_free(interpreter);
}

static void allocators_are_told_apart(void **state)
{
	static const struct {
		const char *value;
		enum interpreter_allocator expected;
	} rows[] = {
		{ "malloc", ALLOCATOR_MALLOC },
		{ "malloc_debug", ALLOCATOR_MALLOC_DEBUG },
		{ "pymalloc", ALLOCATOR_PYMALLOC },
		{ "pymalloc_debug", ALLOCATOR_PYMALLOC_DEBUG },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		expected_allocator = rows[i].expected;
		with_each("PYTHONMALLOC", rows[i].value, check_allocator);
	}
}

static void tracemalloc_does_not_hide_the_allocator(void **state)
{
	(void)state;
	expected_allocator = ALLOCATOR_PYMALLOC;
	with_each("PYTHONTRACEMALLOC", "1", check_allocator);
}

struct shift {
	size_t field; /* in struct layout */
	const char *name;
	const char *refused_as; /* NULL: the field is one that others lean on */
	unsigned minor_max;
};

#define SHIFT(field) offsetof(struct layout, field), #field

static const struct shift shifts[] = {
	{ SHIFT(runtime_tstate_current), "runtime_tstate_current", 15 },
	{ SHIFT(type_name), "type_name", 15 },
	{ SHIFT(type_basicsize), NULL, 15 },
	{ SHIFT(type_itemsize), "type_itemsize", 15 },
	{ SHIFT(type_flags), "type_flags", 15 },
	{ SHIFT(type_dictoffset), "type_dictoffset", 15 },
	{ SHIFT(type_base), "type_base", 15 },
	{ SHIFT(code_basicsize), "code_basicsize", 15 },
	{ SHIFT(dict_basicsize), "dict_basicsize", 15 },
	{ SHIFT(list_basicsize), "list_basicsize", 15 },
	{ SHIFT(set_basicsize), "set_basicsize", 15 },
	{ SHIFT(unicode_basicsize), "unicode_basicsize", 15 },
	{ SHIFT(code_filename), "code_filename", 15 },
	{ SHIFT(code_name), "code_name", 15 },
	{ SHIFT(code_qualname), "code_qualname", 15 },
	{ SHIFT(code_firstlineno), "code_firstlineno", 15 },
	{ SHIFT(code_linetable), "code_linetable", 15 },
	{ SHIFT(interp_threads_head), NULL, 15 },
	/* Later it finds interp_id, which is 0: the end of the list. */
	{ SHIFT(interp_next), NULL, 11 },
	{ SHIFT(tstate_next), NULL, 15 },
	{ SHIFT(tstate_interp), "tstate_interp", 15 },
	{ SHIFT(tstate_prev), "tstate_prev", 15 },
	{ SHIFT(tstate_thread_id), "tstate_thread_id", 15 },
	{ SHIFT(tstate_native_thread_id), "tstate_native_thread_id", 15 },
	/* Later ones find a null pointer there, which is a thread without a frame. */
	{ SHIFT(tstate_frame), NULL, 12 },
	{ SHIFT(frame_code), NULL, 15 },
	{ SHIFT(interp_obmalloc), "interp_obmalloc", 15 },
	{ SHIFT(obmalloc_arenas), NULL, 15 },
	{ SHIFT(arena_pool_address), NULL, 15 },
	{ SHIFT(arena_ntotalpools), NULL, 15 },
	{ SHIFT(pool_freeblock), NULL, 15 },
	{ SHIFT(pool_szidx), NULL, 15 },
	{ SHIFT(pool_nextoffset), NULL, 15 },
};

static int confirm_with(struct subject *subject, const struct interpreter *found,
			const struct layout *layout, struct fault *fault)
{
	struct interpreter again = {
		.memory = found->memory,
		.image = found->image,
		.bias = found->bias,
		.version = found->version,
		.runtime = found->runtime,
		.layout = *layout,
	};

	return interpreter_confirm(&again, subject->live.native_ids, subject->live.n_native_ids,
				   fault);
}

static void check_shifts(struct subject *subject)
{
	struct interpreter *interpreter = confirmed(subject);
	struct fault fault;

	for (size_t i = 0; i < ARRAY_SIZE(shifts); i++) {
		struct layout layout = interpreter->layout;
		uint32_t *field = (uint32_t *)((char *)&layout + shifts[i].field);
		int error;

		if (*field == LAYOUT_ABSENT || shifts[i].minor_max < layout.minor)
			continue;
		*field += 8;
		error = confirm_with(subject, interpreter, &layout, &fault);
		if (!error)
			fail_msg("%s shifted was believed", shifts[i].name);
		assert_non_null(fault.field);
		if (shifts[i].refused_as)
			assert_string_equal(fault.field, shifts[i].refused_as);
		if (shifts[i].refused_as)
			assert_int_equal(error, -EPROTO);
	}
	assert_int_equal(confirm_with(subject, interpreter, &interpreter->layout, NULL), 0);
	interpreter_free(interpreter);
}

static void a_shifted_field_is_refused_by_name(void **state)
{
	(void)state;
	with_each(NULL, NULL, check_shifts);
}

static void check_other_layouts(struct subject *subject)
{
	struct interpreter *interpreter = confirmed(subject);
	const struct interpreter_version *version = interpreter_version(interpreter);
	const struct layout *rows;
	size_t n = layout_rows(&rows);

	for (size_t i = 0; i < n; i++) {
		struct fault fault;
		bool own = rows[i].minor == version->minor &&
			   rows[i].micro_from <= version->micro &&
			   version->micro <= rows[i].micro_to;
		int error = confirm_with(subject, interpreter, &rows[i], &fault);

		if (own != !error)
			fail_msg("layout %s on %s: %d", rows[i].name, version->text, error);
		if (rows[i].minor == 14 && version->minor == 14 && !own) {
			assert_int_equal(error, -EPROTO);
			assert_string_equal(fault.field, "interp_obmalloc");
		}
	}
	interpreter_free(interpreter);
}

static void the_layout_of_another_release_is_refused(void **state)
{
	(void)state;
	with_each(NULL, NULL, check_other_layouts);
}

static int new_through(struct subject *subject, struct failing_memory *failing)
{
	struct interpreter *interpreter = NULL;
	struct memory *memory;
	struct fault fault = { 0 };
	int error;

	failing->n_reads = 0;
	assert_int_equal(failing_memory_new(failing, &memory), 0);
	error = interpreter_new(memory, subject->live.image, subject->live.bias,
				subject->live.native_ids, subject->live.n_native_ids, &interpreter,
				&fault);
	assert_int_equal(error != 0, interpreter == NULL);
	assert_int_equal(error != 0, fault.reason != 0);
	interpreter_free(interpreter);
	memory_free(memory);
	return error;
}

/* The N-th read fails, for every N: alone (another attempt may succeed), and with all later. */
static void check_torture(struct subject *subject)
{
	struct failing_memory failing = { .inner = subject->live.memory };
	unsigned long n = 0, n_refused = 0;

	for (;;) {
		failing.fail_at = ++n;
		failing.from_there_on = false;
		n_refused += new_through(subject, &failing) != 0;
		if (!failing_visited(&failing))
			break;
		failing.from_there_on = true;
		/* The last ones look at pools, which need not be readable. */
		if (new_through(subject, &failing) == 0)
			assert_true(n > 100);
	}
	print_message("%lu reads; without one of them %lu refusals\n", n - 1, n_refused);
	assert_true(n > 100);
}

static void whichever_read_fails_the_end_is_clean(void **state)
{
	(void)state;
	with_each(NULL, NULL, check_torture);
}

static void check_early(struct subject *subject)
{
	struct interpreter *interpreter = confirmed(subject), *early = NULL;
	struct failing_memory failing = { .inner = subject->live.memory, .n_words = 1 };
	struct memory *memory;
	struct fault fault;

	failing.words[0].address =
		interpreter->runtime + interpreter->layout.runtime_interpreters_head;
	assert_int_equal(failing_memory_new(&failing, &memory), 0);
	assert_int_equal(interpreter_new(memory, subject->live.image, subject->live.bias,
					 subject->live.native_ids, subject->live.n_native_ids,
					 &early, &fault),
			 -EAGAIN);
	assert_int_equal(fault.reason, REASON_NOT_FOUND);
	assert_null(early);
	memory_free(memory);
	interpreter_free(interpreter);
}

static void an_interpreter_that_has_not_started_is_to_be_asked_again(void **state)
{
	(void)state;
	with_each(NULL, NULL, check_early);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_found_is_what_the_interpreter_says),
		cmocka_unit_test(the_thread_that_runs_is_current),
		cmocka_unit_test(allocators_are_told_apart),
		cmocka_unit_test(tracemalloc_does_not_hide_the_allocator),
		cmocka_unit_test(a_shifted_field_is_refused_by_name),
		cmocka_unit_test(the_layout_of_another_release_is_refused),
		cmocka_unit_test(whichever_read_fails_the_end_is_clean),
		cmocka_unit_test(an_interpreter_that_has_not_started_is_to_be_asked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
