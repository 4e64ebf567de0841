/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/images.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

/* The last asked for first. */
struct images {
	struct {
		struct stat status;
		struct image *image;
	} items[IMAGES_MAX];
	size_t n;
};

int images_new(struct images **ret)
{
	struct images *images = calloc(1, sizeof(*images));

	if (!images)
		return -ENOMEM;
	*ret = images;
	return 0;
}

void images_free(struct images *images)
{
	if (!images)
		return;
	for (size_t i = 0; i < images->n; i++)
		image_free(images->items[i].image);
	free(images);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       same_time(&a->st_mtim, &b->st_mtim) && same_time(&a->st_ctim, &b->st_ctim);
}

static void put_first(struct images *images, const struct stat *status, struct image *image,
		      size_t hole)
{
	memmove(images->items + 1, images->items, hole * sizeof(*images->items));
	images->items[0].status = *status;
	images->items[0].image = image;
}

int images_open(struct images *images, int fd, struct image **ret, struct fault *reterr_fault)
{
	struct stat status;
	size_t at = 0;
	int r;

	if (!images || fstat(fd, &status) < 0)
		return image_new(fd, ret, reterr_fault);
	while (at < images->n && !same_file(&images->items[at].status, &status))
		at++;
	if (at < images->n) {
		*ret = image_ref(images->items[at].image);
		put_first(images, &status, images->items[at].image, at);
		return 0;
	}
	r = image_new(fd, ret, reterr_fault);
	if (r < 0)
		return r;
	if (images->n == IMAGES_MAX)
		image_free(images->items[--images->n].image);
	put_first(images, &status, image_ref(*ret), images->n++);
	return 0;
}
