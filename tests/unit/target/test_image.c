/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* An invented file, of which every figure is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/image.h"
#include "unit/target/elf_writer.h"

DEFINE_CLEANUP(struct image *, image_free)

struct fixture {
	struct elf elf;
	struct image *image;
};

static int make(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	elf_write(&fixture->elf);
	*state = fixture;
	return 0;
}

static int unmake(void **state)
{
	struct fixture *fixture = *state;

	image_free(fixture->image);
	elf_done(&fixture->elf);
	free(fixture);
	return 0;
}

static const struct image *open_image(struct fixture *fixture)
{
	struct fault fault = { 0 };

	if (image_new_from_bytes(fixture->elf.bytes, fixture->elf.size, &fixture->image, &fault) <
	    0)
		fail_msg("%s in %s", reason_sentence(fault.reason), fault.field);
	return fixture->image;
}

static void assert_symbol(const struct image *image, const char *name, uint64_t vaddr)
{
	struct image_symbol symbol;

	assert_int_equal(image_symbol(image, name, &symbol), 0);
	assert_string_equal(symbol.name, name);
	assert_int_equal(symbol.vaddr, vaddr);
}

static void assert_no_symbol(const struct image *image, const char *name)
{
	struct image_symbol symbol = { .vaddr = 5 };

	assert_int_equal(image_symbol(image, name, &symbol), -ENOENT);
	assert_int_equal(symbol.vaddr, 5);
}

static void the_header_s_facts_are_told(void **state)
{
	struct fixture *fixture = *state;
	const struct image *image = open_image(fixture);
	uint8_t id[IMAGE_BUILD_ID_MAX];
	struct image_range tls;
	uint64_t align;

	assert_true(image_is_position_independent(image));
	assert_int_equal(image_file_size(image), ELF_SIZE);
	assert_true(image_has_build_id(image));
	assert_int_equal(image_build_id(image, id), 20);
	assert_memory_equal(id, fixture->elf.note + 16, 20);
	assert_string_equal(image_needed(image, 0), "libm.so.6");
	assert_string_equal(image_needed(image, 1), "libc.so.6");
	assert_null(image_needed(image, 2));
	assert_int_equal(image_thread_local(image, &tls, &align), 0);
	assert_int_equal(tls.start, 0x3f00);
	assert_int_equal(tls.end, 0x3f18);
	assert_int_equal(align, 16);
}

static void symbols_are_found_by_their_names_without_versions(void **state)
{
	const struct image *image = open_image(*state);

	assert_symbol(image, "PyObject_Malloc", 0x1100);
	assert_symbol(image, "_PyRuntime", 0x3900);
	assert_no_symbol(image, "versioned@@V2");
	assert_no_symbol(image, "versione");
	assert_no_symbol(image, "");
}

static void of_several_symbols_the_default_version_and_the_global_one_win(void **state)
{
	const struct image *image = open_image(*state);

	assert_symbol(image, "versioned", 0x12c0);
	assert_symbol(image, "twice", 0x1180);
	assert_symbol(image, "helper", 0x1240);
}

static void what_is_no_address_in_this_image_is_no_symbol(void **state)
{
	const struct image *image = open_image(*state);

	assert_no_symbol(image, "external");
	assert_no_symbol(image, "VERSION_1");
	assert_no_symbol(image, "thread_local");
	assert_no_symbol(image, "file.c");
}

static void an_indirect_function_is_told_from_a_function(void **state)
{
	const struct image *image = open_image(*state);
	struct image_symbol symbol;

	assert_int_equal(image_symbol(image, "resolved", &symbol), 0);
	assert_true(symbol.indirect);
	assert_false(symbol.function);
	assert_int_equal(image_symbol(image, "PyObject_Malloc", &symbol), 0);
	assert_false(symbol.indirect);
	assert_true(symbol.function);
	assert_int_equal(symbol.size, 0x40);
	assert_int_equal(image_symbol(image, "_PyRuntime", &symbol), 0);
	assert_false(symbol.function);
}

static int count_name(const struct image_symbol *symbol, void *context)
{
	unsigned *counts = context;

	counts[0]++;
	counts[1] += strcmp(symbol->name, "PyObject_Malloc") == 0;
	return symbol->vaddr == 0x1280 ? 42 : 0;
}

static void a_visit_sees_each_symbol_once_and_ends_where_it_is_told(void **state)
{
	struct fixture *fixture = *state;
	unsigned counts[2] = { 0 };

	fixture->elf.symtab[3].st_value = 0x1281; /* nobody ends it */
	assert_int_equal(image_symbols_visit(open_image(fixture), count_name, counts), 0);
	assert_int_equal(counts[0], 6 + 3); /* .symtab; twice twice and resolved of .dynsym */
	assert_int_equal(counts[1], 1);
	image_free(fixture->image);
	fixture->elf.symtab[3].st_value = 0x1280;
	assert_int_equal(image_symbols_visit(open_image(fixture), count_name, counts), 42);
}

