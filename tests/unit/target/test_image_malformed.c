/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The good file with a field or two bent: each is refused with a reason, in
 * the part that is named, and nothing is handed out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "target/image.h"
#include "unit/target/elf_writer.h"

struct bend {
	const char *what;
	void (*apply)(struct elf *elf);
	enum reason reason;
	const char *field;
};

#define BEND(name, statement)                 \
	static void name(struct elf *elf)     \
	{                                     \
		statement;                    \
	}

BEND(magic, elf->bytes[0] = 'E')
BEND(class32, elf->header->e_ident[EI_CLASS] = ELFCLASS32)
BEND(big_endian, elf->header->e_ident[EI_DATA] = ELFDATA2MSB)
BEND(arm, elf->header->e_machine = EM_AARCH64)
BEND(object_file, elf->header->e_type = ET_REL)
BEND(core_file, elf->header->e_type = ET_CORE)
BEND(header_cut, elf->size = 63)
BEND(only_magic, elf->size = 4)
BEND(no_programs, elf->header->e_phnum = 0)
BEND(too_many_programs, elf->header->e_phnum = PN_XNUM)
BEND(program_entry_size, elf->header->e_phentsize = 32)
BEND(programs_outside, elf->header->e_phoff = ELF_SIZE - 8)
BEND(programs_wrap, elf->header->e_phoff = UINT64_MAX - 8)
BEND(no_load, elf->programs[P_TEXT].p_type = elf->programs[P_DATA].p_type = PT_NULL)
BEND(load_cut, elf->programs[P_DATA].p_filesz = elf->programs[P_DATA].p_memsz = ELF_SIZE)
BEND(load_offset_wraps, elf->programs[P_DATA].p_offset = UINT64_MAX - 0xfff)
BEND(load_file_larger_than_memory, elf->programs[P_DATA].p_memsz = 0xfff)
BEND(load_memory_wraps, elf->programs[P_DATA].p_memsz = UINT64_MAX)
BEND(load_not_congruent, elf->programs[P_DATA].p_vaddr += 8)
BEND(loads_overlap, elf->programs[P_DATA].p_vaddr = 0x1000)
BEND(note_outside, elf->programs[P_NOTE].p_offset = ELF_SIZE - 4)
BEND(note_name_outside, elf_put32(elf->note, UINT32_MAX))
BEND(note_description_outside, elf_put32(elf->note + 4, UINT32_MAX))
BEND(build_id_too_long, elf->programs[P_NOTE].p_filesz = 300; elf_put32(elf->note + 4, 65))
BEND(sections_outside, elf->header->e_shoff = ELF_SIZE - 1)
BEND(sections_wrap, elf->header->e_shoff = UINT64_MAX - 63)
BEND(section_entry_size, elf->header->e_shentsize = 40)
BEND(names_index_outside, elf->header->e_shstrndx = S_COUNT)
BEND(names_are_no_strings, elf->sections[S_SHSTRTAB].sh_type = SHT_PROGBITS)
BEND(names_outside, elf->sections[S_SHSTRTAB].sh_offset = UINT64_MAX)
BEND(names_empty, elf->sections[S_SHSTRTAB].sh_size = 0)
BEND(names_without_end, elf->sections[S_SHSTRTAB].sh_size -= 1)
BEND(name_outside, elf->sections[S_TEXT].sh_name = 0x10000)
BEND(extended_count_huge, elf->header->e_shnum = 0; elf->sections[0].sh_size = 1ULL << 40)
BEND(symtab_outside, elf->sections[S_SYMTAB].sh_offset = ELF_SIZE)
BEND(symtab_entry_size, elf->sections[S_SYMTAB].sh_entsize = 16)
BEND(symtab_link_outside, elf->sections[S_SYMTAB].sh_link = 1000)
BEND(symtab_huge, elf->sections[S_SYMTAB].sh_size = UINT64_MAX)
BEND(strtab_is_none, elf->sections[S_SYMTAB].sh_link = S_TEXT)
BEND(strtab_without_end, elf->sections[S_STRTAB].sh_size -= 1)
BEND(symbol_name_outside, elf->symtab[2].st_name = 0x10000)
BEND(dynamic_outside, elf->programs[P_DYNAMIC].p_offset = ELF_SIZE)
BEND(dynstr_outside, elf->dynamic[D_STRTAB].d_un.d_val = 0x100000)
BEND(dynstr_in_bss, elf->dynamic[D_STRTAB].d_un.d_val = 0x4100)
BEND(dynstr_too_long, elf->dynamic[D_STRSZ].d_un.d_val = 0x10000)
BEND(dynstr_without_end, elf->dynamic[D_STRSZ].d_un.d_val -= 1)
BEND(needed_outside, elf->dynamic[D_NEEDED].d_un.d_val = 0x1000)
BEND(no_dynstr_for_needed, elf->dynamic[D_STRSZ].d_tag = DT_DEBUG)
BEND(dynsym_outside, elf->dynamic[D_SYMTAB].d_un.d_val = 0x1ff0)
BEND(dynsym_name_outside, elf->dynsym[Y_MALLOC].st_name = UINT32_MAX)
BEND(versym_outside, elf->dynamic[D_VERSYM].d_un.d_val = 0x1ffe)
BEND(gnu_hash_outside, elf->dynamic[D_GNU_HASH].d_un.d_val = 0x1ff8)
BEND(gnu_hash_buckets_outside, elf->gnu_hash[0] = UINT32_MAX)
BEND(gnu_hash_bloom_outside, elf->gnu_hash[2] = UINT32_MAX)
BEND(gnu_hash_bucket_before_first, elf->gnu_hash[1] = 2)
BEND(gnu_hash_chain_outside, elf->gnu_hash[6] = 0x10000)
BEND(gnu_hash_too_many, elf->gnu_hash[1] = UINT32_MAX; elf->gnu_hash[6] = 0)
BEND(sysv_hash_too_many, elf->dynamic[D_GNU_HASH].d_tag = DT_HASH; elf->gnu_hash[1] = UINT32_MAX)
BEND(rela_outside, elf->dynamic[D_RELA].d_un.d_val = 0x1ff0)
BEND(rela_huge, elf->dynamic[D_RELASZ].d_un.d_val = UINT64_MAX)
BEND(jmprel_outside, elf->dynamic[D_JMPREL].d_un.d_val = UINT64_MAX - 7)
BEND(relr_outside, elf->dynamic[D_RELR].d_un.d_val = 0x2100)
BEND(unwind_outside, elf->programs[P_UNWIND].p_vaddr = 0x8000)
BEND(unwind_version, elf->unwind[0] = 2)
BEND(unwind_cut, elf->programs[P_UNWIND].p_filesz = 7)
BEND(unwind_table_cut, elf->programs[P_UNWIND].p_filesz -= 1)
BEND(unwind_count_huge, elf_put32(elf->unwind + 8, UINT32_MAX))
BEND(unwind_pointer_indirect, elf->unwind[1] |= 0x80)
BEND(fde_outside, elf_put32(elf->unwind + 16, 0x10000))
BEND(fde_length_outside, elf_put32(elf->fdes[0], 0x10000))
BEND(fde_is_terminator, elf_put32(elf->fdes[0], 0))
BEND(fde_too_short, elf_put32(elf->fdes[0], 8))
BEND(fde_says_another_start, elf_put32(elf->unwind + 12, 0x1104 - ELF_EH_FRAME_HDR))
BEND(fde_without_cie, elf_put32(elf->fdes[0] + 4, 0x400))
BEND(fde_is_its_own_cie, elf_put32(elf->fdes[0] + 4, 4))
BEND(cie_version, elf->cie[8] = 9)
BEND(cie_encoding_unknown, elf->cie[16] = 0x1f)
BEND(cie_encoding_indirect, elf->cie[16] = 0x9b)
BEND(cie_augmentation_unknown, elf->cie[10] = 'Q')
BEND(cie_augmentation_without_end, memset(elf->cie + 9, 'z', 15))
BEND(walk_entry_outside, elf->programs[P_UNWIND].p_type = PT_NULL; elf_put32(elf->fdes[3], 0x10000))

