/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The files behind mappings: grouped, opened, and set against their images. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/table.h"
#include "target/maps_private.h"
#include "target/proc.h"

#define PAGE 4096ULL
/* O_NONBLOCK: what the path leads to by now may be a pipe that nobody writes to. */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

static bool is_executable_file(const struct maps_entry *entry)
{
	return entry->inode != 0 && (entry->permissions & MAPS_EXECUTE);
}

static bool same_file(const struct maps_entry *a, const struct maps_entry *b)
{
	return a->inode == b->inode && a->device_major == b->device_major &&
	       a->device_minor == b->device_minor;
}

static uint64_t file_key(const struct maps_entry *entry)
{
	uint64_t device = (uint64_t)entry->device_major << 32 | entry->device_minor;

	return hash_combine(hash_u64(device), entry->inode);
}

/* by_file: file_key() -> index + 1; of two files with one key the later is left out. */
static int add_text(struct maps_file *files, size_t *n, struct table *by_file,
		    const struct maps_entry *entry)
{
	const uint64_t *known = table_find(by_file, file_key(entry));
	int r;

	if (known) {
		struct maps_file *file = &files[*known];

		if (same_file(file->text, entry))
			file->n_text++;
		return 0;
	}
	r = table_put(by_file, file_key(entry), *n);
	if (r < 0)
		return r;
	files[(*n)++] = (struct maps_file){
		.text = entry, .n_text = 1, .start = entry->start, .end = entry->end};
	return 0;
}

static void widen(struct maps_file *file, const struct maps_entry *entry)
{
	if (!same_file(file->text, entry))
		return;
	if (entry->start < file->start)
		file->start = entry->start;
	if (entry->end > file->end)
		file->end = entry->end;
}

int maps_executable_files(const struct maps *maps, struct maps_file **ret, size_t *ret_n)
{
	_cleanup_table_ struct table by_file = table_init(MAPS_ENTRIES_MAX);
	_cleanup_free_ struct maps_file *files = calloc(maps->n + 1, sizeof(*files));
	size_t n = 0;

	if (!files)
		return -ENOMEM;
	for (size_t i = 0; i < maps->n; i++) {
		int r = 0;

		if (is_executable_file(&maps->entries[i]))
			r = add_text(files, &n, &by_file, &maps->entries[i]);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < maps->n; i++) {
		const uint64_t *file = table_find(&by_file, file_key(&maps->entries[i]));

		if (file)
			widen(&files[*file], &maps->entries[i]);
	}
	*ret = TAKE_PTR(files);
	*ret_n = n;
	return 0;
}

/*
 * The kernel maps whole pages: a segment is found at the page of the file that
 * it begins in, moved down by the same amount as its address.
 */
int maps_load_bias(const struct maps_entry *entry, const struct image *image, uint64_t *ret_bias)
{
	const struct image_segment *segments;
	size_t n = image_segments(image, &segments);

	for (size_t i = 0; i < n; i++) {
		const struct image_segment *segment = &segments[i];
		uint64_t first_page = segment->offset - segment->offset % PAGE;
		uint64_t end = segment->offset + segment->file_size;

		if (!(segment->flags & PF_X) || entry->offset < first_page || entry->offset >= end)
			continue;
		*ret_bias = entry->start - (entry->offset - first_page) -
			    (segment->vaddr - segment->vaddr % PAGE);
		return 0;
	}
	return -ENOENT;
}

static int check_file(int fd, const struct maps_entry *entry, bool inode_is_proof)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -ESTALE;
	/* Not the device: on btrfs and overlayfs stat and maps name different ones. */
	if (inode_is_proof && status.st_ino != entry->inode)
		return -ESTALE;
	return 0;
}

/* The mapping itself as a link: the very file, deleted or not. Takes CAP_CHECKPOINT_RESTORE. */
static int open_map_file(pid_t tid, const struct maps_entry *entry, int *ret_fd,
			 char ret_path[static MAPS_FILE_PATH_MAX])
{
	_cleanup_close_ int fd = -1;
	char path[PROC_PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, tid, entry->start,
		 entry->end);
	fd = open(path, OPEN_FLAGS);
	if (fd < 0)
		return -errno;
	r = check_file(fd, entry, false);
	if (r < 0)
		return r;
	memcpy(ret_path, path, strlen(path) + 1);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Links in the path are followed as the target would, never out into our own root. */
static int open_in_root(int root_fd, const char *path)
{
	struct open_how how = {.flags = OPEN_FLAGS, .resolve = RESOLVE_IN_ROOT};
	long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* suffix: the file may really be called "x (deleted)". */
static int open_by_path(pid_t tid, const struct maps_entry *entry, const char *suffix, int *ret_fd,
			char ret_path[static MAPS_FILE_PATH_MAX])
{
	_cleanup_close_ int root_fd = -1;
	_cleanup_close_ int fd = -1;
	char path[MAPS_FILE_PATH_MAX];
	int prefix, length, r;

	length = snprintf(path, sizeof(path), "/proc/%d/root%n%s%s", tid, &prefix, entry->path,
			  suffix);
	if (length < 0 || (size_t)length >= sizeof(path))
		return -ENAMETOOLONG;
	if (path[prefix] != '/')
		return -ENOENT;
	path[prefix] = '\0';
	root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return -errno;
	path[prefix] = '/';
	fd = open_in_root(root_fd, path + prefix);
	if (fd < 0)
		return fd;
	r = check_file(fd, entry, true);
	if (r < 0)
		return r;
	memcpy(ret_path, path, (size_t)length + 1);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int maps_open(const struct maps *maps, const struct maps_entry *entry, int *ret_fd,
	      char ret_path[static MAPS_FILE_PATH_MAX])
{
	int r;

	if (entry->inode == 0 || maps->tid == 0)
		return -ENOENT;
	r = open_map_file(maps->tid, entry, ret_fd, ret_path);
	if (r == 0)
		return 0;
	r = open_by_path(maps->tid, entry, "", ret_fd, ret_path);
	if (r < 0 && entry->deleted)
		r = open_by_path(maps->tid, entry, " (deleted)", ret_fd, ret_path);
	return r;
}

bool maps_entry_names_python(const struct maps_entry *entry)
{
	const char *slash = strrchr(entry->path, '/');
	const char *name = slash ? slash + 1 : entry->path;

	if (!is_executable_file(entry))
		return false;
	if (strncmp(name, "lib", 3) == 0)
		name += 3;
	return strncmp(name, "python", 6) == 0;
}