static void without_section_headers_dynamic_symbols_and_functions_remain(void **state)
{
	struct fixture *fixture = *state;
	const struct image_range *code;
	const struct image *image;
	struct image_range range;

	fixture->elf.header->e_shoff = 0;
	fixture->elf.header->e_shnum = 0;
	fixture->elf.header->e_shstrndx = 0;
	image = open_image(fixture);
	assert_symbol(image, "PyObject_Malloc", 0x1100);
	assert_no_symbol(image, "helper");
	assert_int_equal(image_section(image, ".text", &range), -ENOENT);
	assert_int_equal(image_code_ranges(image, &code), 1);
	assert_int_equal(code[0].start, 0x1100);
	assert_int_equal(code[0].end, 0x1200);
}

static void code_is_the_executable_sections_but_for_linkage(void **state)
{
	const struct image_range *code;
	const struct image *image = open_image(*state);

	assert_int_equal(image_code_ranges(image, &code), 1);
	assert_int_equal(code[0].start, 0x1000);
	assert_int_equal(code[0].end, 0x1800);
}

static void a_second_text_as_bolt_leaves_it_is_code_too_in_ascending_order(void **state)
{
	struct fixture *fixture = *state;
	const struct image_range *code;

	/* The old text behind, the new one before it. */
	fixture->elf.sections[S_PLT] = fixture->elf.sections[S_TEXT];
	fixture->elf.sections[S_PLT].sh_addr = 0x1900;
	fixture->elf.sections[S_PLT].sh_size = 0x100;
	assert_int_equal(image_code_ranges(open_image(fixture), &code), 2);
	assert_int_equal(code[0].start, 0x1000);
	assert_int_equal(code[1].start, 0x1900);
	assert_int_equal(code[1].end, 0x1a00);
}

static void an_executable_section_outside_of_executable_segments_is_no_code(void **state)
{
	struct fixture *fixture = *state;
	const struct image_range *code;

	fixture->elf.sections[S_TEXT].sh_addr = ELF_DATA_VADDR;
	assert_int_equal(image_code_ranges(open_image(fixture), &code), 0);
}

static void functions_come_from_the_unwind_table_in_ascending_order(void **state)
{
	struct fixture *fixture = *state;
	const struct image_range *functions;
	uint8_t first[8];

	memcpy(first, fixture->elf.unwind + 12, 8);
	memcpy(fixture->elf.unwind + 12, fixture->elf.unwind + 20, 8);
	memcpy(fixture->elf.unwind + 20, first, 8);
	assert_int_equal(image_function_ranges(open_image(fixture), &functions), ELF_FDES);
	for (unsigned i = 0; i < ELF_FDES; i++) {
		assert_int_equal(functions[i].start, 0x1100 + 0x40 * i);
		assert_int_equal(functions[i].end, 0x1140 + 0x40 * i);
	}
}

static void only_the_table_counts_where_bolt_left_dead_entries(void **state)
{
	struct fixture *fixture = *state;
	const struct image_range *functions;

	elf_put32(fixture->elf.unwind + 8, ELF_FDES - 1);
	assert_int_equal(image_function_ranges(open_image(fixture), &functions), ELF_FDES - 1);
}

static void without_a_table_eh_frame_is_walked(void **state)
{
	struct fixture *fixture = *state;
	const struct image_range *functions;

	fixture->elf.unwind[2] = 0xff; /* no count */
	fixture->elf.unwind[3] = 0xff; /* no table */
	assert_int_equal(image_function_ranges(open_image(fixture), &functions), ELF_FDES);
	image_free(fixture->image);
	/* By its section, where there is no .eh_frame_hdr at all. */
	fixture->elf.programs[P_UNWIND].p_type = PT_NULL;
	assert_int_equal(image_function_ranges(open_image(fixture), &functions), ELF_FDES);
	assert_int_equal(functions[3].end, 0x1200);
}

static void a_personality_and_other_augmentations_are_stepped_over(void **state)
{
	/* length, id, version, "zPLR", alignments, register, size 7: P 4 bytes, L, R */
	static const uint8_t cie[] = { 24, 0,	0, 0, 0, 0, 0,	  0,	1,    'z', 'P', 'L', 'R', 0,
				       1,  0x78, 16, 7, 0x9b, 0, 0, 0, 0, 0x1b, 0x1b, 0, 0, 0 };
	struct fixture *fixture = *state;
	const struct image_range *functions;
	uint8_t *at = fixture->elf.bytes + 0xb80;

	memcpy(at, cie, sizeof(cie));
	for (unsigned i = 0; i < ELF_FDES; i++)
		elf_put32(fixture->elf.fdes[i] + 4,
			  (uint32_t)(fixture->elf.fdes[i] + 4 - at));
	assert_int_equal(image_function_ranges(open_image(fixture), &functions), ELF_FDES);
	assert_int_equal(functions[0].start, 0x1100);
}

