/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Plans of the interpreters that this machine has, and of what is none. */
#include "idioms.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probes/plan.h"

DEFINE_CLEANUP(struct image *, image_free)
DEFINE_CLEANUP(struct plan *, plan_free)

static int make_plan(const char *path, unsigned minor, bool destructions, struct image **ret_image,
		     struct plan **ret_plan, struct fault *reterr_fault)
{
	const struct plan_python_options options = {.minor = minor,
						    .destructions = destructions};
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error;

	if (fd < 0)
		return -errno;
	error = image_new(fd, ret_image, reterr_fault);
	return error ? error : plan_make_python(*ret_image, &options, ret_plan, reterr_fault);
}

static void what_is_not_python_has_no_plan(void **state)
{
	static const char *const paths[] = {"/proc/self/exe", "/bin/true"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		CLEANUP(image_free) struct image *image = NULL;
		CLEANUP(plan_free) struct plan *plan = NULL;
		struct fault fault = {0};

		assert_int_equal(make_plan(paths[i], 11, false, &image, &plan, &fault), -ENOENT);
		assert_int_equal(fault.reason, REASON_NO_PLAN);
		assert_null(plan);
	}
}

/* What must be true of any plan, of whatever interpreter. */
static void check_plan(const struct image *image, const struct plan *plan)
{
	uint32_t by_kind[SITE_KINDS] = {0};

	for (size_t i = 0; i < plan->n_sites; i++) {
		const struct plan_site *site = &plan->sites[i];
		uint64_t offset;

		assert_true(site->emulated);
		assert_true(site->reg < 16);
		assert_true(site->condition <= WIRE_CONDITION_ALWAYS);
		assert_true(instruction_is_emulated(site->bytes, site->length));
		assert_memory_equal(image_bytes(image, site->vaddr, site->length), site->bytes,
				    site->length);
		assert_int_equal(image_text_offset(image, site->vaddr, &offset), 0);
		assert_int_equal(offset, site->offset);
		assert_non_null(site->function);
		/* One probe an instruction: the kernel takes no second one of a link. */
		if (i > 0)
			assert_true(site->vaddr > plan->sites[i - 1].vaddr);
		by_kind[site->kind]++;
	}
	assert_memory_equal(by_kind, plan->statistics.by_kind, sizeof(by_kind));
	assert_true(by_kind[SITE_ALLOC] > 0);
	assert_true(by_kind[SITE_FREE] > 0);
	assert_true(by_kind[SITE_FRESH] > 0);
	assert_true(by_kind[SITE_CREATE] > 0);
	assert_int_equal(by_kind[SITE_DESTROY], 0);
	assert_int_equal(plan->statistics.unresolved, 0);
	assert_int_equal(plan->statistics.not_emulated, 0);
	assert_int_equal(plan->statistics.undecodable, 0);
}

static unsigned check_interpreter(const char *path, unsigned minor)
{
	CLEANUP(image_free) struct image *image = NULL;
	CLEANUP(plan_free) struct plan *plan = NULL;
	struct fault fault = {0};
	int error = make_plan(path, minor, false, &image, &plan, &fault);

	if (error)
		print_error("%s: %s\n", path, reason_sentence(fault.reason));
	assert_int_equal(error, 0);
	print_message("%s: %u allocate, %u free, %u fresh, %u create\n", path,
		      plan->statistics.by_kind[SITE_ALLOC], plan->statistics.by_kind[SITE_FREE],
		      plan->statistics.by_kind[SITE_FRESH], plan->statistics.by_kind[SITE_CREATE]);
	check_plan(image, plan);
	return 1;
}

static unsigned check_all(const char *pattern, unsigned minor)
{
	unsigned n = 0;
	glob_t found;

	if (glob(pattern, 0, NULL, &found))
		return 0;
	for (size_t i = 0; i < found.gl_pathc; i++)
		n += check_interpreter(found.gl_pathv[i], minor);
	globfree(&found);
	return n;
}

/* Those of tools/bolted.sh, as in `tools/interpreters.sh list`: when they are asked for. */
static unsigned check_bolted(unsigned minor)
{
	static const char *const pattern = "build/interpreters-bolted/*/bin/python3.%u";
	const char *wanted = getenv("BOLTED");
	char path[256];

	if (!wanted || strcmp(wanted, "1") != 0)
		return 0;
	snprintf(path, sizeof(path), pattern, minor);
	return check_all(path, minor);
}

static void every_interpreter_at_hand_has_a_plan_that_leaves_nothing_out(void **state)
{
	static const char *const patterns[] = {
		"/usr/bin/python3.%u",
		"/usr/lib/x86_64-linux-gnu/libpython3.%u.so.1.0",
		"build/interpreters/*/usr/bin/python3.%u",
	};
	unsigned n = 0;

	(void)state;
	for (unsigned minor = 8; minor <= 15; minor++) {
		for (unsigned i = 0; i < ARRAY_SIZE(patterns); i++) {
			char pattern[256];

			snprintf(pattern, sizeof(pattern), patterns[i], minor);
			n += check_all(pattern, minor);
		}
		n += check_bolted(minor);
		if (getenv("PYENV_ROOT") || getenv("HOME")) {
			const char *root = getenv("PYENV_ROOT");
			char pattern[512];

			snprintf(pattern, sizeof(pattern),
				 "%s%s/versions/3.%u.*/lib/libpython3.%u.so.1.0",
				 root ? root : getenv("HOME"), root ? "" : "/.pyenv", minor, minor);
			n += check_all(pattern, minor);
		}
	}
	if (n == 0)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_python_has_no_plan),
		cmocka_unit_test(every_interpreter_at_hand_has_a_plan_that_leaves_nothing_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
