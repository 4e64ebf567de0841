/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Why the kernel does not take a program or a map, for a person: by its error,
 * and by what libbpf prints meanwhile, the verifier's log among it.
 */
#ifndef PYLEAKD_CAPTURE_KERNEL_LOG_H
#define PYLEAKD_CAPTURE_KERNEL_LOG_H

#include <stdbool.h>
#include <stddef.h>

#define KERNEL_LOG_LINE_BYTES 160
#define KERNEL_LOG_TEXT_BYTES 440

struct kernel_log {
	char object[64]; /* the last one that libbpf complained of: "map 'ring'"; "": none */
	char verifier[KERNEL_LOG_LINE_BYTES]; /* its last line but for its statistics; "": none */
};

/*
 * Between the two, what libbpf warns of is taken into *log, which is empty at
 * first.  libbpf has one place to print to: one log at a time.
 */
void kernel_log_begin(struct kernel_log *log);
void kernel_log_end(void);
/* One message of libbpf's. */
void kernel_log_take(struct kernel_log *log, const char *message);

/*
 * "cause (ERROR): what to do", static; NULL for errors of which no more can be
 * said than their names.  error: -errno.
 */
const char *kernel_error_text(int error);
/* Whether it could not be asked at all: for want of memory, descriptors or bpf() itself. */
bool kernel_error_is_of_the_asking(int error);

/* What failed (act, "mapping the ring"), why, and what to do, in one sentence. */
void kernel_log_explain(const struct kernel_log *log, const char *act, int error,
			char ret[KERNEL_LOG_TEXT_BYTES]);

#endif
