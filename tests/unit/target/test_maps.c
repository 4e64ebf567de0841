/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/maps.h"
#include "unit/target/elf_writer.h"

DEFINE_CLEANUP(struct maps *, maps_free)
DEFINE_CLEANUP(struct image *, image_free)

static const char service[] =
	"00400000-0041f000 r--p 00000000 fe:01 131090      /usr/bin/python3.11\n"
	"0041f000-006d2000 r-xp 0001f000 fe:01 131090      /usr/bin/python3.11\n"
	"00946000-00a85000 rw-p 00545000 fe:01 131090      /usr/bin/python3.11\n"
	"00a85000-00b0a000 rw-p 00000000 00:00 0 \n"
	"01d10000-01dd0000 rw-p 00000000 00:00 0           [heap]\n"
	"7f3a10000000-7f3a10100000 rw-p 00000000 00:00 0 \n"
	"7f3a12100000-7f3a12400000 r-xp 00100000 103:05 7  /srv/my app/libx (v2).so\n"
	"7f3a12500000-7f3a12600000 r-xp 00500000 fe:01 131090 /usr/bin/python3.11\n"
	"7f3a12700000-7f3a12800000 rw-s 00000000 00:01 3   /memfd:pool (deleted)\n"
	"7ffd4c1e0000-7ffd4c201000 rw-p 00000000 00:00 0   [stack]\n"
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n";

static struct maps *parse(const char *text)
{
	struct fault fault = { 0 };
	struct maps *maps = NULL;

	if (maps_parse(text, strlen(text), &maps, &fault) < 0)
		fail_msg("refused at %lu", (unsigned long)fault.where);
	return maps;
}

static void each_field_of_a_line_is_read(void **state)
{
	CLEANUP(maps_free) struct maps *maps = parse(service);
	const struct maps_entry *entries;

	(void)state;
	assert_int_equal(maps_entries(maps, &entries), 11);
	assert_int_equal(entries[1].start, 0x41f000);
	assert_int_equal(entries[1].end, 0x6d2000);
	assert_int_equal(entries[1].offset, 0x1f000);
	assert_int_equal(entries[1].inode, 131090);
	assert_int_equal(entries[1].device_major, 0xfe);
	assert_int_equal(entries[1].device_minor, 1);
	assert_int_equal(entries[1].permissions, MAPS_READ | MAPS_EXECUTE);
	assert_string_equal(entries[1].path, "/usr/bin/python3.11");
	assert_string_equal(entries[3].path, "");
	assert_string_equal(entries[4].path, "[heap]");
	assert_int_equal(entries[6].device_major, 0x103);
	assert_string_equal(entries[6].path, "/srv/my app/libx (v2).so");
	assert_false(entries[6].deleted);
	assert_string_equal(entries[8].path, "/memfd:pool");
	assert_true(entries[8].deleted);
	assert_int_equal(entries[8].permissions, MAPS_READ | MAPS_WRITE | MAPS_SHARED);
	assert_int_equal(entries[10].permissions, MAPS_EXECUTE);
}

static void odd_names_come_out_as_they_are(void **state)
{
	CLEANUP(maps_free) struct maps *maps =
		parse("1000-2000 r-xp 0 8:1 1 /a\\012b\n"
		      "2000-3000 r-xp 0 8:1 2 /back\\slash\\134\n"
		      "3000-4000 r-xp 0 8:1 3 /x (deleted) (deleted)\n"
		      "4000-5000 r-xp 0 8:1 4 / trailing \n"
		      "5000-6000 rw-p 0 0:0 0 [anon:x (deleted)]\n"
		      "6000-7000 rw-p 0 8:1 5"); /* cut off behind the inode */
	const struct maps_entry *entries;

	(void)state;
	assert_int_equal(maps_entries(maps, &entries), 6);
	assert_string_equal(entries[0].path, "/a\nb");
	assert_string_equal(entries[1].path, "/back\\slash\\134");
	assert_string_equal(entries[2].path, "/x (deleted)");
	assert_true(entries[2].deleted);
	assert_string_equal(entries[3].path, "/ trailing ");
	assert_string_equal(entries[4].path, "[anon:x (deleted)]");
	assert_false(entries[4].deleted);
	assert_string_equal(entries[5].path, "");
}

