/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Libraries that a program loads late, and several interpreters in one process. */
#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpython/interpreter_private.h"
#include "interpreters.h"
#include "live.h"

#define SAMPLES 20000

/* Runs in the child: this very program becomes one that embeds Python. */
static void embed(const char *library, const char *home, int ready)
{
	static const char *const script = "import threading\n"
					  "def spin():\n"
					  "    while True: pass\n"
					  "thread = threading.Thread(target=spin, daemon=True)\n"
					  "thread.start()\n"
					  "import os\n"
					  "os.write(%d, b'%%d\\n' %% thread.ident)\n"
					  "threading.Event().wait()\n";
	char text[1024];
	void *handle;
	void (*initialise)(int);
	int (*run)(const char *);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv("PYTHONHOME", home, 1);
	handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
	if (!handle)
		_exit(1);
	*(void **)&initialise = dlsym(handle, "Py_InitializeEx");
	*(void **)&run = dlsym(handle, "PyRun_SimpleString");
	snprintf(text, sizeof(text), script, ready);
	initialise(0);
	run(text);
	_exit(1);
}

struct embedded {
	pid_t pid;
	uint64_t ident; /* of the thread that spins */
	struct live live;
};

/* …/lib/libpython3.12.so.1.0: its home is two levels up. */
static void embedded_start(struct embedded *embedded, const char *library)
{
	_cleanup_free_ char *home = strdup(library);
	char line[64] = "";
	int ends[2];

	*strstr(home, "/lib/libpython") = '\0';
	assert_int_equal(pipe(ends), 0);
	embedded->pid = fork();
	assert_true(embedded->pid >= 0);
	if (embedded->pid == 0)
		embed(library, home, ends[1]);
	close(ends[1]);
	assert_true(read(ends[0], line, sizeof(line) - 1) > 0);
	close(ends[0]);
	embedded->ident = strtoull(line, NULL, 10);
	assert_true(live_open(&embedded->live, embedded->pid));
}

static void embedded_stop(struct embedded *embedded)
{
	live_close(&embedded->live);
	kill(embedded->pid, SIGKILL);
	waitpid(embedded->pid, NULL, 0);
}

static uint64_t read_word(const struct interpreter *interpreter, uint64_t address)
{
	uint64_t word = 0;

	assert_int_equal(memory_read_u64(interpreter_memory(interpreter), address, &word, NULL), 0);
	return word;
}

/* Where interpreter.h says that the thread's current thread state is. */
static uint64_t current_address(const struct interpreter *interpreter,
				const struct interpreter_stack_roots *roots,
				uint64_t thread_pointer)
{
	uint64_t dtv;

	if (roots->tstate_current_address)
		return roots->tstate_current_address;
	if (!roots->tls_module)
		return thread_pointer + (uint64_t)roots->tstate_tls_offset;
	dtv = read_word(interpreter, thread_pointer + 8);
	return read_word(interpreter, dtv + roots->tls_module * roots->tls_dtv_entry_bytes) +
	       roots->tls_module_offset;
}

static uint64_t thread_state(const struct interpreter *interpreter, uint64_t ident)
{
	struct interpreter_thread *threads;
	uint64_t tstate = 0;
	size_t n;

	assert_int_equal(interpreter_threads(interpreter, &threads, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		if (threads[i].pthread_address == ident)
			tstate = threads[i].tstate;
	free(threads);
	return tstate;
}

static void check_embedded(struct embedded *embedded)
{
	struct interpreter *interpreter;
	struct interpreter_stack_roots roots;
	struct fault fault = { 0 };
	uint64_t current = 0;

	if (live_interpreter(&embedded->live, &interpreter, &fault))
		fail_msg("%s", fault.field);
	assert_int_equal(interpreter_stack_roots(interpreter, &roots, &fault), 0);
	/* A library loaded late has its block wherever the allocator put it. */
	assert_int_equal(roots.tls_module != 0, interpreter_version(interpreter)->minor >= 12);
	for (int i = 0; i < SAMPLES && !current; i++)
		current = read_word(interpreter,
				    current_address(interpreter, &roots, embedded->ident));
	assert_int_not_equal(current, 0);
	assert_int_equal(current, thread_state(interpreter, embedded->ident));
	interpreter_free(interpreter);
}

static void a_library_loaded_late_is_understood(void **state)
{
	const char *root = getenv("PYENV_ROOT"), *home = getenv("HOME");
	char pattern[PATH_MAX];
	glob_t found;

	(void)state;
	snprintf(pattern, sizeof(pattern), "%s%s/versions/3.*/lib/libpython3.?*.so.1.0",
		 root ? root : home ? home : "", root ? "" : "/.pyenv");
	if (glob(pattern, 0, NULL, &found))
		skip();
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *version = strstr(found.gl_pathv[i], "libpython3.") + 11;
		struct embedded embedded;

		if (strtoul(version, NULL, 10) < 8)
			continue;
		print_message("libpython3.%lu\n", strtoul(version, NULL, 10));
		embedded_start(&embedded, found.gl_pathv[i]);
		check_embedded(&embedded);
		embedded_stop(&embedded);
	}
	globfree(&found);
}

static void check_subinterpreters(struct child *child)
{
	struct interpreter_arenas *arenas;
	struct interpreter *interpreter;
	_cleanup_free_ uint64_t *interps = NULL;
	struct live live;
	size_t n_interps, n_states, n;

	assert_int_equal(sscanf(child_hear(child), "interpreters %zu", &n_interps), 1);
	assert_int_equal(sscanf(child_hear(child), "states %zu", &n_states), 1);
	assert_true(live_open(&live, child->pid));
	assert_int_equal(live_interpreter(&live, &interpreter, NULL), 0);
	assert_int_equal(interpreters_read(interpreter, &interps, &n, NULL), 0);
	assert_int_equal(n, n_interps);
	assert_int_equal(interpreter_arenas(interpreter, &arenas, &n, NULL), 0);
	assert_int_equal(n, n_states);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(arenas[i].interp != 0,
				 interpreter_version(interpreter)->minor >= 12);
	free(arenas);
	interpreter_free(interpreter);
	live_close(&live);
}

static void check_process(const char *name, const char *command)
{
	struct child child;

	print_message("%s\n", name);
	child_start(&child, command, "subinterpreters.py");
	check_subinterpreters(&child);
	child_stop(&child);
}

static void every_interpreter_of_a_process_is_found(void **state)
{
	(void)state;
	for_each_interpreter(check_process);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_library_loaded_late_is_understood),
		cmocka_unit_test(every_interpreter_of_a_process_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
