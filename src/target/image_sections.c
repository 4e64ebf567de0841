/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Section headers, and the code that is to be decoded.  A file may have none
 * (sstrip), and everything else here works without; headers that are there
 * have to be right.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "target/image_private.h"

/* The number of sections, and the index of the one with their names (0: none). */
static int count_sections(struct image *image, uint64_t *ret_n, uint32_t *ret_names,
			  struct fault *reterr_fault)
{
	const Elf64_Ehdr *header = &image->header;
	struct bytes view;
	Elf64_Shdr first;
	int r;

	*ret_n = header->e_shnum;
	*ret_names = header->e_shstrndx;
	if (header->e_shoff == 0) {
		*ret_n = 0;
		return 0;
	}
	if (header->e_shentsize != sizeof(Elf64_Shdr))
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED,
				 header->e_shoff, "e_shentsize");
	if (header->e_shnum != 0 && header->e_shstrndx != SHN_XINDEX)
		return 0;
	/* More than fit the header: the first section says how many (gABI, chapter 4). */
	r = image_view(image, header->e_shoff, sizeof(first), "section header 0", &view,
		       reterr_fault);
	if (r < 0)
		return r;
	memcpy(&first, view.data, sizeof(first));
	if (header->e_shnum == 0)
		*ret_n = first.sh_size;
	if (header->e_shstrndx == SHN_XINDEX)
		*ret_names = first.sh_link;
	return 0;
}

static int read_section_headers(struct image *image, uint64_t n, struct fault *reterr_fault)
{
	struct bytes table;
	int r;

	if (n > IMAGE_SECTIONS_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE,
				 image->header.e_shoff, "e_shnum");
	r = image_view(image, image->header.e_shoff, n * sizeof(Elf64_Shdr), "section headers",
		       &table, reterr_fault);
	if (r < 0)
		return r;
	image->sections = calloc(n, sizeof(*image->sections));
	if (!image->sections)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "section headers");
	image->n_sections = n;
	for (size_t i = 0; i < n; i++) {
		memcpy(&image->sections[i].elf, table.data + i * sizeof(Elf64_Shdr),
		       sizeof(Elf64_Shdr));
		image->sections[i].name = "";
	}
	return 0;
}

static int name_sections(struct image *image, uint32_t names_index, struct fault *reterr_fault)
{
	const Elf64_Shdr *table;
	struct bytes names;
	int r;

	if (names_index == SHN_UNDEF)
		return 0;
	if (names_index >= image->n_sections)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_OUT_OF_BOUNDS,
				 names_index, "e_shstrndx");
	table = &image->sections[names_index].elf;
	if (table->sh_type != SHT_STRTAB)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED, names_index,
				 "e_shstrndx");
	r = image_view(image, table->sh_offset, table->sh_size, "section names", &names,
		       reterr_fault);
	if (r < 0)
		return r;
	if (names.size == 0 || names.data[names.size - 1] != '\0')
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED,
				 table->sh_offset, "section names");
	for (size_t i = 0; i < image->n_sections; i++) {
		uint32_t offset = image->sections[i].elf.sh_name;

		if (offset >= names.size)
			return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_OUT_OF_BOUNDS,
					 offset, "sh_name");
		image->sections[i].name = (const char *)names.data + offset;
	}
	return 0;
}

int image_read_sections(struct image *image, struct fault *reterr_fault)
{
	uint32_t names_index;
	uint64_t n;
	int r;

	r = count_sections(image, &n, &names_index, reterr_fault);
	if (r < 0 || n == 0)
		return r;
	r = read_section_headers(image, n, reterr_fault);
	if (r < 0)
		return r;
	return name_sections(image, names_index, reterr_fault);
}

int image_section(const struct image *image, const char *name, struct image_range *ret)
{
	for (size_t i = 0; i < image->n_sections; i++) {
		const struct image_section_header *section = &image->sections[i];
		uint64_t end;

		if (!(section->elf.sh_flags & SHF_ALLOC) || strcmp(section->name, name) != 0)
			continue;
		if (__builtin_add_overflow(section->elf.sh_addr, section->elf.sh_size, &end))
			return -ENOENT;
		*ret = (struct image_range){section->elf.sh_addr, end};
		return 0;
	}
	return -ENOENT;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct image_range *left = a, *right = b;

	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return (left->end > right->end) - (left->end < right->end);
}

static bool ranges_are_sorted(const struct image_range *ranges, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (compare_ranges(&ranges[i - 1], &ranges[i]) > 0)
			return false;
	return true;
}

size_t image_ranges_sort(struct image_range *ranges, size_t n, bool merge)
{
	size_t kept = 0;

	if (!ranges_are_sorted(ranges, n))
		qsort(ranges, n, sizeof(*ranges), compare_ranges);
	for (size_t i = 0; i < n; i++) {
		struct image_range range = ranges[i];
		struct image_range *last = kept > 0 ? &ranges[kept - 1] : NULL;

		if (range.start >= range.end)
			continue;
		if (last && merge && range.start <= last->end) {
			if (range.end > last->end)
				last->end = range.end;
		} else if (!last || compare_ranges(last, &range) != 0) {
			ranges[kept++] = range;
		}
	}
	return kept;
}

/* Calls into other images and indirect functions: nothing to be found there. */
static bool section_is_linkage(const char *name)
{
	return strncmp(name, ".plt", 4) == 0 || strcmp(name, ".iplt") == 0;
}

/* The executable bytes of a range: cut to the file part of the segment that it begins in. */
static struct image_range executable_part(const struct image *image, struct image_range range)
{
	const struct image_segment *segment = image_segment_of(image, range.start);

	if (!segment || !image_is_executable_at(image, range.start))
		return (struct image_range){0, 0};
	if (range.end > segment->vaddr + segment->file_size)
		range.end = segment->vaddr + segment->file_size;
	return range;
}

static size_t code_of_sections(const struct image *image, struct image_range *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < image->n_sections; i++) {
		const Elf64_Shdr *elf = &image->sections[i].elf;
		uint64_t end;

		if (!(elf->sh_flags & SHF_EXECINSTR) || !(elf->sh_flags & SHF_ALLOC) ||
		    elf->sh_type != SHT_PROGBITS || section_is_linkage(image->sections[i].name) ||
		    __builtin_add_overflow(elf->sh_addr, elf->sh_size, &end))
			continue;
		ret[n++] = executable_part(image, (struct image_range){elf->sh_addr, end});
	}
	return n;
}

static size_t code_of_functions(const struct image *image, struct image_range *ret)
{
	for (size_t i = 0; i < image->n_functions; i++)
		ret[i] = executable_part(image, image->functions[i]);
	return image->n_functions;
}

int image_make_code_ranges(struct image *image, struct fault *reterr_fault)
{
	size_t n_max = image->n_sections ? image->n_sections : image->n_functions;

	if (n_max == 0)
		return 0;
	image->code = calloc(n_max, sizeof(*image->code));
	if (!image->code)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "code ranges");
	image->n_code = image->n_sections ? code_of_sections(image, image->code)
					  : code_of_functions(image, image->code);
	image->n_code = image_ranges_sort(image->code, image->n_code, true);
	return 0;
}

size_t image_code_ranges(const struct image *image, const struct image_range **ret)
{
	*ret = image->code;
	return image->n_code;
}
