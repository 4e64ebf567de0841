/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The three line tables of CPython, each as Objects/codeobject.c of its
 * version reads it, but from bytes that nobody vouches for.
 *
 * Lines are accumulated in 64 bits: a table has at most CODE_TABLE_MAX_BYTES
 * entries and one entry moves the line by less than 2^32, so a sum cannot
 * overflow; only the line that is returned has to be one that CPython can have.
 */
#include <errno.h>
#include <stdbool.h>

#include "cpython/code.h"

/* PEP 657, Objects/locations.md of CPython 3.11: kinds of an entry. */
enum location_code {
	LOCATION_ONE_LINE0 = 10,
	LOCATION_ONE_LINE2 = 12,
	LOCATION_NO_COLUMNS = 13,
	LOCATION_LONG = 14,
	LOCATION_NONE = 15,
};

#define LINETABLE310_NO_LINE (-128)
#define CODE_UNIT_BYTES 2

/* co_firstlineno and every line is an int in CPython; 0 is the RESUME of a module. */
static int line_in_bounds(int64_t line, uint32_t *ret_line)
{
	if (line < 0 || line > INT32_MAX)
		return -EBADMSG;
	*ret_line = (uint32_t)line;
	return 0;
}

/* Pairs of (bytes, signed lines): Objects/lnotab_notes.txt, 3.6-3.9. */
int line_of_lnotab(const uint8_t *table, size_t size, uint32_t first_line, uint32_t byte_offset,
		   uint32_t *ret_line)
{
	uint64_t offset = 0;
	int64_t line = first_line;

	if (size % 2 || size > CODE_TABLE_MAX_BYTES)
		return -EBADMSG;
	for (size_t i = 0; i < size; i += 2) {
		offset += table[i];
		if (offset > byte_offset)
			break;
		line += (int8_t)table[i + 1];
	}
	return line_in_bounds(line, ret_line);
}

/* Pairs of (bytes covered, signed lines): PEP 626, Objects/lnotab_notes.txt of 3.10. */
int line_of_linetable310(const uint8_t *table, size_t size, uint32_t first_line,
			 uint32_t byte_offset, uint32_t *ret_line)
{
	uint64_t end = 0;
	int64_t line = first_line;

	if (size % 2 || size > CODE_TABLE_MAX_BYTES)
		return -EBADMSG;
	for (size_t i = 0; i < size; i += 2) {
		int8_t delta = (int8_t)table[i + 1];

		end += table[i];
		if (delta != LINETABLE310_NO_LINE)
			line += delta;
		if (byte_offset < end)
			return line_in_bounds(delta == LINETABLE310_NO_LINE ? 0 : line, ret_line);
	}
	*ret_line = 0;
	return 0;
}

struct location_reader {
	const uint8_t *next, *end;
};

/* An operand byte: only the first byte of an entry has its high bit set. */
static int location_byte(struct location_reader *reader, uint8_t *ret)
{
	if (reader->next == reader->end || *reader->next & 0x80)
		return -EBADMSG;
	*ret = *reader->next++;
	return 0;
}

/* Six bits a byte, least significant first, 0x40: more follow. */
static int location_varint(struct location_reader *reader, uint32_t *ret)
{
	uint64_t value = 0;
	uint8_t byte = 0x40;

	for (unsigned shift = 0; byte & 0x40; shift += 6) {
		if (shift > 30 || location_byte(reader, &byte) < 0)
			return -EBADMSG;
		value |= (uint64_t)(byte & 0x3f) << shift;
	}
	if (value > UINT32_MAX)
		return -EBADMSG;
	*ret = (uint32_t)value;
	return 0;
}

static int location_signed_varint(struct location_reader *reader, int64_t *ret)
{
	uint32_t value;

	if (location_varint(reader, &value) < 0)
		return -EBADMSG;
	*ret = value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
	return 0;
}

/* Skips what an entry says of columns and end lines. */
static int location_skip(struct location_reader *reader, unsigned bytes, unsigned varints)
{
	uint8_t byte;
	uint32_t value;

	for (; bytes; bytes--) {
		if (location_byte(reader, &byte) < 0)
			return -EBADMSG;
	}
	for (; varints; varints--) {
		if (location_varint(reader, &value) < 0)
			return -EBADMSG;
	}
	return 0;
}

/* Reads what follows an entry's first byte. */
static int location_line_delta(struct location_reader *reader, unsigned code, int64_t *ret)
{
	int64_t delta = 0;

	if (code >= LOCATION_NO_COLUMNS && code <= LOCATION_LONG) {
		if (location_signed_varint(reader, &delta) < 0)
			return -EBADMSG;
	} else if (code >= LOCATION_ONE_LINE0 && code <= LOCATION_ONE_LINE2) {
		delta = code - LOCATION_ONE_LINE0;
	}
	*ret = delta;
	if (code == LOCATION_LONG)
		return location_skip(reader, 0, 3);
	if (code < LOCATION_ONE_LINE0)
		return location_skip(reader, 1, 0);
	return location_skip(reader, code <= LOCATION_ONE_LINE2 ? 2 : 0, 0);
}

int line_of_locations311(const uint8_t *table, size_t size, uint32_t first_line,
			 uint32_t byte_offset, uint32_t *ret_line)
{
	struct location_reader reader = { table, table + size };
	uint64_t end = 0;
	int64_t line = first_line, delta;

	if (size > CODE_TABLE_MAX_BYTES)
		return -EBADMSG;
	while (reader.next < reader.end) {
		uint8_t first = *reader.next++;
		unsigned code = (first >> 3) & 15;

		if (!(first & 0x80) || location_line_delta(&reader, code, &delta) < 0)
			return -EBADMSG;
		line += delta;
		end += ((uint64_t)(first & 7) + 1) * CODE_UNIT_BYTES;
		if (byte_offset < end)
			return line_in_bounds(code == LOCATION_NONE ? 0 : line, ret_line);
	}
	*ret_line = 0;
	return 0;
}
