/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A live process as a source of memory: process_vm_readv, which needs no stop
 * of the target, behind a look at /proc/PID/pagemap, because reading brings
 * swapped pages back and charges them to the target (seen on Linux 6.18).
 *
 * The pagemap's descriptor is bound to the address space that it was opened
 * on: after an exec, or when the pid belongs to somebody else by now, it has
 * nothing to say, and nothing is read.  It is asked once more behind each read,
 * which goes by the pid and may have met another program.
 *
 * Where the thread that the pid names has ended before the others,
 * process_vm_readv finds no memory, but /proc/PID/mem is bound to it too.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cpython/file_mappings.h"
#include "cpython/memory.h"

#define PAGE_BYTES 4096
/* Documentation/admin-guide/mm/pagemap.rst of Linux */
#define PAGE_PRESENT (1ULL << 63)
#define PAGE_SWAPPED (1ULL << 62)

#define WINDOW_PAGES 512 /* of one look at the pagemap */
/* Pieces whose pages lie this close together share a look: an entry costs less than a call. */
#define GAP_PAGES_MAX 16

struct window { /* what the pagemap said a moment ago, for one batch only */
	uint64_t first_page;
	size_t n;
	uint64_t entries[WINDOW_PAGES];
};

struct process {
	pid_t pid; /* or a thread's id */
	int pagemap_fd, memory_fd;
	struct file_mappings *files;
};

static bool window_covers(const struct window *window, uint64_t address)
{
	return address / PAGE_BYTES - window->first_page < window->n;
}

static int window_load(struct process *process, uint64_t first_page, size_t n,
		       struct window *window)
{
	ssize_t got = pread(process->pagemap_fd, window->entries, n * sizeof(uint64_t),
			    (off_t)(first_page * sizeof(uint64_t)));

	window->n = 0;
	if (got < 0)
		return errno == EPERM || errno == EACCES ? -EPERM : -EFAULT;
	if (got == 0) /* beyond the address space, or an address space that is no more */
		return first_page >> (47 - 12) ? -EFAULT : -ESRCH;
	window->first_page = first_page;
	window->n = (size_t)got / sizeof(uint64_t);
	return 0;
}

/* May this page be read? Its address is for the file mappings. */
static int page_judge(struct process *process, uint64_t entry, uint64_t page)
{
	if (entry & PAGE_PRESENT)
		return 0;
	if (entry & PAGE_SWAPPED)
		return -ENODATA;
	return file_mappings_has(process->files, page * PAGE_BYTES) ? 0 : -EFAULT;
}

/* May all pages of a range be read? Uses and replaces *window. */
static int range_judge(struct process *process, uint64_t address, size_t size,
		       struct window *window, size_t pages_ahead, uint64_t *reterr_address)
{
	uint64_t last = (address + size - 1) / PAGE_BYTES;

	for (uint64_t page = address / PAGE_BYTES; page <= last; page++) {
		int error = 0;

		if (!window_covers(window, page * PAGE_BYTES)) {
			uint64_t want = last - page + 1 + pages_ahead;

			error = window_load(process, page,
					    want < WINDOW_PAGES ? (size_t)want : WINDOW_PAGES,
					    window);
		}
		if (!error)
			error = page_judge(process,
					   window->entries[page - window->first_page], page);
		if (error) {
			*reterr_address = page * PAGE_BYTES > address ? page * PAGE_BYTES : address;
			return error;
		}
	}
	return 0;
}

static enum reason reason_of(int error)
{
	switch (error) {
	case -ENODATA:
		return REASON_SWAPPED;
	case -EFAULT:
		return REASON_NOT_MAPPED;
	default:
		return REASON_READ_FAILED;
	}
}

static bool same_program(const struct process *process)
{
	uint64_t entry;

	return pread(process->pagemap_fd, &entry, sizeof(entry), 0) == sizeof(entry);
}

/* As process_vm_readv(2), but -errno, and -ESRCH where it read another program's memory. */
static ssize_t read_vectors(const struct process *process, const struct iovec *local,
			    const struct iovec *remote, size_t n)
{
	ssize_t got = process_vm_readv(process->pid, local, n, remote, n, 0);

	if (got < 0 && errno == ESRCH) {
		/* One piece; the caller comes back for the others. */
		got = pread(process->memory_fd, local->iov_base, remote->iov_len,
			    (off_t)(uintptr_t)remote->iov_base);
		if (got == 0)
			return -ESRCH;
	}
	if (got < 0)
		return errno == EIO ? -EFAULT : -errno;
	return same_program(process) ? got : -ESRCH;
}

static int process_read(void *context, uint64_t address, void *buffer, size_t size,
			struct fault *reterr_fault)
{
	struct process *process = context;
	struct window window = { .n = 0 };
	uint64_t where = address;
	struct iovec local = { buffer, size };
	struct iovec remote = { (void *)address, size };
	int error = range_judge(process, address, size, &window, 0, &where);

	if (!error) {
		ssize_t got = read_vectors(process, &local, &remote, 1);

		if (got < 0)
			error = (int)got;
		else if ((size_t)got < size)
			error = -EFAULT;
	}
	return error ? fault_set(reterr_fault, error, reason_of(error), where, NULL) : 0;
}