static void an_address_is_found_in_its_mapping_only(void **state)
{
	CLEANUP(maps_free) struct maps *maps = parse(service);
	const struct maps_entry *entries;

	(void)state;
	maps_entries(maps, &entries);
	assert_ptr_equal(maps_find(maps, 0x41f000), &entries[1]);
	assert_ptr_equal(maps_find(maps, 0x6d1fff), &entries[1]);
	assert_null(maps_find(maps, 0x6d2000));
	assert_null(maps_find(maps, 0));
	assert_ptr_equal(maps_find(maps, 0xffffffffff600fff), &entries[10]);
	assert_null(maps_find(maps, UINT64_MAX));
}

static void executable_files_are_grouped_however_they_are_scattered(void **state)
{
	CLEANUP(maps_free) struct maps *maps = parse(service);
	_cleanup_free_ struct maps_file *files = NULL;
	size_t n;

	(void)state;
	assert_int_equal(maps_executable_files(maps, &files, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(files[0].text->start, 0x41f000);
	assert_int_equal(files[0].n_text, 2);
	assert_int_equal(files[0].start, 0x400000);
	assert_int_equal(files[0].end, 0x7f3a12600000);
	assert_string_equal(files[1].text->path, "/srv/my app/libx (v2).so");
	assert_int_equal(files[1].n_text, 1);
}

static void what_is_no_maps_text_is_refused_at_its_line(void **state)
{
	static const struct {
		const char *text;
		uint64_t where;
	} rows[] = {
		{ "\n", 0 },
		{ "nonsense\n", 0 },
		{ "1000-2000 r-xp 0 8:1 1 /a\n1000-2000", 26 },
		{ "2000-1000 r-xp 0 8:1 1 /a\n", 0 }, /* backward */
		{ "1000-1000 r-xp 0 8:1 1 /a\n", 0 }, /* empty */
		/* overlapping, and not ascending */
		{ "1000-2000 r-xp 0 8:1 1 /a\n1fff-3000 r-xp 0 8:1 1 /a\n", 26 },
		{ "2000-3000 r-xp 0 8:1 1 /a\n1000-2000 r-xp 0 8:1 1 /a\n", 26 },
		{ "1000-2000 rwxq 0 8:1 1 /a\n", 0 },
		{ "1000-2000 r-x 0 8:1 1 /a\n", 0 },
		{ "1000-2000 r-xp g 8:1 1 /a\n", 0 },
		{ "1000-2000 r-xp 0 8-1 1 /a\n", 0 },
		{ "1000-2000 r-xp 0 8:1 x /a\n", 0 },
		{ "1000-2000 r-xp 0 8:1 1/a\n", 0 },
		{ "1000-10000000000000000 r-xp 0 8:1 1 /a\n", 0 }, /* 65 bits */
		{ "1000-2000 r-xp 0 100000000:1 1 /a\n", 0 },
		{ "1000-2000\tr-xp 0 8:1 1 /a\n", 0 },
		{ "-2000 r-xp 0 8:1 1 /a\n", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fault fault = { .where = 999 };
		struct maps *maps = NULL;

		if (maps_parse(rows[i].text, strlen(rows[i].text), &maps, &fault) != -EBADMSG ||
		    fault.reason != REASON_MALFORMED || fault.where != rows[i].where)
			fail_msg("%s: at %lu", rows[i].text, (unsigned long)fault.where);
		assert_null(maps);
	}
}

static void a_nul_inside_of_the_text_is_refused(void **state)
{
	static const char text[] = "1000-2000 r-xp 0 8:1 1 /a\0b\n";
	struct maps *maps = NULL;

	(void)state;
	assert_int_equal(maps_parse(text, sizeof(text) - 1, &maps, NULL), -EBADMSG);
	assert_int_equal(maps_parse("", 0, &maps, NULL), 0);
	maps_free(maps);
}

static void python_is_told_by_the_name_of_an_executable_file(void **state)
{
	static const struct {
		const char *line;
		bool python;
	} rows[] = {
		{ "1000-2000 r-xp 0 8:1 1 /usr/bin/python3.11", true },
		{ "1000-2000 r-xp 0 8:1 1 /opt/x/libpython3.13.so.1.0", true },
		{ "1000-2000 r-xp 0 8:1 1 /usr/local/bin/python3 (deleted)", true },
		{ "1000-2000 r--p 0 8:1 1 /usr/bin/python3.11", false },
		{ "1000-2000 r-xp 0 8:1 1 /opt/python3/bin/node", false },
		{ "1000-2000 r-xp 0 8:1 1 /usr/lib/notlibpython.so", false },
		{ "1000-2000 r-xp 0 0:0 0 python3", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CLEANUP(maps_free) struct maps *maps = parse(rows[i].line);
		const struct maps_entry *entries;

		maps_entries(maps, &entries);
		assert_int_equal(maps_entry_names_python(&entries[0]), rows[i].python);
	}
}

static void the_bias_is_that_of_the_executable_segment_s_page(void **state)
{
	CLEANUP(maps_free) struct maps *maps =
		parse("7f0000002000-7f0000003000 r-xp 00001000 8:1 1 /a\n" /* its second page */
		      "7f0000005000-7f0000006000 rw-p 00002000 8:1 1 /a\n"
		      "7f0000010000-7f0000011000 r-xp 00010000 8:1 1 /a\n");
	CLEANUP(image_free) struct image *image = NULL;
	const struct maps_entry *entries;
	uint64_t bias = 7;
	struct elf elf;

	(void)state;
	elf_write(&elf);
	/* The text does not begin at a page: 0x10 bytes into it. */
	elf.programs[P_TEXT].p_offset = 0x10;
	elf.programs[P_TEXT].p_vaddr = 0x100010;
	elf.programs[P_TEXT].p_filesz = elf.programs[P_TEXT].p_memsz = 0x1ff0;
	elf.programs[P_DYNAMIC].p_type = elf.programs[P_UNWIND].p_type = PT_NULL;
	elf.header->e_shoff = 0;
	assert_int_equal(image_new_from_bytes(elf.bytes, elf.size, &image, NULL), 0);
	maps_entries(maps, &entries);
	assert_int_equal(maps_load_bias(&entries[0], image, &bias), 0);
	assert_int_equal(bias, 0x7f0000001000 - 0x100000);
	bias = 7;
	assert_int_equal(maps_load_bias(&entries[1], image, &bias), -ENOENT);
	assert_int_equal(maps_load_bias(&entries[2], image, &bias), -ENOENT);
	assert_int_equal(bias, 7);
	elf_done(&elf);
}

/* A file of our own, mapped executable into ourselves. */
struct mapped {
	char path[64];
	void *address;
	ino_t inode;
};

static int map_file(void **state)
{
	struct mapped *mapped = calloc(1, sizeof(*mapped));
	_cleanup_close_ int fd = -1;
	struct stat status;

	snprintf(mapped->path, sizeof(mapped->path), P_tmpdir "/test maps.XXXXXX");
	fd = mkostemp(mapped->path, O_CLOEXEC);
	if (fd < 0 || write(fd, "content", 8) != 8 || fstat(fd, &status) < 0)
		return -1;
	mapped->inode = status.st_ino;
	mapped->address = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	*state = mapped;
	return mapped->address == MAP_FAILED;
}

static int unmap_file(void **state)
{
	struct mapped *mapped = *state;

	munmap(mapped->address, 4096);
	unlink(mapped->path);
	free(mapped);
	return 0;
}

static int open_mapped(const struct mapped *mapped, char path[static MAPS_FILE_PATH_MAX])
{
	CLEANUP(maps_free) struct maps *maps = NULL;
	const struct maps_entry *entry;
	int fd = -1;
	int r;

	assert_int_equal(maps_load(getpid(), &maps, NULL), 0);
	entry = maps_find(maps, (uintptr_t)mapped->address);
	assert_non_null(entry);
	r = maps_open(maps, entry, &fd, path);
	return r < 0 ? r : fd;
}

static void a_mapped_file_is_opened_and_can_be_opened_again_by_its_path(void **state)
{
	const struct mapped *mapped = *state;
	char path[MAPS_FILE_PATH_MAX];
	struct stat status;
	_cleanup_close_ int fd = open_mapped(mapped, path);
	_cleanup_close_ int again = -1;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_ino, mapped->inode);
	again = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(again, &status), 0);
	assert_int_equal(status.st_ino, mapped->inode);
}

/* By our own text, whose file is there. */
static bool may_use_map_files(void)
{
	char path[MAPS_FILE_PATH_MAX];
	CLEANUP(maps_free) struct maps *maps = NULL;
	_cleanup_close_ int fd = -1;
	const struct maps_entry *entry;

	assert_int_equal(maps_load(getpid(), &maps, NULL), 0);
	entry = maps_find(maps, (uintptr_t)&maps_load);
	return maps_open(maps, entry, &fd, path) == 0 && strstr(path, "map_files");
}

static void a_deleted_or_replaced_file_is_never_taken_for_another(void **state)
{
	const struct mapped *mapped = *state;
	char path[MAPS_FILE_PATH_MAX];
	_cleanup_close_ int other = -1;
	_cleanup_close_ int fd = -1;
	struct stat status;

	assert_int_equal(unlink(mapped->path), 0);
	other = open(mapped->path, O_CREAT | O_WRONLY, 0600);
	assert_true(other >= 0);
	fd = open_mapped(mapped, path);
	if (!may_use_map_files()) {
		assert_true(fd == -ESTALE || fd == -ENOENT);
		return;
	}
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_ino, mapped->inode);
}

static void anonymous_memory_has_no_file(void **state)
{
	CLEANUP(maps_free) struct maps *maps = NULL;
	char path[MAPS_FILE_PATH_MAX];
	const struct maps_entry *entry;
	int here, fd = -1;

	(void)state;
	assert_int_equal(maps_load(getpid(), &maps, NULL), 0);
	entry = maps_find(maps, (uintptr_t)&here);
	assert_non_null(entry);
	assert_int_equal(maps_open(maps, entry, &fd, path), -ENOENT);
	assert_int_equal(fd, -1);
}

static void a_process_that_is_gone_has_no_maps(void **state)
{
	struct maps *maps = NULL;
	struct fault fault;

	(void)state;
	assert_int_equal(maps_load(0x3fffffff, &maps, &fault), -ESRCH);
	assert_null(maps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_field_of_a_line_is_read),
		cmocka_unit_test(odd_names_come_out_as_they_are),
		cmocka_unit_test(an_address_is_found_in_its_mapping_only),
		cmocka_unit_test(executable_files_are_grouped_however_they_are_scattered),
		cmocka_unit_test(what_is_no_maps_text_is_refused_at_its_line),
		cmocka_unit_test(a_nul_inside_of_the_text_is_refused),
		cmocka_unit_test(python_is_told_by_the_name_of_an_executable_file),
		cmocka_unit_test(the_bias_is_that_of_the_executable_segment_s_page),
		cmocka_unit_test_setup_teardown(
			a_mapped_file_is_opened_and_can_be_opened_again_by_its_path, map_file,
			unmap_file),
		cmocka_unit_test_setup_teardown(
			a_deleted_or_replaced_file_is_never_taken_for_another, map_file,
			unmap_file),
		cmocka_unit_test(anonymous_memory_has_no_file),
		cmocka_unit_test(a_process_that_is_gone_has_no_maps),
	};

	return cmocka_run_group_tests_name("target/maps", tests, NULL, NULL);
}
