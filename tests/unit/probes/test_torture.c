/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Every allocation of a run fails in turn, once alone and once with all after it. */
#include "idioms.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "probes/builder.h"
#include "probes/plan.h"
#include "probes/tracing_flag.h"

DEFINE_CLEANUP(struct plan *, plan_free)
DEFINE_CLEANUP(struct image *, image_free)

static unsigned n_allocations, fail_from = UINT_MAX, fail_until = 0;

#if defined(__SANITIZE_ADDRESS__)
/* The sanitizer has the allocator's names. */
#define CAN_FAIL false
#else
#define CAN_FAIL true
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *pointer, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static bool fails(void)
{
	n_allocations++;
	if (n_allocations < fail_from || n_allocations > fail_until)
		return false;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *pointer, size_t size)
{
	return fails() ? NULL : __libc_realloc(pointer, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : __libc_memalign(alignment, size);
}
#endif

static void arm(unsigned from, unsigned until)
{
	n_allocations = 0;
	fail_from = from;
	fail_until = until;
}

static unsigned disarm(void)
{
	fail_from = UINT_MAX;
	fail_until = 0;
	return n_allocations;
}

/*
 * Runs once without a failure, which counts the allocations, then with each of
 * them failing.  A run returns its error, and checks what it left: it may also
 * do without (the C library's sorting does), but then the result must be whole.
 * Returns how many runs failed.
 */
static unsigned torture(int (*run)(void *context), void *context)
{
	unsigned n, n_failed = 0;

	if (!CAN_FAIL)
		skip();
	arm(UINT_MAX, 0);
	assert_int_equal(run(context), 0);
	n = disarm();
	assert_true(n > 0);
	for (unsigned i = 1; i <= n; i++) {
		int error;

		arm(i, i);
		error = run(context);
		assert_true(disarm() >= i); /* the fault was visited */
		assert_true(error == 0 || error == -ENOMEM);
		n_failed += error != 0;
		arm(i, UINT_MAX);
		error = run(context);
		disarm();
		assert_true(error == 0 || error == -ENOMEM);
	}
	return n_failed;
}

/* One of each kind. */
IDIOM(all, "mov rax, [rdi+8]\n"
	   "inc dword ptr [rdi]\n"
	   "mov rdx, [rax]\n"
	   "mov [rdi+8], rdx\n"
	   "test rdx, rdx\n"
	   "je 1f\n"
	   "1: ret\n"
	   "mov dword ptr [rax], 1\n"
	   "cmp [rax+0x24], ebp\n"
	   "je 9f\n"
	   "mov [rax+0x24], ebp\n"
	   "lea rbx, [rax+0x30]\n"
	   "lea rdx, [rbx+rbp]\n"
	   "mov [rax+0x28], ebp\n"
	   "mov [rax+0x2c], ecx\n"
	   "mov [rax+8], rdx\n"
	   "mov qword ptr [rdx], 0\n"
	   "9: ret\n"
	   "cmp dword ptr ds:[0x700044], 0\n"
	   "jne 2f\n"
	   "3: mov qword ptr [rbx], 1\n"
	   "ret\n"
	   "2: mov rdi, rbx\n"
	   "call 4f\n"
	   "jmp 3b\n"
	   "4: ret");

static int match_everything(void *context)
{
	static const struct tracing_flag flag = {.vaddr = 0x700044, .size_bytes = 4};
	const struct code_bytes bytes = {IDIOM_VADDR, all_begin, (size_t)(all_end - all_begin)};
	__attribute__((cleanup(matches_done))) struct matches matches = {0};
	CLEANUP(code_free) struct code *code = NULL;
	uint32_t unresolved = 0;
	int error;

	(void)context;
	error = code_new_from_bytes(&bytes, 1, &code);
	if (error) {
		assert_null(code);
		return error;
	}
	error = match_pymalloc(code, &matches);
	if (!error)
		error = match_fresh_pools(code, &matches, &unresolved);
	if (!error)
		error = match_creations_of(code, &flag, false, &matches);
	if (!error)
		assert_int_equal(matches.n, 3);
	return error;
}

static void matching_survives_the_failure_of_each_allocation(void **state)
{
	(void)state;
	assert_true(torture(match_everything, NULL) > 10);
}

/* The interpreter that every supported system has; its plan holds every kind. */
#define INTERPRETER "/usr/bin/python3.11"

static int make_plan(void *context)
{
	static const struct plan_python_options options = {.minor = 11};
	CLEANUP(plan_free) struct plan *plan = NULL;
	int error = plan_make_python(context, &options, &plan, NULL);
	static size_t n_sites;

	if (error) {
		assert_null(plan);
		return error;
	}
	if (n_sites == 0)
		n_sites = plan->n_sites;
	assert_int_equal(plan->n_sites, n_sites);
	for (size_t i = 1; i < n_sites; i++)
		assert_true(plan->sites[i - 1].vaddr < plan->sites[i].vaddr);
	return 0;
}

static void a_plan_survives_the_failure_of_each_allocation(void **state)
{
	CLEANUP(image_free) struct image *image = NULL;
	_cleanup_close_ int fd = open(INTERPRETER, O_RDONLY | O_CLOEXEC);

	(void)state;
	if (fd < 0 || !CAN_FAIL)
		skip();
	assert_int_equal(image_new(fd, &image, NULL), 0);
	assert_true(torture(make_plan, image) > 20);
}

struct cache {
	char directory[64];
	struct image *image;
	struct plan *plan;
};

static int store_plan(void *context)
{
	struct cache *cache = context;

	return plan_store(cache->directory, "torture", cache->plan);
}

static int load_plan(void *context)
{
	struct cache *cache = context;
	CLEANUP(plan_free) struct plan *plan = NULL;
	int error = plan_load(cache->directory, "torture", cache->image, &plan);

	if (error)
		assert_null(plan);
	else
		assert_int_equal(plan->n_sites, cache->plan->n_sites);
	return error;
}

static int fill_cache(struct cache *cache)
{
	CLEANUP(code_free) struct code *code = NULL;
	struct plan_builder builder = {.image = cache->image};
	const struct plan_site site = {.kind = SITE_FREE};

	assert_int_equal(code_new(cache->image, &code, NULL), 0);
	assert_int_equal(plan_new(cache->image, &cache->plan), 0);
	builder.code = code;
	builder.plan = cache->plan;
	for (size_t i = 0; cache->plan->n_sites < 5; i++)
		if (code_is_emulated(code, i))
			assert_int_equal(plan_builder_add(&builder, i, &site), 0);
	return plan_builder_finish(&builder);
}

static void the_cache_survives_the_failure_of_each_allocation(void **state)
{
	struct cache cache = {.directory = "/tmp/probes-torture-XXXXXX"};
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char command[96];

	(void)state;
	if (!CAN_FAIL)
		skip();
	assert_non_null(mkdtemp(cache.directory));
	assert_int_equal(image_new(fd, &cache.image, NULL), 0);
	assert_int_equal(fill_cache(&cache), 0);
	assert_true(torture(store_plan, &cache) > 0);
	assert_true(torture(load_plan, &cache) > 0);
	plan_free(cache.plan);
	image_free(cache.image);
	snprintf(command, sizeof(command), "rm -r %s", cache.directory);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matching_survives_the_failure_of_each_allocation),
		cmocka_unit_test(a_plan_survives_the_failure_of_each_allocation),
		cmocka_unit_test(the_cache_survives_the_failure_of_each_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
