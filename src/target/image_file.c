/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The file's bytes: a snapshot in which each page is read at most once. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/image_private.h"

#define PAGE 4096ULL

static bool page_was_read(const struct image *image, uint64_t page)
{
	return image->pages_read[page / 8] & (1U << (page % 8));
}

static void page_mark_read(struct image *image, uint64_t page)
{
	image->pages_read[page / 8] |= (uint8_t)(1U << (page % 8));
}

static int read_at(int fd, uint8_t *buffer, uint64_t size, uint64_t offset,
		   struct fault *reterr_fault)
{
	while (size > 0) {
		ssize_t n = pread(fd, buffer, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_set(reterr_fault, -errno, REASON_READ_FAILED, offset, "file");
		if (n == 0)
			return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TRUNCATED,
					 offset, "file");
		buffer += n;
		size -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/*
 * Page faults are most of the cost of the copy: have them taken at once.
 * Only advice: MADV_POPULATE_WRITE came with 5.14, and huge pages may be off.
 */
static void populate(uint8_t *start, uint64_t size)
{
	uint8_t *first_page = start - (uintptr_t)start % PAGE;

	madvise(first_page, size + (uint64_t)(start - first_page), MADV_POPULATE_WRITE);
}

/* Reads the pages [first, end), none of which was read before. */
static int read_pages(struct image *image, uint64_t first, uint64_t end, struct fault *reterr_fault)
{
	uint64_t offset = first * PAGE;
	uint64_t size = (end - first) * PAGE;
	int r;

	if (size > image->file.size - offset)
		size = image->file.size - offset;
	if (size > IMAGE_READ_MAX - image->read_bytes)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE, offset,
				 "file");
	populate((uint8_t *)image->mapping + offset, size);
	r = read_at(image->fd, (uint8_t *)image->mapping + offset, size, offset, reterr_fault);
	if (r < 0)
		return r;
	image->read_bytes += size;
	for (uint64_t page = first; page < end; page++)
		page_mark_read(image, page);
	return 0;
}

/* Reads those of the pages [first, end) that weren't read yet, in runs. */
static int read_missing_pages(struct image *image, uint64_t first, uint64_t end,
			      struct fault *reterr_fault)
{
	while (first < end) {
		uint64_t run_end = first;
		int r;

		if (page_was_read(image, first)) {
			first++;
			continue;
		}
		while (run_end < end && !page_was_read(image, run_end))
			run_end++;
		r = read_pages(image, first, run_end, reterr_fault);
		if (r < 0)
			return r;
		first = run_end;
	}
	return 0;
}

int image_view(struct image *image, uint64_t offset, uint64_t size, const char *field,
	       struct bytes *ret, struct fault *reterr_fault)
{
	struct bytes view;
	int r;

	if (!bytes_slice(image->file, offset, size, &view))
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TRUNCATED, offset,
				 field);
	if (image->pages_read && size > 0) {
		r = read_missing_pages(image, offset / PAGE, (offset + size + PAGE - 1) / PAGE,
				       reterr_fault);
		if (r < 0)
			return r;
	}
	*ret = view;
	return 0;
}

int image_file_open(struct image *image, int fd, struct fault *reterr_fault)
{
	struct stat status;
	uint64_t size;
	void *mapping;

	if (fstat(fd, &status) < 0)
		return fault_set(reterr_fault, -errno, REASON_READ_FAILED, 0, "file");
	if (!S_ISREG(status.st_mode))
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_UNSUPPORTED, 0,
				 "not a regular file");
	size = (uint64_t)status.st_size;
	if (size > IMAGE_SIZE_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE, size,
				 "file");
	if (size == 0)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TRUNCATED, 0, "file");
	image->pages_read = calloc(1, size / PAGE / 8 + 1);
	if (!image->pages_read)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "file");
	mapping = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mapping == MAP_FAILED)
		return fault_set(reterr_fault, -errno, REASON_READ_FAILED, 0, "file");
	image->mapping = mapping;
	image->file = (struct bytes){mapping, size};
	image->fd = fd;
	return 0;
}

void image_file_close(struct image *image)
{
	if (image->mapping)
		munmap(image->mapping, image->file.size);
	free(image->pages_read);
	image->mapping = NULL;
	image->pages_read = NULL;
}
