/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Foreign bytes with their length: the only way in which parsers look at
 * files and records.  Every access is checked against the length, in a form
 * that can't overflow, and copies, so that alignment never matters.
 */
#ifndef PYLEAKD_BASE_BYTES_H
#define PYLEAKD_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *data; /* not owned */
	size_t size;
};

/* Are there size bytes at offset? */
static inline bool bytes_have(struct bytes bytes, uint64_t offset, uint64_t size)
{
	return offset <= bytes.size && size <= bytes.size - offset;
}

/* Copies size bytes at offset into ret; false, and ret untouched, when they aren't all there. */
static inline bool bytes_read(struct bytes bytes, uint64_t offset, void *ret, size_t size)
{
	if (!bytes_have(bytes, offset, size))
		return false;
	memcpy(ret, bytes.data + offset, size);
	return true;
}

/* The part [offset, offset + size); false, and ret untouched, when it isn't all there. */
static inline bool bytes_slice(struct bytes bytes, uint64_t offset, uint64_t size,
			       struct bytes *ret)
{
	if (!bytes_have(bytes, offset, size))
		return false;
	*ret = (struct bytes){ bytes.data + offset, (size_t)size };
	return true;
}

#endif
