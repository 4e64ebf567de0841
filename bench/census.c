/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What it costs to read a heap from outside: the census by headers alone and
 * whole, the types of all blocks, glibc's totals, and looks at objects.
 *
 *	census PID [ADDRESSES]
 *
 * ADDRESSES: a file of pairs of 64-bit numbers, an object and its type each.
 * Nothing is changed in the process. bench/census.py makes heaps and runs it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/cleanup.h"
#include "cpython/glibc.h"
#include "cpython/interpreter.h"
#include "cpython/liveness.h"
#include "cpython/objects.h"
#include "cpython/pymalloc.h"
#include "target/maps.h"

#define ROUNDS 3 /* of which the fastest counts */
#define TYPES_MAX 100000
#define LOOKS_MAX 1000000

DEFINE_CLEANUP(struct maps *, maps_free)
DEFINE_CLEANUP(FILE *, fclose)

struct target {
	pid_t pid;
	struct maps *maps;
	struct memory *memory;
	struct image *image, *libc;
	struct interpreter *interpreter;
	struct type_cache *types;
	struct glibc *glibc;
};

static double now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The image at a mapping, if it is a CPython (python) or the C library. */
static int open_image(const struct target *target, const struct maps_file *file, bool python,
		      struct image **ret, uint64_t *ret_bias)
{
	struct interpreter_version version;
	char path[MAPS_FILE_PATH_MAX];
	const char *why, *name = strrchr(file->text->path, '/');
	struct image *image;
	int fd;

	if (!python && (!name || strncmp(name, "/libc", 5) != 0 || strncmp(name, "/libcr", 6) == 0))
		return -ENOENT;
	if (maps_open(target->maps, file->text, &fd, path) < 0)
		return -ENOENT;
	if (image_new(fd, &image, NULL) < 0) {
		close(fd);
		return -ENOENT;
	}
	close(fd);
	if ((python && interpreter_identify(image, &version, &why, NULL) < 0) ||
	    maps_load_bias(file->text, image, ret_bias) < 0) {
		image_free(image);
		return -ENOENT;
	}
	*ret = image;
	return 0;
}

static int target_open(struct target *target)
{
	_cleanup_free_ struct maps_file *files = NULL;
	uint64_t bias = 0, libc_bias = 0;
	size_t n;
	int error = maps_load(target->pid, &target->maps, NULL);

	if (!error)
		error = memory_new_process(target->pid, &target->memory, NULL);
	if (!error)
		error = maps_executable_files(target->maps, &files, &n);
	for (size_t i = 0; !error && i < n; i++) {
		if (!target->image)
			open_image(target, &files[i], true, &target->image, &bias);
		if (!target->libc)
			open_image(target, &files[i], false, &target->libc, &libc_bias);
	}
	if (error || !target->image)
		return error ? error : -ENOENT;
	error = interpreter_new(target->memory, target->image, bias, &target->pid, 1,
				&target->interpreter, NULL);
	if (!error)
		error = type_cache_new(target->interpreter, TYPES_MAX, &target->types);
	if (!error && target->libc)
		glibc_new(target->memory, target->libc, libc_bias, &target->glibc, NULL);
	return error;
}

static void target_done(struct target *target)
{
	glibc_free(target->glibc);
	type_cache_free(target->types);
	interpreter_free(target->interpreter);
	image_free(target->image);
	image_free(target->libc);
	memory_free(target->memory);
	maps_free(target->maps);
}

struct timing {
	double wall_start, cpu_start, wall, cpu;
	uint64_t bytes;
};

static void timing_start(struct timing *timing, const struct target *target)
{
	timing->bytes = memory_statistics(target->memory).read_bytes;
	timing->cpu_start = now(CLOCK_PROCESS_CPUTIME_ID);
	timing->wall_start = now(CLOCK_MONOTONIC);
}

static void timing_end(struct timing *timing, const struct target *target, bool first)
{
	double wall = now(CLOCK_MONOTONIC) - timing->wall_start;
	double cpu = now(CLOCK_PROCESS_CPUTIME_ID) - timing->cpu_start;

	timing->bytes = memory_statistics(target->memory).read_bytes - timing->bytes;
	if (first || cpu < timing->cpu) {
		timing->wall = wall;
		timing->cpu = cpu;
	}
}

static void print_timing(const char *what, const struct timing *timing, const char *more)
{
	printf("%-16s %10.2f %10.2f %12.1f  %s\n", what, timing->cpu * 1e3, timing->wall * 1e3,
	       (double)timing->bytes / (1 << 20), more);
}