static const struct bend header_bends[] = {
	{ "no ELF magic", magic, REASON_UNSUPPORTED, "not an ELF file" },
	{ "32 bits", class32, REASON_UNSUPPORTED, "not a 64-bit file" },
	{ "big endian", big_endian, REASON_UNSUPPORTED, "not for x86-64" },
	{ "another machine", arm, REASON_UNSUPPORTED, "not for x86-64" },
	{ "an object file", object_file, REASON_UNSUPPORTED,
	  "neither an executable nor a shared object" },
	{ "a core file", core_file, REASON_UNSUPPORTED,
	  "neither an executable nor a shared object" },
	{ "header cut off", header_cut, REASON_TRUNCATED, "ELF header" },
	{ "nothing but magic", only_magic, REASON_TRUNCATED, "ELF header" },
	{ "no program headers", no_programs, REASON_MALFORMED, "e_phnum" },
	{ "extended program header count", too_many_programs, REASON_MALFORMED, "e_phnum" },
	{ "size of a program header", program_entry_size, REASON_MALFORMED, "e_phnum" },
	{ "program headers beyond the end", programs_outside, REASON_TRUNCATED, "program headers" },
	{ "program headers wrap around", programs_wrap, REASON_TRUNCATED, "program headers" },
	{ "nothing to load", no_load, REASON_MALFORMED, "no PT_LOAD" },
	{ "segment beyond the end", load_cut, REASON_TRUNCATED, "PT_LOAD" },
	{ "segment's offset wraps around", load_offset_wraps, REASON_TRUNCATED, "PT_LOAD" },
	{ "segment with more file than memory", load_file_larger_than_memory, REASON_MALFORMED,
	  "PT_LOAD" },
	{ "segment's memory wraps around", load_memory_wraps, REASON_MALFORMED, "PT_LOAD" },
	{ "segment that can't be mapped", load_not_congruent, REASON_MALFORMED, "PT_LOAD" },
	{ "segments overlap", loads_overlap, REASON_MALFORMED, "overlapping PT_LOAD" },
	{ "notes beyond the end", note_outside, REASON_TRUNCATED, "PT_NOTE" },
	{ "note's name beyond its segment", note_name_outside, REASON_MALFORMED, "PT_NOTE" },
	{ "note's text beyond its segment", note_description_outside, REASON_MALFORMED, "PT_NOTE" },
	{ "build ID of 65 bytes", build_id_too_long, REASON_TOO_LARGE, "build ID" },
};

