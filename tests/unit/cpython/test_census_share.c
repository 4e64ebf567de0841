/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* One pool in 2^shift of running interpreters: which ones, and what they say of the whole. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpython/objects.h"
#include "cpython/pymalloc.h"
#include "opened.h"

#define MAX_TYPES 10000
#define POOL_HEADER 48 /* POOL_OVERHEAD: Objects/obmalloc.c, 3.8-3.15 */
#define SHIFT 2
#define SHARE 4 /* 1 << SHIFT */
/* Of a share's error, so many standard deviations: exceeded once in a million. */
#define SIGMAS 5
#define POOLS_OF_TYPE_MIN 20 /* of fewer, a share says little */

/* The census of all pools, and which of them a reader has touched. */
struct pools {
	uint64_t *addresses;
	size_t n;
	uint64_t size_bytes;
	bool *touched;
};

struct target {
	struct child child;
	struct live live;
	struct interpreter *interpreter;
	struct type_cache *types;
};

/* With its heap grown. */
static void target_start(struct target *target, const char *command, const char *grow)
{
	opened_start(&target->child, &target->live, &target->interpreter, command, "heap.py", -1);
	assert_string_equal(child_ask(&target->child, grow), "ok");
	assert_int_equal(type_cache_new(target->interpreter, MAX_TYPES, &target->types), 0);
}

static void target_stop(struct target *target)
{
	type_cache_free(target->types);
	opened_stop(&target->child, &target->live, target->interpreter);
}

/* It stands still until target_wake(): two looks see the same heap. */
static void target_sleep(struct target *target)
{
	int status = 0;

	assert_int_equal(kill(target->child.pid, SIGSTOP), 0);
	assert_int_equal(waitpid(target->child.pid, &status, WUNTRACED), target->child.pid);
	assert_true(WIFSTOPPED(status));
}

static void target_wake(struct target *target)
{
	assert_int_equal(kill(target->child.pid, SIGCONT), 0);
}

static struct census *whole_of(const struct target *target)
{
	struct census *census = NULL;

	assert_int_equal(census_take(target->interpreter, false, &census, NULL), 0);
	return census;
}

static struct census *share_of(const struct target *target, unsigned shift)
{
	struct census *census = NULL;

	assert_int_equal(census_take_share(target->interpreter, shift, &census, NULL), 0);
	return census;
}

static struct type_count *types_of(struct target *target, const struct census *census, size_t *ret)
{
	struct type_count *counts = NULL;

	assert_int_equal(heap_types(target->types, census, &counts, ret, NULL), 0);
	return counts;
}

/* What another census has of the same row; those of raw blocks differ by name only. */
static uint64_t objects_of(const struct type_count *counts, size_t n, const struct type_count *row)
{
	for (size_t i = 0; i < n; i++)
		if (counts[i].type == row->type && strcmp(counts[i].name, row->name) == 0)
			return counts[i].objects;
	return 0;
}

static void pools_init(struct pools *pools, const struct target *target,
		       const struct census *census)
{
	*pools = (struct pools){
		.size_bytes = interpreter_layout(target->interpreter)->pool_size_bytes,
	};
	assert_int_equal(census_pool_addresses(census, &pools->addresses, &pools->n), 0);
	pools->touched = calloc(pools->n, sizeof(*pools->touched));
	assert_non_null(pools->touched);
}

static void pools_done(struct pools *pools)
{
	free(pools->addresses);
	free(pools->touched);
}

/* A pool whose first block is known to the census, as living or as dead. */
static bool is_in_share(const struct census *share, uint64_t pool)
{
	return census_block(share, pool + POOL_HEADER, NULL, NULL) != CENSUS_UNREAD;
}

/* --- all of them --- */

struct sum {
	uint64_t blocks, bytes, addresses;
};

static int add_block(uint64_t address, uint64_t size_bytes, void *context)
{
	struct sum *sum = context;

	sum->blocks++;
	sum->bytes += size_bytes;
	sum->addresses += address;
	return 0;
}

