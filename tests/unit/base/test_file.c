/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

/* Each test runs in an empty directory of its own. */
static int enter_directory(void **state)
{
	char *path = strdup(P_tmpdir "/test-file.XXXXXX");

	*state = path;
	return !mkdtemp(path) || chdir(path) < 0;
}

static int leave_directory(void **state)
{
	_cleanup_free_ char *path = *state;
	_cleanup_closedir_ DIR *directory = opendir(".");
	const struct dirent *entry;

	while ((entry = readdir(directory)))
		if (entry->d_name[0] != '.' && unlink(entry->d_name) < 0)
			rmdir(entry->d_name);
	return chdir("/") < 0 || rmdir(path) < 0;
}

static unsigned count_files(void)
{
	_cleanup_closedir_ DIR *directory = opendir(".");
	const struct dirent *entry;
	unsigned n = 0;

	while ((entry = readdir(directory)))
		n += entry->d_name[0] != '.';
	return n;
}

static void assert_content(const char *path, const char *content)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	assert_int_equal(file_read(path, 100000, &text, &size), 0);
	assert_int_equal(size, strlen(content));
	assert_string_equal(text, content);
}

static void what_was_written_whole_is_read_back(void **state)
{
	struct stat status;

	(void)state;
	assert_int_equal(file_write_whole("a", "hello", 5, 0640), 0);
	assert_content("a", "hello");
	assert_int_equal(stat("a", &status), 0);
	assert_int_equal(status.st_mode & 0777, 0640);
	assert_int_equal(file_write_whole("a", "", 0, 0644), 0);
	assert_content("a", "");
	assert_int_equal(count_files(), 1);
}

static void a_write_that_fails_leaves_the_old_file_and_nothing_else(void **state)
{
	(void)state;
	assert_int_equal(file_write_whole("nowhere/a", "x", 1, 0644), -ENOENT);
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(file_write_whole("d", "x", 1, 0644), -EISDIR);
	assert_int_equal(count_files(), 1);
	assert_int_equal(file_write_whole("/dev/full", "x", 1, 0644), -ENOSPC);
}

static void a_link_is_followed_and_stays_a_link(void **state)
{
	struct stat status;

	(void)state;
	assert_int_equal(file_write_whole("real", "old", 3, 0644), 0);
	assert_int_equal(symlink("real", "link"), 0);
	assert_int_equal(file_write_whole("link", "new", 3, 0644), 0);
	assert_int_equal(lstat("link", &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_content("real", "new");
	assert_int_equal(count_files(), 2);
}

static void a_standard_output_that_is_a_file_is_not_replaced(void **state)
{
	int saved = dup(STDOUT_FILENO);
	int fd = open("out", O_CREAT | O_WRONLY, 0644);
	int r;

	(void)state;
	fflush(stdout);
	assert_true(saved >= 0 && fd >= 0 && dup2(fd, STDOUT_FILENO) >= 0);
	r = file_write_whole("/proc/self/fd/1", "text", 4, 0644);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fd);
	assert_int_equal(r, 0);
	assert_content("out", "text");
	assert_int_equal(count_files(), 1);
}

static void a_file_longer_than_the_bound_is_refused(void **state)
{
	_cleanup_free_ char *text = NULL;
	char bytes[10000];
	size_t size;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(file_write_whole("a", bytes, sizeof(bytes), 0644), 0);
	assert_int_equal(file_read("a", sizeof(bytes) - 1, &text, &size), -EFBIG);
	assert_null(text);
	assert_int_equal(file_read("a", sizeof(bytes), &text, &size), 0);
	assert_int_equal(size, sizeof(bytes));
	assert_memory_equal(text, bytes, sizeof(bytes));
	assert_int_equal(text[size], 0);
}

static void files_of_proc_that_claim_no_size_are_read_whole(void **state)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	(void)state;
	assert_int_equal(file_read("/proc/self/maps", 10 << 20, &text, &size), 0);
	assert_true(size > 100);
	assert_int_equal(text[size - 1], '\n');
}

static void what_cannot_be_read_says_why(void **state)
{
	char *text = NULL;

	(void)state;
	assert_int_equal(file_read("absent", 10, &text, NULL), -ENOENT);
	assert_int_equal(file_read(".", 10, &text, NULL), -EISDIR);
	assert_int_equal(file_read_fd(-1, 10, &text, NULL), -EBADF);
	assert_null(text);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(what_was_written_whole_is_read_back),
		IN_DIRECTORY(a_write_that_fails_leaves_the_old_file_and_nothing_else),
		IN_DIRECTORY(a_link_is_followed_and_stays_a_link),
		IN_DIRECTORY(a_standard_output_that_is_a_file_is_not_replaced),
		IN_DIRECTORY(a_file_longer_than_the_bound_is_refused),
		IN_DIRECTORY(files_of_proc_that_claim_no_size_are_read_whole),
		IN_DIRECTORY(what_cannot_be_read_says_why),
	};

	return cmocka_run_group_tests_name("base/file", tests, NULL, NULL);
}