static const struct bend section_bends[] = {
	{ "sections beyond the end", sections_outside, REASON_TRUNCATED, "section headers" },
	{ "sections wrap around", sections_wrap, REASON_TRUNCATED, "section headers" },
	{ "size of a section header", section_entry_size, REASON_MALFORMED, "e_shentsize" },
	{ "index of names outside", names_index_outside, REASON_OUT_OF_BOUNDS, "e_shstrndx" },
	{ "names that are code", names_are_no_strings, REASON_MALFORMED, "e_shstrndx" },
	{ "names beyond the end", names_outside, REASON_TRUNCATED, "section names" },
	{ "names of no bytes", names_empty, REASON_MALFORMED, "section names" },
	{ "names without NUL", names_without_end, REASON_MALFORMED, "section names" },
	{ "a name outside", name_outside, REASON_OUT_OF_BOUNDS, "sh_name" },
	{ "2^40 sections", extended_count_huge, REASON_TOO_LARGE, "e_shnum" },
	{ ".symtab beyond the end", symtab_outside, REASON_TRUNCATED, ".symtab" },
	{ "size of a symbol", symtab_entry_size, REASON_MALFORMED, ".symtab" },
	{ ".symtab's strings outside", symtab_link_outside, REASON_MALFORMED, ".symtab" },
	{ ".symtab of 2^64 bytes", symtab_huge, REASON_TOO_LARGE, ".symtab" },
	{ ".strtab that is code", strtab_is_none, REASON_MALFORMED, ".strtab" },
	{ ".strtab without NUL", strtab_without_end, REASON_MALFORMED, ".strtab" },
	{ "a symbol's name outside", symbol_name_outside, REASON_OUT_OF_BOUNDS, "st_name" },
};

