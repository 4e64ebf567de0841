/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * An ELF file on disk, read only: sections, segments, symbols, relocations,
 * build ID.  Everything in it is foreign bytes: offsets, counts and strings
 * are bounded, and what does not fit is a fault, never a guess.
 *
 * Addresses ("vaddr") are those of the file; a process adds its load bias.
 */
#ifndef PYLEAKD_TARGET_IMAGE_H
#define PYLEAKD_TARGET_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

#define IMAGE_BUILD_ID_MAX 64
#define IMAGE_SIZE_MAX (2ULL << 30) /* larger files are refused */
#define IMAGE_SEGMENTS_MAX 64 /* of each kind that is used */

struct image;

struct image_range {
	uint64_t start; /* vaddr */
	uint64_t end; /* first vaddr behind */
};

struct image_symbol {
	const char *name; /* owned by the image, without @VERSION */
	uint64_t vaddr;
	uint64_t size;
	bool function;
	bool indirect; /* STT_GNU_IFUNC: vaddr is the resolver's, not the function's */
};

/* A PT_LOAD segment. */
struct image_segment {
	uint64_t vaddr;
	uint64_t memory_size; /* bytes; those beyond file_size are zero */
	uint64_t offset; /* in the file; congruent to vaddr modulo the page size */
	uint64_t file_size; /* bytes */
	uint32_t flags; /* PF_R, PF_W, PF_X of elf.h */
};

/*
 * Opens the file behind fd (which stays the caller's, and may be closed
 * afterwards): takes a snapshot of what is loaded and of the symbol tables.
 * -ENOEXEC with reterr_fault: not an x86-64 ELF executable or shared object
 * (UNSUPPORTED, field says what), malformed or too large. -errno: not readable.
 */
int image_new(int fd, struct image **ret, struct fault *reterr_fault);
void image_free(struct image *image);
/* Somebody else holds it too; it is freed with the last of them. Returns it. */
struct image *image_ref(struct image *image);

/* The same of bytes in memory, which stay the caller's and must outlive the image. */
int image_new_from_bytes(const void *bytes, size_t size, struct image **ret,
			 struct fault *reterr_fault);

/* GNU build ID, or without one a hash of head, tail and size (16 bytes). Returns its length. */
size_t image_build_id(const struct image *image, uint8_t ret_id[static IMAGE_BUILD_ID_MAX]);
bool image_has_build_id(const struct image *image);
uint64_t image_file_size(const struct image *image);
bool image_is_position_independent(const struct image *image); /* ET_DYN */

/* Bytes of the file at a vaddr, all inside one loaded segment's file part; NULL otherwise. */
const void *image_bytes(const struct image *image, uint64_t vaddr, size_t size);

/* File offset of a vaddr in an executable segment; -ENOENT outside. */
int image_text_offset(const struct image *image, uint64_t vaddr, uint64_t *ret_offset);

/*
 * Symbol tables (.symtab, .dynsym); of several symbols with one name the default version, then
 * global before local. -ENOENT if there is none of that name.
 */
int image_symbol(const struct image *image, const char *name, struct image_symbol *ret);
/* Calls visit for each defined symbol until it returns non-zero, and returns that. */
int image_symbols_visit(const struct image *image,
			int (*visit)(const struct image_symbol *symbol, void *context),
			void *context);

/* PT_LOAD segments in ascending order of vaddr. */
size_t image_segments(const struct image *image, const struct image_segment **ret);

/* The template of thread-local storage (PT_TLS); *ret_align in bytes. -ENOENT: there is none. */
int image_thread_local(const struct image *image, struct image_range *ret, uint64_t *ret_align);

/* Loaded section by name: -ENOENT when there is none. */
int image_section(const struct image *image, const char *name, struct image_range *ret);

/*
 * Executable code to be decoded: executable sections (PLTs left out), or, in a
 * file without section headers, executable segments narrowed by the ranges of
 * .eh_frame_hdr.  In ascending order.
 */
size_t image_code_ranges(const struct image *image, const struct image_range **ret);

/* Ranges of functions (FDEs of .eh_frame), ascending by start; 0 where there are none. */
size_t image_function_ranges(const struct image *image, const struct image_range **ret);

/*
 * What the pointer-sized slot at this vaddr holds after relocation against
 * this very image (GLOB_DAT, JUMP_SLOT, RELATIVE, 64 and RELR, of defined
 * symbols), as a vaddr.  In an executable at a fixed address, slots without a
 * relocation hold what the file says.  -ENOENT: not a slot, or bound to
 * another image.
 */
int image_slot_target(const struct image *image, uint64_t slot_vaddr, uint64_t *ret_vaddr);

/* n-th DT_NEEDED name; NULL behind the last. */
const char *image_needed(const struct image *image, size_t n);

#endif
