/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Folded stacks, as flamegraph.pl, speedscope and others read them. */
#include <inttypes.h>

#include "base/buffer.h"
#include "report/names.h"
#include "report/snapshot.h"

#define LINE_BYTES_MAX (8u << 20) /* SNAPSHOT_FRAMES_MAX frames with long names */

static void add_frame(struct buffer *line, const struct snapshot_frame *frame)
{
	names_add_folded(line, frame->function);
	if (!*frame->file)
		return;
	/* The blank before "(" is wanted: flame graphs split at the last one only. */
	buffer_add_string(line, " (");
	names_add_folded(line, frame->file);
	if (frame->line > 0)
		buffer_printf(line, ":%" PRIu32, frame->line);
	buffer_add_char(line, ')');
}

static int write_site(const struct snapshot_site *site, struct buffer *line,
		      const struct sink *sink)
{
	buffer_clear(line);
	if (site->other)
		buffer_add_string(line, "[other]");
	else if (site->n_frames == 0)
		buffer_add_string(line, "[no Python frame]");
	else if (site->cut)
		buffer_add_string(line, "[more];");
	for (size_t i = site->n_frames; i > 0; i--) {
		add_frame(line, &site->frames[i - 1]);
		if (i > 1)
			buffer_add_char(line, ';');
	}
	buffer_printf(line, " %" PRIu64 "\n", site->outstanding_bytes);
	if (line->error < 0)
		return line->error;
	return sink->write(sink->context, line->data, line->size);
}

int report_folded(const struct snapshot *snapshot, const struct sink *sink)
{
	_cleanup_buffer_ struct buffer line = buffer_init(LINE_BYTES_MAX);

	for (size_t i = 0; i < snapshot->n_sites; i++) {
		const struct snapshot_site *site = &snapshot->sites[i];
		int r = site->outstanding_bytes > 0 ? write_site(site, &line, sink) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}
