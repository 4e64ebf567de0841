/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpython/code.h"
#include "interpreters.h"

typedef int line_function(const uint8_t *table, size_t size, uint32_t first_line,
			  uint32_t byte_offset, uint32_t *ret_line);

static const struct line_format {
	const char *name;
	line_function *line_of;
} line_formats[] = {
	{ "lnotab", line_of_lnotab },
	{ "linetable310", line_of_linetable310 },
	{ "locations311", line_of_locations311 },
};

#define UNTOUCHED 4711
#define TABLE(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ })

static void assert_line(int result, const uint32_t *line, uint32_t expected)
{
	assert_int_equal(result, 0);
	assert_int_equal(*line, expected);
}

static void assert_malformed(int result, const uint32_t *line)
{
	assert_int_equal(result, -EBADMSG);
	assert_int_equal(*line, UNTOUCHED);
}

static line_function *format_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(line_formats); i++) {
		if (strcmp(line_formats[i].name, name) == 0)
			return line_formats[i].line_of;
	}
	fail_msg("no format %s", name);
	return NULL;
}

static uint8_t digit(char c)
{
	return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static size_t from_hexadecimal(const char *text, uint8_t *bytes)
{
	size_t n = 0;

	for (; text[0] != '-' && text[0] && text[1]; text += 2)
		bytes[n++] = (uint8_t)(digit(text[0]) << 4 | digit(text[1]));
	return n;
}

/* One line of dump_lines.py: returns how many instructions were compared. */
static size_t check_code_object(line_function *line_of, char *text, uint8_t *table)
{
	char *rest = text;
	uint32_t first_line = (uint32_t)strtoul(strsep(&rest, " "), NULL, 10);
	size_t size = from_hexadecimal(strsep(&rest, " \n"), table), unit = 0;

	for (char *word; rest && (word = strsep(&rest, " \n")) && *word; unit++) {
		uint32_t line, expected = (uint32_t)strtoul(word, NULL, 10);

		assert_int_equal(line_of(table, size, first_line, (uint32_t)unit * 2, &line), 0);
		if (line != expected)
			fail_msg("line %u for %u at unit %zu of the code at line %u", line,
				 expected, unit, first_line);
	}
	return unit;
}

static size_t check_interpreter(const char *name, const char *command)
{
	_cleanup_free_ uint8_t *table = malloc(CODE_TABLE_MAX_BYTES);
	_cleanup_free_ char *text = NULL;
	struct child child;
	size_t size = 0, n = 0;
	line_function *line_of;

	assert_non_null(table);
	child_start(&child, command, "dump_lines.py");
	line_of = format_named(child_hear(&child));
	while (getline(&text, &size, child.from) > 0 && strcmp(text, "end\n") != 0)
		n += check_code_object(line_of, text, table);
	assert_string_equal(text, "end\n");
	child_stop(&child);
	print_message("%s: %zu instructions\n", name, n);
	return n;
}

static void check_library(const char *name, const char *command)
{
	assert_true(check_interpreter(name, command) > 50000);
}

static void every_line_of_the_library_is_what_the_interpreter_says(void **state)
{
	(void)state;
	for_each_interpreter(check_library);
}

static void lnotab_lines_can_go_back(void **state)
{
	uint32_t line = UNTOUCHED;

	(void)state;
	assert_line(line_of_lnotab(TABLE(2, 5, 4, 0xfd), 10, 0, &line), &line, 10);
	assert_line(line_of_lnotab(TABLE(2, 5, 4, 0xfd), 10, 2, &line), &line, 15);
	assert_line(line_of_lnotab(TABLE(2, 5, 4, 0xfd), 10, 6, &line), &line, 12);
	assert_line(line_of_lnotab(TABLE(2, 5, 4, 0xfd), 10, 9999, &line), &line, 12);
	assert_line(line_of_lnotab(NULL, 0, 10, 4, &line), &line, 10);
}

static void linetable310_has_instructions_without_a_line(void **state)
{
	uint32_t line = UNTOUCHED;

	(void)state;
	assert_line(line_of_linetable310(TABLE(2, 0, 4, 0x80, 2, 1), 7, 0, &line), &line, 7);
	assert_line(line_of_linetable310(TABLE(2, 0, 4, 0x80, 2, 1), 7, 4, &line), &line, 0);
	assert_line(line_of_linetable310(TABLE(2, 0, 4, 0x80, 2, 1), 7, 6, &line), &line, 8);
	assert_line(line_of_linetable310(TABLE(2, 0, 4, 0x80, 2, 1), 7, 8, &line), &line, 0);
}

static void locations311_has_five_kinds_of_entry(void **state)
{
	/* short, one line +2, no columns -3, long +100 with all its columns, none; a unit each */
	static const uint8_t table[] = { 0x80, 0x12, 0xe0, 0x01, 0x02, 0xe8, 0x07,
					 0xf0, 0x48, 0x03, 0x00, 0x01, 0x02, 0xf8 };
	static const uint32_t lines[] = { 50, 52, 49, 149, 0, 0 };
	uint32_t line = UNTOUCHED;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(lines); i++)
		assert_line(line_of_locations311(table, sizeof(table), 50, 2 * i, &line), &line,
			    lines[i]);
}

