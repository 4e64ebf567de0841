/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From the heap reader's words for a layout to the frame walker's. */
#include "service/opening.h"

/*
 * Owners from which on a frame is none of Python's (enum _frameowner,
 * Include/internal/pycore_frame.h): 3.12 and 3.13 FRAME_OWNED_BY_CSTACK 3;
 * 3.14 and 3.15 FRAME_OWNED_BY_INTERPRETER 3 (and FRAME_OWNED_BY_CSTACK 4 in 3.14).
 */
#define OWNER_NOT_PYTHON 3
/* Py_TAG_BITS of 3.14's and 3.15's default builds (pycore_stackref.h). */
#define STACKREF_TAG_BITS 3

int opening_stack_layout(const struct opening *opening, struct capture_stack_layout *ret,
			 struct fault *reterr_fault)
{
	const struct layout *layout = interpreter_layout(opening->interpreter);
	struct interpreter_stack_roots roots;
	unsigned minor = layout->minor;
	int r;

	r = interpreter_stack_roots(opening->interpreter, &roots, reterr_fault);
	if (r < 0)
		return r;
	*ret = (struct capture_stack_layout){
		.minor = minor,
		.tstate_current_address = roots.tstate_current_address,
		.tstate_tls_offset = roots.tstate_tls_offset,
		.tls_module = roots.tls_module,
		.tls_module_offset = roots.tls_module_offset,
		.tls_dtv_entry_bytes = roots.tls_dtv_entry_bytes,
		.tstate_frame = layout->tstate_frame,
		.cframe_current_frame = layout->cframe_current_frame,
		.tstate_thread_id = layout->tstate_thread_id,
		.tstate_interp = layout->tstate_interp,
		.frame_code = layout->frame_code,
		.frame_previous = layout->frame_previous,
		.frame_position = layout->frame_position,
		.frame_position_bytes = minor <= 10 ? 4 : 8,
		.frame_owner = layout->frame_owner,
		.frame_owner_skip_from = minor >= 12 ? OWNER_NOT_PYTHON : 0,
		.code_tag_mask = minor >= 14 ? STACKREF_TAG_BITS : 0,
		.code_type_address = roots.code_type_address,
		.object_type = layout->object_type,
		.pool_size = layout->pool_size_bytes,
	};
	return 0;
}
