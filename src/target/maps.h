/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The mappings of a process (/proc/PID/maps), the files behind them, and how
 * far each was moved from the addresses that its file speaks of.
 */
#ifndef PYLEAKD_TARGET_MAPS_H
#define PYLEAKD_TARGET_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fault.h"
#include "target/image.h"

#define MAPS_BYTES_MAX (64U << 20) /* of the text */
#define MAPS_ENTRIES_MAX (1U << 20)
#define MAPS_FILE_PATH_MAX 4200 /* a path of PATH_MAX below /proc/PID/root, NUL included */

enum {
	MAPS_READ = 1,
	MAPS_WRITE = 2,
	MAPS_EXECUTE = 4,
	MAPS_SHARED = 8,
};

struct maps_entry {
	uint64_t start, end; /* addresses; end is the first one behind */
	uint64_t offset; /* in the file, bytes */
	uint64_t inode; /* 0: no file */
	uint32_t device_major, device_minor; /* of the file system; may differ from stat's */
	uint32_t permissions; /* MAPS_* */
	/* "" anonymous, "[heap]" …, or a file as the process sees it; owned by the maps. */
	const char *path;
	bool deleted; /* " (deleted)" stood behind the path and was cut off */
};

struct maps;

/*
 * Text as the kernel writes it, ascending by address; the text may go
 * afterwards.  -EBADMSG: it is something else, reterr_fault->where is the line's
 * offset.
 */
int maps_parse(const char *text, size_t size, struct maps **ret, struct fault *reterr_fault);
/* Of a process, also of one whose first thread has ended. A kernel thread has no entries. */
int maps_load(pid_t pid, struct maps **ret, struct fault *reterr_fault);
void maps_free(struct maps *maps);

size_t maps_entries(const struct maps *maps, const struct maps_entry **ret);
/* The mapping that holds address; NULL: none. */
const struct maps_entry *maps_find(const struct maps *maps, uint64_t address);

/* A file of which at least one mapping is executable. */
struct maps_file {
	const struct maps_entry *text; /* its executable mapping at the lowest address */
	size_t n_text; /* executable mappings */
	uint64_t start, end; /* from its lowest to its highest mapping of any kind */
};
/*
 * Files (by device and inode) in ascending order of their text.  The array is
 * the caller's, to free(); it points into maps.
 */
int maps_executable_files(const struct maps *maps, struct maps_file **ret, size_t *ret_n);

/*
 * How far the image was moved: address = vaddr + bias.  entry: an executable
 * mapping of the image's file.  -ENOENT: none of its executable segments is
 * mapped there.
 */
int maps_load_bias(const struct maps_entry *entry, const struct image *image,
		   uint64_t *ret_bias);

/*
 * Opens the file behind a mapping, deleted or replaced ones too, whatever the
 * process's mount namespace; maps: from maps_load().  ret_path leads there as
 * long as the mapping exists: for the kernel, to attach to, and for other
 * processes of ours.  The descriptor is the caller's.  -ESTALE: the path now
 * leads to another file; -ENOENT: there is no file behind it.
 */
int maps_open(const struct maps *maps, const struct maps_entry *entry, int *ret_fd,
	      char ret_path[static MAPS_FILE_PATH_MAX]);

/* Is it called like an interpreter or its library: "python3.11", "libpython3.11.so.1.0"? */
bool maps_entry_names_python(const struct maps_entry *entry);

#endif
