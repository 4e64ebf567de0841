/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Attaches the native probes to a process that need not be Python, and prints
 * a line a record until its input ends.
 *
 *	native_records PID LIBC BIAS ZERO TEXT_START TEXT_END
 *
 * LIBC is the C library's file as this process can open it, BIAS where it is
 * mapped, ZERO an address of 4 KiB of zeros (a thread state that runs
 * nothing), TEXT_* what counts as the interpreter (all hexadecimal).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/reasons.h"
#include "capture/capture.h"
#include "probes/plan.h"
#include "target/image.h"

#define BATCH 65536

DEFINE_CLEANUP(struct image *, image_free)
DEFINE_CLEANUP(struct plan *, plan_free)
DEFINE_CLEANUP(struct capture *, capture_free)

static int complain(const char *what, int r, const struct fault *fault)
{
	fprintf(stderr, "native_records: %s: %d: %s %s\n", what, r, reason_sentence(fault->reason),
		fault->field ? fault->field : "");
	return r;
}

static void print_record(void *context, const struct wire_header *record, size_t size)
{
	const struct wire_alloc *alloc = (const void *)record;
	const struct wire_free *freed = (const void *)record;
	const struct wire_realloc *moved = (const void *)record;

	(void)context;
	(void)size;
	switch (record->kind) {
	case WIRE_NATIVE_ALLOC:
		printf("alloc %u %u %u 0 %" PRIu64 " %" PRIu64 "\n", record->tid, record->flags,
		       record->site, (uint64_t)alloc->address, (uint64_t)alloc->size);
		break;
	case WIRE_NATIVE_FREE:
		printf("free %u %u %u %" PRIu64 " 0 0\n", record->tid, record->flags, record->site,
		       (uint64_t)freed->address);
		break;
	case WIRE_NATIVE_REALLOC:
		printf("realloc %u %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", record->tid,
		       record->flags, record->site, (uint64_t)moved->old_address,
		       (uint64_t)moved->address, (uint64_t)moved->size);
		break;
	default:
		break;
	}
}

static int make_plan(const char *path, struct plan **ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP(image_free) struct image *image = NULL;
	struct fault fault = {0};
	int r;

	if (fd < 0)
		return complain(path, -errno, &fault);
	r = image_new(fd, &image, &fault);
	if (r == 0)
		r = plan_make_native(image, ret, &fault);
	if (r < 0)
		return complain("plan", r, &fault);
	for (size_t i = 0; i < (*ret)->n_sites; i++) {
		const struct plan_site *site = &(*ret)->sites[i];

		printf("site %zu %s %#" PRIx64 " condition %u register %u slot %u\n", i,
		       site->function, site->vaddr, site->condition, site->reg, site->return_slot);
	}
	printf("plan %zu unresolved %u\n", (*ret)->n_sites, (*ret)->statistics.unresolved);
	return 0;
}

static int open_capture(const struct capture_options *options, struct capture **ret)
{
	struct fault fault = {0};
	int r;

	r = capture_prepare(options, ret, &fault);
	if (r < 0)
		return complain("prepare", r, &fault);
	r = capture_load(*ret, &fault);
	if (r < 0)
		return complain("load", r, &fault);
	r = capture_attach(*ret, &fault);
	if (r < 0)
		return complain("attach", r, &fault);
	r = capture_activate(*ret);
	return r < 0 ? complain("activate", r, &fault) : 0;
}

/* Until the input ends; then what is in the ring still. */
static int follow(struct capture *capture)
{
	struct pollfd descriptors[] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = capture_fd(capture), .events = POLLIN},
	};
	struct capture_counters counters;
	uint64_t end;
	int r;

	do {
		if (poll(descriptors, 2, 50) < 0)
			return -errno;
		r = capture_consume(capture, print_record, NULL, BATCH);
		if (r < 0)
			return r;
	} while (!descriptors[0].revents);
	capture_deactivate(capture);
	for (end = capture_produced(capture); capture_consumed(capture) < end;) {
		r = capture_consume(capture, print_record, NULL, BATCH);
		if (r < 0)
			return r;
	}
	r = capture_counters(capture, &counters);
	if (r < 0)
		return r;
	for (int i = 0; i < WIRE_LOSS_MAX; i++)
		if (counters.losses[i] > 0)
			printf("lost %d %" PRIu64 "\n", i, counters.losses[i]);
	return 0;
}

int main(int argc, char **argv)
{
	CLEANUP(plan_free) struct plan *plan = NULL;
	CLEANUP(capture_free) struct capture *capture = NULL;
	struct capture_options options = {0};
	struct capture_file file;

	if (argc != 7)
		return 2;
	if (make_plan(argv[2], &plan) < 0)
		return 1;
	file = (struct capture_file){
		.plan = plan,
		.path = argv[2],
		.bias = strtoull(argv[3], NULL, 16),
	};
	options = (struct capture_options){
		.pid = (pid_t)strtol(argv[1], NULL, 10),
		.files = &file,
		.n_files = 1,
		.layout =
			{
				.minor = 11,
				.tstate_current_address = strtoull(argv[4], NULL, 16),
				.cframe_current_frame = UINT32_MAX,
				.frame_previous = 8,
				.frame_position = 16,
				.frame_position_bytes = 8,
				.frame_owner = UINT32_MAX,
				.object_type = 8,
				.pool_size = 16384,
			},
		.interpreter_start = strtoull(argv[5], NULL, 16),
		.interpreter_end = strtoull(argv[6], NULL, 16),
	};
	if (open_capture(&options, &capture) < 0)
		return 1;
	printf("attached %zu of %zu\n", capture_attached_sites(capture), plan->n_sites);
	fflush(stdout);
	return follow(capture) < 0;
}
