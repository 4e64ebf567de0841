/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

static void durations_are_read_as_people_write_them(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} rows[] = {
		{ "30s", 30000000000ULL },    { "5m", 300000000000ULL }, { "2h", 7200000000000ULL },
		{ "1d", 86400000000000ULL },  { "250ms", 250000000ULL }, { "1.5s", 1500000000ULL },
		{ "10", 10000000000ULL },     { "5min", 300000000000ULL }, { "20us", 20000ULL },
		{ "0.000000001", 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t ns = 0;

		assert_int_equal(parse_duration_ns(rows[i].text, &ns), 0);
		assert_int_equal(ns, rows[i].ns);
	}
}

static void nonsense_durations_are_refused_and_fill_nothing(void **state)
{
	static const char *const texts[] = { "",    "s",   "-5s", "5 s", "5x",  "1.s",	".5s",
					     "5s5", "0x5", "inf", "nan", "1e3", "5s\n", "٣s" };
	uint64_t ns = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(parse_duration_ns(texts[i], &ns), -EINVAL);
	assert_int_equal(parse_duration_ns("0", &ns), -ERANGE);
	assert_int_equal(parse_duration_ns("0.0s", &ns), -ERANGE);
	assert_int_equal(parse_duration_ns("999999d", &ns), -ERANGE);
	assert_int_equal(parse_duration_ns("99999999999999999999999s", &ns), -ERANGE);
	assert_int_equal(ns, 77);
}

static void sizes_count_in_powers_of_1024(void **state)
{
	uint64_t bytes;

	(void)state;
	assert_int_equal(parse_size_bytes("4096", &bytes), 0);
	assert_int_equal(bytes, 4096);
	assert_int_equal(parse_size_bytes("64M", &bytes), 0);
	assert_int_equal(bytes, 64 << 20);
	assert_int_equal(parse_size_bytes("1.5GiB", &bytes), 0);
	assert_int_equal(bytes, 3ULL << 29);
	assert_int_equal(parse_size_bytes("0", &bytes), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(parse_size_bytes("12Q", &bytes), -EINVAL);
	assert_int_equal(parse_size_bytes("999999999999999T", &bytes), -ERANGE);
}

static void numbers_must_be_whole_and_within_bounds(void **state)
{
	uint64_t value = 5;

	(void)state;
	assert_int_equal(parse_u64("18446744073709551615", 0, UINT64_MAX, &value), 0);
	assert_true(value == UINT64_MAX);
	assert_int_equal(parse_u64("18446744073709551616", 0, UINT64_MAX, &value), -ERANGE);
	assert_int_equal(parse_u64("7", 8, 10, &value), -ERANGE);
	assert_int_equal(parse_u64("11", 8, 10, &value), -ERANGE);
	assert_int_equal(parse_u64("+8", 8, 10, &value), -EINVAL);
	assert_int_equal(parse_u64(" 8", 8, 10, &value), -EINVAL);
	assert_int_equal(parse_u64("8 ", 8, 10, &value), -EINVAL);
	assert_int_equal(parse_u64("", 0, 10, &value), -EINVAL);
	assert_true(value == UINT64_MAX);
}

static void bytes_counts_and_durations_are_written_for_people(void **state)
{
	char text[TEXT_NUMBER_MAX];

	(void)state;
	assert_string_equal(text_bytes(text, 0), "0 B");
	assert_string_equal(text_bytes(text, 312), "312 B");
	assert_string_equal(text_bytes(text, 999), "999 B");
	assert_string_equal(text_bytes(text, 1000), "1.0 KB");
	assert_string_equal(text_bytes(text, 1.8e6), "1.8 MB");
	assert_string_equal(text_bytes(text, 231e6), "231 MB");
	assert_string_equal(text_bytes(text, 999.7e6), "1.0 GB");
	assert_string_equal(text_bytes(text, 99.96e3), "100 KB");
	assert_string_equal(text_bytes(text, -12.3e3), "-12.3 KB");
	assert_string_equal(text_count(text, 0), "0");
	assert_string_equal(text_count(text, 999), "999");
	assert_string_equal(text_count(text, 28104), "28,104");
	assert_string_equal(text_count(text, 1204113), "1,204,113");
	assert_string_equal(text_count(text, UINT64_MAX), "18,446,744,073,709,551,615");
	assert_string_equal(text_duration(text, 0.25), "250 ms");
	assert_string_equal(text_duration(text, 90), "90 s");
	assert_string_equal(text_duration(text, 300), "5 min");
	assert_string_equal(text_duration(text, 14 * 3600), "14 h");
	assert_string_equal(text_duration(text, 30 * 86400.0), "30 d");
}

static void the_largest_doubles_fit_the_room_for_a_number(void **state)
{
	char text[TEXT_NUMBER_MAX];

	(void)state;
	assert_true(strlen(text_bytes(text, -1e300)) < TEXT_NUMBER_MAX - 1);
	assert_true(strlen(text_duration(text, 1e300)) < TEXT_NUMBER_MAX - 1);
}

static void foreign_text_loses_what_a_terminal_would_obey(void **state)
{
	static const struct {
		const char *foreign, *printable;
	} rows[] = {
		{ "web.py", "web.py" },
		{ "a\x1b[31mb\nc\x7f", "a?[31mb?c?" },
		{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
		{ "\xe2\x82\xac \xf0\x9f\x90\x8d", "\xe2\x82\xac \xf0\x9f\x90\x8d" },
		{ "\xc2\x9b", "??" }, /* U+009B: an escape of its own */
		{ "\xc0\xaf", "??" }, /* overlong */
		{ "\xed\xa0\x80", "???" }, /* a surrogate */
		{ "\xf5\x80\x80\x80", "????" }, /* beyond Unicode */
		{ "ab\xe2\x82", "ab??" }, /* cut off */
		{ "\xff\xfe", "??" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s", rows[i].foreign);
		text_make_printable(text);
		assert_string_equal(text, rows[i].printable);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_are_read_as_people_write_them),
		cmocka_unit_test(nonsense_durations_are_refused_and_fill_nothing),
		cmocka_unit_test(sizes_count_in_powers_of_1024),
		cmocka_unit_test(numbers_must_be_whole_and_within_bounds),
		cmocka_unit_test(bytes_counts_and_durations_are_written_for_people),
		cmocka_unit_test(the_largest_doubles_fit_the_room_for_a_number),
		cmocka_unit_test(foreign_text_loses_what_a_terminal_would_obey),
	};

	return cmocka_run_group_tests_name("base/text", tests, NULL, NULL);
}
