/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Ownership in attributes: an owning local carries its destructor, and leaves
 * the function only through TAKE_PTR or TAKE_FD.
 *
 *	_cleanup_free_ char *text = NULL;
 *	_cleanup_close_ int fd = -1;
 *	CLEANUP(ledger_free) struct ledger *ledger = NULL;
 */
#ifndef PYLEAKD_BASE_CLEANUP_H
#define PYLEAKD_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TAKE_PTR(ptr)                          \
	({                                     \
		__auto_type taken_ = (ptr);    \
		(ptr) = NULL;                  \
		taken_;                        \
	})
#define TAKE_FD(fd)                            \
	({                                     \
		int taken_ = (fd);             \
		(fd) = -1;                     \
		taken_;                        \
	})

/* Defines func##_p, which the cleanup attribute wants: it takes the variable's address. */
#define DEFINE_CLEANUP(type, func)                       \
	static inline void func##_p(type *value)         \
	{                                                \
		if (*value)                              \
			func(*value);                    \
	}

#define CLEANUP(func) __attribute__((cleanup(func##_p)))

static inline void free_pp(void *pointer)
{
	free(*(void **)pointer);
}

static inline void close_fdp(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void fclose_filep(FILE **file)
{
	if (*file)
		fclose(*file);
}

static inline void closedir_dirp(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}

#define _cleanup_free_ __attribute__((cleanup(free_pp)))
#define _cleanup_close_ __attribute__((cleanup(close_fdp)))
#define _cleanup_fclose_ __attribute__((cleanup(fclose_filep)))
#define _cleanup_closedir_ __attribute__((cleanup(closedir_dirp)))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#endif
