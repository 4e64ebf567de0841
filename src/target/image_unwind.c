/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Ranges of functions from the unwind tables (LSB 5.0 Core, "Exception
 * Frames"), which survive strip.
 *
 * What counts is .eh_frame_hdr's table, as for the unwinder itself: in a file
 * rewritten by BOLT, with its several .eh_frame, it names the functions that
 * are still alive.  Without a table, .eh_frame is walked from its start.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "target/image_private.h"

#define AUGMENTATION_MAX 16 /* bytes; "zPLR" with a letter or two more */
#define LEB128_BYTES_MAX 10

/* Pointer encodings: DW_EH_PE_* of the LSB. */
#define ENCODING_OMIT 0xff
#define ENCODING_ABSOLUTE 0x00
#define ENCODING_PCREL 0x10
#define ENCODING_DATAREL 0x30
#define ENCODING_FORMAT 0x0f
#define ENCODING_BASE 0x70
#define ENCODING_INDIRECT 0x80

/* Reads onward; the first failure sticks, and zeros are read from then on. */
struct cursor {
	struct bytes bytes;
	uint64_t vaddr; /* of the first byte */
	uint64_t at;
	bool failed;
};

/* A CIE's share in reading its FDEs. */
struct cie {
	uint64_t vaddr;
	uint8_t encoding; /* of addresses; ENCODING_OMIT: unknown */
};

static uint64_t cursor_uint(struct cursor *cursor, size_t size)
{
	uint64_t value = 0;

	if (cursor->failed || !bytes_read(cursor->bytes, cursor->at, &value, size)) {
		cursor->failed = true;
		return 0;
	}
	cursor->at += size;
	return value;
}

static void cursor_skip(struct cursor *cursor, uint64_t size)
{
	if (!bytes_have(cursor->bytes, cursor->at, size))
		cursor->failed = true;
	else
		cursor->at += size;
}

static uint64_t cursor_leb128(struct cursor *cursor, bool is_signed)
{
	uint64_t value = 0;
	unsigned shift = 0;

	for (unsigned i = 0; i < LEB128_BYTES_MAX; i++) {
		uint64_t byte = cursor_uint(cursor, 1);

		if (shift < 64)
			value |= (byte & 0x7f) << shift;
		shift += 7;
		if (!(byte & 0x80)) {
			if (is_signed && (byte & 0x40) && shift < 64)
				value |= ~0ULL << shift;
			return value;
		}
	}
	cursor->failed = true;
	return 0;
}

static uint64_t sign_extend(uint64_t value, unsigned bits)
{
	uint64_t sign = 1ULL << (bits - 1);

	return (value ^ sign) - sign;
}

/* The value's format alone. */
static uint64_t cursor_encoded_value(struct cursor *cursor, uint8_t encoding)
{
	switch (encoding & ENCODING_FORMAT) {
	case 0x0: /* absptr */
	case 0x4: /* udata8 */
	case 0xc: /* sdata8 */
		return cursor_uint(cursor, 8);
	case 0x1: /* uleb128 */
		return cursor_leb128(cursor, false);
	case 0x2: /* udata2 */
		return cursor_uint(cursor, 2);
	case 0x3: /* udata4 */
		return cursor_uint(cursor, 4);
	case 0x9: /* sleb128 */
		return cursor_leb128(cursor, true);
	case 0xa: /* sdata2 */
		return sign_extend(cursor_uint(cursor, 2), 16);
	case 0xb: /* sdata4 */
		return sign_extend(cursor_uint(cursor, 4), 32);
	default:
		cursor->failed = true;
		return 0;
	}
}

/* data_base: what "datarel" is relative to (the start of .eh_frame_hdr). */
static uint64_t cursor_pointer(struct cursor *cursor, uint8_t encoding, uint64_t data_base)
{
	uint64_t here = cursor->vaddr + cursor->at;
	uint64_t value = cursor_encoded_value(cursor, encoding);

	if (encoding & ENCODING_INDIRECT) {
		cursor->failed = true; /* an address that only the loader knows */
		return 0;
	}
	switch (encoding & ENCODING_BASE) {
	case ENCODING_ABSOLUTE:
		return value;
	case ENCODING_PCREL:
		return here + value;
	case ENCODING_DATAREL:
		return data_base + value;
	default:
		cursor->failed = true;
		return 0;
	}
}

/* The encoding that the augmentation data names; ENCODING_ABSOLUTE where it names none. */
static uint8_t augmentation_encoding(struct cursor *cursor, const char *augmentation)
{
	cursor_leb128(cursor, false); /* length of the data */
	for (const char *letter = augmentation + 1; *letter; letter++) {
		uint8_t encoding;

		switch (*letter) {
		case 'R':
			return (uint8_t)cursor_uint(cursor, 1);
		case 'P':
			encoding = (uint8_t)cursor_uint(cursor, 1);
			cursor_encoded_value(cursor, encoding);
			break;
		case 'L':
			cursor_skip(cursor, 1);
			break;
		case 'S': /* signal frame */
		case 'B': /* arm64: pointer authentication */
			break;
		default:
			return ENCODING_OMIT;
		}
	}
	return ENCODING_ABSOLUTE;
}

static void cursor_augmentation(struct cursor *cursor, char ret[static AUGMENTATION_MAX])
{
	size_t length = 0;

	for (; length < AUGMENTATION_MAX; length++) {
		ret[length] = (char)cursor_uint(cursor, 1);
		if (ret[length] == '\0')
			return;
	}
	ret[AUGMENTATION_MAX - 1] = '\0';
	cursor->failed = true;
}

/* Starts at an entry: skips its length; false at a terminator, or where it isn't all there. */
static bool cursor_entry(const struct image *image, uint64_t vaddr, struct cursor *ret,
			 bool *ret_terminator)
{
	struct cursor cursor = {.vaddr = vaddr};
	uint64_t length;

	if (!image_bytes_from(image, vaddr, &cursor.bytes))
		return false;
	length = cursor_uint(&cursor, 4);
	if (length == 0xffffffff)
		length = cursor_uint(&cursor, 8);
	*ret_terminator = !cursor.failed && length == 0;
	if (cursor.failed || length == 0 || !bytes_have(cursor.bytes, cursor.at, length))
		return false;
	cursor.bytes.size = cursor.at + length;
	*ret = cursor;
	return true;
}

static bool read_cie(const struct image *image, uint64_t vaddr, struct cie *cie)
{
	char augmentation[AUGMENTATION_MAX];
	struct cursor cursor;
	uint64_t version;
	bool terminator;

	if (cie->vaddr == vaddr)
		return true;
	if (!cursor_entry(image, vaddr, &cursor, &terminator) || cursor_uint(&cursor, 4) != 0)
		return false;
	version = cursor_uint(&cursor, 1);
	cursor_augmentation(&cursor, augmentation);
	if (strcmp(augmentation, "eh") == 0)
		cursor_skip(&cursor, 8);
	if (version == 4)
		cursor_skip(&cursor, 2); /* sizes of an address and of a segment selector */
	cursor_leb128(&cursor, false);	 /* code alignment */
	cursor_leb128(&cursor, true);	 /* data alignment */
	if (version == 1)
		cursor_skip(&cursor, 1); /* return address register */
	else
		cursor_leb128(&cursor, false);
	*cie = (struct cie){.vaddr = vaddr, .encoding = ENCODING_ABSOLUTE};
	if (augmentation[0] == 'z')
		cie->encoding = augmentation_encoding(&cursor, augmentation);
	return !cursor.failed && (version == 1 || version == 3 || version == 4);
}

/*
 * The FDE whose CIE pointer the cursor stands at.  A range outside of the
 * executable segments (code that the linker threw away) comes back empty.
 */
static int read_fde(const struct image *image, struct cursor *cursor, struct cie *cie,
		    struct image_range *ret)
{
	uint64_t pointer_vaddr = cursor->vaddr + cursor->at;
	uint64_t cie_distance = cursor_uint(cursor, 4);
	struct image_range range;
	uint64_t size;

	if (cursor->failed || !read_cie(image, pointer_vaddr - cie_distance, cie) ||
	    cie->encoding == ENCODING_OMIT)
		return -EBADMSG;
	range.start = cursor_pointer(cursor, cie->encoding, 0);
	size = cursor_encoded_value(cursor, cie->encoding & ENCODING_FORMAT);
	if (cursor->failed || (cie->encoding & ENCODING_BASE) == ENCODING_DATAREL ||
	    __builtin_add_overflow(range.start, size, &range.end))
		return -EBADMSG;
	if (!image_is_executable_at(image, range.start))
		range.end = range.start;
	*ret = range;
	return 0;
}

static int unwind_fault(uint64_t vaddr, const char *field, struct fault *reterr_fault)
{
	return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED, vaddr, field);
}

