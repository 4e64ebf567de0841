/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Real files, against other readers of them: libelf and libdw for symbols and
 * unwind entries, and the loader itself for what it put into our own slots.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <gelf.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/image.h"
#include "target/maps.h"

DEFINE_CLEANUP(struct image *, image_free)
DEFINE_CLEANUP(struct maps *, maps_free)

/* What is there of these is checked; the first two are on every machine that builds this. */
static const char *const patterns[] = {
	"/proc/self/exe",
	"/lib/x86_64-linux-gnu/libc.so.6",
	"/usr/bin/python3.*[0-9]",
	"/usr/lib/x86_64-linux-gnu/libpython3*.so.1.0",
	"/usr/bin/uwsgi-core",
	"/usr/local/lib/libpython3*.so.1.0",
};

typedef void file_check(const char *path, const struct image *image, Elf *elf);

static void check_file(const char *path, file_check *check)
{
	CLEANUP(image_free) struct image *image = NULL;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct fault fault = { 0 };
	Elf *elf;

	assert_true(fd >= 0);
	if (image_new(fd, &image, &fault) < 0)
		fail_msg("%s: %s in %s", path, reason_sentence(fault.reason), fault.field);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	assert_non_null(elf);
	check(path, image, elf);
	elf_end(elf);
}

static unsigned check_files_by_pattern(const char *pattern, file_check *check)
{
	unsigned n = 0;
	glob_t paths;

	if (glob(pattern, 0, NULL, &paths) != 0)
		return 0;
	for (; n < paths.gl_pathc; n++)
		check_file(paths.gl_pathv[n], check);
	globfree(&paths);
	return n;
}

/* Interpreters that the tree's own tool knows: its last column is the file with CPython in it. */
static void check_known_interpreters(file_check *check)
{
	char here[PATH_MAX], command[PATH_MAX + 64], line[4 * PATH_MAX];
	FILE *list;

	snprintf(here, sizeof(here), "%s", __FILE__);
	snprintf(command, sizeof(command), "bash '%s/../../../tools/interpreters.sh' list",
		 dirname(here));
	list = popen(command, "r");
	while (list && fgets(line, sizeof(line), list)) {
		char *path = strrchr(line, '\t');

		line[strcspn(line, "\n")] = '\0';
		if (path && access(path + 1, R_OK) == 0)
			check_file(path + 1, check);
	}
	if (list)
		pclose(list);
}

static void check_all_files(file_check *check)
{
	unsigned n = 0;

	elf_version(EV_CURRENT);
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++)
		n += check_files_by_pattern(patterns[i], check);
	assert_true(n >= 2);
	check_known_interpreters(check);
}

static Elf_Data *section_data(Elf *elf, GElf_Word type, const char *name, GElf_Shdr *ret)
{
	size_t names;
	Elf_Scn *section = NULL;

	assert_int_equal(elf_getshdrstrndx(elf, &names), 0);
	while ((section = elf_nextscn(elf, section))) {
		gelf_getshdr(section, ret);
		if (ret->sh_type == type &&
		    (!name || strcmp(elf_strptr(elf, names, ret->sh_name), name) == 0))
			return elf_getdata(section, NULL);
	}
	return NULL;
}

/* Every function that libelf sees in .dynsym is found here under its name. */
static void check_dynamic_symbols(const char *path, const struct image *image, Elf *elf)
{
	GElf_Shdr header;
	Elf_Data *data = section_data(elf, SHT_DYNSYM, NULL, &header);
	unsigned n = 0;

	for (size_t i = 1; data && i < header.sh_size / header.sh_entsize; i++) {
		struct image_symbol found;
		const char *name;
		GElf_Sym symbol;

		gelf_getsym(data, (int)i, &symbol);
		name = elf_strptr(elf, header.sh_link, symbol.st_name);
		if (symbol.st_shndx == SHN_UNDEF || GELF_ST_TYPE(symbol.st_info) != STT_FUNC)
			continue;
		if (image_symbol(image, name, &found) < 0)
			fail_msg("%s: %s is missing", path, name);
		n++;
	}
	print_message("%s: %u functions of .dynsym\n", path, n);
}

static void dynamic_symbols_are_those_of_libelf(void **state)
{
	(void)state;
	check_all_files(check_dynamic_symbols);
}

struct sum {
	uint64_t n, addresses;
};

static int add_function(const struct image_symbol *symbol, void *context)
{
	struct sum *sum = context;

	if (symbol->function) {
		sum->n++;
		sum->addresses += symbol->vaddr;
	}
	return 0;
}

/* Where there is a .symtab, it has .dynsym's too: all functions, none twice. */
static void check_full_symbols(const char *path, const struct image *image, Elf *elf)
{
	struct sum theirs = { 0 }, ours = { 0 };
	GElf_Shdr header;
	Elf_Data *data = section_data(elf, SHT_SYMTAB, NULL, &header);

	for (size_t i = 1; data && i < header.sh_size / header.sh_entsize; i++) {
		GElf_Sym symbol;

		gelf_getsym(data, (int)i, &symbol);
		if (symbol.st_shndx == SHN_UNDEF || GELF_ST_TYPE(symbol.st_info) != STT_FUNC)
			continue;
		theirs.n++;
		theirs.addresses += symbol.st_value;
	}
	image_symbols_visit(image, add_function, &ours);
	if (data && (ours.n != theirs.n || ours.addresses != theirs.addresses))
		fail_msg("%s: %lu functions, libelf has %lu", path, (unsigned long)ours.n,
			 (unsigned long)theirs.n);
}

static void full_symbol_tables_are_those_of_libelf(void **state)
{
	(void)state;
	check_all_files(check_full_symbols);
}

