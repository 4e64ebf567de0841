/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/final_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "report/snapshot_build.h"

#define REPORT_COLUMNS 100

DEFINE_CLEANUP(struct snapshot *, snapshot_free)

bool report_has_colour(bool terminal)
{
	const char *no_colour = getenv("NO_COLOR"); /* no-color.org: set and not empty */

	return terminal && !(no_colour && *no_colour);
}

int report_write(const struct snapshot *snapshot, const struct options *options, bool terminal,
		 const struct sink *sink)
{
	const struct report_options text = {
		.top = options->top,
		.colour = report_has_colour(terminal),
		.columns = REPORT_COLUMNS,
	};

	switch (options->format) {
	case FORMAT_JSON:
		return report_json(snapshot, sink);
	case FORMAT_FOLDED:
		return report_folded(snapshot, sink);
	case FORMAT_TEXT:
		break;
	}
	return report_text(snapshot, &text, sink);
}

static bool has_leak(const struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->n_sites; i++)
		if (snapshot->sites[i].verdict == VERDICT_LEAK)
			return true;
	return false;
}

static int write_one(const struct snapshot *snapshot, const struct options *options,
		     struct output *output, bool *leak)
{
	*leak |= has_leak(snapshot);
	return report_write(snapshot, options, output_is_terminal(output), output_sink(output));
}

static int report_session(struct session *session, const struct options *options,
			  struct output *output, bool *leak)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
	int r;

	r = session_snapshot(session, session_ended_seconds(session), &snapshot);
	return r < 0 ? r : write_one(snapshot, options, output, leak);
}

/* In place, or said why not. */
static int finish(int error, struct output *output)
{
	if (error >= 0)
		error = output_commit(output);
	if (error < 0)
		log_error("the report could not be written (%s): choose another --output",
			  error == -ENXIO ? "nobody reads the FIFO" : strerror(-error));
	return error;
}

/* All have ended before the first word is written: whoever reads it may take its time. */
int final_report(struct session **sessions, size_t n, const struct session_clock *clock,
		 const struct options *options, struct output *output, bool *ret_leak)
{
	bool leak = false;
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = session_finish(sessions[i], clock);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = report_session(sessions[i], options, output, &leak);
	r = finish(r, output);
	if (r >= 0)
		*ret_leak = leak;
	return r;
}

int final_report_recorded(const struct snapshot *snapshot, const struct options *options,
			  struct output *output, bool *ret_leak)
{
	bool leak = false;
	int r;

	r = finish(write_one(snapshot, options, output, &leak), output);
	if (r >= 0)
		*ret_leak = leak;
	return r;
}