static int reserve_functions(struct image *image, uint64_t n, struct fault *reterr_fault)
{
	if (n > IMAGE_FUNCTIONS_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE, n,
				 ".eh_frame");
	image->functions = calloc(n + 1, sizeof(*image->functions));
	if (!image->functions)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, ".eh_frame");
	return 0;
}

/* The binary search table: pairs of a function's start and its FDE's address, 4 bytes each. */
static int read_table(struct image *image, struct cursor *table, uint64_t n, uint64_t hdr_vaddr,
		      struct fault *reterr_fault)
{
	struct cie cie = {.vaddr = UINT64_MAX};
	int r;

	if (!bytes_have(table->bytes, table->at, n * 8))
		return unwind_fault(hdr_vaddr, ".eh_frame_hdr", reterr_fault);
	r = reserve_functions(image, n, reterr_fault);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t start = hdr_vaddr + sign_extend(cursor_uint(table, 4), 32);
		uint64_t fde_vaddr = hdr_vaddr + sign_extend(cursor_uint(table, 4), 32);
		struct image_range *range = &image->functions[i];
		struct cursor fde;
		bool terminator;

		if (!cursor_entry(image, fde_vaddr, &fde, &terminator) ||
		    read_fde(image, &fde, &cie, range) < 0 || range->start != start)
			return unwind_fault(fde_vaddr, "FDE", reterr_fault);
		image->n_functions++;
	}
	return 0;
}

