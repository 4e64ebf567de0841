/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A program that embeds Python, as bundlers and application servers do: Python
 * runs in a thread that is not the first one, and threads made before Python
 * was there call into it.
 *
 *	embedder LIBRARY REMOVE THREADS SCRIPT ARGUMENTS...
 *
 * LIBRARY is loaded by dlopen(), or is "-": linked with.  REMOVE is a directory
 * that is gone once that is done, or "-".  SCRIPT runs in the thread that made
 * the interpreter; the others call its work(number).  Another thread allocates
 * all the time and never hears of Python.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 16

static struct {
	void (*initialize)(int);
	int (*run)(const char *, void *);
	void *(*save_thread)(void);
	int (*ensure)(void);
	void (*release)(int);
} python;

static struct {
	char **arguments;
	int n_arguments;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int loaded;
} program = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *find(void *library, const char *name)
{
	void *function = dlsym(library, name);

	if (!function) {
		fprintf(stderr, "no %s: %s\n", name, dlerror());
		exit(1);
	}
	return function;
}

static void load(const char *path)
{
	void *library = dlopen(strcmp(path, "-") ? path : NULL, RTLD_NOW | RTLD_GLOBAL);

	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	python.initialize = find(library, "Py_InitializeEx");
	python.run = find(library, "PyRun_SimpleStringFlags");
	python.save_thread = find(library, "PyEval_SaveThread");
	python.ensure = find(library, "PyGILState_Ensure");
	python.release = find(library, "PyGILState_Release");
}

static void run(const char *text)
{
	if (python.run(text, NULL))
		exit(1);
}

static void *interpreter_thread(void *context)
{
	static char text[8192];
	size_t used;
	int state;

	(void)context;
	load(program.arguments[0]);
	python.initialize(0);
	used = (size_t)snprintf(text, sizeof(text), "import runpy, sys; sys.argv = [");
	for (int i = 3; i < program.n_arguments; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "r'''%s''', ",
					 program.arguments[i]);
	snprintf(text + used, sizeof(text) - used, "]");
	run(text);
	run("import json, threading, traceback, linecache, encodings.idna");
	if (strcmp(program.arguments[1], "-")) {
		run("import shutil");
		snprintf(text, sizeof(text), "shutil.rmtree(r'''%s''')", program.arguments[1]);
		run(text);
	}
	run("import sys, os; sys.path.insert(0, os.path.dirname(sys.argv[0]))");
	run("import embedded");
	python.save_thread();
	pthread_mutex_lock(&program.mutex);
	program.loaded = 1;
	pthread_cond_broadcast(&program.changed);
	pthread_mutex_unlock(&program.mutex);
	state = python.ensure();
	run("embedded.main()");
	python.release(state);
	exit(0);
}

static void *worker_thread(void *context)
{
	char text[64];
	int state;

	pthread_mutex_lock(&program.mutex);
	while (!program.loaded)
		pthread_cond_wait(&program.changed, &program.mutex);
	pthread_mutex_unlock(&program.mutex);
	snprintf(text, sizeof(text), "embedded.work(%d)", (int)(size_t)context);
	state = python.ensure();
	run(text);
	python.release(state);
	return NULL;
}

static void *native_thread(void *context)
{
	(void)context;
	for (;;) {
		char *volatile block = malloc(777);

		free(block);
		usleep(1000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int n_threads = argc > 4 ? (int)strtol(argv[3], NULL, 10) : THREADS_MAX + 1;
	pthread_t thread;

	if (n_threads > THREADS_MAX)
		return 2;
	program.arguments = argv + 1;
	program.n_arguments = argc - 1;
	pthread_create(&thread, NULL, native_thread, NULL);
	for (int i = 0; i < n_threads; i++)
		pthread_create(&thread, NULL, worker_thread, (void *)(size_t)i);
	pthread_create(&thread, NULL, interpreter_thread, NULL);
	pthread_join(thread, NULL);
	return 0;
}