static size_t count_fdes(Elf *elf, Elf_Data *data)
{
	Dwarf_CFI_Entry entry;
	Dwarf_Off offset = 0, next;
	GElf_Ehdr header;
	size_t n = 0;

	gelf_getehdr(elf, &header);
	while (dwarf_next_cfi(header.e_ident, data, true, offset, &next, &entry) == 0) {
		n += !dwarf_cfi_cie_p(&entry);
		offset = next;
	}
	return n;
}

static bool has_section(Elf *elf, const char *name)
{
	GElf_Shdr header;

	return section_data(elf, SHT_PROGBITS, name, &header) != NULL;
}

static void check_functions(const char *path, const struct image *image, Elf *elf)
{
	const struct image_range *functions;
	GElf_Shdr header;
	Elf_Data *data = section_data(elf, SHT_PROGBITS, ".eh_frame", &header);
	size_t n = image_function_ranges(image, &functions);
	size_t theirs;

	if (!data || has_section(elf, ".bolt.org.eh_frame"))
		return;
	theirs = count_fdes(elf, data);
	if (n != theirs)
		fail_msg("%s: %zu functions, libdw has %zu", path, n, theirs);
}

static void functions_are_as_many_as_libdw_finds_in_eh_frame(void **state)
{
	(void)state;
	check_all_files(check_functions);
}

static void check_code(const char *path, const struct image *image, Elf *elf)
{
	const struct image_range *code, *functions;
	size_t n_code = image_code_ranges(image, &code);
	size_t n = image_function_ranges(image, &functions);
	size_t inside = 0, at = 0;

	(void)elf;
	for (size_t i = 0; i < n; i++) {
		while (at < n_code && code[at].end <= functions[i].start)
			at++;
		inside += at < n_code && functions[i].start >= code[at].start &&
			  functions[i].end <= code[at].end;
	}
	/* Outside are the entries for the PLTs: .plt, .plt.got, .plt.sec. */
	if (inside + 3 < n)
		fail_msg("%s: %zu of %zu functions lie in code", path, inside, n);
	for (size_t i = 0; i < n_code; i++)
		assert_non_null(image_bytes(image, code[i].start, code[i].end - code[i].start));
}

static void functions_lie_in_code_and_code_can_be_read(void **state)
{
	(void)state;
	check_all_files(check_code);
}

/* By its handle: a sanitizer puts functions of its own before some of the library's. */
static uintptr_t libc_function(const char *name)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	uintptr_t address = (uintptr_t)dlsym(libc, name);

	dlclose(libc);
	assert_true(address != 0);
	return address;
}

/* Our own C library as the loader has placed it. */
static void open_own_libc(struct image **image, uint64_t *ret_bias)
{
	CLEANUP(maps_free) struct maps *maps = NULL;
	_cleanup_close_ int fd = -1;
	char path[MAPS_FILE_PATH_MAX];
	const struct maps_entry *entry;

	assert_int_equal(maps_load(getpid(), &maps, NULL), 0);
	entry = maps_find(maps, libc_function("getpid"));
	assert_non_null(entry);
	assert_int_equal(maps_open(maps, entry, &fd, path), 0);
	assert_int_equal(image_new(fd, image, NULL), 0);
	assert_int_equal(maps_load_bias(entry, *image, ret_bias), 0);
}

static void symbols_of_our_own_libc_lie_where_the_loader_says(void **state)
{
	static const char *const names[] = { "strtoull", "getpid", "fopen", "qsort_r", "readlink" };
	CLEANUP(image_free) struct image *image = NULL;
	uint64_t bias;

	(void)state;
	open_own_libc(&image, &bias);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct image_symbol symbol;

		assert_int_equal(image_symbol(image, names[i], &symbol), 0);
		assert_int_equal(symbol.vaddr + bias, libc_function(names[i]));
	}
}

static int find_relro(struct dl_phdr_info *info, size_t size, void *context)
{
	ElfW(Phdr) *found = context;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO && info->dlpi_addr == found->p_align)
			*found = info->dlpi_phdr[i];
	return found->p_type == PT_GNU_RELRO;
}

/* What is write-protected after relocation still holds what the loader has put there. */
static void slots_of_our_own_libc_hold_what_the_loader_put_there(void **state)
{
	CLEANUP(image_free) struct image *image = NULL;
	ElfW(Phdr) relro = { 0 };
	uint64_t bias, n = 0, same = 0;

	(void)state;
	open_own_libc(&image, &bias);
	relro.p_align = bias; /* asks for this one */
	assert_true(dl_iterate_phdr(find_relro, &relro));
	for (uint64_t at = relro.p_vaddr; at + 8 <= relro.p_vaddr + relro.p_memsz; at += 8) {
		uint64_t target;

		if (image_slot_target(image, at, &target) < 0)
			continue;
		n++;
		same += *(const uint64_t *)(bias + at) == target + bias;
	}
	print_message("%lu of %lu slots\n", (unsigned long)same, (unsigned long)n);
	assert_true(n > 100);
	/* The program may define what the library does too (environ, a sanitizer's malloc). */
	assert_in_range(same, n - n / 20, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dynamic_symbols_are_those_of_libelf),
		cmocka_unit_test(full_symbol_tables_are_those_of_libelf),
		cmocka_unit_test(functions_are_as_many_as_libdw_finds_in_eh_frame),
		cmocka_unit_test(functions_lie_in_code_and_code_can_be_read),
		cmocka_unit_test(symbols_of_our_own_libc_lie_where_the_loader_says),
		cmocka_unit_test(slots_of_our_own_libc_hold_what_the_loader_put_there),
	};

	return cmocka_run_group_tests_name("target/image real", tests, NULL, NULL);
}
