/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "cpython/arenas_private.h"
#include "cpython/layout.h"

static void every_supported_release_has_exactly_one_row(void **state)
{
	const struct layout *rows;
	size_t n = layout_rows(&rows);

	(void)state;
	for (unsigned minor = 8; minor <= 15; minor++) {
		for (unsigned micro = 0; micro < 40; micro++) {
			size_t fitting = 0;

			for (size_t i = 0; i < n; i++)
				fitting += rows[i].minor == minor && rows[i].micro_from <= micro &&
					   micro <= rows[i].micro_to;
			assert_int_equal(fitting, 1);
			assert_non_null(layout_find(minor, micro));
		}
	}
	assert_null(layout_find(7, 16));
	assert_null(layout_find(16, 0));
}

struct inside {
	const char *name;
	size_t field, size; /* in struct layout */
};

#define INSIDE(field_, size_)                                                                     \
	{ #field_, offsetof(struct layout, field_), offsetof(struct layout, size_) }

static uint32_t value(const struct layout *layout, size_t offset)
{
	uint32_t result;

	memcpy(&result, (const char *)layout + offset, sizeof(result));
	return result;
}

static void fields_lie_inside_their_structures(void **state)
{
	static const struct inside rows[] = {
		INSIDE(runtime_tstate_current, runtime_size),
		INSIDE(runtime_interpreters_head, runtime_size),
		INSIDE(runtime_allocator_object, runtime_size),
		INSIDE(interp_next, interp_size),
		INSIDE(interp_threads_head, interp_size),
		INSIDE(interp_obmalloc, interp_size),
		INSIDE(interp_jit, interp_size),
		INSIDE(tstate_next, tstate_size),
		INSIDE(tstate_interp, tstate_size),
		INSIDE(tstate_frame, tstate_size),
		INSIDE(tstate_thread_id, tstate_size),
		INSIDE(tstate_native_thread_id, tstate_size),
		INSIDE(frame_code, frame_size),
		INSIDE(frame_previous, frame_size),
		INSIDE(frame_position, frame_size),
		INSIDE(arena_address, arena_size),
		INSIDE(arena_pool_address, arena_size),
		INSIDE(arena_ntotalpools, arena_size),
		INSIDE(code_filename, code_basicsize),
		INSIDE(code_name, code_basicsize),
		INSIDE(code_qualname, code_basicsize),
		INSIDE(code_linetable, code_basicsize),
		INSIDE(type_name, type_type_basicsize),
		INSIDE(type_flags, type_type_basicsize),
		INSIDE(heaptype_qualname, type_type_basicsize),
		INSIDE(dict_keys, dict_basicsize),
		INSIDE(list_item, list_basicsize),
		INSIDE(set_table, set_basicsize),
		INSIDE(unicode_data, unicode_basicsize),
	};
	const struct layout *layouts;
	size_t n = layout_rows(&layouts);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(rows); k++) {
			uint32_t field = value(&layouts[i], rows[k].field);
			uint32_t size = value(&layouts[i], rows[k].size);

			/* A size that moves between patch releases is absent in the row. */
			if (field != LAYOUT_ABSENT && size != LAYOUT_ABSENT && field >= size)
				fail_msg("%s: %s = %u of %u", layouts[i].name, rows[k].name, field,
					 size);
		}
	}
}

static void fields_keep_the_order_of_the_declarations(void **state)
{
	const struct layout *layouts;
	size_t n = layout_rows(&layouts);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		const struct layout *l = &layouts[i];

		assert_int_equal(l->object_refcount, 0);
		assert_int_equal(l->object_type, 8);
		assert_int_equal(l->var_size, 16);
		assert_true(l->runtime_interpreters_head < l->runtime_interpreters_main);
		assert_true(l->tstate_prev < l->tstate_next && l->tstate_next < l->tstate_interp);
		assert_true(l->type_name < l->type_basicsize &&
			    l->type_basicsize < l->type_itemsize);
		assert_true(l->pool_freeblock < l->pool_arenaindex &&
			    l->pool_arenaindex < l->pool_szidx &&
			    l->pool_szidx < l->pool_nextoffset);
		assert_true(l->dict_keys < l->dict_values);
		assert_int_equal(l->arena_size, ARENA_OBJECT_BYTES);
		assert_int_equal(l->arena_size_bytes / l->pool_size_bytes, 64);
	}
}

static void a_field_is_absent_where_the_version_has_none(void **state)
{
	(void)state;
	for (unsigned minor = 8; minor <= 15; minor++) {
		const struct layout *l = layout_find(minor, 0);

		assert_int_equal(l->runtime_tstate_current != LAYOUT_ABSENT, minor <= 11);
		assert_int_equal(l->interp_obmalloc != LAYOUT_ABSENT, minor >= 12);
		assert_int_equal(l->tstate_native_thread_id != LAYOUT_ABSENT, minor >= 11);
		assert_int_equal(l->cframe_current_frame != LAYOUT_ABSENT,
				 minor == 11 || minor == 12);
		assert_int_equal(l->code_qualname != LAYOUT_ABSENT, minor >= 11);
	}
}

static void patch_releases_of_3_14_before_the_collector_was_replaced_differ(void **state)
{
	const struct layout *before = layout_find(14, 4), *after = layout_find(14, 5);

	(void)state;
	assert_ptr_equal(layout_find(14, 0), before);
	assert_ptr_not_equal(before, after);
	assert_int_equal(before->interp_obmalloc, 10880);
	assert_int_equal(after->interp_obmalloc, 10904);
	assert_int_equal(before->interp_threads_head, after->interp_threads_head);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_supported_release_has_exactly_one_row),
		cmocka_unit_test(fields_lie_inside_their_structures),
		cmocka_unit_test(fields_keep_the_order_of_the_declarations),
		cmocka_unit_test(a_field_is_absent_where_the_version_has_none),
		cmocka_unit_test(patch_releases_of_3_14_before_the_collector_was_replaced_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
