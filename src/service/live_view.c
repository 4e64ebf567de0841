/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/live_view.h"

#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "report/snapshot_build.h"
#include "service/final_report.h"

/* Of one screen's text; what does not fit is not shown. */
#define SCREEN_BYTES_MAX (1u << 20)

/* ECMA-48: cursor home, erase to the end of the screen. */
static const char clear_screen[] = "\033[H\033[J";

DEFINE_CLEANUP(struct snapshot *, snapshot_free)

static int append(void *context, const void *bytes, size_t size)
{
	return buffer_add(context, bytes, size);
}

static void add_session(struct buffer *screen, struct session *session, double time_seconds,
			const struct options *options)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
	const struct sink sink = { .write = append, .context = screen };

	if (session_snapshot(session, time_seconds, &snapshot) < 0)
		return;
	report_write(snapshot, options, true, &sink);
}

void live_view_show(struct session *const *sessions, size_t n, double time_seconds,
		    const struct options *options)
{
	_cleanup_buffer_ struct buffer screen = buffer_init(SCREEN_BYTES_MAX);

	if (options->format != FORMAT_TEXT || options->output || !isatty(STDOUT_FILENO))
		return;
	if (buffer_add(&screen, clear_screen, strlen(clear_screen)) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		add_session(&screen, sessions[i], time_seconds, options);
	file_write_fd(STDOUT_FILENO, screen.data, screen.size);
}
