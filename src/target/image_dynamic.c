/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The dynamic section: where the loader finds strings, symbols, relocations.
 * Read through the segments as the loader does, so that it needs no section
 * headers.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "target/image_private.h"

static int fault_at(const struct image *image, enum reason reason, const char *field,
		    struct fault *reterr_fault)
{
	return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, reason, image->dynamic_header.p_offset,
			 field);
}

static void note_entry(struct image_dynamic *dynamic, const Elf64_Dyn *entry)
{
	uint64_t value = entry->d_un.d_val;

	switch (entry->d_tag) {
	case DT_STRTAB:
		dynamic->strtab = value;
		break;
	case DT_STRSZ:
		dynamic->strtab_size = value;
		break;
	case DT_SYMTAB:
		dynamic->symtab = value;
		break;
	case DT_VERSYM:
		dynamic->versym = value;
		break;
	case DT_HASH:
		dynamic->hash = value;
		break;
	case DT_GNU_HASH:
		dynamic->gnu_hash = value;
		break;
	case DT_RELA:
		dynamic->rela = value;
		break;
	case DT_RELASZ:
		dynamic->rela_size = value;
		break;
	case DT_JMPREL:
		dynamic->jmprel = value;
		break;
	case DT_PLTRELSZ:
		dynamic->jmprel_size = value;
		break;
	case DT_RELR:
		dynamic->relr = value;
		break;
	case DT_RELRSZ:
		dynamic->relr_size = value;
		break;
	default:
		break;
	}
}

/* Up to DT_NULL, or to the end of the segment. */
static int count_entries(struct bytes table, size_t *ret_n)
{
	Elf64_Dyn entry;
	size_t n = 0;

	for (; bytes_read(table, n * sizeof(entry), &entry, sizeof(entry)); n++) {
		if (entry.d_tag == DT_NULL)
			break;
		if (n == IMAGE_DYNAMIC_MAX)
			return -E2BIG;
	}
	*ret_n = n;
	return 0;
}

static int read_strings(struct image *image, struct fault *reterr_fault)
{
	struct image_dynamic *dynamic = &image->dynamic;
	struct bytes from;

	if (dynamic->strtab_size == 0)
		return 0;
	if (!image_bytes_from(image, dynamic->strtab, &from) ||
	    !bytes_slice(from, 0, dynamic->strtab_size, &dynamic->strings))
		return fault_at(image, REASON_OUT_OF_BOUNDS, "DT_STRTAB", reterr_fault);
	if (dynamic->strings.data[dynamic->strings.size - 1] != '\0')
		return fault_at(image, REASON_MALFORMED, "DT_STRTAB", reterr_fault);
	return 0;
}

static int read_needed(struct image *image, struct bytes table, size_t n,
		       struct fault *reterr_fault)
{
	struct bytes strings = image->dynamic.strings;
	Elf64_Dyn entry;

	image->needed = calloc(n + 1, sizeof(*image->needed));
	if (!image->needed)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "DT_NEEDED");
	for (size_t i = 0; i < n; i++) {
		memcpy(&entry, table.data + i * sizeof(entry), sizeof(entry));
		if (entry.d_tag != DT_NEEDED)
			continue;
		if (entry.d_un.d_val >= strings.size)
			return fault_at(image, REASON_OUT_OF_BOUNDS, "DT_NEEDED", reterr_fault);
		image->needed[image->n_needed++] = (const char *)strings.data + entry.d_un.d_val;
	}
	return 0;
}

/* SysV: nbucket, nchain; the chains are as many as the symbols (gABI, chapter 5). */
static int count_by_hash(struct image *image, struct fault *reterr_fault)
{
	uint32_t header[2];
	struct bytes table;

	if (!image_bytes_from(image, image->dynamic.hash, &table) ||
	    !bytes_read(table, 0, header, sizeof(header)))
		return fault_at(image, REASON_OUT_OF_BOUNDS, "DT_HASH", reterr_fault);
	image->dynamic.n_symbols = header[1];
	return 0;
}

