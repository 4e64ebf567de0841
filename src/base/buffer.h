/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A growing run of bytes with a maximum that is set at init: whatever foreign
 * data drives cannot make it larger.
 *
 *	_cleanup_buffer_ struct buffer text = buffer_init(4096);
 *	r = buffer_printf(&text, "%s: %d", name, number);
 *
 * The first failure sticks: what is added after it is refused with the same
 * error, so that a row of additions needs one check, at its end.
 */
#ifndef PYLEAKD_BASE_BUFFER_H
#define PYLEAKD_BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct buffer {
	char *data; /* NUL behind the last byte once something was added; NULL before */
	size_t size; /* without that NUL */
	size_t capacity;
	size_t max_size;
	int error; /* the first failure, 0 or -errno */
};

static inline struct buffer buffer_init(size_t max_size)
{
	return (struct buffer){ .max_size = max_size };
}

void buffer_done(struct buffer *buffer);

/* Empties it and forgets an error; memory is kept. */
void buffer_clear(struct buffer *buffer);

/* -E2BIG: it would exceed the maximum; nothing of it is added. -ENOMEM. */
int buffer_add(struct buffer *buffer, const void *bytes, size_t size);
int buffer_add_string(struct buffer *buffer, const char *text);
int buffer_add_char(struct buffer *buffer, char character);
int buffer_printf(struct buffer *buffer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Room for size more bytes, which the caller writes and then reports by buffer_grew(). */
int buffer_reserve(struct buffer *buffer, size_t size, char **ret);
void buffer_grew(struct buffer *buffer, size_t size);

/* The bytes with their NUL, now the caller's to free(), and the buffer empty. NULL: no memory. */
char *buffer_take(struct buffer *buffer);

#define _cleanup_buffer_ __attribute__((cleanup(buffer_done)))

#endif
