/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Fuzzes the ELF reader: whatever opens must answer every question within its bounds. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "target/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

static int visit_symbol(const struct image_symbol *symbol, void *context)
{
	const struct image *image = context;
	struct image_symbol found;
	uint64_t offset;

	check(image_symbol(image, symbol->name, &found) == 0);
	image_text_offset(image, symbol->vaddr, &offset);
	image_bytes(image, symbol->vaddr, symbol->size);
	return 0;
}

static uint8_t sum_range(const struct image *image, const struct image_range *range)
{
	const uint8_t *bytes = image_bytes(image, range->start, range->end - range->start);
	uint8_t sum = 0;

	for (uint64_t i = 0; bytes && i < range->end - range->start; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return sum;
}

/* Ascending, none empty, readable from the first to the last byte. */
static void check_ranges(const struct image *image, const struct image_range *ranges, size_t n,
			 int disjoint)
{
	volatile uint8_t sink = 0;

	for (size_t i = 0; i < n; i++) {
		check(ranges[i].start < ranges[i].end);
		check(i == 0 || ranges[i - 1].start <= ranges[i].start);
		check(i == 0 || !disjoint || ranges[i - 1].end < ranges[i].start);
		sink = (uint8_t)(sink + sum_range(image, &ranges[i]));
	}
}

static void check_segments(const struct image *image)
{
	const struct image_segment *segments;
	size_t n = image_segments(image, &segments);

	for (size_t i = 0; i < n; i++) {
		uint64_t target;

		for (uint64_t at = 0; at < segments[i].file_size && at < 4096; at += 8)
			image_slot_target(image, segments[i].vaddr + at, &target);
		image_bytes(image, segments[i].vaddr, segments[i].file_size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct image_range *ranges;
	uint8_t id[IMAGE_BUILD_ID_MAX];
	struct image_range range;
	struct image *image;
	uint64_t align;
	size_t n;

	if (image_new_from_bytes(data, size, &image, NULL) < 0)
		return 0;
	n = image_code_ranges(image, &ranges);
	check_ranges(image, ranges, n, 1);
	n = image_function_ranges(image, &ranges);
	check_ranges(image, ranges, n, 0);
	check_segments(image);
	image_symbols_visit(image, visit_symbol, image);
	for (n = 0; image_needed(image, n); n++)
		;
	image_section(image, ".PyRuntime", &range);
	image_thread_local(image, &range, &align);
	check(image_build_id(image, id) <= IMAGE_BUILD_ID_MAX);
	image_free(image);
	return 0;
}
