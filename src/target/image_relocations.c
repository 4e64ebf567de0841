/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Pointer-sized slots that the loader fills with addresses in this very image:
 * one sorted array of RELA and RELR relocations.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "target/image_private.h"

#define SLOT 8ULL /* bytes */

/* A table of relocations in loaded memory; an absent one is empty. */
static int find_table(const struct image *image, uint64_t vaddr, uint64_t size, const char *field,
		      struct bytes *ret, struct fault *reterr_fault)
{
	struct bytes from;

	*ret = (struct bytes){0};
	if (size == 0)
		return 0;
	if (!image_bytes_from(image, vaddr, &from) || !bytes_slice(from, 0, size, ret))
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_OUT_OF_BOUNDS,
				 image->dynamic_header.p_offset, field);
	return 0;
}

static void add_slot(struct image *image, uint64_t vaddr, bool ours, uint64_t target)
{
	image->slots[image->n_slots++] =
		(struct image_slot){.vaddr = vaddr, .target = target, .ours = ours};
}

/* Is the relocation's symbol an address in this image? Then that address. */
static bool symbol_target(const struct image *image, uint64_t index, uint64_t *ret_vaddr)
{
	struct bytes table;
	Elf64_Sym symbol;

	if (index == 0 || index >= image->dynamic.n_symbols ||
	    !image_bytes_from(image, image->dynamic.symtab, &table) ||
	    !bytes_read(table, index * sizeof(symbol), &symbol, sizeof(symbol)) ||
	    !image_symbol_is_address(&symbol) || ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC)
		return false;
	*ret_vaddr = symbol.st_value;
	return true;
}

static void add_rela(struct image *image, const Elf64_Rela *rela)
{
	uint64_t addend = (uint64_t)rela->r_addend;
	uint64_t target = 0;
	bool ours = false;

	switch (ELF64_R_TYPE(rela->r_info)) {
	case R_X86_64_RELATIVE:
		target = addend;
		ours = true;
		break;
	case R_X86_64_64:
		ours = symbol_target(image, ELF64_R_SYM(rela->r_info), &target);
		target += addend;
		break;
	case R_X86_64_GLOB_DAT:
	case R_X86_64_JUMP_SLOT:
		ours = symbol_target(image, ELF64_R_SYM(rela->r_info), &target);
		break;
	default: /* thread-local, indirect, copied: remembered, so as not to be taken for plain */
		break;
	}
	add_slot(image, rela->r_offset, ours, target);
}

static void add_relas(struct image *image, struct bytes table)
{
	for (size_t i = 0; i < table.size / sizeof(Elf64_Rela); i++) {
		Elf64_Rela rela;

		memcpy(&rela, table.data + i * sizeof(rela), sizeof(rela));
		add_rela(image, &rela);
	}
}

/* RELR keeps the addend in the slot; one that is not in the file is nothing of ours. */
static void add_relr_slot(struct image *image, uint64_t vaddr)
{
	struct bytes slot;
	uint64_t target;

	if (image_bytes_from(image, vaddr, &slot) && bytes_read(slot, 0, &target, sizeof(target)))
		add_slot(image, vaddr, true, target);
	else
		add_slot(image, vaddr, false, 0);
}

/* How many slots the table speaks of: its encoding is below. */
static uint64_t count_relrs(struct bytes table)
{
	uint64_t n = 0;

	for (size_t i = 0; i < table.size / sizeof(uint64_t); i++) {
		uint64_t entry;

		memcpy(&entry, table.data + i * sizeof(entry), sizeof(entry));
		n += entry & 1 ? (uint64_t)__builtin_popcountll(entry >> 1) : 1;
	}
	return n;
}

/*
 * gABI "Relative relocations": an even entry is the address of a slot; an odd
 * one a bitmap of the 63 slots that follow the last one spoken of.
 */
static void add_relrs(struct image *image, struct bytes table)
{
	uint64_t next = 0;

	for (size_t i = 0; i < table.size / sizeof(uint64_t); i++) {
		uint64_t entry;

		memcpy(&entry, table.data + i * sizeof(entry), sizeof(entry));
		if (!(entry & 1)) {
			add_relr_slot(image, entry);
			next = entry + SLOT;
			continue;
		}
		for (unsigned bit = 0; bit < 63; bit++)
			if (entry >> (bit + 1) & 1)
				add_relr_slot(image, next + bit * SLOT);
		next += 63 * SLOT;
	}
}

static int compare_slots(const void *a, const void *b)
{
	const struct image_slot *left = a, *right = b;

	return (left->vaddr > right->vaddr) - (left->vaddr < right->vaddr);
}

static void sort_slots(struct image *image)
{
	for (size_t i = 1; i < image->n_slots; i++)
		if (image->slots[i - 1].vaddr > image->slots[i].vaddr) {
			qsort(image->slots, image->n_slots, sizeof(*image->slots), compare_slots);
			return;
		}
}

int image_read_relocations(struct image *image, struct fault *reterr_fault)
{
	const struct image_dynamic *dynamic = &image->dynamic;
	struct bytes rela, jmprel, relr;
	uint64_t n_max;
	int r;

	r = find_table(image, dynamic->rela, dynamic->rela_size, "DT_RELA", &rela, reterr_fault);
	if (r < 0)
		return r;
	r = find_table(image, dynamic->jmprel, dynamic->jmprel_size, "DT_JMPREL", &jmprel,
		       reterr_fault);
	if (r < 0)
		return r;
	r = find_table(image, dynamic->relr, dynamic->relr_size, "DT_RELR", &relr, reterr_fault);
	if (r < 0)
		return r;
	n_max = rela.size / sizeof(Elf64_Rela) + jmprel.size / sizeof(Elf64_Rela) +
		count_relrs(relr);
	if (n_max == 0)
		return 0;
	if (n_max > IMAGE_RELOCATIONS_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE,
				 image->dynamic_header.p_offset, "relocations");
	image->slots = malloc(n_max * sizeof(*image->slots));
	if (!image->slots)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "relocations");
	add_relas(image, rela);
	add_relas(image, jmprel);
	add_relrs(image, relr);
	sort_slots(image);
	return 0;
}

static const struct image_slot *find_slot(const struct image *image, uint64_t vaddr)
{
	const struct image_slot key = {.vaddr = vaddr};

	if (image->n_slots == 0)
		return NULL;
	return bsearch(&key, image->slots, image->n_slots, sizeof(key), compare_slots);
}

/* At a fixed address the linker has filled in what it knows. */
static int plain_slot_target(const struct image *image, uint64_t vaddr, uint64_t *ret_vaddr)
{
	struct bytes slot;
	uint64_t target;

	if (image->header.e_type != ET_EXEC || !image_bytes_from(image, vaddr, &slot) ||
	    !bytes_read(slot, 0, &target, sizeof(target)) || !image_segment_of(image, target))
		return -ENOENT;
	*ret_vaddr = target;
	return 0;
}

int image_slot_target(const struct image *image, uint64_t slot_vaddr, uint64_t *ret_vaddr)
{
	const struct image_slot *slot = find_slot(image, slot_vaddr);

	if (!slot)
		return plain_slot_target(image, slot_vaddr, ret_vaddr);
	if (!slot->ours)
		return -ENOENT;
	*ret_vaddr = slot->target;
	return 0;
}
