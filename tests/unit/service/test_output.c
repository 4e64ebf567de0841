/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "service/output.h"

static char directory[] = "/tmp/pyleakd-output.XXXXXX";

static int make_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static const char *in_directory(const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_MAX, "%s/%s", directory, name);
	return path;
}

/* How many names there are; with remove they go. */
static size_t directory_entries(bool remove)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;
	size_t n = 0;

	assert_non_null(stream);
	while ((entry = readdir(stream))) {
		if (entry->d_name[0] == '.' && strlen(entry->d_name) < 3)
			continue;
		n++;
		if (remove)
			unlink(in_directory(entry->d_name));
	}
	closedir(stream);
	return n;
}

static int empty_directory(void **state)
{
	(void)state;
	directory_entries(true);
	return 0;
}

static int remove_directory(void **state)
{
	empty_directory(state);
	return rmdir(directory);
}

static void write_text(struct output *output, const char *text)
{
	const struct sink *sink = output_sink(output);

	assert_int_equal(sink->write(sink->context, text, strlen(text)), 0);
}

static void put(const char *path, const char *text)
{
	assert_int_equal(file_write_whole(path, text, strlen(text), 0640), 0);
}

static void assert_content(const char *path, const char *expected)
{
	char *content;

	assert_int_equal(file_read(path, 1 << 20, &content, NULL), 0);
	assert_string_equal(content, expected);
	free(content);
}

static void a_committed_report_is_there(void **state)
{
	char message[OUTPUT_MESSAGE_BYTES];
	struct output *output;
	struct stat status;
	mode_t mask = umask(027);

	(void)state;
	assert_int_equal(output_new(in_directory("report"), &output, message), 0);
	assert_int_equal(directory_entries(false), 0);
	write_text(output, "one ");
	write_text(output, "two\n");
	assert_int_equal(access(in_directory("report"), F_OK), -1);
	assert_int_equal(output_commit(output), 0);
	output_free(output);
	umask(mask);
	assert_content(in_directory("report"), "one two\n");
	assert_int_equal(directory_entries(false), 1);
	assert_int_equal(stat(in_directory("report"), &status), 0);
	assert_int_equal(status.st_mode & 0777, 0640);
}

static void without_a_commit_an_earlier_report_stays_and_nothing_else(void **state)
{
	char message[OUTPUT_MESSAGE_BYTES];
	static char much[3 * OUTPUT_BUFFER_BYTES];
	struct output *output;

	(void)state;
	put(in_directory("report"), "earlier");
	memset(much, 'x', sizeof(much) - 1);
	assert_int_equal(output_new(in_directory("report"), &output, message), 0);
	write_text(output, much);
	assert_int_equal(directory_entries(false), 2); /* the temporary file */
	output_free(output);
	assert_int_equal(directory_entries(false), 1);
	assert_content(in_directory("report"), "earlier");
}

