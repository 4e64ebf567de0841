/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Finding the Python in a process: its files, its runtime confirmed in memory,
 * and the probe plans of its files.  Reads only.
 */
#ifndef PYLEAKD_SERVICE_OPENING_H
#define PYLEAKD_SERVICE_OPENING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "capture/capture.h"
#include "cpython/interpreter.h"
#include "target/images.h"
#include "target/process.h"

#define OPENING_FILES_MAX CAPTURE_FILES_MAX
#define OPENING_MESSAGE_BYTES 512

/* What a report says of its target; stands in recordings. */
struct session_facts {
	pid_t pid;
	char command[PROCESS_NAME_MAX];
	char python[32];
	double target_started; /* seconds since 1970 */
	double session_started;
	bool probed; /* breakpoints were in it, at least for a while */
};

struct opening_file {
	struct image *image;
	char *path; /* as we can open it */
	uint64_t bias;
	uint64_t text_start, text_end; /* of its executable mappings in the target */
	struct plan *plan; /* NULL: none could be made */
};

struct opening {
	struct process_id id;
	struct session_facts facts;
	/* When the opening began: the clock, and what the process had used of a CPU. */
	uint64_t began_ns, began_cpu_ns;
	struct memory *memory;
	struct interpreter *interpreter;
	struct opening_file python; /* the file that holds the interpreter */
	struct opening_file libc; /* image NULL: none that is known */
	char native_refusal[OPENING_MESSAGE_BYTES]; /* why libc is not probed; "": it can be */
};

/*
 * ret_message (OPENING_MESSAGE_BYTES) says on failure what is wrong and what
 * to do. -EAGAIN: there is a Python that has not started yet.
 */
int opening_new(pid_t pid, struct opening **ret, char *ret_message);
/* The same, with images of files that others have opened before; they stay the caller's. */
int opening_new_shared(pid_t pid, struct images *images, struct opening **ret, char *ret_message);
void opening_free(struct opening *opening);
/*
 * Is it still that process (pids are used again), with that program (-EAGAIN: not after an
 * exec)? To be asked behind everything that goes by the pid.
 */
int opening_verify(const struct opening *opening, char *ret_message);

/* Plans are made, or loaded from the cache (a directory, or NULL); native: the C library's too. */
struct opening_plan_options {
	bool native;
	bool callers; /* the interpreter's plan has SITE_CALLER too, where nothing is inlined */
	const char *plan_cache; /* directory, or NULL */
};
int opening_plan(struct opening *opening, const struct opening_plan_options *options,
		 char *ret_message);

/* What the BPF programs have to know of this interpreter. */
int opening_stack_layout(const struct opening *opening, struct capture_stack_layout *ret,
			 struct fault *reterr_fault);

#endif