static void functions_that_the_linker_threw_away_are_left_out(void **state)
{
	struct fixture *fixture = *state;
	const struct image_range *functions;
	uint32_t fde_vaddr = (uint32_t)(fixture->elf.fdes[2] - fixture->elf.bytes);

	elf_put32(fixture->elf.fdes[2] + 8, 0x10000 - (fde_vaddr + 8));
	elf_put32(fixture->elf.unwind + 12 + 16, 0x10000 - ELF_EH_FRAME_HDR);
	assert_int_equal(image_function_ranges(open_image(fixture), &functions), ELF_FDES - 1);
	assert_int_equal(functions[2].start, 0x11c0);
}

static void assert_slot(const struct image *image, unsigned index, uint64_t target)
{
	uint64_t vaddr = 0;

	assert_int_equal(image_slot_target(image, ELF_SLOTS_VADDR + 8 * index, &vaddr), 0);
	assert_int_equal(vaddr, target);
}

static void assert_no_slot(const struct image *image, unsigned index)
{
	uint64_t vaddr = 7;

	assert_int_equal(image_slot_target(image, ELF_SLOTS_VADDR + 8 * index, &vaddr), -ENOENT);
	assert_int_equal(vaddr, 7);
}

static void slots_are_told_by_each_kind_of_relocation(void **state)
{
	const struct image *image = open_image(*state);

	assert_slot(image, 0, 0x1123); /* RELATIVE */
	assert_slot(image, 1, 0x1100); /* GLOB_DAT */
	assert_slot(image, 2, 0x1104); /* 64 with an addend */
	assert_slot(image, 6, 0x1180); /* JUMP_SLOT */
	assert_slot(image, 8, 0x1508); /* RELR: an address */
	assert_slot(image, 9, 0x1509); /* RELR: bits 1 and 3 of the bitmap */
	assert_slot(image, 11, 0x150b);
	assert_slot(image, 16, 0x1510); /* RELR: the next address */
}

static void slots_of_other_images_and_other_kinds_are_told_apart(void **state)
{
	const struct image *image = open_image(*state);

	assert_no_slot(image, 3); /* external */
	assert_no_slot(image, 4); /* indirect function */
	assert_no_slot(image, 5); /* thread-local */
	assert_no_slot(image, 7); /* none */
	assert_no_slot(image, 10); /* not in the bitmap */
	assert_no_slot(image, 100);
}

static void at_a_fixed_address_a_slot_holds_what_the_file_says(void **state)
{
	struct fixture *fixture = *state;
	const struct image *image;

	fixture->elf.header->e_type = ET_EXEC;
	fixture->elf.slots[20] = 0x1140;
	fixture->elf.slots[21] = 0x999999; /* no address of this image */
	image = open_image(fixture);
	assert_false(image_is_position_independent(image));
	assert_slot(image, 20, 0x1140);
	assert_no_slot(image, 21);
	assert_slot(image, 1, 0x1100);
	assert_no_slot(image, 3);
}

static void addresses_have_offsets_and_bytes_within_file_parts_only(void **state)
{
	struct fixture *fixture = *state;
	const struct image *image = open_image(fixture);
	uint64_t value = 0;

	assert_int_equal(image_text_offset(image, 0x1100, &value), 0);
	assert_int_equal(value, 0x1100);
	assert_int_equal(image_text_offset(image, 0x2000, &value), -ENOENT); /* behind */
	assert_int_equal(image_text_offset(image, 0x3000, &value), -ENOENT); /* data */
	assert_ptr_equal(image_bytes(image, 0x3800, 8), fixture->elf.slots);
	assert_non_null(image_bytes(image, 0x3ff8, 8));
	assert_null(image_bytes(image, 0x3ff9, 8)); /* into .bss */
	assert_null(image_bytes(image, 0x4000, 1)); /* .bss */
	assert_null(image_bytes(image, 0x2800, 1)); /* between segments */
	assert_null(image_bytes(image, UINT64_MAX, 2));
	assert_null(image_bytes(image, 0x1000, SIZE_MAX));
}

static void a_section_is_found_by_name_where_it_is_loaded(void **state)
{
	const struct image *image = open_image(*state);
	struct image_range range;

	assert_int_equal(image_section(image, ".PyRuntime", &range), 0);
	assert_int_equal(range.start, 0x3900);
	assert_int_equal(range.end, 0x3a00);
	assert_int_equal(image_section(image, ".symtab", &range), -ENOENT);
	assert_int_equal(image_section(image, ".PyRunti", &range), -ENOENT);
}