static const struct bend dynamic_bends[] = {
	{ "dynamic section beyond the end", dynamic_outside, REASON_TRUNCATED, "PT_DYNAMIC" },
	{ "dynamic strings nowhere", dynstr_outside, REASON_OUT_OF_BOUNDS, "DT_STRTAB" },
	{ "dynamic strings in .bss", dynstr_in_bss, REASON_OUT_OF_BOUNDS, "DT_STRTAB" },
	{ "dynamic strings beyond their segment", dynstr_too_long, REASON_OUT_OF_BOUNDS,
	  "DT_STRTAB" },
	{ "dynamic strings without NUL", dynstr_without_end, REASON_MALFORMED, "DT_STRTAB" },
	{ "a needed name outside", needed_outside, REASON_OUT_OF_BOUNDS, "DT_NEEDED" },
	{ "needed names without strings", no_dynstr_for_needed, REASON_OUT_OF_BOUNDS, "DT_NEEDED" },
	{ "dynamic symbols beyond their segment", dynsym_outside, REASON_OUT_OF_BOUNDS,
	  "DT_SYMTAB" },
	{ "a dynamic symbol's name outside", dynsym_name_outside, REASON_OUT_OF_BOUNDS, "st_name" },
	{ "versions beyond their segment", versym_outside, REASON_OUT_OF_BOUNDS, "DT_VERSYM" },
	{ "GNU hash beyond its segment", gnu_hash_outside, REASON_OUT_OF_BOUNDS, "DT_GNU_HASH" },
	{ "GNU hash of 2^32 buckets", gnu_hash_buckets_outside, REASON_OUT_OF_BOUNDS,
	  "DT_GNU_HASH" },
	{ "GNU hash of 2^32 bloom words", gnu_hash_bloom_outside, REASON_OUT_OF_BOUNDS,
	  "DT_GNU_HASH" },
	{ "GNU hash that starts before its symbols", gnu_hash_bucket_before_first,
	  REASON_MALFORMED, "DT_GNU_HASH" },
	{ "GNU hash chain without end", gnu_hash_chain_outside, REASON_OUT_OF_BOUNDS,
	  "DT_GNU_HASH" },
	{ "GNU hash of 2^32 symbols", gnu_hash_too_many, REASON_TOO_LARGE, "DT_SYMTAB" },
	{ "SysV hash of 2^32 symbols", sysv_hash_too_many, REASON_TOO_LARGE, "DT_SYMTAB" },
	{ "relocations beyond their segment", rela_outside, REASON_OUT_OF_BOUNDS, "DT_RELA" },
	{ "relocations of 2^64 bytes", rela_huge, REASON_OUT_OF_BOUNDS, "DT_RELA" },
	{ "PLT relocations nowhere", jmprel_outside, REASON_OUT_OF_BOUNDS, "DT_JMPREL" },
	{ "relative relocations between segments", relr_outside, REASON_OUT_OF_BOUNDS, "DT_RELR" },
};

