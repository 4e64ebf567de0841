/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Layouts as CPython's headers have them, by hand: 3.8.18, 3.11.7, 3.12.1, and one like 3.14's. */
#ifndef TESTS_UNIT_CAPTURE_LAYOUTS_H
#define TESTS_UNIT_CAPTURE_LAYOUTS_H

#include "capture/settings.h"

#define RUNTIME_AT 0x500000ULL /* tstate_current */

static const __attribute__((unused)) struct capture_stack_layout layout_38 = {
	.minor = 8,
	.tstate_current_address = RUNTIME_AT,
	.tstate_frame = 24,
	.cframe_current_frame = UINT32_MAX,
	.tstate_thread_id = 176,
	.frame_code = 32,
	.frame_previous = 24,
	.frame_position = 104,
	.frame_position_bytes = 4,
	.frame_owner = UINT32_MAX,
	.object_type = 8,
	.pool_size = 4096,
};
static const __attribute__((unused)) struct capture_stack_layout layout_311 = {
	.minor = 11,
	.tstate_current_address = RUNTIME_AT,
	.tstate_frame = 56,
	.cframe_current_frame = 8,
	.tstate_thread_id = 152,
	.frame_code = 32,
	.frame_previous = 48,
	.frame_position = 56,
	.frame_position_bytes = 8,
	.frame_owner = 69,
	.object_type = 8,
	.pool_size = 16384,
};
static const __attribute__((unused)) struct capture_stack_layout layout_312 = {
	.minor = 12,
	.tstate_tls_offset = -24,
	.tstate_frame = 56,
	.cframe_current_frame = 0,
	.tstate_thread_id = 136,
	.frame_code = 0,
	.frame_previous = 8,
	.frame_position = 56,
	.frame_position_bytes = 8,
	.frame_owner = 70,
	.frame_owner_skip_from = 3,
	.object_type = 8,
	.pool_size = 16384,
};
static const __attribute__((unused)) struct capture_stack_layout layout_314 = {
	.minor = 14,
	.tstate_tls_offset = -24,
	.tstate_frame = 72,
	.cframe_current_frame = UINT32_MAX,
	.tstate_thread_id = 152,
	.frame_code = 0,
	.frame_previous = 8,
	.frame_position = 56,
	.frame_position_bytes = 8,
	.frame_owner = 74,
	.frame_owner_skip_from = 3,
	.code_tag_mask = 3,
	.object_type = 8,
	.pool_size = 16384,
};

#endif