static void check_all(const char *name, const char *command)
{
	struct target target;
	struct census *whole, *share;
	struct sum of_whole = {0}, of_share = {0};
	struct type_count *types, *shared;
	size_t n, n_shared;

	target_start(&target, command, "grow 0");
	target_sleep(&target);
	whole = whole_of(&target);
	share = share_of(&target, 0);
	census_live_visit(whole, add_block, &of_whole);
	census_live_visit(share, add_block, &of_share);
	assert_true(of_whole.blocks > 100000);
	assert_memory_equal(&of_share, &of_whole, sizeof(of_whole));
	assert_int_equal(census_totals(share)->arena_bytes, census_totals(whole)->arena_bytes);
	types = types_of(&target, whole, &n);
	shared = types_of(&target, share, &n_shared);
	assert_int_equal(n_shared, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(objects_of(shared, n_shared, &types[i]), types[i].objects);
	print_message("%s: %zu types\n", name, n);
	free(shared);
	free(types);
	census_free(share);
	census_free(whole);
	target_stop(&target);
}

static void the_share_of_all_pools_is_the_census(void **state)
{
	(void)state;
	for_each_interpreter(check_all);
}

/* --- the same ones --- */

static void check_same(const char *name, const char *command)
{
	struct target target;
	struct census *census, *first, *second;
	struct pools pools, more;

	target_start(&target, command, "grow 0");
	target_sleep(&target);
	census = whole_of(&target);
	pools_init(&pools, &target, census);
	census_free(census);
	first = share_of(&target, SHIFT);
	target_wake(&target);
	assert_string_equal(child_ask(&target.child, "grow 8"), "ok");
	target_sleep(&target);
	census = whole_of(&target);
	pools_init(&more, &target, census);
	census_free(census);
	second = share_of(&target, SHIFT);
	assert_true(more.n > pools.n + 50); /* of other arenas too, between those of before */
	for (size_t i = 0; i < pools.n; i++)
		assert_int_equal(is_in_share(second, pools.addresses[i]),
				 is_in_share(first, pools.addresses[i]));
	print_message("%s: %zu pools, then %zu\n", name, pools.n, more.n);
	census_free(second);
	census_free(first);
	pools_done(&more);
	pools_done(&pools);
	target_stop(&target);
}

static void a_share_is_of_the_same_pools_while_the_heap_grows(void **state)
{
	(void)state;
	for_each_interpreter(check_same);
}

/* --- no other, and what they say of the whole --- */

/* Index of the last pool that begins at the address or before; n: none. */
static size_t pool_before(const struct pools *pools, uint64_t address)
{
	size_t low = 0, high = pools->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (pools->addresses[middle] <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? low - 1 : pools->n;
}

static void note_read(void *context, uint64_t address, const void *bytes, size_t size, int error)
{
	struct pools *pools = context;
	size_t i = pool_before(pools, address + size - 1);

	(void)bytes;
	(void)error;
	for (; i < pools->n && pools->addresses[i] + pools->size_bytes > address; i--)
		pools->touched[i] = true; /* past the first one: SIZE_MAX, no pool */
}

/* 4 times what one pool in 4 has, of the sum of squares over all: 3 times that is its variance. */
static void assert_tells(const char *what, uint64_t share, uint64_t whole, double squares)
{
	double error = fabs((double)SHARE * (double)share - (double)whole);

	if (error > SIGMAS * sqrt((SHARE - 1) * squares))
		fail_msg("%s: %lu of %lu", what, share, whole);
}

static void assert_types_tell(struct target *target, const struct census *whole,
			      const struct census *share, uint64_t pool_bytes)
{
	size_t n, n_shared, told = 0;
	struct type_count *types = types_of(target, whole, &n);
	struct type_count *shared = types_of(target, share, &n_shared);

	for (size_t i = 0; i < n; i++) {
		/* At most so many in a pool, which bounds the sum of their squares. */
		double a_pool = (double)(pool_bytes - POOL_HEADER) * (double)types[i].objects /
				(double)types[i].bytes;

		if (!types[i].type || (double)types[i].objects < POOLS_OF_TYPE_MIN * a_pool)
			continue;
		assert_tells(types[i].name, objects_of(shared, n_shared, &types[i]),
			     types[i].objects, a_pool * (double)types[i].objects);
		told++;
	}
	assert_true(told >= 8);
	free(shared);
	free(types);
}

static void check_share(const char *name, const char *command)
{
	struct target target;
	struct census *whole, *share;
	struct pools pools;
	uint64_t in_share = 0;

	target_start(&target, command, "grow 16");
	target_sleep(&target);
	whole = whole_of(&target);
	pools_init(&pools, &target, whole);
	memory_observe(target.live.memory, note_read, &pools);
	share = share_of(&target, SHIFT);
	memory_observe(target.live.memory, NULL, NULL);
	for (size_t i = 0; i < pools.n; i++) {
		in_share += is_in_share(share, pools.addresses[i]);
		assert_int_equal(pools.touched[i], is_in_share(share, pools.addresses[i]));
	}
	assert_true(pools.n > 1000);
	assert_tells("pools", in_share, pools.n, (double)pools.n);
	assert_types_tell(&target, whole, share, pools.size_bytes);
	print_message("%s: %lu of %zu pools\n", name, in_share, pools.n);
	pools_done(&pools);
	census_free(share);
	census_free(whole);
	target_stop(&target);
}

static void a_share_reads_no_other_pool_and_tells_the_whole(void **state)
{
	(void)state;
	for_each_interpreter(check_share);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_share_of_all_pools_is_the_census),
		cmocka_unit_test(a_share_is_of_the_same_pools_while_the_heap_grows),
		cmocka_unit_test(a_share_reads_no_other_pool_and_tells_the_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
