/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/debug_offsets.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

/* clang-format off */
static const struct debug_offsets_table tables[] = {
#include "cpython/debug_offsets.inc"
};
/* clang-format on */

/*
 * From _Py_DebugOffsets' end to interpreters.head in _PyRuntime: five flags,
 * finalizing and its id, the list's mutex (pycore_runtime.h of 3.13,
 * pycore_runtime_structs.h of 3.14 and 3.15).  runtime_state is the first
 * group in all versions, so the structure's size follows from it.
 */
#define HEAD_BEHIND_OFFSETS 48

static uint64_t number_at(struct bytes bytes, uint32_t offset)
{
	uint64_t value = 0;

	bytes_read(bytes, offset, &value, sizeof(value));
	return value;
}

static const struct debug_offsets_table *find_table(struct bytes bytes, uint32_t minor)
{
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		if (tables[i].minor == minor && tables[i].size <= bytes.size &&
		    number_at(bytes, tables[i].runtime_interpreters_head) ==
			    tables[i].size + HEAD_BEHIND_OFFSETS)
			return &tables[i];
	return NULL;
}

struct described {
	const char *group, *field;
	uint32_t size_at, value_at; /* in _Py_DebugOffsets */
	size_t member; /* in struct layout */
};

/* A field's offset lies inside the structure that it is a field of. */
static int apply_one(struct bytes bytes, const struct described *described, struct layout *layout,
		     struct fault *reterr_fault)
{
	uint64_t size = number_at(bytes, described->size_at);
	uint64_t value = number_at(bytes, described->value_at);
	uint32_t narrow = (uint32_t)value;

	if (!size || size > DEBUG_OFFSETS_STRUCTURE_MAX)
		return fault_set(reterr_fault, -EBADMSG, REASON_OUT_OF_BOUNDS, described->size_at,
				 described->group);
	/* Inclusive: a trailing array or what follows a header begins at the end. */
	if (value > size)
		return fault_set(reterr_fault, -EBADMSG, REASON_OUT_OF_BOUNDS, described->value_at,
				 described->field);
	memcpy((uint8_t *)layout + described->member, &narrow, sizeof(narrow));
	return 0;
}

static int apply_all(struct bytes bytes, const struct debug_offsets_table *table,
		     struct layout *layout, struct fault *reterr_fault)
{
	const struct described rows[] = {
#define DESCRIBED(field_, group_, member_)                                                        \
	{ #group_, #field_, table->size_of_##group_, table->field_,                               \
	  offsetof(struct layout, field_) },
		DEBUG_OFFSET_FIELDS(DESCRIBED)
#undef DESCRIBED
	};
	struct layout overlaid = *layout;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int error = apply_one(bytes, &rows[i], &overlaid, reterr_fault);

		if (error)
			return error;
	}
	*layout = overlaid;
	return 0;
}

int debug_offsets_apply(const uint8_t *data, size_t size, struct layout *layout,
			struct fault *reterr_fault)
{
	const struct debug_offsets_table *table;
	struct bytes bytes = { data, size };
	char cookie[8];

	if (!bytes_read(bytes, 0, cookie, sizeof(cookie)) ||
	    memcmp(cookie, DEBUG_OFFSETS_COOKIE, sizeof(cookie)))
		return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0,
				 "debug_offsets.cookie");
	table = find_table(bytes, layout->minor);
	if (!table)
		return fault_set(reterr_fault, -ENOENT, REASON_UNSUPPORTED, 0,
				 "debug_offsets.size");
	if (number_at(bytes, table->free_threaded))
		return fault_set(reterr_fault, -EOPNOTSUPP, REASON_UNSUPPORTED,
				 table->free_threaded, "debug_offsets.free_threaded");
	/* PY_VERSION_HEX: another minor version's offsets in this image are somebody's mistake. */
	if ((number_at(bytes, 8) >> 16 & 0xff) != layout->minor)
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, 8,
				 "debug_offsets.version");
	return apply_all(bytes, table, layout, reterr_fault);
}
