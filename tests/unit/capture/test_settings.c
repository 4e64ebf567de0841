/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the programs are told is checked before, because they don't. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "layouts.h"

static int fill(const struct capture_stack_layout *use, struct settings *ret, struct fault *fault)
{
	const struct capture_options options = {.pid = 77, .layout = *use};

	return settings_fill(&options, ret, fault);
}

static void a_frame_is_read_from_its_first_to_its_last_field(void **state)
{
	struct settings filled;

	(void)state;
	assert_int_equal(fill(&layout_311, &filled, NULL), 0);
	assert_int_equal(filled.frame_from, 32);       /* f_code */
	assert_int_equal(filled.frame_bytes, 70 - 32); /* up to owner */
	assert_int_equal(filled.code_at, 0);
	assert_int_equal(filled.previous_at, 16);
	assert_int_equal(filled.position_at, 24);
	assert_int_equal(filled.owner_at, 37);
	assert_int_equal(filled.target, 77);
	assert_int_equal(fill(&layout_38, &filled, NULL), 0);
	assert_int_equal(filled.frame_from, 24);	/* f_back */
	assert_int_equal(filled.frame_bytes, 108 - 24); /* up to f_lasti */
	assert_int_equal(filled.owner_at, SETTINGS_ABSENT);
}

static void an_unknown_place_of_the_size_class_is_the_usual_one(void **state)
{
	struct capture_stack_layout changed = layout_311;
	struct settings filled;

	(void)state;
	assert_int_equal(fill(&changed, &filled, NULL), 0);
	assert_int_equal(filled.pool_size_index, 0x24);
	changed.pool_size_index = 0x2c;
	assert_int_equal(fill(&changed, &filled, NULL), 0);
	assert_int_equal(filled.pool_size_index, 0x2c);
}

#define REFUSED(member, value, name)                                                               \
	do {                                                                                       \
		struct capture_stack_layout changed = layout_312;                                  \
		struct settings filled = {.target = 5};                                            \
		struct fault fault = {0};                                                          \
                                                                                                   \
		changed.member = (value);                                                          \
		assert_int_equal(fill(&changed, &filled, &fault), -EINVAL);                        \
		assert_int_equal(fault.reason, REASON_OUT_OF_BOUNDS);                              \
		assert_string_equal(fault.field, name);                                            \
		assert_int_equal(filled.target, 5); /* untouched */                                \
	} while (0)

static void what_is_out_of_bounds_is_named(void **state)
{
	(void)state;
	REFUSED(tstate_frame, UINT32_MAX, "tstate_frame");
	REFUSED(tstate_frame, SETTINGS_OFFSET_MAX, "tstate_frame");
	REFUSED(tstate_thread_id, UINT32_MAX, "tstate_thread_id");
	REFUSED(cframe_current_frame, 1 << 20, "cframe_current_frame");
	REFUSED(frame_code, UINT32_MAX, "frame_code");
	REFUSED(frame_previous, UINT32_MAX, "frame_previous");
	REFUSED(frame_position, UINT32_MAX, "frame_position");
	REFUSED(frame_owner, 4000, "frame"); /* too far from the others */
	REFUSED(frame_position_bytes, 2, "frame_position_bytes");
	REFUSED(object_type, UINT32_MAX, "object_type");
	REFUSED(tls_module, 1, "tls_dtv_entry_bytes");
	REFUSED(tls_module, 4097, "tls_module");
	REFUSED(pool_size, 0, "pool_size");
	REFUSED(pool_size, 12288, "pool_size");
	REFUSED(pool_size, 2u << 20, "pool_size");
}

static void options_that_make_no_sense_are_refused_before_the_kernel_is_asked(void **state)
{
	struct capture_options options = {.pid = 0, .layout = layout_311};
	struct capture *capture = NULL;
	struct fault fault = {0};

	(void)state;
	assert_int_equal(capture_prepare(&options, &capture, &fault), -EINVAL);
	assert_string_equal(fault.field, "pid");
	options.pid = 1;
	options.ring_bytes = 3 << 20;
	assert_int_equal(capture_prepare(&options, &capture, &fault), -EINVAL);
	assert_string_equal(fault.field, "ring_bytes");
	options.ring_bytes = 0;
	options.n_files = CAPTURE_FILES_MAX + 1;
	assert_int_equal(capture_prepare(&options, &capture, &fault), -EINVAL);
	assert_string_equal(fault.field, "files");
	options.n_files = 0;
	options.layout.pool_size = 1;
	assert_int_equal(capture_prepare(&options, &capture, &fault), -EINVAL);
	assert_string_equal(fault.field, "pool_size");
	assert_null(capture);
	capture_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_is_read_from_its_first_to_its_last_field),
		cmocka_unit_test(an_unknown_place_of_the_size_class_is_the_usual_one),
		cmocka_unit_test(what_is_out_of_bounds_is_named),
		cmocka_unit_test(options_that_make_no_sense_are_refused_before_the_kernel_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
