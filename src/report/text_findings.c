/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* A leak is a set of lines: those that stand beneath their finding's head. */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "report/text_private.h"

#define MEMBERS_SHOWN 6

bool text_is_member(const struct snapshot_site *site)
{
	return site->finding_number && !site->finding_head;
}

static void add_place(struct text *text, const struct snapshot_site *site)
{
	_cleanup_buffer_ struct buffer place = buffer_init(LINE_BYTES_MAX);
	const struct snapshot_frame *leaf = &site->frames[0];

	if (site->n_frames == 0) {
		line_add_coloured(text, NULL, "[no Python frame]");
		return;
	}
	name_for_terminal(&place,
			  *leaf->file ? paths_shorten(&text->paths, leaf->file) : leaf->function,
			  LOCATION_COLUMNS_MAX);
	if (*leaf->file && leaf->line > 0)
		buffer_printf(&place, ":%" PRIu32, leaf->line);
	if (place.error == 0)
		line_add_coloured(text, NULL, place.data);
}

static void add_member(struct text *text, const struct snapshot_site *site, bool first)
{
	_cleanup_buffer_ struct buffer type = buffer_init(LINE_BYTES_MAX);
	char bytes[TEXT_NUMBER_MAX];

	line_pad(text, INDENT);
	line_add_coloured(text, NULL, first ? "with it: " : "         ");
	add_place(text, site);
	if (site->n_types > 0 &&
	    name_for_terminal(&type, site->types[0].name, FUNCTION_COLUMNS_MAX) == 0)
		line_add(text, NULL, GAP, type.data);
	line_add(text, NULL, "  ", text_bytes(bytes, (double)site->outstanding_bytes));
	if (site->zombies)
		line_add(text, NULL, GAP, "reference count 0, never given back");
	line_end(text);
}

void text_add_members(struct text *text, const struct snapshot_site *head)
{
	const struct snapshot *snapshot = text->snapshot;
	size_t n = 0;

	if (!head->finding_head)
		return;
	for (size_t i = 0; i < snapshot->n_sites; i++) {
		const struct snapshot_site *site = &snapshot->sites[i];

		if (!text_is_member(site) || site->finding_number != head->finding_number)
			continue;
		if (n++ < MEMBERS_SHOWN)
			add_member(text, site, n == 1);
	}
	if (n <= MEMBERS_SHOWN)
		return;
	line_pad(text, INDENT);
	line_printf(text, NULL, "", "         and %zu more lines: --format json",
		    n - MEMBERS_SHOWN);
	line_end(text);
}
