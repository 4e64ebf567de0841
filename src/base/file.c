/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"

#define READ_STEP_BYTES 4096
#define TEMPORARY_SUFFIX ".XXXXXX"

static int read_step(int fd, struct buffer *content, bool *ret_end)
{
	size_t step = READ_STEP_BYTES;
	ssize_t n;
	char *to;
	int r;

	/* One byte beyond the bound is asked for, to tell a file that ends there from a longer. */
	if (step > content->max_size - content->size)
		step = content->max_size - content->size;
	r = buffer_reserve(content, step, &to);
	if (r < 0)
		return r;
	n = read(fd, to, step);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	buffer_grew(content, (size_t)n);
	*ret_end = n == 0;
	return 0;
}

int file_read_fd(int fd, size_t max_bytes, char **ret, size_t *ret_size)
{
	_cleanup_buffer_ struct buffer content = buffer_init(max_bytes + 1);
	bool end = false;
	size_t size;
	char *data;

	while (!end) {
		int r = read_step(fd, &content, &end);

		if (r < 0)
			return r;
		if (content.size > max_bytes)
			return -EFBIG;
	}
	size = content.size;
	data = buffer_take(&content);
	if (!data)
		return -ENOMEM;
	*ret = data;
	if (ret_size)
		*ret_size = size;
	return 0;
}

int file_read_at(int directory, const char *path, size_t max_bytes, char **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	return file_read_fd(fd, max_bytes, ret, ret_size);
}

int file_read(const char *path, size_t max_bytes, char **ret, size_t *ret_size)
{
	return file_read_at(AT_FDCWD, path, max_bytes, ret, ret_size);
}

int file_write_fd(int fd, const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

static int write_directly(const char *path, const void *bytes, size_t size)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	return file_write_fd(fd, bytes, size);
}

static int fill_temporary(int fd, const void *bytes, size_t size, mode_t mode)
{
	int r = file_write_fd(fd, bytes, size);

	if (r < 0)
		return r;
	if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

static int replace_file(const char *path, const void *bytes, size_t size, mode_t mode)
{
	_cleanup_buffer_ struct buffer temporary = buffer_init(2 * 4096);
	_cleanup_close_ int fd = -1;
	int r;

	r = buffer_printf(&temporary, "%s" TEMPORARY_SUFFIX, path);
	if (r < 0)
		return r == -E2BIG ? -ENAMETOOLONG : r;
	fd = mkostemp(temporary.data, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fill_temporary(fd, bytes, size, mode);
	if (r == 0 && rename(temporary.data, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary.data);
	return r;
}

/*
 * Links in /dev and /proc (/dev/stdout) stand for an open file: to rename
 * something over them would break them for everybody.
 */
static bool path_is_special(const char *path)
{
	struct stat status;

	return strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0 ||
	       (stat(path, &status) == 0 && !S_ISREG(status.st_mode));
}

int file_write_whole(const char *path, const void *bytes, size_t size, mode_t mode)
{
	_cleanup_free_ char *resolved = NULL;

	if (path_is_special(path))
		return write_directly(path, bytes, size);
	/* Through a symbolic link to the file that it names; a new file has no other name yet. */
	resolved = realpath(path, NULL);
	return replace_file(resolved ? resolved : path, bytes, size, mode);
}
