/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Small files, read whole under a bound, and written whole or not at all. */
#ifndef PYLEAKD_BASE_FILE_H
#define PYLEAKD_BASE_FILE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * All of a file into a buffer of its own, the caller's to free(), with a NUL
 * behind its *ret_size bytes (ret_size may be NULL).  Works for /proc, whose
 * files have no size.  -EFBIG: it has more than max_bytes; else -errno.
 */
int file_read(const char *path, size_t max_bytes, char **ret, size_t *ret_size);
int file_read_at(int directory, const char *path, size_t max_bytes, char **ret, size_t *ret_size);
int file_read_fd(int fd, size_t max_bytes, char **ret, size_t *ret_size);

/*
 * Puts the bytes at path: through a temporary file beside it that takes its
 * place at the end, so that nobody ever sees a part, and nothing is left where
 * it fails.  A symbolic link is followed, not replaced.  What is no regular
 * file (a terminal, a pipe, anything in /dev or /proc) is appended to.
 */
int file_write_whole(const char *path, const void *bytes, size_t size, mode_t mode);

/* write(2) until all of it is written. */
int file_write_fd(int fd, const void *bytes, size_t size);

#endif
