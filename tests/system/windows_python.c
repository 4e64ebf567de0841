/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Windows on a running Python, at the word of test_windows.py: reads a line,
 * does it, answers with a line of JSON.
 *
 *	cycles N	groups of several kinds in and out, N times
 *	hold		all creation sites go in, and stay
 *	probe		knows the pools of now, and tells new ones from now on
 *	compare		what was told as new, and what a census finds to be new
 *
 *	windows_python PID
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "capture/windows.h"
#include "cpython/pymalloc.h"
#include "service/opening.h"

#define POOLS_MAX 100000
#define WINDOW_MS 2
#define HITS_MAX 3000 /* of a window */

enum group { CREATIONS, ALLOCATIONS, SOME, NATIVE, CYCLED, POOLS = CYCLED };

static struct opening *opening;
static struct capture *capture;
static struct capture_file files[2]; /* the interpreter's, the C library's if it is known */
static struct {
	uint64_t records, creations, allocations, native, limits, unexpected;
} seen;
static uint64_t told[POOLS_MAX];
static size_t n_told;

static void __attribute__((noreturn)) die(const char *what, int error, const struct fault *fault)
{
	fprintf(stderr, "%s: %s (%s)\n", what, strerror(-error),
		fault && fault->reason ? reason_sentence(fault->reason) : "");
	exit(1);
}

static void take(void *context, const struct wire_header *record, size_t size)
{
	const struct wire_alloc *pool = (const void *)record;

	(void)context;
	(void)size;
	seen.records++;
	switch (record->kind) {
	case WIRE_CREATE:
		seen.creations++;
		break;
	case WIRE_ALLOC:
		seen.allocations++;
		break;
	case WIRE_NATIVE_ALLOC:
		seen.native++;
		break;
	case WIRE_LIMIT:
		seen.limits++;
		break;
	case WIRE_NEW_POOL:
		if (n_told < POOLS_MAX)
			told[n_told++] = pool->address;
		break;
	case WIRE_STACK:
	case WIRE_MMAP:
	case WIRE_MUNMAP:
	case WIRE_MREMAP:
	case WIRE_BRK:
		break;
	default:
		seen.unexpected++;
	}
}

static void consume(void)
{
	while (capture_consume(capture, take, NULL, SIZE_MAX) > 0)
		;
}

static void open_group(unsigned group, uint64_t hits_max)
{
	struct fault fault = {0};
	int r = capture_group_open(capture, group, hits_max, &fault);

	if (r < 0)
		die("opening", r, &fault);
}

/* Every n-th of a file's sites of two kinds. */
static void define(unsigned group, unsigned file, uint8_t kind, uint8_t or_kind, size_t every)
{
	static uint16_t sites[PLAN_SITES_MAX];
	const struct plan *plan = files[file].plan;
	size_t n = 0, of_kind = 0;
	int r;

	for (size_t i = 0; i < plan->n_sites; i++) {
		if ((plan->sites[i].kind == kind || plan->sites[i].kind == or_kind) &&
		    of_kind++ % every == 0)
			sites[n++] = (uint16_t)i;
	}
	r = capture_group_define(capture, group, file, sites, n);
	if (r < 0)
		die("defining", r, NULL);
}

static void prepare(pid_t pid)
{
	char message[OPENING_MESSAGE_BYTES] = "";
	struct capture_options options = {
		.pid = pid, .files = files, .native = true, .windows = true};
	struct fault fault = {0};
	int r;

	r = opening_new(pid, &opening, message);
	if (r == 0)
		r = opening_plan(opening, &(struct opening_plan_options){.native = true}, message);
	if (r == 0)
		r = opening_stack_layout(opening, &options.layout, &fault);
	if (r < 0)
		die(message, r, &fault);
	files[options.n_files++] = (struct capture_file){opening->python.plan, opening->python.path,
							 opening->python.bias};
	if (opening->libc.plan)
		files[options.n_files++] = (struct capture_file){
			opening->libc.plan, opening->libc.path, opening->libc.bias};
	r = capture_prepare(&options, &capture, &fault);
	if (r == 0)
		r = capture_load(capture, &fault);
	if (r == 0)
		r = capture_attach(capture, &fault);
	if (r < 0)
		die("attaching", r, &fault);
	capture_activate(capture);
	define(CREATIONS, 0, SITE_CREATE, SITE_CREATE, 1);
	define(ALLOCATIONS, 0, SITE_ALLOC, SITE_FRESH, 1);
	define(SOME, 0, SITE_CREATE, SITE_CREATE, 7);
	if (opening->libc.plan)
		define(NATIVE, 1, SITE_NATIVE_ALLOC, SITE_NATIVE_ALLOC, 1);
	else
		define(NATIVE, 0, SITE_CREATE, SITE_CREATE, 3);
	r = capture_group_define_pools(capture, POOLS, 0);
	if (r < 0)
		die("defining", r, NULL);
}

/* Hits of the sites, as they were counted one by one. */
static uint64_t sum_of_sites(void)
{
	static uint64_t hits[PLAN_SITES_MAX];
	uint64_t sum = 0;

	for (unsigned file = 0; file < 2 && files[file].plan; file++) {
		if (capture_site_hits(capture, file, hits, files[file].plan->n_sites) < 0)
			exit(1);
		for (size_t i = 0; i < files[file].plan->n_sites; i++)
			sum += hits[i];
	}
	return sum;
}

