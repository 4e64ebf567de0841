/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <string.h>

#include "cpython/interpreter_private.h"

/*
 * The warning's format in Python/jit.c (3.13-3.15), which is compiled only with
 * --enable-experimental-jit: a stripped interpreter has no symbol to ask.
 */
static const char jit_warning[] = "JIT %s (%d)";

static bool in_segment(const struct image *image, const struct image_segment *segment)
{
	const void *bytes = image_bytes(image, segment->vaddr, segment->file_size);

	return bytes && memmem(bytes, segment->file_size, jit_warning, sizeof(jit_warning));
}

bool jit_built(const struct image *image)
{
	const struct image_segment *segments;
	struct image_symbol symbol;
	size_t n = image_segments(image, &segments);

	if (!image_symbol(image, "_PyJIT_Compile", &symbol))
		return true;
	for (size_t i = 0; i < n; i++)
		if (in_segment(image, &segments[i]))
			return true;
	return false;
}