static void a_table_cut_anywhere_gives_an_error_or_a_prefix(void **state)
{
	static const uint8_t table[] = { 0xf0, 0x48, 0x03, 0x00, 0x01, 0x42, 0x01 };
	uint32_t line = UNTOUCHED;

	(void)state;
	for (size_t size = 1; size < sizeof(table); size++)
		assert_malformed(line_of_locations311(table, size, 1, 0, &line), &line);
	assert_line(line_of_locations311(table, sizeof(table), 1, 0, &line), &line, 101);
	line = UNTOUCHED;
	assert_malformed(line_of_lnotab(table, 3, 1, 0, &line), &line);
	assert_malformed(line_of_linetable310(table, 5, 1, 0, &line), &line);
}

static void nonsense_is_malformed(void **state)
{
	uint32_t line = UNTOUCHED;

	(void)state;
	/* An entry that begins without its mark, and an operand that has it. */
	assert_malformed(line_of_locations311(TABLE(0x70, 1), 1, 0, &line), &line);
	assert_malformed(line_of_locations311(TABLE(0xe8, 0x80), 1, 0, &line), &line);
	/* A varint that goes on for ever, and one beyond 32 bits. */
	assert_malformed(line_of_locations311(
				 TABLE(0xe8, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x01),
				 1, 0, &line),
			 &line);
	assert_malformed(
		line_of_locations311(TABLE(0xe8, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x04), 1, 0, &line),
		&line);
	/* Lines below zero and beyond what an int holds. */
	assert_malformed(line_of_locations311(TABLE(0xe8, 0x05), 1, 0, &line), &line);
	assert_malformed(line_of_lnotab(TABLE(0, 0x80), 1, 0, &line), &line);
	assert_malformed(line_of_linetable310(TABLE(2, 0x81), 1, 0, &line), &line);
	assert_malformed(line_of_lnotab(NULL, 0, UINT32_MAX, 0, &line), &line);
}

static void tables_beyond_the_limit_are_refused(void **state)
{
	size_t size = CODE_TABLE_MAX_BYTES + 2;
	_cleanup_free_ uint8_t *table = calloc(1, size);
	uint32_t line = UNTOUCHED;

	(void)state;
	assert_non_null(table);
	for (size_t i = 0; i < ARRAY_SIZE(line_formats); i++)
		assert_malformed(line_formats[i].line_of(table, size, 1, 0, &line), &line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_line_of_the_library_is_what_the_interpreter_says),
		cmocka_unit_test(lnotab_lines_can_go_back),
		cmocka_unit_test(linetable310_has_instructions_without_a_line),
		cmocka_unit_test(locations311_has_five_kinds_of_entry),
		cmocka_unit_test(a_table_cut_anywhere_gives_an_error_or_a_prefix),
		cmocka_unit_test(nonsense_is_malformed),
		cmocka_unit_test(tables_beyond_the_limit_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
