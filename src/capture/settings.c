/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "capture/settings.h"

#include <errno.h>

#include "base/cleanup.h"

#define POOL_SIZE_INDEX 0x24 /* struct pool_header.szidx, CPython 3.8 to 3.15 */

#define TLS_MODULES_MAX 4096
#define TLS_BLOCK_MAX_BYTES (1u << 20)

/* A field of a frame, and where settings want its place within the part that is read. */
struct frame_field {
	const char *name;
	uint32_t offset;
	uint32_t size;
	uint32_t *at;
};

static int check_offset(uint32_t offset, const char *field, struct fault *reterr_fault)
{
	if (offset < SETTINGS_OFFSET_MAX)
		return 0;
	return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS, offset, field);
}

/* The part of a frame to be read: from its first to its last field that is used. */
static int fill_frame(const struct capture_stack_layout *layout, struct settings *settings,
		      struct fault *reterr_fault)
{
	const struct frame_field fields[] = {
		{"frame_code", layout->frame_code, 8, &settings->code_at},
		{"frame_previous", layout->frame_previous, 8, &settings->previous_at},
		{"frame_position", layout->frame_position, layout->frame_position_bytes,
		 &settings->position_at},
		{"frame_owner", layout->frame_owner, 1, &settings->owner_at},
	};
	uint32_t from = UINT32_MAX;
	uint32_t to = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (fields[i].at == &settings->owner_at && fields[i].offset == UINT32_MAX)
			continue;
		if (check_offset(fields[i].offset, fields[i].name, reterr_fault) < 0)
			return -EINVAL;
		if (fields[i].offset < from)
			from = fields[i].offset;
		if (fields[i].offset + fields[i].size > to)
			to = fields[i].offset + fields[i].size;
	}
	if (to - from > SETTINGS_FRAME_BYTES_MAX)
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS, to - from, "frame");
	settings->frame_from = from;
	settings->frame_bytes = to - from;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		*fields[i].at =
			fields[i].offset == UINT32_MAX ? SETTINGS_ABSENT : fields[i].offset - from;
	return 0;
}

/*
 * A module's entry in the vector, and where it is said how many there are:
 * glibc's is of dtv_t, their number is the one before the first (2.36,
 * sysdeps/x86_64/nptl/tls.h, GET_DTV and dtv[-1].counter); musl's is of
 * pointers, their number is the first (1.2.3, src/ldso/dynlink.c install_new_tls).
 */
static int fill_tls(const struct capture_stack_layout *layout, struct settings *settings,
		    struct fault *reterr_fault)
{
	uint32_t entry_bytes = layout->tls_dtv_entry_bytes;

	if (!layout->tls_module)
		return 0;
	if (layout->tls_module > TLS_MODULES_MAX)
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS, layout->tls_module,
				 "tls_module");
	if (layout->tls_module_offset > TLS_BLOCK_MAX_BYTES)
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS,
				 layout->tls_module_offset, "tls_module_offset");
	if (entry_bytes != 8 && entry_bytes != 16)
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS, entry_bytes,
				 "tls_dtv_entry_bytes");
	settings->tls_module = (uint32_t)layout->tls_module;
	settings->tls_entry_at = settings->tls_module * entry_bytes;
	settings->tls_count_before = entry_bytes == 16 ? entry_bytes : 0;
	settings->tls_block_offset = layout->tls_module_offset;
	return 0;
}

static int check_layout(const struct capture_stack_layout *layout, struct fault *reterr_fault)
{
	const struct {
		const char *name;
		uint32_t offset;
		bool may_be_absent;
	} offsets[] = {
		{"tstate_frame", layout->tstate_frame, false},
		{"tstate_thread_id", layout->tstate_thread_id, false},
		{"cframe_current_frame", layout->cframe_current_frame, true},
		{"object_type", layout->object_type, false},
		{"pool_size_index", layout->pool_size_index, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		if (offsets[i].may_be_absent && offsets[i].offset == UINT32_MAX)
			continue;
		if (check_offset(offsets[i].offset, offsets[i].name, reterr_fault) < 0)
			return -EINVAL;
	}
	if (layout->frame_position_bytes != 4 && layout->frame_position_bytes != 8)
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS,
				 layout->frame_position_bytes, "frame_position_bytes");
	if (layout->pool_size < 4096 || layout->pool_size > 1u << 20 ||
	    (layout->pool_size & (layout->pool_size - 1)))
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS, layout->pool_size,
				 "pool_size");
	return 0;
}

int settings_fill(const struct capture_options *options, struct settings *ret,
		  struct fault *reterr_fault)
{
	const struct capture_stack_layout *layout = &options->layout;
	struct settings settings = {
		.tstate_current_address = layout->tstate_current_address,
		.tstate_tls_offset = layout->tstate_tls_offset,
		.code_tag_mask = layout->code_tag_mask,
		.interpreter_start = options->interpreter_start,
		.interpreter_end = options->interpreter_end,
		.finalizing_address = options->finalizing_address,
		.target = (uint32_t)options->pid,
		.tstate_frame = layout->tstate_frame,
		.tstate_thread_id = layout->tstate_thread_id,
		.cframe_current_frame = layout->cframe_current_frame,
		.position_bytes = layout->frame_position_bytes,
		.owner_skip_from = layout->frame_owner_skip_from,
		.object_type = layout->object_type,
		.pool_bytes = layout->pool_size,
		.pool_size_index =
			layout->pool_size_index ? layout->pool_size_index : POOL_SIZE_INDEX,
	};

	if (check_layout(layout, reterr_fault) < 0 ||
	    fill_frame(layout, &settings, reterr_fault) < 0 ||
	    fill_tls(layout, &settings, reterr_fault) < 0)
		return -EINVAL;
	*ret = settings;
	return 0;
}