/* How many pages behind piece i a look at the pagemap should take in for its successors. */
static size_t pages_ahead(struct memory_piece *const *pieces, size_t i, size_t n)
{
	uint64_t start = (pieces[i]->address + pieces[i]->size - 1) / PAGE_BYTES, end = start;

	for (size_t k = i + 1; k < n; k++) {
		uint64_t first = pieces[k]->address / PAGE_BYTES;
		uint64_t last = (pieces[k]->address + pieces[k]->size - 1) / PAGE_BYTES;

		if ((first > end && first - end > GAP_PAGES_MAX) || last - start >= WINDOW_PAGES)
			break;
		end = last > end ? last : end;
	}
	return (size_t)(end - start);
}

static int compare_pieces(const void *left, const void *right)
{
	uint64_t one = (*(struct memory_piece *const *)left)->address;
	uint64_t other = (*(struct memory_piece *const *)right)->address;

	return (one > other) - (one < other);
}

/*
 * Pieces that may be read, by address; the others get their error. Objects are
 * asked for in any order: each would take a look at the pagemap of its own.
 * Returns how many.
 */
static size_t gather(struct process *process, struct memory_piece *pieces, size_t n,
		     struct memory_piece **ret)
{
	struct memory_piece *sorted[IOV_MAX];
	struct window window = { .n = 0 };
	size_t n_sorted = 0, n_readable = 0;

	for (size_t i = 0; i < n; i++) {
		struct memory_piece *piece = &pieces[i];

		piece->error = piece->address + piece->size < piece->address ? -EFAULT : 0;
		if (piece->size && !piece->error)
			sorted[n_sorted++] = piece;
	}
	qsort(sorted, n_sorted, sizeof(sorted[0]), compare_pieces);
	for (size_t i = 0; i < n_sorted; i++) {
		struct memory_piece *piece = sorted[i];
		size_t ahead = window_covers(&window, piece->address)
				       ? 0
				       : pages_ahead(sorted, i, n_sorted);
		uint64_t where;

		piece->error = range_judge(process, piece->address, piece->size, &window, ahead,
					   &where);
		if (!piece->error)
			ret[n_readable++] = piece;
	}
	return n_readable;
}

/* At most IOV_MAX pieces; where one fails, a call ends short, and the next begins behind it. */
static void read_batch(struct process *process, struct memory_piece *pieces, size_t n)
{
	struct memory_piece *readable[IOV_MAX];
	struct iovec local[IOV_MAX], remote[IOV_MAX];
	size_t n_iovecs = gather(process, pieces, n, readable);
	size_t done = 0;

	for (size_t i = 0; i < n_iovecs; i++) {
		local[i] = (struct iovec){ readable[i]->buffer, readable[i]->size };
		remote[i] = (struct iovec){ (void *)readable[i]->address, readable[i]->size };
	}
	while (done < n_iovecs) {
		ssize_t got =
			read_vectors(process, local + done, remote + done, n_iovecs - done);
		size_t left = got < 0 ? 0 : (size_t)got;
		size_t before = done;

		while (done < n_iovecs && left >= local[done].iov_len)
			left -= local[done++].iov_len;
		if (done < n_iovecs && (left > 0 || done == before))
			readable[done++]->error = got < 0 ? (int)got : -EFAULT;
	}
}

static void process_read_pieces(void *context, struct memory_piece *pieces, size_t n)
{
	for (size_t i = 0; i < n; i += IOV_MAX)
		read_batch(context, pieces + i, n - i < IOV_MAX ? n - i : IOV_MAX);
}

static void process_free(void *context)
{
	struct process *process = context;

	if (!process)
		return;
	if (process->pagemap_fd >= 0)
		close(process->pagemap_fd);
	if (process->memory_fd >= 0)
		close(process->memory_fd);
	file_mappings_free(process->files);
	free(process);
}
DEFINE_CLEANUP(struct process *, process_free)

static int open_of(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return fd;
}

int memory_new_process(pid_t pid, struct memory **ret, struct fault *reterr_fault)
{
	static const struct memory_source source = { process_read, process_read_pieces,
						     process_free };
	CLEANUP(process_free) struct process *process = calloc(1, sizeof(*process));
	int error;

	if (!process)
		return -ENOMEM;
	process->pid = pid;
	process->memory_fd = -1;
	process->pagemap_fd = open_of(pid, "pagemap");
	if (process->pagemap_fd < 0)
		return fault_set(reterr_fault, process->pagemap_fd, REASON_READ_FAILED, 0,
				 "pagemap");
	process->memory_fd = open_of(pid, "mem");
	if (process->memory_fd < 0)
		return fault_set(reterr_fault, process->memory_fd, REASON_READ_FAILED, 0, "mem");
	if (!same_program(process)) /* it ran another one, or none, when they were opened */
		return fault_set(reterr_fault, -ESRCH, REASON_READ_FAILED, 0, "pagemap");
	error = file_mappings_new(pid, &process->files);
	if (error)
		return error;
	error = memory_new(&source, process, ret);
	if (!error)
		TAKE_PTR(process);
	return error;
}
