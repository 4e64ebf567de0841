/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * ELF files written field by field.  elf_write() makes a good one, in which
 * everything that image.h reads occurs; a test then bends a field or two
 * through the pointers.
 *
 *	offset  vaddr
 *	0x0000  0x0000  header, program headers, notes, dynamic symbols,
 *	                relocations, unwind tables, .plt           (R X)
 *	0x1000  0x1000  .text: functions at 0x1100, 0x1140 …       (R X)
 *	0x2000  0x3000  .dynamic, slots, then .bss up to 0x5000    (RW)
 *	0x3000          .symtab, .strtab, .shstrtab, section headers
 */
#ifndef TESTS_ELF_WRITER_H
#define TESTS_ELF_WRITER_H

#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ELF_SIZE 0x4000
#define ELF_DATA_OFFSET 0x2000
#define ELF_DATA_VADDR 0x3000
#define ELF_SLOTS_VADDR 0x3800
#define ELF_EH_FRAME 0x0c00
#define ELF_EH_FRAME_HDR 0x0b00

enum elf_program { P_TEXT, P_DATA, P_DYNAMIC, P_NOTE, P_UNWIND, P_TLS, P_COUNT };
enum elf_section {
	S_NULL,
	S_PLT,
	S_TEXT,
	S_EH_FRAME,
	S_DATA,
	S_SYMTAB,
	S_STRTAB,
	S_SHSTRTAB,
	S_COUNT
};
enum elf_dynamic {
	D_NEEDED,
	D_NEEDED2,
	D_STRTAB,
	D_STRSZ,
	D_SYMTAB,
	D_VERSYM,
	D_GNU_HASH,
	D_RELA,
	D_RELASZ,
	D_JMPREL,
	D_PLTRELSZ,
	D_RELR,
	D_RELRSZ,
	D_END,
	D_COUNT
};
enum elf_dynsym { Y_NULL, Y_EXTERNAL, Y_MALLOC, Y_OLD, Y_NEW, Y_ABSOLUTE, Y_TLS, Y_IFUNC, Y_COUNT };
enum elf_rela { R_RELATIVE, R_GLOB_DAT, R_64, R_EXTERNAL, R_IFUNC, R_TLS, R_COUNT };
#define ELF_FDES 4

struct elf {
	uint8_t *bytes; /* ELF_SIZE */
	size_t size;
	Elf64_Ehdr *header;
	Elf64_Phdr *programs;
	Elf64_Shdr *sections;
	Elf64_Dyn *dynamic;
	Elf64_Sym *dynsym;
	Elf64_Sym *symtab;
	uint16_t *versym;
	uint32_t
		*gnu_hash; /* nbuckets, symoffset, bloom words, shift, bloom (2), bucket, chain … */
	Elf64_Rela *rela, *jmprel;
	uint64_t *relr;
	uint64_t *slots;
	uint8_t *note;
	uint8_t *unwind; /* .eh_frame_hdr */
	uint8_t *cie;
	uint8_t *fdes[ELF_FDES];
	char *strtab, *dynstr;
	size_t strtab_size, dynstr_size;
};

static inline uint32_t elf_string(char *table, size_t *size, const char *text)
{
	size_t at = *size;

	memcpy(table + at, text, strlen(text) + 1);
	*size += strlen(text) + 1;
	return (uint32_t)at;
}

static inline void elf_write_programs(struct elf *elf)
{
	elf->programs[P_TEXT] = (Elf64_Phdr){.p_type = PT_LOAD,
					     .p_flags = PF_R | PF_X,
					     .p_filesz = 0x2000,
					     .p_memsz = 0x2000,
					     .p_align = 0x1000};
	elf->programs[P_DATA] = (Elf64_Phdr){.p_type = PT_LOAD,
					     .p_flags = PF_R | PF_W,
					     .p_offset = ELF_DATA_OFFSET,
					     .p_vaddr = ELF_DATA_VADDR,
					     .p_filesz = 0x1000,
					     .p_memsz = 0x2000,
					     .p_align = 0x1000};
	elf->programs[P_DYNAMIC] = (Elf64_Phdr){.p_type = PT_DYNAMIC,
						.p_flags = PF_R | PF_W,
						.p_offset = ELF_DATA_OFFSET,
						.p_vaddr = ELF_DATA_VADDR,
						.p_filesz = D_COUNT * sizeof(Elf64_Dyn),
						.p_memsz = D_COUNT * sizeof(Elf64_Dyn)};
	elf->programs[P_NOTE] = (Elf64_Phdr){.p_type = PT_NOTE,
					     .p_flags = PF_R,
					     .p_offset = 0x200,
					     .p_vaddr = 0x200,
					     .p_filesz = 36,
					     .p_memsz = 36,
					     .p_align = 4};
	elf->programs[P_UNWIND] = (Elf64_Phdr){.p_type = PT_GNU_EH_FRAME,
					       .p_flags = PF_R,
					       .p_offset = ELF_EH_FRAME_HDR,
					       .p_vaddr = ELF_EH_FRAME_HDR,
					       .p_filesz = 12 + 8 * ELF_FDES,
					       .p_memsz = 12 + 8 * ELF_FDES};
	elf->programs[P_TLS] = (Elf64_Phdr){.p_type = PT_TLS,
					    .p_flags = PF_R,
					    .p_offset = 0x2f00,
					    .p_vaddr = 0x3f00,
					    .p_filesz = 8,
					    .p_memsz = 24,
					    .p_align = 16};
}

