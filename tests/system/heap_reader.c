/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Says what glibc's chunks and totals look like from outside.
 *
 *	heap_reader PID LIBC BIAS < addresses, a line each (hexadecimal, as BIAS)
 *
 * LIBC is the C library's file as this process can open it. An answer a line,
 * in the order of the addresses: "use USABLE", "map USABLE", "free", "none", "unknown"; at the end
 * "totals SYSTEM FREE MAPPED COMPLETE ARENAS".
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/reasons.h"
#include "cpython/glibc.h"
#include "target/image.h"

#define CHUNKS_MAX 1000000
#define STEPS_MAX 1000000

DEFINE_CLEANUP(struct image *, image_free)
DEFINE_CLEANUP(struct memory *, memory_free)
DEFINE_CLEANUP(struct glibc *, glibc_free)

static int complain(const char *what, int r, const struct fault *fault)
{
	fprintf(stderr, "heap_reader: %s: %d: %s %s\n", what, r, reason_sentence(fault->reason),
		fault->field ? fault->field : "");
	return 1;
}

static void print_chunk(const struct glibc_chunk *chunk)
{
	if (chunk->state == GLIBC_IN_USE)
		printf("%s %" PRIu64 "\n", chunk->mapped ? "map" : "use", chunk->usable_bytes);
	else
		puts(chunk->state == GLIBC_FREE	      ? "free"
		     : chunk->state == GLIBC_NO_CHUNK ? "none"
						      : "unknown");
}

static int look(struct glibc *glibc)
{
	_cleanup_free_ struct glibc_chunk *chunks = calloc(CHUNKS_MAX, sizeof(*chunks));
	struct glibc_totals totals;
	struct fault fault = { 0 };
	size_t n = 0;
	int r;

	while (chunks && n < CHUNKS_MAX && scanf("%" SCNx64, &chunks[n].address) == 1)
		n++;
	if (!chunks || glibc_chunks_look(glibc, chunks, n) < 0)
		return 1;
	for (size_t i = 0; i < n; i++)
		print_chunk(&chunks[i]);
	r = glibc_totals(glibc, STEPS_MAX, &totals, &fault);
	if (r < 0)
		return complain("totals", r, &fault);
	printf("totals %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %" PRIu64 "\n", totals.system_bytes,
	       totals.free_bytes, totals.has_mapped ? totals.mapped_bytes : 0,
	       totals.free_complete, totals.arenas);
	return 0;
}

int main(int argc, char **argv)
{
	CLEANUP(image_free) struct image *image = NULL;
	CLEANUP(memory_free) struct memory *memory = NULL;
	CLEANUP(glibc_free) struct glibc *glibc = NULL;
	_cleanup_close_ int fd = argc == 4 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
	struct fault fault = { 0 };
	int r = fd < 0 ? -errno : image_new(fd, &image, &fault);

	if (r < 0)
		return complain("LIBC", r, &fault);
	r = memory_new_process((pid_t)strtol(argv[1], NULL, 10), &memory, &fault);
	if (r < 0)
		return complain("PID", r, &fault);
	r = glibc_new(memory, image, strtoull(argv[3], NULL, 16), &glibc, &fault);
	if (r < 0)
		return complain("glibc", r, &fault);
	return look(glibc);
}