static void a_disk_that_fills_up_leaves_the_earlier_report(void **state)
{
	char message[OUTPUT_MESSAGE_BYTES];
	static char much[3 * OUTPUT_BUFFER_BYTES];
	struct rlimit old, small;
	struct output *output;
	const struct sink *sink;

	(void)state;
	put(in_directory("report"), "earlier");
	memset(much, 'x', sizeof(much));
	assert_int_equal(output_new(in_directory("report"), &output, message), 0);
	sink = output_sink(output);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){OUTPUT_BUFFER_BYTES + 10, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(sink->write(sink->context, much, sizeof(much)), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(sink->write(sink->context, much, 1), -EFBIG); /* it sticks */
	assert_int_equal(output_commit(output), -EFBIG);
	output_free(output);
	assert_int_equal(directory_entries(false), 1);
	assert_content(in_directory("report"), "earlier");
}

static void a_link_is_followed_and_modes_are_kept(void **state)
{
	char message[OUTPUT_MESSAGE_BYTES];
	struct output *output;
	struct stat status;

	(void)state;
	put(in_directory("real"), "earlier");
	assert_int_equal(chmod(in_directory("real"), 0604), 0);
	assert_int_equal(symlink("real", in_directory("link")), 0);
	assert_int_equal(output_new(in_directory("link"), &output, message), 0);
	write_text(output, "new");
	assert_int_equal(output_commit(output), 0);
	output_free(output);
	assert_int_equal(lstat(in_directory("link"), &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_content(in_directory("real"), "new");
	assert_int_equal(stat(in_directory("real"), &status), 0);
	assert_int_equal(status.st_mode & 0777, 0604);
}

static void what_cannot_be_written_is_refused_at_once(void **state)
{
	char message[OUTPUT_MESSAGE_BYTES];
	struct output *output;

	(void)state;
	assert_int_equal(output_new(in_directory("none/report"), &output, message), -ENOENT);
	assert_non_null(strstr(message, "none/report"));
	assert_non_null(strstr(message, ": create its directory"));
	assert_null(strchr(message, '\n'));
	assert_int_equal(output_new(directory, &output, message), -EISDIR);
	assert_int_equal(output_new(in_directory("new/"), &output, message), -EISDIR);
	put(in_directory("file"), "");
	assert_int_equal(output_new(in_directory("file/report"), &output, message), -ENOTDIR);
	assert_true(output_new("/proc/report", &output, message) < 0);
	assert_int_equal(symlink("nowhere", in_directory("link")), 0);
	assert_int_equal(output_new(in_directory("link"), &output, message), -ENOENT);
	assert_int_equal(directory_entries(false), 2);
}

static void devices_and_fifos_are_written_to_as_they_are(void **state)
{
	char message[OUTPUT_MESSAGE_BYTES], got[16] = "";
	struct output *output;
	struct stat status;
	int status_of_writer;
	pid_t writer;
	int fd;

	(void)state;
	assert_int_equal(output_new("/dev/full", &output, message), 0);
	write_text(output, "text");
	assert_int_equal(output_commit(output), -ENOSPC);
	output_free(output);
	assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0);
	writer = fork();
	if (writer == 0) {
		if (output_new(in_directory("fifo"), &output, message) < 0)
			_exit(1);
		write_text(output, "through");
		_exit(output_commit(output) < 0 ? 2 : 0);
	}
	fd = open(in_directory("fifo"), O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, got, sizeof(got)), 7);
	close(fd);
	assert_string_equal(got, "through");
	assert_int_equal(waitpid(writer, &status_of_writer, 0), writer);
	assert_int_equal(status_of_writer, 0);
	assert_int_equal(stat(in_directory("fifo"), &status), 0);
	assert_true(S_ISFIFO(status.st_mode));
}

static void a_fifo_that_nobody_reads_is_told_and_not_waited_for(void **state)
{
	char message[OUTPUT_MESSAGE_BYTES], got[16] = "";
	struct output *output;
	int fd;

	(void)state;
	assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0);
	alarm(60); /* what waits for ever fails */
	assert_int_equal(output_new(in_directory("fifo"), &output, message), 0);
	write_text(output, "text");
	assert_int_equal(output_commit(output), -ENXIO);
	output_free(output);
	/* One that reads from before on has it. */
	fd = open(in_directory("fifo"), O_RDONLY | O_NONBLOCK);
	assert_int_equal(output_new(in_directory("fifo"), &output, message), 0);
	write_text(output, "text");
	assert_int_equal(output_commit(output), 0);
	output_free(output);
	assert_int_equal(read(fd, got, sizeof(got)), 4);
	close(fd);
	alarm(0);
}

static void standard_output_has_three_names(void **state)
{
	static const char *const names[] = {NULL, "-", "/dev/stdout"};
	char message[OUTPUT_MESSAGE_BYTES];
	int kept = dup(STDOUT_FILENO);

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct output *output;
		int fd = open(in_directory("stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0600);

		fflush(stdout);
		dup2(fd, STDOUT_FILENO);
		close(fd);
		assert_int_equal(output_new(names[i], &output, message), 0);
		write_text(output, "report");
		assert_int_equal(output_commit(output), 0);
		assert_false(output_is_terminal(output));
		output_free(output);
		dup2(kept, STDOUT_FILENO);
		assert_content(in_directory("stdout"), "report");
	}
	close(kept);
	assert_int_equal(directory_entries(false), 1); /* no file called "-" */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_committed_report_is_there, empty_directory),
		cmocka_unit_test_teardown(without_a_commit_an_earlier_report_stays_and_nothing_else,
					  empty_directory),
		cmocka_unit_test_teardown(a_disk_that_fills_up_leaves_the_earlier_report,
					  empty_directory),
		cmocka_unit_test_teardown(a_link_is_followed_and_modes_are_kept, empty_directory),
		cmocka_unit_test_teardown(what_cannot_be_written_is_refused_at_once,
					  empty_directory),
		cmocka_unit_test_teardown(a_fifo_that_nobody_reads_is_told_and_not_waited_for,
					  empty_directory),
		cmocka_unit_test_teardown(devices_and_fifos_are_written_to_as_they_are,
					  empty_directory),
		cmocka_unit_test_teardown(standard_output_has_three_names, empty_directory),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
