/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/proc.h"
#include "target/process.h"

#define BATCH_PAGES 512

/* Documentation/admin-guide/mm/pagemap.rst of Linux */
#define ENTRY_PRESENT (1ULL << 63)
#define ENTRY_SWAPPED (1ULL << 62)
#define ENTRY_FILE_OR_SHARED (1ULL << 61)

struct pagemap {
	int fd;
};

int pagemap_new(pid_t pid, struct pagemap **ret, struct fault *reterr_fault)
{
	_cleanup_close_ int fd = -1;
	struct pagemap *pagemap;
	char path[PROC_PATH_MAX];
	pid_t tid;
	int r = process_living_thread(pid, &tid);

	if (r < 0)
		return fault_set(reterr_fault, r, REASON_READ_FAILED, 0, "pagemap");
	snprintf(path, sizeof(path), "/proc/%d/task/%d/pagemap", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fault_set(reterr_fault, errno == ENOENT ? -ESRCH : -errno,
				 REASON_READ_FAILED, 0, "pagemap");
	pagemap = malloc(sizeof(*pagemap));
	if (!pagemap)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "pagemap");
	pagemap->fd = TAKE_FD(fd);
	*ret = pagemap;
	return 0;
}

void pagemap_free(struct pagemap *pagemap)
{
	if (!pagemap)
		return;
	close(pagemap->fd);
	free(pagemap);
}

static enum pagemap_state state_of(uint64_t entry)
{
	if (entry & ENTRY_PRESENT)
		return entry & ENTRY_FILE_OR_SHARED ? PAGEMAP_FILE : PAGEMAP_PRIVATE;
	return entry & ENTRY_SWAPPED ? PAGEMAP_SWAPPED : PAGEMAP_ABSENT;
}

/* Up to n ≤ BATCH_PAGES states from page on; how many, at least one, or -errno. */
static ssize_t read_batch(const struct pagemap *pagemap, uint64_t page, size_t n,
			  uint8_t *ret_states)
{
	uint64_t entries[BATCH_PAGES];
	ssize_t got = pread(pagemap->fd, entries, n * sizeof(entries[0]),
			    (off_t)(page * sizeof(entries[0])));

	if (got < 0)
		return -errno;
	/* Nothing at all: behind the last possible address, or no address space any more. */
	if ((size_t)got < sizeof(entries[0]))
		return page * PAGEMAP_PAGE_BYTES >> 47 ? -EFAULT : -ESRCH;
	n = (size_t)got / sizeof(entries[0]);
	for (size_t i = 0; i < n; i++)
		ret_states[i] = (uint8_t)state_of(entries[i]);
	return (ssize_t)n;
}

static size_t batch_of(uint64_t n_pages)
{
	return n_pages < BATCH_PAGES ? (size_t)n_pages : BATCH_PAGES;
}

int pagemap_states(const struct pagemap *pagemap, uint64_t address, size_t n_pages,
		   uint8_t *ret_states, struct fault *reterr_fault)
{
	uint64_t page = address / PAGEMAP_PAGE_BYTES;

	for (size_t done = 0; done < n_pages;) {
		ssize_t n = read_batch(pagemap, page + done, batch_of(n_pages - done),
				       ret_states + done);

		if (n < 0)
			return fault_set(reterr_fault, (int)n, REASON_READ_FAILED,
					 (page + done) * PAGEMAP_PAGE_BYTES, "pagemap");
		done += (size_t)n;
	}
	return 0;
}

static void count_state(struct pagemap_counts *counts, uint8_t state)
{
	uint64_t *const counters[] = {
		[PAGEMAP_ABSENT] = &counts->absent,
		[PAGEMAP_SWAPPED] = &counts->swapped,
		[PAGEMAP_FILE] = &counts->file,
		[PAGEMAP_PRIVATE] = &counts->private,
	};

	++*counters[state];
}

int pagemap_count(const struct pagemap *pagemap, uint64_t start, uint64_t end,
		  struct pagemap_counts *ret, struct fault *reterr_fault)
{
	uint64_t page = start / PAGEMAP_PAGE_BYTES;
	uint64_t last = start < end ? (end - 1) / PAGEMAP_PAGE_BYTES : 0;
	struct pagemap_counts counts = {0};
	uint8_t states[BATCH_PAGES];

	while (start < end && page <= last) {
		ssize_t n = read_batch(pagemap, page, batch_of(last - page + 1), states);

		if (n < 0)
			return fault_set(reterr_fault, (int)n, REASON_READ_FAILED,
					 page * PAGEMAP_PAGE_BYTES, "pagemap");
		for (ssize_t i = 0; i < n; i++)
			count_state(&counts, states[i]);
		page += (uint64_t)n;
	}
	*ret = counts;
	return 0;
}
