/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/recording_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_LINES 1024
#define SLABS_MAX (RECORDING_LINES_MAX / SLAB_LINES)

struct recording_lines recording_lines_init(void)
{
	return (struct recording_lines){.by_number = table_init(RECORDING_LINES_MAX)};
}

void recording_lines_done(struct recording_lines *lines)
{
	for (size_t i = 0; lines->slabs && i < SLABS_MAX; i++)
		free(lines->slabs[i]);
	free(lines->slabs);
	table_done(&lines->by_number);
	*lines = recording_lines_init();
}

static struct recording_line *line_of(const struct recording_lines *lines, uint64_t number)
{
	uint64_t index;

	if (table_get(&lines->by_number, number, &index) < 0)
		return NULL;
	return &lines->slabs[index / SLAB_LINES][index % SLAB_LINES];
}

static int line_make(struct recording_lines *lines, uint64_t number, struct recording_line **ret)
{
	size_t slab = lines->n / SLAB_LINES;
	int r;

	if (lines->n == RECORDING_LINES_MAX)
		return -ENOSPC;
	if (!lines->slabs)
		lines->slabs = calloc(SLABS_MAX, sizeof(*lines->slabs));
	if (!lines->slabs)
		return -ENOMEM;
	if (!lines->slabs[slab])
		lines->slabs[slab] = calloc(SLAB_LINES, sizeof(**lines->slabs));
	if (!lines->slabs[slab])
		return -ENOMEM;
	r = table_put(&lines->by_number, number, lines->n);
	if (r < 0)
		return r;
	*ret = &lines->slabs[slab][lines->n++ % SLAB_LINES];
	return 0;
}

/* The part of [address, address + size) that lies in its first line. */
static size_t part_in_line(uint64_t address, size_t size)
{
	size_t part = RECORDING_LINE_BYTES - address % RECORDING_LINE_BYTES;

	return part < size ? part : size;
}

/* The bits [from, from + n) of the word that holds bit from, no further than that word. */
static uint64_t known_mask(size_t from, size_t n)
{
	size_t start = from % 64;
	size_t bits = n < 64 - start ? n : 64 - start;

	return (bits == 64 ? UINT64_MAX : (1ULL << bits) - 1) << start;
}

static void line_learn(struct recording_line *line, size_t from, size_t n)
{
	for (size_t at = from; at < from + n; at = (at / 64 + 1) * 64)
		line->known[at / 64] |= known_mask(at, from + n - at);
}

static bool line_knows(const struct recording_line *line, size_t from, size_t n)
{
	for (size_t at = from; at < from + n; at = (at / 64 + 1) * 64) {
		uint64_t mask = known_mask(at, from + n - at);

		if ((line->known[at / 64] & mask) != mask)
			return false;
	}
	return true;
}

int recording_lines_put(struct recording_lines *lines, uint64_t address, const void *bytes,
			size_t size)
{
	const uint8_t *at = bytes;

	while (size > 0) {
		struct recording_line *line = line_of(lines, address / RECORDING_LINE_BYTES);
		size_t part = part_in_line(address, size);
		int r = line ? 0 : line_make(lines, address / RECORDING_LINE_BYTES, &line);

		if (r < 0)
			return r;
		memcpy(line->bytes + address % RECORDING_LINE_BYTES, at, part);
		line_learn(line, address % RECORDING_LINE_BYTES, part);
		line->epoch = lines->epoch;
		address += part;
		at += part;
		size -= part;
	}
	return 0;
}

bool recording_lines_same(const struct recording_lines *lines, uint64_t address, const void *bytes,
			  size_t size)
{
	const uint8_t *at = bytes;

	while (size > 0) {
		const struct recording_line *line = line_of(lines, address / RECORDING_LINE_BYTES);
		size_t part = part_in_line(address, size);
		size_t from = address % RECORDING_LINE_BYTES;

		if (!line || !line_knows(line, from, part) ||
		    memcmp(line->bytes + from, at, part) != 0)
			return false;
		address += part;
		at += part;
		size -= part;
	}
	return true;
}

void recording_lines_touch(struct recording_lines *lines, uint64_t address, size_t size)
{
	while (size > 0) {
		struct recording_line *line = line_of(lines, address / RECORDING_LINE_BYTES);
		size_t part = part_in_line(address, size);

		if (line)
			line->epoch = lines->epoch;
		address += part;
		size -= part;
	}
}

static bool line_contradicts(const struct recording_line *line, size_t from, const uint8_t *bytes,
			     size_t n)
{
	if (memcmp(line->bytes + from, bytes, n) == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (line->bytes[from + i] != bytes[i] && line_knows(line, from + i, 1))
			return true;
	return false;
}

bool recording_lines_contradict(const struct recording_lines *lines, uint64_t address,
				const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	while (size > 0) {
		const struct recording_line *line = line_of(lines, address / RECORDING_LINE_BYTES);
		size_t part = part_in_line(address, size);

		if (line && line->epoch == lines->epoch &&
		    line_contradicts(line, address % RECORDING_LINE_BYTES, at, part))
			return true;
		address += part;
		at += part;
		size -= part;
	}
	return false;
}

bool recording_lines_know(const struct recording_lines *lines, uint64_t address, size_t size)
{
	while (size > 0) {
		const struct recording_line *line = line_of(lines, address / RECORDING_LINE_BYTES);
		size_t part = part_in_line(address, size);

		if (!line || !line_knows(line, address % RECORDING_LINE_BYTES, part))
			return false;
		address += part;
		size -= part;
	}
	return true;
}

bool recording_lines_get(const struct recording_lines *lines, uint64_t address, void *buffer,
			 size_t size)
{
	uint8_t *at = buffer;

	while (size > 0) {
		const struct recording_line *line = line_of(lines, address / RECORDING_LINE_BYTES);
		size_t part = part_in_line(address, size);
		size_t from = address % RECORDING_LINE_BYTES;

		if (!line || !line_knows(line, from, part))
			return false;
		memcpy(at, line->bytes + from, part);
		address += part;
		at += part;
		size -= part;
	}
	return true;
}
