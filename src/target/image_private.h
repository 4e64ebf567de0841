/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Inside of image.h: what its files share.
 *
 * The file is foreign and may change while it is read (a shared library in a
 * container can be written to or cut off at any time), so it is never mapped:
 * a mapping would let checked bytes change after the check, and raise SIGBUS
 * behind a new end.  Instead the image reserves memory of the file's size and
 * reads each page at most once, when it is first asked for.
 */
#ifndef PYLEAKD_TARGET_IMAGE_PRIVATE_H
#define PYLEAKD_TARGET_IMAGE_PRIVATE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "target/image.h"

#define IMAGE_READ_MAX (512ULL << 20) /* bytes of one file that are kept in memory */
#define IMAGE_SECTIONS_MAX 65536
#define IMAGE_SYMBOLS_MAX (2U << 20)
#define IMAGE_NAMES_MAX (256ULL << 20) /* bytes of all symbols' names */
#define IMAGE_DYNAMIC_MAX 4096
#define IMAGE_RELOCATIONS_MAX (8U << 20)
#define IMAGE_FUNCTIONS_MAX (4U << 20)

#define IMAGE_NOT_EXECUTABLE (-ENOEXEC)

struct image_section_header {
	Elf64_Shdr elf;
	const char *name; /* "" where the file names none */
};

struct image_symbol_entry {
	struct image_symbol symbol;
	uint32_t next; /* of the same bucket, index + 1; 0 ends */
	uint8_t rank; /* lower is preferred among equal names */
};

struct image_symbols {
	struct image_symbol_entry *entries;
	size_t n;
	uint32_t *buckets; /* index + 1 of the first entry; 0 when empty */
	size_t n_buckets; /* a power of two, or 0 */
	char *stripped_names; /* copies of those that carried a version */
};

struct image_slot {
	uint64_t vaddr;
	uint64_t target; /* vaddr */
	bool ours; /* false: bound to another image, or not a pointer */
};

/* The dynamic section, as far as it is used; 0 for what it does not have. */
struct image_dynamic {
	bool present;
	uint64_t strtab, strtab_size;
	uint64_t symtab, n_symbols;
	uint64_t versym;
	uint64_t rela, rela_size;
	uint64_t jmprel, jmprel_size;
	uint64_t relr, relr_size;
	uint64_t hash, gnu_hash;
	struct bytes strings;
};

struct image {
	unsigned shared; /* holders beside the first */
	struct bytes file; /* pages that were not read are zero */
	void *mapping; /* reserved memory behind file; NULL for bytes of the caller's */
	uint8_t *pages_read; /* a bit a page; NULL for bytes of the caller's */
	uint64_t read_bytes;
	int fd; /* the caller's, while image_new() runs */

	Elf64_Ehdr header;
	struct image_segment segments[IMAGE_SEGMENTS_MAX]; /* ascending by vaddr */
	size_t n_segments;
	struct image_range notes[IMAGE_SEGMENTS_MAX]; /* file offsets of PT_NOTE */
	size_t n_notes;
	Elf64_Phdr dynamic_header, unwind_header, tls_header; /* p_type PT_NULL: none */

	struct image_section_header *sections;
	size_t n_sections;

	uint8_t build_id[IMAGE_BUILD_ID_MAX];
	size_t build_id_size;
	bool has_build_id;

	struct image_dynamic dynamic;
	const char **needed;
	size_t n_needed;

	struct image_symbols symbols;

	struct image_slot *slots; /* ascending by vaddr */
	size_t n_slots;

	struct image_range *functions;
	size_t n_functions;
	struct image_range *code;
	size_t n_code;
};

/* image_file.c: bytes [offset, offset + size) of the file, read now if they weren't yet. */
int image_view(struct image *image, uint64_t offset, uint64_t size, const char *field,
	       struct bytes *ret, struct fault *reterr_fault);
int image_file_open(struct image *image, int fd, struct fault *reterr_fault);
void image_file_close(struct image *image);

/* image_segments.c */
int image_read_segments(struct image *image, struct fault *reterr_fault);
const struct image_segment *image_segment_of(const struct image *image, uint64_t vaddr);
/* File bytes from vaddr to the end of its segment's file part; false outside of any. */
bool image_bytes_from(const struct image *image, uint64_t vaddr, struct bytes *ret);
bool image_is_executable_at(const struct image *image, uint64_t vaddr);

/* image_sections.c */
int image_read_sections(struct image *image, struct fault *reterr_fault);
int image_make_code_ranges(struct image *image, struct fault *reterr_fault);

/* image_build_id.c */
int image_read_build_id(struct image *image, struct fault *reterr_fault);

/* image_dynamic.c */
int image_read_dynamic(struct image *image, struct fault *reterr_fault);

/* image_symbols.c */
int image_read_symbols(struct image *image, struct fault *reterr_fault);
void image_symbols_done(struct image_symbols *symbols);
/* Is it an address in this image (not undefined, absolute, common, thread-local)? */
bool image_symbol_is_address(const Elf64_Sym *symbol);

/* image_relocations.c */
int image_read_relocations(struct image *image, struct fault *reterr_fault);

/* image_unwind.c */
int image_read_functions(struct image *image, struct fault *reterr_fault);

/* Sorts by start, drops empty and repeated ones; merge: joins those that touch or overlap. */
size_t image_ranges_sort(struct image_range *ranges, size_t n, bool merge);

#endif
