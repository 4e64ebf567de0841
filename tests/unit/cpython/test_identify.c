/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From the file alone: pyenv's libraries of all versions, and what is no Python. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "cpython/interpreter.h"

struct identity {
	int error;
	struct interpreter_version version;
	const char *why;
	struct fault fault;
};

static struct identity identify(const char *path)
{
	struct identity identity = { .why = NULL };
	struct image *image;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(image_new(fd, &image, NULL), 0);
	close(fd);
	identity.error = interpreter_identify(image, &identity.version, &identity.why,
					      &identity.fault);
	image_free(image);
	return identity;
}

/* …/versions/3.11.7/lib/libpython3.11.so.1.0: the release stands in the path. */
static bool release_of_path(const char *path, unsigned *major, unsigned *minor, unsigned *micro)
{
	const char *versions = strstr(path, "/versions/");

	return versions && sscanf(versions, "/versions/%u.%u.%u/", major, minor, micro) == 3;
}

static void check_release(const char *path)
{
	struct identity identity = identify(path);
	unsigned major = 0, minor = 0, micro = 0;
	char text[32];

	if (!release_of_path(path, &major, &minor, &micro))
		return;
	snprintf(text, sizeof(text), "%u.%u.%u", major, minor, micro);
	print_message("%s\n", text);
	assert_string_equal(identity.version.text, text);
	assert_int_equal(identity.version.minor, minor);
	assert_int_equal(identity.version.micro, micro);
	if (major == 3 && minor >= 8 && minor <= 15) {
		assert_int_equal(identity.error, 0);
		return;
	}
	assert_int_equal(identity.error, -EOPNOTSUPP);
	assert_int_equal(identity.fault.reason, REASON_UNSUPPORTED);
	assert_string_equal(identity.why,
			    major == 2 ? "Python 2" : "a CPython older than 3.8");
}

/* The libraries of pyenv's interpreters. */
static int find_libraries(glob_t *found)
{
	const char *root = getenv("PYENV_ROOT"), *home = getenv("HOME");
	char pattern[4096];

	snprintf(pattern, sizeof(pattern), "%s%s/versions/*/lib/libpython?.*.so.1.0",
		 root ? root : home ? home : "", root ? "" : "/.pyenv");
	return glob(pattern, 0, NULL, found);
}

static void every_release_is_told_by_its_file(void **state)
{
	glob_t found;

	(void)state;
	if (find_libraries(&found))
		skip();
	for (size_t i = 0; i < found.gl_pathc; i++)
		check_release(found.gl_pathv[i]);
	globfree(&found);
}

/* Exported symbols are left; .symtab is not. */
static void stripped_libraries_are_told_as_well(void **state)
{
	glob_t found;

	(void)state;
	if (system("strip --version >/dev/null 2>&1") || find_libraries(&found))
		skip();
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char command[8192], path[] = "/tmp/pyleakd-test-XXXXXX";
		int fd = mkstemp(path);
		struct identity whole, stripped;

		assert_true(fd >= 0);
		close(fd);
		snprintf(command, sizeof(command), "strip -o '%s' '%s'", path, found.gl_pathv[i]);
		assert_int_equal(system(command), 0);
		whole = identify(found.gl_pathv[i]);
		stripped = identify(path);
		unlink(path);
		assert_int_equal(stripped.error, whole.error);
		assert_string_equal(stripped.version.text, whole.version.text);
	}
	globfree(&found);
}

static void what_is_no_python_is_not_found(void **state)
{
	static const char *const paths[] = { "/proc/self/exe", "/bin/sh" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct identity identity = identify(paths[i]);

		assert_int_equal(identity.error, -ENOENT);
		assert_int_equal(identity.fault.reason, REASON_NOT_FOUND);
		assert_null(identity.why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_release_is_told_by_its_file),
		cmocka_unit_test(stripped_libraries_are_told_as_well),
		cmocka_unit_test(what_is_no_python_is_not_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