static const struct bend unwind_bends[] = {
	{ "unwind header nowhere", unwind_outside, REASON_MALFORMED, "PT_GNU_EH_FRAME" },
	{ "unwind header's version", unwind_version, REASON_MALFORMED, ".eh_frame_hdr" },
	{ "unwind header cut off", unwind_cut, REASON_MALFORMED, ".eh_frame_hdr" },
	{ "unwind table cut off", unwind_table_cut, REASON_MALFORMED, ".eh_frame_hdr" },
	{ "unwind table of 2^32 entries", unwind_count_huge, REASON_TOO_LARGE, ".eh_frame_hdr" },
	{ "unwind pointer that is indirect", unwind_pointer_indirect, REASON_MALFORMED,
	  ".eh_frame_hdr" },
	{ "function's entry nowhere", fde_outside, REASON_MALFORMED, "FDE" },
	{ "function's entry too long", fde_length_outside, REASON_MALFORMED, "FDE" },
	{ "function's entry that is none", fde_is_terminator, REASON_MALFORMED, "FDE" },
	{ "function's entry too short", fde_too_short, REASON_MALFORMED, "FDE" },
	{ "function's entry of another function", fde_says_another_start, REASON_MALFORMED, "FDE" },
	{ "function's entry without a common one", fde_without_cie, REASON_MALFORMED, "FDE" },
	{ "function's entry as its own common one", fde_is_its_own_cie, REASON_MALFORMED, "FDE" },
	{ "common entry's version", cie_version, REASON_MALFORMED, "FDE" },
	{ "unknown pointer encoding", cie_encoding_unknown, REASON_MALFORMED, "FDE" },
	{ "indirect pointer encoding", cie_encoding_indirect, REASON_MALFORMED, "FDE" },
	{ "unknown augmentation", cie_augmentation_unknown, REASON_MALFORMED, "FDE" },
	{ "augmentation without end", cie_augmentation_without_end, REASON_MALFORMED, "FDE" },
	{ "entry beyond .eh_frame on a walk", walk_entry_outside, REASON_MALFORMED, ".eh_frame" },
};

static void check_bend(const struct bend *bend)
{
	struct image *image = NULL;
	struct fault fault = { 0 };
	struct elf elf;
	int r;

	elf_write(&elf);
	bend->apply(&elf);
	r = image_new_from_bytes(elf.bytes, elf.size, &image, &fault);
	if (r != -ENOEXEC || fault.reason != bend->reason ||
	    strcmp(fault.field ? fault.field : "", bend->field) != 0)
		fail_msg("%s: %d, \"%s\" in \"%s\"", bend->what, r, reason_label(fault.reason),
			 fault.field ? fault.field : "");
	assert_null(image);
	/* The reason is for whoever asks. */
	assert_int_equal(image_new_from_bytes(elf.bytes, elf.size, &image, NULL), -ENOEXEC);
	elf_done(&elf);
}

static void check_bends(const struct bend *bends, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_bend(&bends[i]);
}

static void each_bent_header_is_refused_with_its_reason(void **state)
{
	(void)state;
	check_bends(header_bends, ARRAY_SIZE(header_bends));
}

static void each_bent_section_is_refused_with_its_reason(void **state)
{
	(void)state;
	check_bends(section_bends, ARRAY_SIZE(section_bends));
}

static void each_bent_dynamic_entry_is_refused_with_its_reason(void **state)
{
	(void)state;
	check_bends(dynamic_bends, ARRAY_SIZE(dynamic_bends));
}

static void each_bent_unwind_entry_is_refused_with_its_reason(void **state)
{
	(void)state;
	check_bends(unwind_bends, ARRAY_SIZE(unwind_bends));
}

/* Exactly the bytes, so that a sanitizer sees a read behind them. */
static void a_file_cut_at_any_length_is_read_within_its_bounds(void **state)
{
	struct elf elf;
	unsigned whole = 0;

	(void)state;
	elf_write(&elf);
	for (size_t size = 0; size <= elf.size; size += size < 0x40 ? 1 : 7) {
		_cleanup_free_ uint8_t *copy = malloc(size + !size);
		struct image *image = NULL;

		memcpy(copy, elf.bytes, size);
		if (image_new_from_bytes(copy, size, &image, NULL) == 0)
			whole++;
		image_free(image);
	}
	elf_done(&elf);
	/* Only what lies behind the section headers may be missing. */
	assert_in_range(whole, 1, (0x4000 - 0x3800 - S_COUNT * 64) / 7 + 2);
}

static unsigned count_refusals_of_byte(struct elf *elf, size_t at)
{
	static const uint8_t values[] = { 0x00, 0x7f, 0x80, 0xff };
	uint8_t saved = elf->bytes[at];
	unsigned refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct image *image = NULL;

		elf->bytes[at] = values[i];
		if (image_new_from_bytes(elf->bytes, elf->size, &image, NULL) < 0)
			refused++;
		image_free(image);
	}
	elf->bytes[at] = saved;
	return refused;
}

