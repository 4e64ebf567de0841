/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "target/image_private.h"

DEFINE_CLEANUP(struct image *, image_free)

void image_free(struct image *image)
{
	if (!image || image->shared-- > 0)
		return;
	free(image->sections);
	free(image->needed);
	image_symbols_done(&image->symbols);
	free(image->slots);
	free(image->functions);
	free(image->code);
	image_file_close(image);
	free(image);
}

struct image *image_ref(struct image *image)
{
	image->shared++;
	return image;
}

typedef int image_step(struct image *image, struct fault *reterr_fault);

/* In the order in which they need each other. */
static image_step *const steps[] = {
	image_read_segments, image_read_build_id,    image_read_sections,  image_read_dynamic,
	image_read_symbols,  image_read_relocations, image_read_functions, image_make_code_ranges,
};

static int image_read(struct image *image, struct fault *reterr_fault)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		int r = steps[i](image, reterr_fault);

		if (r < 0)
			return r;
	}
	return 0;
}

int image_new(int fd, struct image **ret, struct fault *reterr_fault)
{
	CLEANUP(image_free) struct image *image = calloc(1, sizeof(*image));
	int r;

	if (!image)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "file");
	r = image_file_open(image, fd, reterr_fault);
	if (r < 0)
		return r;
	r = image_read(image, reterr_fault);
	if (r < 0)
		return r;
	image->fd = -1;
	*ret = TAKE_PTR(image);
	return 0;
}

int image_new_from_bytes(const void *bytes, size_t size, struct image **ret,
			 struct fault *reterr_fault)
{
	CLEANUP(image_free) struct image *image = calloc(1, sizeof(*image));
	int r;

	if (!image)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "file");
	image->file = (struct bytes){bytes, size};
	image->fd = -1;
	if (size > IMAGE_SIZE_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE, size,
				 "file");
	r = image_read(image, reterr_fault);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(image);
	return 0;
}

uint64_t image_file_size(const struct image *image)
{
	return image->file.size;
}

bool image_is_position_independent(const struct image *image)
{
	return image->header.e_type == ET_DYN;
}
