/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Fuzzes the reader of code objects on an invented memory.  Input: the layout's
 * row, the frame's position relative to the code (2 bytes), then what lies from
 * IMAGE_AT on; the code object is at its start.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/code.h"
#include "unit/cpython/invented.h"

#define IMAGE_AT 0x1000ull
#define MAX_CODES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

/* RFC 3629, in few words: the decoder's own writing has to be well-formed. */
static void check_utf8(const char *text)
{
	const uint8_t *at = (const uint8_t *)text;

	check(strlen(text) < CODE_NAME_MAX_BYTES);
	while (*at) {
		int n = *at < 0x80 ? 0 : *at >= 0xf0 ? 3 : *at >= 0xe0 ? 2 : 1;

		check(*at < 0x80 || (*at >= 0xc2 && *at <= 0xf4));
		check(!(*at == 0xed && at[1] >= 0xa0)); /* surrogates */
		for (at++; n; n--, at++)
			check((*at & 0xc0) == 0x80);
	}
}

static void check_location(const struct code_location *location)
{
	check_utf8(location->function);
	check_utf8(location->file);
	check(location->line <= INT32_MAX && location->first_line <= INT32_MAX);
}

static void check_same(const struct code_location *a, const struct code_location *b)
{
	check(a->function == b->function && a->file == b->file && a->line == b->line &&
	      a->first_line == b->first_line);
}

static void check_cache(struct code_cache *cache, uint64_t position, struct invented *invented)
{
	struct code_location first, again;
	struct fault fault = { 0 };

	if (code_cache_resolve(cache, IMAGE_AT, position, &first, &fault) < 0) {
		check(fault.reason == REASON_CODE_UNREADABLE ||
		      fault.reason == REASON_CODE_CACHE_FULL);
		check(fault.where == IMAGE_AT);
		return;
	}
	check_location(&first);
	check(code_cache_resolve(cache, IMAGE_AT, position, &again, NULL) == 0);
	check_same(&first, &again);
	invented->n = 0; /* gone; it is remembered */
	check(code_cache_resolve(cache, IMAGE_AT, position, &again, NULL) == 0);
	check_same(&first, &again);
	check(code_cache_forget(cache, IMAGE_AT) && !code_cache_forget(cache, IMAGE_AT));
	check(code_cache_resolve(cache, IMAGE_AT, position, &again, NULL) < 0);
	check_location(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct layout *rows;
	size_t n_rows = layout_rows(&rows);
	struct invented invented = { 0 };
	struct memory *memory;
	struct code_cache *cache;
	uint64_t position;
	int16_t offset;
	uint8_t *image;

	if (size < 3)
		return 0;
	rows += data[0] % n_rows;
	memcpy(&offset, data + 1, sizeof(offset));
	position = rows->minor >= 11 ? IMAGE_AT + rows->code_code + (uint64_t)offset
				     : (uint64_t)offset;
	image = malloc(size - 3 + 1);
	memcpy(image, data + 3, size - 3);
	invented_add(&invented, IMAGE_AT, image, size - 3);
	check(invented_memory_new(&invented, &memory) == 0);
	check(code_cache_new_in(memory, rows, 0, MAX_CODES, &cache) == 0);
	check_cache(cache, position, &invented);
	code_cache_free(cache);
	memory_free(memory);
	free(image);
	return 0;
}
