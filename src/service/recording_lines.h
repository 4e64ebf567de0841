/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a recording knows of the target's memory: its last known bytes, in
 * lines, with a bit for each byte that is known.  The writer has the same as
 * the reader will have, which is why it can leave out what does not change.
 *
 *	table: address / 256 → line     line: known 256 bits │ 256 bytes
 */
#ifndef PYLEAKD_SERVICE_RECORDING_LINES_H
#define PYLEAKD_SERVICE_RECORDING_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/table.h"

#define RECORDING_LINE_BYTES 256
#define RECORDING_LINES_MAX (1u << 22) /* 1.2 GB; a recording that knows more is cut there */

struct recording_line {
	uint64_t epoch; /* in which it was last read */
	uint64_t known[RECORDING_LINE_BYTES / 64];
	uint8_t bytes[RECORDING_LINE_BYTES];
};

struct recording_lines {
	struct table by_number; /* address / RECORDING_LINE_BYTES → index */
	struct recording_line **slabs;
	size_t n;
	uint64_t epoch; /* its user's to count up: since when contradictions count */
};

struct recording_lines recording_lines_init(void);
void recording_lines_done(struct recording_lines *lines);

/*
 * Sets bytes; their lines count as read in this epoch. -ENOSPC: beyond
 * RECORDING_LINES_MAX; -ENOMEM: a part of them may be set.
 */
int recording_lines_put(struct recording_lines *lines, uint64_t address, const void *bytes,
			size_t size);
/* Whether all of these bytes are known to be so. */
bool recording_lines_same(const struct recording_lines *lines, uint64_t address, const void *bytes,
			  size_t size);
/* Marks those lines of the range that there are as read in this epoch. */
void recording_lines_touch(struct recording_lines *lines, uint64_t address, size_t size);
/* Whether one of these bytes was otherwise, in a line that was read in this epoch. */
bool recording_lines_contradict(const struct recording_lines *lines, uint64_t address,
				const void *bytes, size_t size);
/* Whether all bytes of the range are known. */
bool recording_lines_know(const struct recording_lines *lines, uint64_t address, size_t size);
/* False: not all of them are known. The buffer's content is undefined then. */
bool recording_lines_get(const struct recording_lines *lines, uint64_t address, void *buffer,
			 size_t size);

#endif
