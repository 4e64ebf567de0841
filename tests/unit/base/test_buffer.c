/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/buffer.h"

static void what_is_added_stands_in_order_and_ends_in_nul(void **state)
{
	_cleanup_buffer_ struct buffer buffer = buffer_init(1000);

	(void)state;
	assert_int_equal(buffer_add_string(&buffer, "one"), 0);
	assert_int_equal(buffer_add_char(&buffer, ','), 0);
	assert_int_equal(buffer_printf(&buffer, "%d", 2), 0);
	assert_int_equal(buffer_add(&buffer, "\0x", 2), 0);
	assert_int_equal(buffer.size, 7);
	assert_memory_equal(buffer.data, "one,2\0x", 8);
}

static void a_buffer_fills_to_its_maximum_and_no_further(void **state)
{
	_cleanup_buffer_ struct buffer buffer = buffer_init(200);

	(void)state;
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(buffer_add_char(&buffer, 'x'), 0);
	assert_int_equal(buffer_add_char(&buffer, 'y'), -E2BIG);
	assert_int_equal(buffer.size, 200);
	assert_int_equal(strlen(buffer.data), 200);
	assert_null(strchr(buffer.data, 'y'));
}

static void the_first_failure_sticks_until_the_buffer_is_cleared(void **state)
{
	_cleanup_buffer_ struct buffer buffer = buffer_init(4);

	(void)state;
	assert_int_equal(buffer_printf(&buffer, "%s", "12345"), -E2BIG);
	assert_int_equal(buffer_add_char(&buffer, 'x'), -E2BIG);
	assert_int_equal(buffer.size, 0);
	buffer_clear(&buffer);
	assert_int_equal(buffer_add_string(&buffer, "1234"), 0);
	assert_string_equal(buffer.data, "1234");
}

static void taken_bytes_outlive_the_buffer_which_is_empty_then(void **state)
{
	_cleanup_buffer_ struct buffer buffer = buffer_init(10);
	_cleanup_free_ char *empty = NULL;
	_cleanup_free_ char *text = NULL;

	(void)state;
	empty = buffer_take(&buffer);
	assert_string_equal(empty, "");
	assert_int_equal(buffer_add_string(&buffer, "abc"), 0);
	text = buffer_take(&buffer);
	assert_string_equal(text, "abc");
	assert_int_equal(buffer.size, 0);
	assert_int_equal(buffer_add_string(&buffer, "d"), 0);
	assert_string_equal(buffer.data, "d");
}

static void a_size_that_wraps_around_is_refused(void **state)
{
	_cleanup_buffer_ struct buffer buffer = buffer_init(100);
	char *to;

	(void)state;
	assert_int_equal(buffer_add_string(&buffer, "abc"), 0);
	assert_int_equal(buffer_reserve(&buffer, SIZE_MAX - 1, &to), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_added_stands_in_order_and_ends_in_nul),
		cmocka_unit_test(a_buffer_fills_to_its_maximum_and_no_further),
		cmocka_unit_test(the_first_failure_sticks_until_the_buffer_is_cleared),
		cmocka_unit_test(taken_bytes_outlive_the_buffer_which_is_empty_then),
		cmocka_unit_test(a_size_that_wraps_around_is_refused),
	};

	return cmocka_run_group_tests_name("base/buffer", tests, NULL, NULL);
}
