/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define READER_PAUSE_MS 20
#define SUFFIX ".XXXXXX"
#define MODE_NEW 0666 /* less the umask */

DEFINE_CLEANUP(struct output *, output_free)

enum place { PLACE_STREAM, PLACE_FIFO, PLACE_FILE };

struct output {
	enum place place;
	int fd;		 /* -1: not open yet */
	char *path;	 /* of a file or FIFO; links resolved */
	char *temporary; /* exists; NULL: there is none */
	mode_t mode;
	int error; /* the first failure */
	size_t filled;
	struct sink sink;
	char buffer[OUTPUT_BUFFER_BYTES];
};

static int __attribute__((format(printf, 3, 4)))
explain(char *ret_message, int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(ret_message, OUTPUT_MESSAGE_BYTES, format, arguments);
	va_end(arguments);
	return error;
}

static int explain_path(char *ret_message, const char *path, int error)
{
	const char *remedy = "choose another --output";

	if (error == -ENOENT || error == -ENOTDIR)
		remedy = "create its directory, or choose another --output";
	return explain(ret_message, error, "cannot write '%.256s' (%s): %s", path, strerror(-error),
		       remedy);
}

/* A temporary file beside path: its name, and its descriptor. */
static int create_beside(const char *path, char **ret_name, int *ret_fd)
{
	_cleanup_free_ char *name = NULL;
	int fd;

	if (asprintf(&name, "%s" SUFFIX, path) < 0) {
		name = NULL;
		return -ENOMEM;
	}
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_name = TAKE_PTR(name);
	*ret_fd = fd;
	return 0;
}

/* Whether a file can be put where it would go; nothing stays. */
static int try_to_create(const char *path)
{
	_cleanup_free_ char *name = NULL;
	_cleanup_close_ int fd = -1;
	int r = create_beside(path, &name, &fd);

	if (r < 0)
		return r;
	return unlink(name) < 0 ? -errno : 0;
}

static mode_t mode_of_new_files(void)
{
	mode_t mask = umask(0);

	umask(mask);
	return MODE_NEW & ~mask;
}

static int prepare_file(struct output *output, const char *path)
{
	struct stat status;

	output->place = PLACE_FILE;
	output->mode = mode_of_new_files();
	output->path = realpath(path, NULL);
	if (!output->path && errno != ENOENT)
		return -errno;
	if (output->path) {
		if (access(output->path, W_OK) < 0 || stat(output->path, &status) < 0)
			return -errno;
		output->mode = status.st_mode & 0777;
	} else {
		if (lstat(path, &status) == 0) /* a link that leads nowhere */
			return -ENOENT;
		output->path = strdup(path);
		if (!output->path)
			return -ENOMEM;
	}
	return try_to_create(output->path);
}

/*
 * Without somebody who reads it, opening a FIFO waits for ever, and the signals
 * that would end the wait are blocked.  Written to it may wait.
 */
static int open_fifo(const char *path)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, O_WRONLY) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int wait_for_reader(const char *path)
{
	const struct timespec pause = { .tv_nsec = READER_PAUSE_MS * 1000000 };
	int fd = open_fifo(path);

	for (unsigned ms = 0; fd == -ENXIO && ms < OUTPUT_READER_MS; ms += READER_PAUSE_MS) {
		nanosleep(&pause, NULL);
		fd = open_fifo(path);
	}
	return fd;
}

static int prepare_fifo(struct output *output, const char *path)
{
	int fd;

	output->place = PLACE_FIFO;
	if (access(path, W_OK) < 0)
		return -errno;
	output->path = strdup(path);
	if (!output->path)
		return -ENOMEM;
	fd = open_fifo(path);
	if (fd >= 0)
		output->fd = fd;
	return fd == -ENXIO || fd >= 0 ? 0 : fd;
}

static int prepare_stream(struct output *output, int fd)
{
	output->place = PLACE_STREAM;
	if (fd < 0)
		return -errno;
	output->fd = fd;
	return 0;
}

static bool is_standard_output(const char *path)
{
	return !path || strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0 ||
	       strcmp(path, "/dev/fd/1") == 0 || strcmp(path, "/proc/self/fd/1") == 0;
}

/* A name that ends in a slash is a directory's, there or not. */
static bool names_directory(const char *path, const struct stat *status, bool there)
{
	size_t size = strlen(path);

	return (there && S_ISDIR(status->st_mode)) || (size > 0 && path[size - 1] == '/');
}

static int prepare(struct output *output, const char *path)
{
	struct stat status;
	bool there;

	if (is_standard_output(path))
		return prepare_stream(output, fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
	there = stat(path, &status) == 0;
	if (names_directory(path, &status, there))
		return -EISDIR;
	if (!there || (S_ISREG(status.st_mode) && strncmp(path, "/proc/", 6) != 0))
		return prepare_file(output, path);
	if (S_ISFIFO(status.st_mode))
		return prepare_fifo(output, path);
	return prepare_stream(output, open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY));
}

static int output_open(struct output *output)
{
	int r;

	if (output->fd >= 0)
		return 0;
	if (output->place == PLACE_FILE)
		return create_beside(output->path, &output->temporary, &output->fd);
	r = wait_for_reader(output->path);
	if (r < 0)
		return r;
	output->fd = r;
	return 0;
}

static int flush(struct output *output)
{
	int r = output_open(output);

	if (r >= 0)
		r = file_write_fd(output->fd, output->buffer, output->filled);
	output->filled = 0;
	return r;
}

static int output_write(void *context, const void *bytes, size_t size)
{
	struct output *output = context;
	const char *at = bytes;

	while (size > 0 && output->error == 0) {
		size_t room = sizeof(output->buffer) - output->filled;
		size_t step = size < room ? size : room;

		memcpy(output->buffer + output->filled, at, step);
		output->filled += step;
		at += step;
		size -= step;
		if (output->filled == sizeof(output->buffer))
			output->error = flush(output);
	}
	return output->error;
}

int output_new(const char *path, struct output **ret, char *ret_message)
{
	CLEANUP(output_free) struct output *output = calloc(1, sizeof(*output));
	int r;

	if (!output)
		return explain(ret_message, -ENOMEM, "out of memory: free some");
	output->fd = -1;
	output->sink = (struct sink){.write = output_write, .context = output};
	r = prepare(output, path);
	if (r < 0)
		return explain_path(ret_message, path ? path : "standard output", r);
	*ret = TAKE_PTR(output);
	return 0;
}

void output_free(struct output *output)
{
	if (!output)
		return;
	if (output->temporary)
		unlink(output->temporary);
	if (output->fd >= 0)
		close(output->fd);
	free(output->temporary);
	free(output->path);
	free(output);
}

const struct sink *output_sink(struct output *output)
{
	return &output->sink;
}

static int commit_file(struct output *output)
{
	if (fchmod(output->fd, output->mode) < 0 || fsync(output->fd) < 0)
		return -errno;
	if (rename(output->temporary, output->path) < 0)
		return -errno;
	free(output->temporary);
	output->temporary = NULL;
	return 0;
}

int output_commit(struct output *output)
{
	if (output->error == 0)
		output->error = flush(output);
	if (output->error == 0 && output->place == PLACE_FILE)
		output->error = commit_file(output);
	return output->error;
}

bool output_is_terminal(const struct output *output)
{
	return output->place == PLACE_STREAM && isatty(output->fd);
}