static inline void elf_write_header(struct elf *elf)
{
	*elf->header = (Elf64_Ehdr){
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			    EV_CURRENT},
		.e_type = ET_DYN,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_shoff = 0x3800,
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = P_COUNT,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = S_COUNT,
		.e_shstrndx = S_SHSTRTAB,
	};
}

static inline void elf_write_note(struct elf *elf)
{
	const Elf64_Nhdr note = {4, 20, NT_GNU_BUILD_ID};

	memcpy(elf->note, &note, sizeof(note));
	memcpy(elf->note + 12, "GNU", 4);
	for (uint8_t i = 0; i < 20; i++)
		elf->note[16 + i] = (uint8_t)(0xa0 + i);
}

static inline Elf64_Sym elf_symbol(uint32_t name, unsigned bind, unsigned type, uint16_t section,
				   uint64_t value, uint64_t size)
{
	return (Elf64_Sym){.st_name = name,
			   .st_info = (uint8_t)ELF64_ST_INFO(bind, type),
			   .st_shndx = section,
			   .st_value = value,
			   .st_size = size};
}

static inline uint32_t elf_dynamic_name(struct elf *elf, const char *name)
{
	return elf_string(elf->dynstr, &elf->dynstr_size, name);
}

static inline void elf_write_dynsym(struct elf *elf)
{
	Elf64_Sym *symbols = elf->dynsym;

	symbols[Y_EXTERNAL] = elf_symbol(elf_dynamic_name(elf, "external"), STB_GLOBAL, STT_FUNC,
					 SHN_UNDEF, 0, 0);
	symbols[Y_MALLOC] = elf_symbol(elf_dynamic_name(elf, "PyObject_Malloc"), STB_GLOBAL,
				       STT_FUNC, S_TEXT, 0x1100, 0x40);
	symbols[Y_OLD] = elf_symbol(elf_dynamic_name(elf, "twice"), STB_GLOBAL, STT_FUNC, S_TEXT,
				    0x1140, 0x40);
	symbols[Y_NEW] =
		elf_symbol(symbols[Y_OLD].st_name, STB_GLOBAL, STT_FUNC, S_TEXT, 0x1180, 0x40);
	symbols[Y_ABSOLUTE] = elf_symbol(elf_dynamic_name(elf, "VERSION_1"), STB_GLOBAL, STT_OBJECT,
					 SHN_ABS, 0, 0);
	symbols[Y_TLS] = elf_symbol(elf_dynamic_name(elf, "thread_local"), STB_GLOBAL, STT_TLS,
				    S_DATA, 8, 8);
	symbols[Y_IFUNC] = elf_symbol(elf_dynamic_name(elf, "resolved"), STB_GLOBAL, STT_GNU_IFUNC,
				      S_TEXT, 0x11c0, 0x20);
	for (unsigned i = 0; i < Y_COUNT; i++)
		elf->versym[i] = i == Y_OLD ? 0x8002 : 2;
}

/* One bucket with all symbols from 1 on; the last chain value is odd. */
static inline void elf_write_gnu_hash(struct elf *elf)
{
	const uint32_t table[] = {1, 1, 1, 6, ~0U, ~0U, 1};

	memcpy(elf->gnu_hash, table, sizeof(table));
	for (unsigned i = 1; i < Y_COUNT; i++)
		elf->gnu_hash[6 + i] = 0x1000 * i | (i == Y_COUNT - 1);
}

static inline void elf_write_symtab(struct elf *elf)
{
	static const struct {
		const char *name;
		unsigned bind, type;
		uint64_t value;
	} rows[] = {
		{"helper", STB_LOCAL, STT_FUNC, 0x1200},
		{"helper", STB_GLOBAL, STT_FUNC, 0x1240},
		{"versioned@V1", STB_GLOBAL, STT_FUNC, 0x1280},
		{"versioned@@V2", STB_GLOBAL, STT_FUNC, 0x12c0},
		{"PyObject_Malloc", STB_GLOBAL, STT_FUNC, 0x1100},
		{"_PyRuntime", STB_GLOBAL, STT_OBJECT, 0x3900},
		{"file.c", STB_LOCAL, STT_FILE, 0},
	};
	const size_t n = sizeof(rows) / sizeof(rows[0]);

	for (size_t i = 0; i < n; i++)
		elf->symtab[i + 1] = elf_symbol(
			elf_string(elf->strtab, &elf->strtab_size, rows[i].name), rows[i].bind,
			rows[i].type, rows[i].type == STT_FILE ? SHN_ABS : S_TEXT, rows[i].value,
			rows[i].type == STT_OBJECT ? 0x100 : 0x40);
}