static void cycles(long n)
{
	uint64_t silent = 0, untaken = 0, hits = 0, limited = 0, before = sum_of_sites();
	struct capture_counters counters;

	memset(&seen, 0, sizeof(seen));
	for (long i = 0; i < n; i++) {
		unsigned group = (unsigned)(i % CYCLED);
		struct capture_group_use use;

		open_group(group, HITS_MAX);
		poll(NULL, 0, WINDOW_MS);
		if (capture_group_close(capture, group, &use) < 0)
			exit(1);
		hits += use.hits;
		untaken += use.untaken;
		limited += use.limited;
		if (use.hits > HITS_MAX)
			silent += use.hits - HITS_MAX;
		consume();
	}
	capture_counters(capture, &counters);
	printf("{\"hits\": %" PRIu64 ", \"silent\": %" PRIu64 ", \"untaken\": %" PRIu64
	       ", \"of_sites\": %" PRIu64
	       ", \"records\": %" PRIu64 ", \"native\": %" PRIu64 ", \"limited\": %" PRIu64
	       ", \"limits\": %" PRIu64 ", \"unexpected\": %" PRIu64 ", \"lost\": %" PRIu64 "}\n",
	       hits, silent, untaken, sum_of_sites() - before,
	       seen.creations + seen.allocations + seen.native, seen.native, limited, seen.limits,
	       seen.unexpected,
	       counters.losses[WIRE_LOSS_RING_FULL] + counters.losses[WIRE_LOSS_BLOCK_UNREADABLE]);
}

/* --- pools ------------------------------------------------------------------------------------ */

struct pools {
	const struct census *census;
	uint64_t addresses[POOLS_MAX];
	size_t n;
};

static int take_arena(uint64_t address, uint64_t size_bytes, void *context)
{
	const uint64_t pool_bytes = interpreter_layout(opening->interpreter)->pool_size_bytes;
	struct pools *pools = context;
	uint64_t end = address + size_bytes;

	for (address = (address + pool_bytes - 1) & ~(pool_bytes - 1); address + pool_bytes <= end;
	     address += pool_bytes) {
		uint64_t block_bytes = 0;

		census_block(pools->census, address + 48, NULL, &block_bytes);
		if (block_bytes && pools->n < POOLS_MAX)
			pools->addresses[pools->n++] = address;
	}
	return 0;
}

/* Of all pools in which a block was ever carved; ascending, as arenas come in order. */
static void take_census(struct pools *pools)
{
	struct census *census = NULL;
	struct fault fault = {0};
	int r = census_take(opening->interpreter, false, &census, &fault);

	if (r < 0)
		die("census", r, &fault);
	pools->census = census;
	pools->n = 0;
	census_arenas_visit(census, take_arena, pools);
	census_free(census);
}

static int compare_addresses(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

static bool contains(const uint64_t *addresses, size_t n, uint64_t address)
{
	return bsearch(&address, addresses, n, sizeof(*addresses), compare_addresses);
}

static struct pools before, after;

static void probe(void)
{
	take_census(&before);
	if (capture_know_pools(capture, before.addresses, before.n) != 0)
		exit(1);
	open_group(POOLS, 0);
	printf("{\"known\": %zu}\n", before.n);
}

static void compare(void)
{
	size_t new = 0, untold = 0, not_new = 0, repeated = 0;
	struct capture_group_use use;

	if (capture_group_close(capture, POOLS, &use) < 0)
		exit(1);
	consume();
	take_census(&after);
	qsort(before.addresses, before.n, sizeof(uint64_t), compare_addresses);
	qsort(after.addresses, after.n, sizeof(uint64_t), compare_addresses);
	qsort(told, n_told, sizeof(uint64_t), compare_addresses);
	for (size_t i = 0; i < after.n; i++) {
		if (contains(before.addresses, before.n, after.addresses[i]))
			continue;
		new ++;
		untold += !contains(told, n_told, after.addresses[i]);
	}
	for (size_t i = 0; i < n_told; i++) {
		not_new += contains(before.addresses, before.n, told[i]);
		repeated += i > 0 && told[i] == told[i - 1];
	}
	printf("{\"new\": %zu, \"told\": %zu, \"untold\": %zu, \"not_new\": %zu, "
	       "\"repeated\": %zu, \"hits\": %" PRIu64 "}\n",
	       new, n_told, untold, not_new, repeated, use.hits);
}

int main(int argc, char **argv)
{
	char line[64];
	long n;

	if (argc != 2)
		return 2;
	prepare((pid_t)strtol(argv[1], NULL, 10));
	printf("{\"ready\": true}\n");
	for (fflush(stdout); fgets(line, sizeof(line), stdin); fflush(stdout)) {
		if (sscanf(line, "cycles %ld", &n) == 1) {
			cycles(n);
		} else if (!strcmp(line, "hold\n")) {
			open_group(CREATIONS, 0);
			printf("{\"sites\": %zu}\n", capture_attached_sites(capture));
		} else if (!strcmp(line, "probe\n")) {
			probe();
		} else if (!strcmp(line, "compare\n")) {
			compare();
		} else {
			return 2;
		}
	}
	capture_free(capture);
	opening_free(opening);
	return 0;
}