/* The highest index that starts a chain; 0 where all buckets are empty. */
static int gnu_hash_last_bucket(struct bytes table, uint64_t buckets_at, uint32_t n_buckets,
				uint32_t *ret_last)
{
	struct bytes buckets;
	uint32_t last = 0;

	if (!bytes_slice(table, buckets_at, (uint64_t)n_buckets * sizeof(uint32_t), &buckets))
		return -ERANGE;
	for (uint32_t i = 0; i < n_buckets; i++) {
		uint32_t index;

		memcpy(&index, buckets.data + i * sizeof(index), sizeof(index));
		if (index > last)
			last = index;
	}
	*ret_last = last;
	return 0;
}

/*
 * GNU: nbuckets, symoffset, bloom words, shift; bloom (64-bit words), buckets,
 * chain values from symoffset on, of which an odd one ends its chain (binutils
 * elflink.c).  The symbols end with the chain that starts last.
 */
static int count_by_gnu_hash(struct image *image, struct fault *reterr_fault)
{
	uint32_t header[4], last, value = 0;
	uint64_t buckets_at, chains_at;
	struct bytes table;

	if (!image_bytes_from(image, image->dynamic.gnu_hash, &table) ||
	    !bytes_read(table, 0, header, sizeof(header)))
		return fault_at(image, REASON_OUT_OF_BOUNDS, "DT_GNU_HASH", reterr_fault);
	buckets_at = sizeof(header) + (uint64_t)header[2] * sizeof(uint64_t);
	chains_at = buckets_at + (uint64_t)header[0] * sizeof(uint32_t);
	if (gnu_hash_last_bucket(table, buckets_at, header[0], &last) < 0)
		return fault_at(image, REASON_OUT_OF_BOUNDS, "DT_GNU_HASH", reterr_fault);
	image->dynamic.n_symbols = header[1];
	if (last < header[1])
		return last == 0 ? 0
				 : fault_at(image, REASON_MALFORMED, "DT_GNU_HASH", reterr_fault);
	/* Each turn moves by a word of the table, whose end bounds the loop. */
	for (; !(value & 1); last++)
		if (!bytes_read(table, chains_at + (uint64_t)(last - header[1]) * sizeof(value),
				&value, sizeof(value)))
			return fault_at(image, REASON_OUT_OF_BOUNDS, "DT_GNU_HASH", reterr_fault);
	image->dynamic.n_symbols = last;
	return 0;
}

static int count_symbols(struct image *image, struct fault *reterr_fault)
{
	int r = 0;

	if (image->dynamic.symtab == 0)
		return 0;
	if (image->dynamic.gnu_hash != 0)
		r = count_by_gnu_hash(image, reterr_fault);
	else if (image->dynamic.hash != 0)
		r = count_by_hash(image, reterr_fault);
	if (r < 0)
		return r;
	if (image->dynamic.n_symbols > IMAGE_SYMBOLS_MAX)
		return fault_at(image, REASON_TOO_LARGE, "DT_SYMTAB", reterr_fault);
	return 0;
}

int image_read_dynamic(struct image *image, struct fault *reterr_fault)
{
	const Elf64_Phdr *header = &image->dynamic_header;
	struct bytes table;
	Elf64_Dyn entry;
	size_t n;
	int r;

	if (header->p_type != PT_DYNAMIC)
		return 0;
	r = image_view(image, header->p_offset, header->p_filesz, "PT_DYNAMIC", &table,
		       reterr_fault);
	if (r < 0)
		return r;
	if (count_entries(table, &n) < 0)
		return fault_at(image, REASON_TOO_LARGE, "PT_DYNAMIC", reterr_fault);
	image->dynamic.present = true;
	for (size_t i = 0; i < n; i++) {
		memcpy(&entry, table.data + i * sizeof(entry), sizeof(entry));
		note_entry(&image->dynamic, &entry);
	}
	r = read_strings(image, reterr_fault);
	if (r < 0)
		return r;
	r = read_needed(image, table, n, reterr_fault);
	if (r < 0)
		return r;
	return count_symbols(image, reterr_fault);
}

const char *image_needed(const struct image *image, size_t n)
{
	return n < image->n_needed ? image->needed[n] : NULL;
}