static inline void elf_write_relocations(struct elf *elf)
{
	const uint64_t slot = ELF_SLOTS_VADDR;

	elf->rela[R_RELATIVE] = (Elf64_Rela){slot, ELF64_R_INFO(0, R_X86_64_RELATIVE), 0x1123};
	elf->rela[R_GLOB_DAT] =
		(Elf64_Rela){slot + 8, ELF64_R_INFO(Y_MALLOC, R_X86_64_GLOB_DAT), 0};
	elf->rela[R_64] = (Elf64_Rela){slot + 16, ELF64_R_INFO(Y_MALLOC, R_X86_64_64), 4};
	elf->rela[R_EXTERNAL] =
		(Elf64_Rela){slot + 24, ELF64_R_INFO(Y_EXTERNAL, R_X86_64_GLOB_DAT), 0};
	elf->rela[R_IFUNC] = (Elf64_Rela){slot + 32, ELF64_R_INFO(Y_IFUNC, R_X86_64_GLOB_DAT), 0};
	elf->rela[R_TLS] = (Elf64_Rela){slot + 40, ELF64_R_INFO(Y_TLS, R_X86_64_TPOFF64), 0};
	elf->jmprel[0] = (Elf64_Rela){slot + 48, ELF64_R_INFO(Y_NEW, R_X86_64_JUMP_SLOT), 0};
	/* Slots 8; 9 and 11 by the bitmap; then an entry of its own: 16. */
	elf->relr[0] = slot + 64;
	elf->relr[1] = 1 | 1 << 1 | 1 << 3;
	elf->relr[2] = slot + 128;
	for (unsigned i = 8; i <= 16; i++)
		elf->slots[i] = 0x1500 + i;
}

static inline void elf_write_dynamic(struct elf *elf)
{
	const Elf64_Dyn entries[D_COUNT] = {
		[D_NEEDED] = {DT_NEEDED, {elf_dynamic_name(elf, "libm.so.6")}},
		[D_NEEDED2] = {DT_NEEDED, {elf_dynamic_name(elf, "libc.so.6")}},
		[D_STRTAB] = {DT_STRTAB, {0x600}},
		[D_STRSZ] = {DT_STRSZ, {elf->dynstr_size}},
		[D_SYMTAB] = {DT_SYMTAB, {0x400}},
		[D_VERSYM] = {DT_VERSYM, {0x800}},
		[D_GNU_HASH] = {DT_GNU_HASH, {0x880}},
		[D_RELA] = {DT_RELA, {0x900}},
		[D_RELASZ] = {DT_RELASZ, {R_COUNT * sizeof(Elf64_Rela)}},
		[D_JMPREL] = {DT_JMPREL, {0xa00}},
		[D_PLTRELSZ] = {DT_PLTRELSZ, {sizeof(Elf64_Rela)}},
		[D_RELR] = {DT_RELR, {0xa80}},
		[D_RELRSZ] = {DT_RELRSZ, {3 * sizeof(uint64_t)}},
		[D_END] = {DT_NULL, {0}},
	};

	memcpy(elf->dynamic, entries, sizeof(entries));
}

static inline void elf_put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

/* One CIE ("zR", pcrel sdata4) and functions of 0x40 bytes from 0x1100 on. */
static inline void elf_write_unwind(struct elf *elf)
{
	static const uint8_t cie[] = {20, 0,	0,  0, 0,    0,	   0, 0, 1,    'z', 'R', 0,
				      1,  0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1,   0,	 0};
	uint32_t at = ELF_EH_FRAME + sizeof(cie);

	memcpy(elf->cie, cie, sizeof(cie));
	elf_put32(elf->unwind, 0x3b031b01);
	elf_put32(elf->unwind + 4, ELF_EH_FRAME - (ELF_EH_FRAME_HDR + 4));
	elf_put32(elf->unwind + 8, ELF_FDES);
	for (uint32_t i = 0; i < ELF_FDES; i++, at += 20) {
		uint32_t start = 0x1100 + 0x40 * i;

		elf->fdes[i] = elf->bytes + at;
		elf_put32(elf->fdes[i], 16);
		elf_put32(elf->fdes[i] + 4, at + 4 - ELF_EH_FRAME);
		elf_put32(elf->fdes[i] + 8, start - (at + 8));
		elf_put32(elf->fdes[i] + 12, 0x40);
		elf_put32(elf->unwind + 12 + 8 * i, start - ELF_EH_FRAME_HDR);
		elf_put32(elf->unwind + 16 + 8 * i, at - ELF_EH_FRAME_HDR);
	}
	elf_put32(elf->bytes + at, 0); /* terminator */
}

