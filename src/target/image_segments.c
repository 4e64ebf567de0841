/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The ELF header and the segments: what the kernel and the loader map, and where. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "target/image_private.h"

#define PAGE 4096ULL

static int read_header(struct image *image, struct fault *reterr_fault)
{
	Elf64_Ehdr *header = &image->header;
	const char *unsupported = NULL;
	struct bytes view;
	int r;

	r = image_view(image, 0, sizeof(*header), "ELF header", &view, reterr_fault);
	if (r < 0)
		return r;
	memcpy(header, view.data, sizeof(*header));
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		unsupported = "not an ELF file";
	else if (header->e_ident[EI_CLASS] != ELFCLASS64)
		unsupported = "not a 64-bit file";
	else if (header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
		unsupported = "not for x86-64";
	else if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
		unsupported = "neither an executable nor a shared object";
	if (unsupported)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_UNSUPPORTED, 0,
				 unsupported);
	if (header->e_phnum == 0 || header->e_phnum == PN_XNUM ||
	    header->e_phentsize != sizeof(Elf64_Phdr))
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED, 0,
				 "e_phnum");
	return 0;
}

static int check_load(const struct image *image, const Elf64_Phdr *program,
		      struct fault *reterr_fault)
{
	uint64_t end;

	if (program->p_filesz > program->p_memsz ||
	    __builtin_add_overflow(program->p_vaddr, program->p_memsz, &end) ||
	    program->p_vaddr % PAGE != program->p_offset % PAGE)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED,
				 program->p_offset, "PT_LOAD");
	if (!bytes_have(image->file, program->p_offset, program->p_filesz))
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TRUNCATED,
				 program->p_offset, "PT_LOAD");
	return 0;
}

static int add_load(struct image *image, const Elf64_Phdr *program, struct fault *reterr_fault)
{
	struct bytes view;
	int r = check_load(image, program, reterr_fault);

	if (r < 0)
		return r;
	if (program->p_memsz == 0)
		return 0;
	if (image->n_segments == IMAGE_SEGMENTS_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE,
				 program->p_offset, "PT_LOAD");
	r = image_view(image, program->p_offset, program->p_filesz, "PT_LOAD", &view, reterr_fault);
	if (r < 0)
		return r;
	image->segments[image->n_segments++] = (struct image_segment){
		.vaddr = program->p_vaddr,
		.memory_size = program->p_memsz,
		.offset = program->p_offset,
		.file_size = program->p_filesz,
		.flags = program->p_flags,
	};
	return 0;
}

static int add_note(struct image *image, const Elf64_Phdr *program, struct fault *reterr_fault)
{
	if (!bytes_have(image->file, program->p_offset, program->p_filesz))
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TRUNCATED,
				 program->p_offset, "PT_NOTE");
	if (image->n_notes == IMAGE_SEGMENTS_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE,
				 program->p_offset, "PT_NOTE");
	image->notes[image->n_notes++] =
		(struct image_range){program->p_offset, program->p_offset + program->p_filesz};
	return 0;
}

static int add_program_header(struct image *image, const Elf64_Phdr *program,
			      struct fault *reterr_fault)
{
	switch (program->p_type) {
	case PT_LOAD:
		return add_load(image, program, reterr_fault);
	case PT_NOTE:
		return add_note(image, program, reterr_fault);
	case PT_DYNAMIC:
		image->dynamic_header = *program;
		return 0;
	case PT_GNU_EH_FRAME:
		image->unwind_header = *program;
		return 0;
	case PT_TLS:
		image->tls_header = *program;
		return 0;
	default:
		return 0;
	}
}

/* Insertion: they are in order already, but for files that were patched by hand. */
static int sort_segments(struct image *image, struct fault *reterr_fault)
{
	struct image_segment *segments = image->segments;

	for (size_t i = 1; i < image->n_segments; i++) {
		struct image_segment moved = segments[i];
		size_t at = i;

		for (; at > 0 && segments[at - 1].vaddr > moved.vaddr; at--)
			segments[at] = segments[at - 1];
		segments[at] = moved;
	}
	for (size_t i = 1; i < image->n_segments; i++)
		if (segments[i].vaddr - segments[i - 1].vaddr < segments[i - 1].memory_size)
			return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED,
					 segments[i].offset, "overlapping PT_LOAD");
	return 0;
}

int image_read_segments(struct image *image, struct fault *reterr_fault)
{
	struct bytes table;
	int r;

	r = read_header(image, reterr_fault);
	if (r < 0)
		return r;
	r = image_view(image, image->header.e_phoff, image->header.e_phnum * sizeof(Elf64_Phdr),
		       "program headers", &table, reterr_fault);
	if (r < 0)
		return r;
	for (size_t i = 0; i < image->header.e_phnum; i++) {
		Elf64_Phdr program;

		memcpy(&program, table.data + i * sizeof(program), sizeof(program));
		r = add_program_header(image, &program, reterr_fault);
		if (r < 0)
			return r;
	}
	if (image->n_segments == 0)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED,
				 image->header.e_phoff, "no PT_LOAD");
	return sort_segments(image, reterr_fault);
}

const struct image_segment *image_segment_of(const struct image *image, uint64_t vaddr)
{
	for (size_t i = 0; i < image->n_segments; i++) {
		const struct image_segment *segment = &image->segments[i];

		if (vaddr >= segment->vaddr && vaddr - segment->vaddr < segment->memory_size)
			return segment;
	}
	return NULL;
}

bool image_bytes_from(const struct image *image, uint64_t vaddr, struct bytes *ret)
{
	const struct image_segment *segment = image_segment_of(image, vaddr);

	if (!segment || vaddr - segment->vaddr >= segment->file_size)
		return false;
	ret->data = image->file.data + segment->offset + (vaddr - segment->vaddr);
	ret->size = segment->file_size - (vaddr - segment->vaddr);
	return true;
}

bool image_is_executable_at(const struct image *image, uint64_t vaddr)
{
	uint64_t offset;

	return image_text_offset(image, vaddr, &offset) == 0;
}

size_t image_segments(const struct image *image, const struct image_segment **ret)
{
	*ret = image->segments;
	return image->n_segments;
}

const void *image_bytes(const struct image *image, uint64_t vaddr, size_t size)
{
	struct bytes bytes;

	if (!image_bytes_from(image, vaddr, &bytes) || bytes.size < size)
		return NULL;
	return bytes.data;
}

int image_text_offset(const struct image *image, uint64_t vaddr, uint64_t *ret_offset)
{
	const struct image_segment *segment = image_segment_of(image, vaddr);

	if (!segment || !(segment->flags & PF_X) || vaddr - segment->vaddr >= segment->file_size)
		return -ENOENT;
	*ret_offset = segment->offset + (vaddr - segment->vaddr);
	return 0;
}

int image_thread_local(const struct image *image, struct image_range *ret, uint64_t *ret_align)
{
	const Elf64_Phdr *tls = &image->tls_header;
	uint64_t end;

	if (tls->p_type != PT_TLS || __builtin_add_overflow(tls->p_vaddr, tls->p_memsz, &end))
		return -ENOENT;
	*ret = (struct image_range){tls->p_vaddr, end};
	*ret_align = tls->p_align;
	return 0;
}
