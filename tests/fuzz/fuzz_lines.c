/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Fuzzes the three line tables.  Input: format, first line (4 bytes), offset
 * (4 bytes), table.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/code.h"

#define UNTOUCHED 0xfeedbeefu

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef int line_function(const uint8_t *table, size_t size, uint32_t first_line,
			  uint32_t byte_offset, uint32_t *ret_line);

static line_function *const formats[] = {
	line_of_lnotab,
	line_of_linetable310,
	line_of_locations311,
};

struct parameters {
	uint8_t format;
	uint32_t first_line, offset;
} __attribute__((packed));

static void check(int condition)
{
	if (!condition)
		abort();
}

/* The answer is one of the three that the header promises, and the same each time. */
static int ask(line_function *line_of, const uint8_t *table, size_t size, uint32_t first_line,
	       uint32_t offset, uint32_t *ret)
{
	uint32_t line = UNTOUCHED, again = UNTOUCHED;
	int error = line_of(table, size, first_line, offset, &line);

	check(error == 0 || error == -EBADMSG);
	check(error == 0 ? line <= INT32_MAX : line == UNTOUCHED);
	check(line_of(table, size, first_line, offset, &again) == error && again == line);
	*ret = line;
	return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parameters parameters;
	line_function *line_of;
	uint8_t *table;
	uint32_t line, longer;

	if (size < sizeof(parameters))
		return 0;
	memcpy(&parameters, data, sizeof(parameters));
	size -= sizeof(parameters);
	line_of = formats[parameters.format % (sizeof(formats) / sizeof(formats[0]))];
	table = malloc(size + 2); /* of its very size, so that the sanitizer sees a byte too many */
	memcpy(table, data + sizeof(parameters), size);
	if (ask(line_of, table, size, parameters.first_line, parameters.offset, &line) == 0 &&
	    line != 0 && line_of != line_of_lnotab) {
		/* What was found in a table stays true whatever is appended. */
		memset(table + size, 0x80, 2);
		check(ask(line_of, table, size + 2, parameters.first_line, parameters.offset,
			  &longer) == 0);
		check(longer == line);
	}
	free(table);
	return 0;
}