static void a_file_without_build_id_is_told_by_head_tail_and_size(void **state)
{
	struct fixture *fixture = *state;
	uint8_t id[4][IMAGE_BUILD_ID_MAX];

	fixture->elf.programs[P_NOTE].p_type = PT_NULL;
	for (unsigned i = 0; i < 4; i++) {
		const struct image *image;

		if (i == 1)
			fixture->elf.bytes[0x300]++;
		else if (i == 2)
			fixture->elf.bytes[ELF_SIZE - 1]++;
		else if (i == 3)
			fixture->elf.size--;
		image = open_image(fixture);
		assert_false(image_has_build_id(image));
		assert_int_equal(image_build_id(image, id[i]), 16);
		image_free(TAKE_PTR(fixture->image));
		for (unsigned k = 0; k < i; k++)
			assert_memory_not_equal(id[i], id[k], 16);
	}
}

static void more_sections_than_the_header_can_count_are_read(void **state)
{
	struct fixture *fixture = *state;
	struct image_range range;

	fixture->elf.header->e_shnum = 0;
	fixture->elf.header->e_shstrndx = SHN_XINDEX;
	fixture->elf.sections[0].sh_size = S_COUNT;
	fixture->elf.sections[0].sh_link = S_SHSTRTAB;
	assert_int_equal(image_section(open_image(fixture), ".PyRuntime", &range), 0);
}

static void a_snapshot_outlives_changes_and_the_end_of_its_file(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int fd = memfd_create("elf", MFD_CLOEXEC);
	const uint64_t zero = 0;

	assert_int_equal(write(fd, fixture->elf.bytes, ELF_SIZE), ELF_SIZE);
	assert_int_equal(image_new(fd, &fixture->image, NULL), 0);
	assert_int_equal(pwrite(fd, &zero, 8, 0x2800 + 64), 8);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_memory_equal(image_bytes(fixture->image, 0x3800 + 64, 8), &fixture->elf.slots[8], 8);
	assert_symbol(fixture->image, "helper", 0x1240);
}

static void what_is_no_regular_file_is_refused(void **state)
{
	_cleanup_close_ int empty = memfd_create("empty", MFD_CLOEXEC);
	struct image *image = NULL;
	struct fault fault;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(image_new(ends[0], &image, &fault), -ENOEXEC);
	assert_int_equal(fault.reason, REASON_UNSUPPORTED);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(image_new(empty, &image, &fault), -ENOEXEC);
	assert_int_equal(fault.reason, REASON_TRUNCATED);
	assert_int_equal(image_new(-1, &image, &fault), -EBADF);
	assert_null(image);
}

#define ELF(test) cmocka_unit_test_setup_teardown(test, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ELF(the_header_s_facts_are_told),
		ELF(symbols_are_found_by_their_names_without_versions),
		ELF(of_several_symbols_the_default_version_and_the_global_one_win),
		ELF(what_is_no_address_in_this_image_is_no_symbol),
		ELF(an_indirect_function_is_told_from_a_function),
		ELF(a_visit_sees_each_symbol_once_and_ends_where_it_is_told),
		ELF(without_section_headers_dynamic_symbols_and_functions_remain),
		ELF(code_is_the_executable_sections_but_for_linkage),
		ELF(a_second_text_as_bolt_leaves_it_is_code_too_in_ascending_order),
		ELF(an_executable_section_outside_of_executable_segments_is_no_code),
		ELF(functions_come_from_the_unwind_table_in_ascending_order),
		ELF(only_the_table_counts_where_bolt_left_dead_entries),
		ELF(without_a_table_eh_frame_is_walked),
		ELF(a_personality_and_other_augmentations_are_stepped_over),
		ELF(functions_that_the_linker_threw_away_are_left_out),
		ELF(slots_are_told_by_each_kind_of_relocation),
		ELF(slots_of_other_images_and_other_kinds_are_told_apart),
		ELF(at_a_fixed_address_a_slot_holds_what_the_file_says),
		ELF(addresses_have_offsets_and_bytes_within_file_parts_only),
		ELF(a_section_is_found_by_name_where_it_is_loaded),
		ELF(a_file_without_build_id_is_told_by_head_tail_and_size),
		ELF(more_sections_than_the_header_can_count_are_read),
		ELF(a_snapshot_outlives_changes_and_the_end_of_its_file),
		ELF(what_is_no_regular_file_is_refused),
	};

	return cmocka_run_group_tests_name("target/image", tests, NULL, NULL);
}
