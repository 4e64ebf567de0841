/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/opening.h"

#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "target/maps.h"

/* Files looked into for an interpreter in a process without one that is called so. */
#define CANDIDATES_MAX 512

DEFINE_CLEANUP(struct opening *, opening_free)
DEFINE_CLEANUP(struct maps *, maps_free)
DEFINE_CLEANUP(struct image *, image_free)

/* One line: names of files are the target's, and may hold anything. */
static void __attribute__((format(printf, 2, 3))) say(char *ret_message, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(ret_message, OPENING_MESSAGE_BYTES, format, arguments);
	va_end(arguments);
	for (char *at = ret_message; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
}

static void file_done(struct opening_file *file)
{
	plan_free(file->plan);
	image_free(file->image);
	free(file->path);
}

void opening_free(struct opening *opening)
{
	if (!opening)
		return;
	interpreter_free(opening->interpreter);
	memory_free(opening->memory);
	file_done(&opening->python);
	file_done(&opening->libc);
	free(opening);
}

/* Opens a mapped file as an image and finds where it lies. -ENOEXEC: no ELF file for x86-64. */
static int open_file(const struct maps *maps, struct images *images,
		     const struct maps_file *mapped, struct opening_file *ret,
		     struct fault *reterr_fault)
{
	CLEANUP(image_free) struct image *image = NULL;
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	uint64_t bias;
	int r;

	path = malloc(MAPS_FILE_PATH_MAX);
	if (!path)
		return -ENOMEM;
	r = maps_open(maps, mapped->text, &fd, path);
	if (r < 0)
		return r;
	r = images_open(images, fd, &image, reterr_fault);
	if (r < 0)
		return r;
	r = maps_load_bias(mapped->text, image, &bias);
	if (r < 0)
		return r;
	*ret = (struct opening_file){
		.image = TAKE_PTR(image),
		.path = TAKE_PTR(path),
		.bias = bias,
		.text_start = mapped->start,
		.text_end = mapped->end,
	};
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

struct search {
	const struct maps *maps;
	struct images *images;
	const struct maps_file *files;
	size_t n_files;
	pid_t pid;
	char *message;
	bool saw_unsupported, saw_unreadable;
	const char *named; /* a file that is called like a Python, without one in it */
};

/* 1: this file holds a Python that we support. */
static int try_python(struct search *search, const struct maps_file *mapped,
		      struct opening_file *ret, struct interpreter_version *ret_version)
{
	struct interpreter_version version = { 0 };
	struct opening_file file = { 0 };
	const char *why = NULL;
	int r;

	r = open_file(search->maps, search->images, mapped, &file, NULL);
	if (r == -EACCES || r == -EPERM)
		search->saw_unreadable = true;
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	r = interpreter_identify(file.image, &version, &why, NULL);
	if (r == 0) {
		*ret = file;
		*ret_version = version;
		return 1;
	}
	file_done(&file);
	if (r == -EOPNOTSUPP && !search->saw_unsupported) {
		search->saw_unsupported = true;
		say(search->message,
		    "process %d runs %s%s%s%s, which is not supported: only CPython 3.8 to 3.15 "
		    "in its default build is",
		    search->pid, version.text[0] ? "Python " : "", version.text,
		    version.text[0] ? ", " : "", why ? why : "an unknown Python");
	}
	if (r < 0 && !search->named && maps_entry_names_python(mapped->text))
		search->named = base_name(mapped->text->path);
	return r == -ENOMEM ? r : 0;
}

/* Files that are called like a Python first, then every other one. */
static int search_python(struct search *search, struct opening_file *ret,
			 struct interpreter_version *ret_version)
{
	int r;

	for (int named = 1; named >= 0; named--) {
		for (size_t i = 0; i < search->n_files && i < CANDIDATES_MAX; i++) {
			if (maps_entry_names_python(search->files[i].text) != named)
				continue;
			r = try_python(search, &search->files[i], ret, ret_version);
			if (r != 0)
				return r;
		}
	}
	if (search->saw_unsupported)
		return -EOPNOTSUPP;
	if (search->saw_unreadable)
		say(search->message,
		    "the files of process %d can't be read: run as root (or with CAP_SYS_PTRACE "
		    "and CAP_DAC_READ_SEARCH)",
		    search->pid);
	else if (search->named)
		say(search->message,
		    "process %d runs %.200s, but no CPython with its dynamic symbols is in "
		    "it: give the pid of a process that runs one",
		    search->pid, search->named);
	else
		say(search->message,
		    "process %d is not Python: give the pid of a process that runs CPython",
		    search->pid);
	return search->saw_unreadable ? -EACCES : -ENOENT;
}

static bool is_c_library(const char *path)
{
	const char *name = base_name(path);

	return strncmp(name, "libc.so", 7) == 0 || strncmp(name, "libc-2.", 7) == 0;
}

/* Allocators that replace the C library's, by the names of their libraries. */
static bool is_other_allocator(const char *path)
{
	static const char *const names[] = { "libjemalloc", "libtcmalloc", "libmimalloc",
					     "libscudo",    "libsnmalloc", "libhoard",
					     "ld-musl" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strncmp(base_name(path), names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* Sizes of native blocks are read from the headers of glibc's chunks, so only glibc will do. */
static int find_libc(struct search *search, struct opening *opening)
{
	int r = 0;

	say(opening->native_refusal, "no C library is mapped whose allocator is known");
	for (size_t i = 0; i < search->n_files; i++) {
		const char *path = search->files[i].text->path;

		if (is_other_allocator(path)) {
			say(opening->native_refusal, "its malloc is %s, whose blocks are not known",
			    base_name(path));
			file_done(&opening->libc); /* it has one, whose malloc nobody calls */
			opening->libc = (struct opening_file){ 0 };
			return 0;
		}
		if (!opening->libc.image && is_c_library(path)) {
			r = open_file(search->maps, search->images, &search->files[i],
				      &opening->libc, NULL);
			if (r == 0)
				opening->native_refusal[0] = '\0';
		}
	}
	return r == -ENOMEM ? r : 0;
}

static int check_process(pid_t pid, struct opening *opening, char *ret_message)
{
	struct process_stat stat;
	int r;

	r = process_identify(pid, &opening->id);
	if (r == 0)
		r = process_stat(pid, &stat);
	if (r < 0) {
		say(ret_message, "there is no process %d: look for its pid with ps", pid);
		return -ESRCH;
	}
	if (process_is_kernel_thread(&stat)) {
		say(ret_message,
		    "process %d is a kernel thread: give the pid of a process that runs CPython",
		    pid);
		return -ENOENT;
	}
	if (!process_is_alive(&opening->id)) {
		say(ret_message, "process %d has ended: give the pid of a running process", pid);
		return -ESRCH;
	}
	return 0;
}

static void fill_facts(struct opening *opening)
{
	struct session_facts *facts = &opening->facts;

	facts->pid = opening->id.pid;
	if (process_display_name(facts->pid, facts->command) < 0)
		snprintf(facts->command, sizeof(facts->command), "?");
	if (process_started(&opening->id, &facts->target_started) < 0)
		facts->target_started = 0;
	snprintf(facts->python, sizeof(facts->python), "%s",
		 interpreter_version(opening->interpreter)->text);
}

static int native_ids(pid_t pid, pid_t **ret, size_t *ret_n)
{
	_cleanup_free_ struct process_thread *threads = NULL;
	_cleanup_free_ pid_t *ids = NULL;
	size_t n;
	int r;

	r = process_threads(pid, &threads, &n);
	if (r < 0)
		return r;
	ids = calloc(n + 1, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		ids[i] = threads[i].inner_tid;
	*ret = TAKE_PTR(ids);
	*ret_n = n;
	return 0;
}

/* -ESRCH: the process ended; -EAGAIN: it did not, but the program in it. */
static int explain_end(const struct opening *opening, char *ret_message)
{
	pid_t pid = opening->id.pid;
	struct process_stat stat;

	if (process_stat(pid, &stat) == 0 && !process_is_exiting(&stat) &&
	    process_is_alive(&opening->id)) {
		say(ret_message,
		    "process %d started another program while it was opened: try again", pid);
		return -EAGAIN;
	}
	say(ret_message, "process %d ended while it was opened: give a running process", pid);
	return -ESRCH;
}

static void explain(int error, const struct opening *opening, const struct fault *fault,
		    const char *version, char *ret_message)
{
	pid_t pid = opening->id.pid;

	if (error == -EAGAIN)
		say(ret_message, "the Python of process %d has not started yet: try again", pid);
	else if (error == -EPROTO)
		say(ret_message,
		    "process %d says it is Python %s, but its %s contradicts that layout (at "
		    "0x%llx): report this build",
		    pid, version, fault->field ? fault->field : "memory",
		    (unsigned long long)fault->where);
	else if (error == -EPERM || error == -EACCES)
		say(ret_message,
		    "the memory of process %d can't be read: run as root (or with CAP_SYS_PTRACE "
		    "and CAP_DAC_READ_SEARCH)",
		    pid);
	else if (!process_is_alive(&opening->id))
		explain_end(opening, ret_message);
	else
		say(ret_message,
		    "the Python%s%s of process %d can't be read (%s%s%s): report this build",
		    version[0] ? " " : "", version, pid, reason_sentence(fault->reason),
		    fault->field ? ": " : "", fault->field ? fault->field : "");
}

static int confirm(struct opening *opening, const char *version, char *ret_message)
{
	_cleanup_free_ pid_t *ids = NULL;
	struct fault fault = FAULT_NONE;
	size_t n_ids;
	int r;

	r = native_ids(opening->id.pid, &ids, &n_ids);
	if (r == 0)
		r = interpreter_new(opening->memory, opening->python.image, opening->python.bias,
				    ids, n_ids, &opening->interpreter, &fault);
	if (r == -ESRCH)
		return explain_end(opening, ret_message);
	if (r < 0)
		explain(r, opening, &fault, version, ret_message);
	return r;
}

/* By the class of the program's ELF header: the kernel runs 32-bit programs too. */
static bool is_32_bit(pid_t pid)
{
	unsigned char identity[EI_NIDENT];
	_cleanup_fclose_ FILE *file = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	file = fopen(path, "re");
	return file && fread(identity, 1, sizeof(identity), file) == sizeof(identity) &&
	       identity[EI_CLASS] == ELFCLASS32;
}

/* By a thread that lives: the first one may have ended before the others. */
static int open_memory(struct opening *opening, char *ret_message)
{
	struct fault fault = FAULT_NONE;
	pid_t tid;
	int r;

	r = process_living_thread(opening->id.pid, &tid);
	if (r == 0)
		r = memory_new_process(tid, &opening->memory, &fault);
	if (r == -ESRCH)
		return explain_end(opening, ret_message);
	if (r < 0)
		explain(r, opening, &fault, "", ret_message);
	return r;
}

/*
 * Everything was read by the pid. The memory was opened first and is bound to
 * the program that ran then; where that still runs, and the process is the one
 * that was identified before, nothing was of another one.
 */
int opening_verify(const struct opening *opening, char *ret_message)
{
	uint64_t word;

	if (process_is_alive(&opening->id) &&
	    memory_read_u64(opening->memory, opening->python.text_start, &word, NULL) != -ESRCH)
		return 0;
	return explain_end(opening, ret_message);
}

static int search_files(struct opening *opening, struct images *images, char *ret_message,
			struct interpreter_version *ret_version)
{
	CLEANUP(maps_free) struct maps *maps = NULL;
	_cleanup_free_ struct maps_file *files = NULL;
	struct search search = { .pid = opening->id.pid,
				 .images = images,
				 .message = ret_message };
	int r;

	r = maps_load(search.pid, &maps, NULL);
	if (r == 0)
		r = maps_executable_files(maps, &files, &search.n_files);
	if (r < 0) {
		say(ret_message, r == -ESRCH ? "process %d ended while it was opened: give a "
					       "running process"
					     : "the memory map of process %d can't be read: run "
					       "as root (or with CAP_SYS_PTRACE "
					       "and CAP_DAC_READ_SEARCH)",
		    search.pid);
		return r;
	}
	search.maps = maps;
	search.files = files;
	r = search_python(&search, &opening->python, ret_version);
	if (r < 0)
		return r;
	return find_libc(&search, opening);
}

int opening_new(pid_t pid, struct opening **ret, char *ret_message)
{
	return opening_new_shared(pid, NULL, ret, ret_message);
}

int opening_new_shared(pid_t pid, struct images *images, struct opening **ret, char *ret_message)
{
	CLEANUP(opening_free) struct opening *opening = calloc(1, sizeof(*opening));
	struct interpreter_version version;
	int r;

	if (!opening) {
		say(ret_message, "no memory: free some and try again");
		return -ENOMEM;
	}
	r = check_process(pid, opening, ret_message);
	if (r < 0)
		return r;
	opening->began_ns = clock_monotonic_ns();
	process_cpu_ns(pid, &opening->began_cpu_ns);
	if (is_32_bit(pid)) {
		say(ret_message, "process %d is a 32-bit program: only x86-64 is supported", pid);
		return -EOPNOTSUPP;
	}
	r = open_memory(opening, ret_message);
	if (r < 0)
		return r;
	r = search_files(opening, images, ret_message, &version);
	if (r < 0)
		return r;
	r = confirm(opening, version.text, ret_message);
	if (r < 0)
		return r;
	r = opening_verify(opening, ret_message);
	if (r < 0)
		return r;
	fill_facts(opening);
	*ret = TAKE_PTR(opening);
	return 0;
}

/* From the cache, or made and put there; a cache that can't be written is no error. */
static int plan_python(struct opening *opening, bool callers, const char *plan_cache,
		       struct fault *reterr_fault)
{
	const struct plan_python_options options = {
		.minor = interpreter_version(opening->interpreter)->minor,
		.callers = callers ? PLAN_CALLERS_CORE : PLAN_CALLERS_NONE,
	};
	const char *flavour = callers ? "python-callers" : "python";
	struct opening_file *file = &opening->python;
	int r;

	if (plan_cache && plan_load(plan_cache, flavour, file->image, &file->plan) == 0)
		return 0;
	r = plan_make_python(file->image, &options, &file->plan, reterr_fault);
	if (r == 0 && plan_cache)
		plan_store(plan_cache, flavour, file->plan);
	return r;
}

static int plan_native(struct opening *opening, const char *plan_cache)
{
	struct opening_file *file = &opening->libc;
	struct fault fault = FAULT_NONE;
	int r;

	if (!file->image)
		return 0;
	if (plan_cache && plan_load(plan_cache, "native", file->image, &file->plan) == 0)
		return 0;
	r = plan_make_native(file->image, &file->plan, &fault);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		say(opening->native_refusal, "%s", reason_sentence(fault.reason));
	else if (plan_cache)
		plan_store(plan_cache, "native", file->plan);
	return 0;
}

int opening_plan(struct opening *opening, const struct opening_plan_options *options,
		 char *ret_message)
{
	struct fault fault = FAULT_NONE;
	int r;

	r = plan_python(opening, options->callers, options->plan_cache, &fault);
	if (r < 0) {
		say(ret_message, "%s", reason_sentence(fault.reason));
		return r;
	}
	if (!options->native)
		return 0;
	r = plan_native(opening, options->plan_cache);
	if (r < 0)
		say(ret_message, "no memory");
	return r;
}