static inline void elf_write_sections(struct elf *elf)
{
	char *names = (char *)elf->bytes + 0x3700;
	size_t size = 1;
	Elf64_Shdr *s = elf->sections;

	s[S_PLT] = (Elf64_Shdr){.sh_name = elf_string(names, &size, ".plt.sec"),
				.sh_type = SHT_PROGBITS,
				.sh_flags = SHF_ALLOC | SHF_EXECINSTR,
				.sh_addr = 0xf00,
				.sh_offset = 0xf00,
				.sh_size = 0x40};
	s[S_TEXT] = (Elf64_Shdr){.sh_name = elf_string(names, &size, ".text"),
				 .sh_type = SHT_PROGBITS,
				 .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
				 .sh_addr = 0x1000,
				 .sh_offset = 0x1000,
				 .sh_size = 0x800};
	s[S_EH_FRAME] = (Elf64_Shdr){.sh_name = elf_string(names, &size, ".eh_frame"),
				     .sh_type = SHT_PROGBITS,
				     .sh_flags = SHF_ALLOC,
				     .sh_addr = ELF_EH_FRAME,
				     .sh_offset = ELF_EH_FRAME,
				     .sh_size = 24 + 20 * ELF_FDES + 4};
	s[S_DATA] = (Elf64_Shdr){.sh_name = elf_string(names, &size, ".PyRuntime"),
				 .sh_type = SHT_PROGBITS,
				 .sh_flags = SHF_ALLOC | SHF_WRITE,
				 .sh_addr = 0x3900,
				 .sh_offset = 0x2900,
				 .sh_size = 0x100};
	s[S_SYMTAB] = (Elf64_Shdr){.sh_name = elf_string(names, &size, ".symtab"),
				   .sh_type = SHT_SYMTAB,
				   .sh_offset = 0x3000,
				   .sh_size = 8 * sizeof(Elf64_Sym),
				   .sh_link = S_STRTAB,
				   .sh_entsize = sizeof(Elf64_Sym)};
	s[S_STRTAB] = (Elf64_Shdr){.sh_name = elf_string(names, &size, ".strtab"),
				   .sh_type = SHT_STRTAB,
				   .sh_offset = 0x3400,
				   .sh_size = elf->strtab_size};
	s[S_SHSTRTAB] = (Elf64_Shdr){.sh_name = elf_string(names, &size, ".shstrtab"),
				     .sh_type = SHT_STRTAB,
				     .sh_offset = 0x3700};
	s[S_SHSTRTAB].sh_size = size;
}

static inline void elf_write(struct elf *elf)
{
	uint8_t *bytes = calloc(1, ELF_SIZE);

	*elf = (struct elf){
		.bytes = bytes,
		.size = ELF_SIZE,
		.header = (Elf64_Ehdr *)bytes,
		.programs = (Elf64_Phdr *)(bytes + sizeof(Elf64_Ehdr)),
		.note = bytes + 0x200,
		.dynsym = (Elf64_Sym *)(bytes + 0x400),
		.dynstr = (char *)bytes + 0x600,
		.dynstr_size = 1,
		.versym = (uint16_t *)(bytes + 0x800),
		.gnu_hash = (uint32_t *)(bytes + 0x880),
		.rela = (Elf64_Rela *)(bytes + 0x900),
		.jmprel = (Elf64_Rela *)(bytes + 0xa00),
		.relr = (uint64_t *)(bytes + 0xa80),
		.unwind = bytes + ELF_EH_FRAME_HDR,
		.cie = bytes + ELF_EH_FRAME,
		.dynamic = (Elf64_Dyn *)(bytes + ELF_DATA_OFFSET),
		.slots = (uint64_t *)(bytes + 0x2800),
		.symtab = (Elf64_Sym *)(bytes + 0x3000),
		.strtab = (char *)bytes + 0x3400,
		.strtab_size = 1,
		.sections = (Elf64_Shdr *)(bytes + 0x3800),
	};
	elf_write_header(elf);
	elf_write_programs(elf);
	elf_write_note(elf);
	elf_write_dynsym(elf);
	elf_write_gnu_hash(elf);
	elf_write_symtab(elf);
	elf_write_relocations(elf);
	elf_write_dynamic(elf);
	elf_write_unwind(elf);
	elf_write_sections(elf);
}

static inline void elf_done(struct elf *elf)
{
	free(elf->bytes);
}

#endif
