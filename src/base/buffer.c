/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "base/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 64

void buffer_done(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){.max_size = buffer->max_size};
}

void buffer_clear(struct buffer *buffer)
{
	buffer->size = 0;
	buffer->error = 0;
	if (buffer->data)
		buffer->data[0] = '\0';
}

static int fail(struct buffer *buffer, int error)
{
	buffer->error = error;
	return error;
}

/* The smallest doubling that holds size bytes and a NUL, but not beyond the maximum. */
static size_t next_capacity(const struct buffer *buffer, size_t size)
{
	size_t capacity = buffer->capacity ? buffer->capacity : FIRST_CAPACITY;

	while (capacity <= size && capacity <= SIZE_MAX / 2)
		capacity *= 2;
	if (capacity > buffer->max_size + 1)
		capacity = buffer->max_size + 1;
	return capacity;
}

int buffer_reserve(struct buffer *buffer, size_t size, char **ret)
{
	size_t capacity;
	char *data;

	if (buffer->error < 0)
		return buffer->error;
	if (buffer->max_size == SIZE_MAX || size > buffer->max_size - buffer->size)
		return fail(buffer, -E2BIG);
	if (buffer->size + size >= buffer->capacity) {
		capacity = next_capacity(buffer, buffer->size + size);
		data = realloc(buffer->data, capacity);
		if (!data)
			return fail(buffer, -ENOMEM);
		buffer->data = data;
		buffer->capacity = capacity;
		buffer->data[buffer->size] = '\0';
	}
	*ret = buffer->data + buffer->size;
	return 0;
}

void buffer_grew(struct buffer *buffer, size_t size)
{
	buffer->size += size;
	buffer->data[buffer->size] = '\0';
}

int buffer_add(struct buffer *buffer, const void *bytes, size_t size)
{
	char *to;
	int r = buffer_reserve(buffer, size, &to);

	if (r < 0)
		return r;
	if (size > 0)
		memcpy(to, bytes, size);
	buffer_grew(buffer, size);
	return 0;
}

int buffer_add_string(struct buffer *buffer, const char *text)
{
	return buffer_add(buffer, text, strlen(text));
}

int buffer_add_char(struct buffer *buffer, char character)
{
	return buffer_add(buffer, &character, 1);
}

int buffer_printf(struct buffer *buffer, const char *format, ...)
{
	va_list arguments;
	char *to;
	int length;
	int r;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0)
		return fail(buffer, -EINVAL);
	r = buffer_reserve(buffer, (size_t)length, &to);
	if (r < 0)
		return r;
	va_start(arguments, format);
	vsnprintf(to, (size_t)length + 1, format, arguments);
	va_end(arguments);
	buffer_grew(buffer, (size_t)length);
	return 0;
}

char *buffer_take(struct buffer *buffer)
{
	char *ignored, *data;

	if (!buffer->data && buffer_reserve(buffer, 0, &ignored) < 0)
		return NULL;
	data = TAKE_PTR(buffer->data);
	buffer->size = 0;
	buffer->capacity = 0;
	return data;
}