/*
 * Walks entries from vaddr to end or to a terminator; ret: room for all of
 * them, or NULL to count.  Every entry has a length above 0, which bounds it.
 */
static int walk_entries(const struct image *image, uint64_t vaddr, uint64_t end,
			struct image_range *ret, size_t *ret_n, struct fault *reterr_fault)
{
	struct cie cie = {.vaddr = UINT64_MAX};
	size_t n = 0;

	while (vaddr < end) {
		struct cursor entry;
		struct cursor id;
		bool terminator = false;

		if (!cursor_entry(image, vaddr, &entry, &terminator)) {
			if (terminator)
				break;
			return unwind_fault(vaddr, ".eh_frame", reterr_fault);
		}
		id = entry;
		if (cursor_uint(&id, 4) != 0) {
			if (ret && read_fde(image, &entry, &cie, &ret[n]) < 0)
				return unwind_fault(vaddr, "FDE", reterr_fault);
			n++;
		}
		vaddr += entry.bytes.size;
	}
	*ret_n = n;
	return 0;
}

static int walk_eh_frame(struct image *image, struct image_range section,
			 struct fault *reterr_fault)
{
	size_t n;
	int r;

	r = walk_entries(image, section.start, section.end, NULL, &n, reterr_fault);
	if (r < 0)
		return r;
	r = reserve_functions(image, n, reterr_fault);
	if (r < 0)
		return r;
	return walk_entries(image, section.start, section.end, image->functions,
			    &image->n_functions, reterr_fault);
}

/* .eh_frame by its section, or by what .eh_frame_hdr says and to the end of its segment. */
static bool find_eh_frame(const struct image *image, uint64_t eh_frame_vaddr,
			  struct image_range *ret)
{
	struct bytes bytes;

	if (image_section(image, ".eh_frame", ret) == 0)
		return ret->start < ret->end && image_bytes_from(image, ret->start, &bytes);
	if (eh_frame_vaddr == 0 || !image_bytes_from(image, eh_frame_vaddr, &bytes))
		return false;
	*ret = (struct image_range){eh_frame_vaddr, eh_frame_vaddr + bytes.size};
	return true;
}

struct unwind_header {
	uint64_t eh_frame_vaddr;
	uint64_t n_fdes;
	bool table; /* in the one form that linkers write; the cursor stands at it */
};

static int read_unwind_header(struct cursor *cursor, struct unwind_header *ret,
			      struct fault *reterr_fault)
{
	uint64_t version = cursor_uint(cursor, 1);
	uint8_t frame_encoding = (uint8_t)cursor_uint(cursor, 1);
	uint8_t count_encoding = (uint8_t)cursor_uint(cursor, 1);
	uint8_t table_encoding = (uint8_t)cursor_uint(cursor, 1);

	if (cursor->failed || version != 1)
		return unwind_fault(cursor->vaddr, ".eh_frame_hdr", reterr_fault);
	*ret = (struct unwind_header){0};
	if (frame_encoding != ENCODING_OMIT)
		ret->eh_frame_vaddr = cursor_pointer(cursor, frame_encoding, cursor->vaddr);
	if (count_encoding != ENCODING_OMIT) {
		ret->n_fdes = cursor_pointer(cursor, count_encoding, cursor->vaddr);
		ret->table = table_encoding == (ENCODING_DATAREL | 0xb);
	}
	if (cursor->failed)
		return unwind_fault(cursor->vaddr, ".eh_frame_hdr", reterr_fault);
	if (ret->n_fdes > IMAGE_FUNCTIONS_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE,
				 cursor->vaddr, ".eh_frame_hdr");
	return 0;
}

int image_read_functions(struct image *image, struct fault *reterr_fault)
{
	const Elf64_Phdr *program = &image->unwind_header;
	struct unwind_header header = {0};
	struct image_range section;
	struct cursor cursor = {.vaddr = program->p_vaddr};
	struct bytes from;
	int r;

	if (program->p_type == PT_GNU_EH_FRAME && program->p_filesz > 0) {
		if (!image_bytes_from(image, program->p_vaddr, &from) ||
		    !bytes_slice(from, 0, program->p_filesz, &cursor.bytes))
			return unwind_fault(program->p_vaddr, "PT_GNU_EH_FRAME", reterr_fault);
		r = read_unwind_header(&cursor, &header, reterr_fault);
		if (r < 0)
			return r;
	}
	if (header.table)
		r = read_table(image, &cursor, header.n_fdes, program->p_vaddr, reterr_fault);
	else if (find_eh_frame(image, header.eh_frame_vaddr, &section))
		r = walk_eh_frame(image, section, reterr_fault);
	else
		r = 0;
	if (r < 0)
		return r;
	image->n_functions = image_ranges_sort(image->functions, image->n_functions, false);
	return 0;
}

size_t image_function_ranges(const struct image *image, const struct image_range **ret)
{
	*ret = image->functions;
	return image->n_functions;
}
