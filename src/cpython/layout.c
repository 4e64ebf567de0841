/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/layout.h"

#include "base/cleanup.h"

/* clang-format off */
static const struct layout rows[] = {
#include "cpython/layouts.inc"
};
/* clang-format on */

const struct layout *layout_find(unsigned minor, unsigned micro)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].minor == minor && rows[i].micro_from <= micro &&
		    micro <= rows[i].micro_to)
			return &rows[i];
	return NULL;
}

size_t layout_rows(const struct layout **ret)
{
	*ret = rows;
	return ARRAY_SIZE(rows);
}
