/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The plan of whole files: the C library at hand, one that has no malloc, and noise. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "native_idioms.h"

#include "base/fault.h"
#include "target/image.h"

DEFINE_CLEANUP(struct image *, image_free)
DEFINE_CLEANUP(struct plan *, plan_free)

/* --- whole files --------------------------------------------------------------------------- */

#define NOISE_BYTES 65536
#define NOISE_ROUNDS 16

static void random_code_is_survived(void **state)
{
	static uint8_t noise[NOISE_BYTES];
	uint64_t random = 0x9e3779b97f4a7c15;

	(void)state;
	for (unsigned round = 0; round < NOISE_ROUNDS; round++) {
		const struct code_bytes bytes = {IDIOM_VADDR, noise, sizeof(noise)};
		LIBRARY_OF library = {0};
		int r;

		for (size_t i = 0; i < sizeof(noise); i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			/* Many short jumps and returns, so that control goes far. */
			noise[i] = (uint8_t)(random % 8 ? random >> 8 : 0x70 + (random >> 8) % 16);
			if (random % 97 == 0)
				noise[i] = 0xc3;
		}
		assert_int_equal(code_new_from_bytes(&bytes, 1, &library.code), 0);
		for (size_t i = 0; i < NATIVE_FUNCTIONS; i++)
			library.entries.at[i] = random / (i + 1) % code_count(library.code);
		r = native_match(library.code, &library.entries, &library.sites);
		assert_true(r == 0 || r == -E2BIG);
		assert_true(library.sites.n <= NATIVE_SITES_MAX);
	}
}

/* The file that this program's own malloc lies in. */
static int open_own_library(void)
{
	_cleanup_fclose_ FILE *maps = fopen("/proc/self/maps", "re");
	char line[4352], *path;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		path = strchr(line, '/');
		if (!path || !strstr(path, "/libc.so.6"))
			continue;
		path[strcspn(path, "\n")] = '\0';
		return open(path, O_RDONLY | O_CLOEXEC);
	}
	return -1;
}

static void the_library_at_hand_has_a_plan_with_nothing_unresolved(void **state)
{
	_cleanup_close_ int fd = open_own_library();
	CLEANUP(image_free) struct image *image = NULL;
	CLEANUP(plan_free) struct plan *plan = NULL;
	struct fault fault = {0};

	(void)state;
	if (fd < 0)
		skip();
	assert_int_equal(image_new(fd, &image, &fault), 0);
	assert_int_equal(plan_make_native(image, &plan, &fault), 0);
	assert_int_equal(plan->statistics.unresolved, 0);
	assert_int_equal(plan->statistics.not_emulated, 0);
	assert_int_equal(plan->statistics.by_kind[SITE_NATIVE_FREE], 1);
	assert_int_equal(plan->statistics.by_kind[SITE_REALLOC_ENTER], 1);
	assert_true(plan->statistics.by_kind[SITE_NATIVE_ALLOC] > 0);
	assert_true(plan->statistics.by_kind[SITE_REALLOC_RETURN] > 0);
	for (size_t i = 0; i < plan->n_sites; i++) {
		const struct plan_site *site = &plan->sites[i];

		assert_true(site->emulated);
		if (site->kind == SITE_NATIVE_ALLOC || site->kind == SITE_REALLOC_RETURN)
			assert_true(site->return_slot > 0);
	}
}

static void an_image_without_malloc_has_no_plan(void **state)
{
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CLEANUP(image_free) struct image *image = NULL;
	struct plan *plan = NULL;
	struct fault fault = {0};

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(image_new(fd, &image, &fault), 0);
	assert_int_equal(plan_make_native(image, &plan, &fault), -ENOENT);
	assert_int_equal(fault.reason, REASON_NO_PLAN);
	assert_null(plan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_code_is_survived),
		cmocka_unit_test(the_library_at_hand_has_a_plan_with_nothing_unresolved),
		cmocka_unit_test(an_image_without_malloc_has_no_plan),
	};

	return cmocka_run_group_tests_name("native_files", tests, NULL, NULL);
}