static int bench_census(struct target *target, bool without_blocks)
{
	struct timing timing;
	char more[128] = "";

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct census *census;
		int error;

		timing_start(&timing, target);
		error = census_take(target->interpreter, without_blocks, &census, NULL);
		timing_end(&timing, target, i == 0);
		if (error)
			return error;
		snprintf(more, sizeof(more), "%" PRIu64 " MiB of arenas, %" PRIu64 " blocks",
			 census_totals(census)->arena_bytes >> 20,
			 census_totals(census)->live_blocks);
		census_free(census);
	}
	print_timing(without_blocks ? "census, headers" : "census, whole", &timing, more);
	return 0;
}

static int bench_types(struct target *target)
{
	struct type_count *counts = NULL;
	struct census *census;
	struct timing timing;
	char more[64];
	size_t n = 0;
	int error = census_take(target->interpreter, false, &census, NULL);

	for (unsigned i = 0; i < ROUNDS && !error; i++) {
		free(counts);
		counts = NULL;
		timing_start(&timing, target);
		error = heap_types(target->types, census, &counts, &n, NULL);
		timing_end(&timing, target, i == 0);
	}
	if (error)
		return error;
	snprintf(more, sizeof(more), "%zu types", n);
	print_timing("types", &timing, more);
	census_free(census);
	free(counts);
	return 0;
}

static void bench_totals(struct target *target)
{
	struct glibc_totals totals;
	struct timing timing;
	char more[64];

	for (unsigned i = 0; i < ROUNDS && target->glibc; i++) {
		timing_start(&timing, target);
		if (glibc_begin_look(target->glibc, NULL) < 0 ||
		    glibc_totals(target->glibc, 100000, &totals, NULL) < 0)
			return;
		timing_end(&timing, target, i == 0);
		snprintf(more, sizeof(more), "%" PRIu64 " MiB in use, complete: %d",
			 totals.in_use_bytes >> 20, totals.free_complete);
	}
	if (target->glibc)
		print_timing("glibc's totals", &timing, more);
}

static int bench_looks(struct target *target, struct liveness_look *looks, size_t n)
{
	struct liveness *liveness;
	struct timing timing;
	char what[32], more[96];
	size_t n_live = 0;
	int error = liveness_new(target->interpreter, target->types, &liveness);

	if (error)
		return error;
	liveness_set_glibc(liveness, target->glibc);
	for (unsigned i = 0; i < ROUNDS && !error; i++) {
		timing_start(&timing, target);
		error = liveness_look(liveness, looks, n, NULL);
		timing_end(&timing, target, i == 0);
	}
	for (size_t i = 0; i < n; i++)
		n_live += looks[i].answer == LIVENESS_LIVE;
	snprintf(what, sizeof(what), "%zu looks", n);
	snprintf(more, sizeof(more), "%.0f ns of CPU a look, %zu live",
		 timing.cpu * 1e9 / (double)n, n_live);
	print_timing(what, &timing, more);
	liveness_free(liveness);
	return error;
}

static int bench_all_looks(struct target *target, const char *path)
{
	_cleanup_free_ struct liveness_look *looks = calloc(LOOKS_MAX, sizeof(*looks));
	CLEANUP(fclose) FILE *file = fopen(path, "re");
	size_t n = 0;
	int error = looks && file ? 0 : -ENOENT;

	while (!error && n < LOOKS_MAX && fread(&looks[n].address, 8, 1, file) == 1 &&
	       fread(&looks[n].type, 8, 1, file) == 1)
		n++;
	for (size_t k = 1000; k <= n && !error; k *= 10) {
		for (size_t i = 0; i < n; i++)
			looks[i].has_fingerprint = false;
		error = bench_looks(target, looks, k);
	}
	return error;
}

int main(int argc, char **argv)
{
	__attribute__((cleanup(target_done))) struct target target = {
		.pid = argc > 1 ? (pid_t)strtol(argv[1], NULL, 10) : 0,
	};
	struct rusage usage;
	int error = argc > 1 ? target_open(&target) : -EINVAL;

	if (!error) {
		printf("%-16s %10s %10s %12s\n", "", "CPU ms", "wall ms", "MiB read");
		error = bench_census(&target, true);
	}
	if (!error)
		error = bench_census(&target, false);
	if (!error && argc > 2)
		error = bench_types(&target);
	if (!error)
		bench_totals(&target);
	if (!error && argc > 2)
		error = bench_all_looks(&target, argv[2]);
	if (error)
		fprintf(stderr, "census: %s\n", strerror(-error));
	getrusage(RUSAGE_SELF, &usage);
	printf("%-16s %10ld MiB\n", "memory", usage.ru_maxrss >> 10);
	return error != 0;
}