/* Each byte set to what breaks most: nothing to assert but that it comes back. */
static void any_one_byte_may_be_anything(void **state)
{
	unsigned refused = 0;
	struct elf elf;

	(void)state;
	elf_write(&elf);
	for (size_t at = 0; at < elf.size; at++)
		if (at < 0x1000 || at >= 0x2000) /* text is only looked at by others */
			refused += count_refusals_of_byte(&elf, at);
	elf_done(&elf);
	assert_true(refused > 500);
}

static void many_equal_names_do_not_make_opening_slow(void **state)
{
	enum { SYMBOLS = 60000 };
	size_t table = ELF_SIZE, size = table + SYMBOLS * sizeof(Elf64_Sym);
	struct image_symbol symbol;
	struct image *image = NULL;
	Elf64_Sym *symbols;
	struct elf elf;
	uint8_t *bytes;

	(void)state;
	elf_write(&elf);
	elf.sections[S_SYMTAB].sh_offset = table;
	elf.sections[S_SYMTAB].sh_size = SYMBOLS * sizeof(Elf64_Sym);
	bytes = calloc(1, size);
	memcpy(bytes, elf.bytes, ELF_SIZE);
	symbols = (Elf64_Sym *)(bytes + table);
	for (size_t i = 0; i < SYMBOLS; i++)
		symbols[i] = elf_symbol(elf.symtab[1].st_name, STB_LOCAL, STT_FUNC, S_TEXT,
					0x1000 + i, 1);
	assert_int_equal(image_new_from_bytes(bytes, size, &image, NULL), 0);
	assert_int_equal(image_symbol(image, "helper", &symbol), 0);
	assert_int_equal(symbol.vaddr, 0x1000);
	image_free(image);
	free(bytes);
	elf_done(&elf);
}

/* Names may overlap: 60,000 symbols that all begin in 32 KiB without a NUL are 2 GB of text. */
static void names_that_overlap_beyond_the_bound_are_refused(void **state)
{
	enum { SYMBOLS = 60000, NAMES = 32768 };
	size_t table = ELF_SIZE, names = table + SYMBOLS * sizeof(Elf64_Sym);
	struct fault fault = { 0 };
	struct image *image = NULL;
	struct elf elf;
	uint8_t *bytes;

	(void)state;
	elf_write(&elf);
	elf.sections[S_SYMTAB].sh_offset = table;
	elf.sections[S_SYMTAB].sh_size = SYMBOLS * sizeof(Elf64_Sym);
	elf.sections[S_STRTAB].sh_offset = names;
	elf.sections[S_STRTAB].sh_size = NAMES;
	bytes = calloc(1, names + NAMES);
	memcpy(bytes, elf.bytes, ELF_SIZE);
	memset(bytes + names, 'x', NAMES - 1);
	for (size_t i = 0; i < SYMBOLS; i++)
		((Elf64_Sym *)(bytes + table))[i] =
			elf_symbol(0, STB_LOCAL, STT_FUNC, S_TEXT, 0x1000, 1);
	assert_int_equal(image_new_from_bytes(bytes, names + NAMES, &image, &fault), -ENOEXEC);
	assert_int_equal(fault.reason, REASON_TOO_LARGE);
	assert_string_equal(fault.field, "symbol names");
	free(bytes);
	elf_done(&elf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_bent_header_is_refused_with_its_reason),
		cmocka_unit_test(each_bent_section_is_refused_with_its_reason),
		cmocka_unit_test(each_bent_dynamic_entry_is_refused_with_its_reason),
		cmocka_unit_test(each_bent_unwind_entry_is_refused_with_its_reason),
		cmocka_unit_test(a_file_cut_at_any_length_is_read_within_its_bounds),
		cmocka_unit_test(any_one_byte_may_be_anything),
		cmocka_unit_test(many_equal_names_do_not_make_opening_slow),
		cmocka_unit_test(names_that_overlap_beyond_the_bound_are_refused),
	};

	return cmocka_run_group_tests_name("target/image malformed", tests, NULL, NULL);
}
