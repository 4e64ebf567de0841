/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/live_view.h"

#include <string.h>
#include <sys/ioctl.h>
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

#define COLUMNS_DEFAULT 100 /* and the most, as in every other text report */
#define ESCAPE '\033'

struct terminal {
	size_t rows; /* 0: not known */
	size_t columns;
};

DEFINE_CLEANUP(struct snapshot *, snapshot_free)

static int append(void *context, const void *bytes, size_t size)
{
	return buffer_add(context, bytes, size);
}

/* Asked for each time: people resize their terminals. */
static struct terminal terminal_size(void)
{
	struct winsize size = { 0 };

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return (struct terminal){ .columns = COLUMNS_DEFAULT };
	return (struct terminal){ .rows = size.ws_row, .columns = size.ws_col };
}

/* Columns that a line takes: neither escape sequences nor the middle of UTF-8 characters. */
static size_t line_columns(const char *line, size_t size)
{
	size_t columns = 0;

	for (size_t i = 0; i < size; i++) {
		if (line[i] == ESCAPE) {
			while (i < size && line[i] != 'm')
				i++;
			continue;
		}
		columns += ((unsigned char)line[i] & 0xc0) != 0x80;
	}
	return columns;
}

/*
 * Cuts a screen that is taller than the terminal, lest its first lines, which
 * have the answer, be scrolled away.  The cursor needs a row of its own.
 */
static void fit(struct buffer *screen, size_t from, const struct terminal *terminal)
{
	size_t rows = 0, cut = from, hidden = 0;

	for (size_t at = from; at < screen->size;) {
		const char *line = screen->data + at;
		const char *end = memchr(line, '\n', screen->size - at);
		size_t size = end ? (size_t)(end - line) + 1 : screen->size - at;
		size_t columns = line_columns(line, end ? size - 1 : size);

		rows += columns ? (columns + terminal->columns - 1) / terminal->columns : 1;
		at += size;
		if (rows + 2 <= terminal->rows) /* another for the line below */
			cut = at;
		else
			hidden++;
	}
	if (!terminal->rows || rows + 1 <= terminal->rows)
		return;
	screen->size = cut;
	buffer_printf(screen, "(%zu more line%s: a taller terminal, or --output)\n", hidden,
		      hidden == 1 ? "" : "s");
}

static void add_session(struct buffer *screen, struct session *session, double time_seconds,
			const struct options *options, size_t columns)
{
	const struct report_options text = {
		.top = options->top,
		.colour = report_has_colour(true),
		.columns = columns < COLUMNS_DEFAULT ? (unsigned)columns : COLUMNS_DEFAULT,
	};
	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
	const struct sink sink = { .write = append, .context = screen };

	if (session_snapshot(session, time_seconds, &snapshot) < 0)
		return;
	report_text(snapshot, &text, &sink);
}

void live_view_show(struct session *const *sessions, size_t n, double time_seconds,
		    const struct options *options)
{
	const struct terminal terminal = terminal_size();
	_cleanup_buffer_ struct buffer screen = buffer_init(SCREEN_BYTES_MAX);

	if (options->format != FORMAT_TEXT || options->output || !isatty(STDOUT_FILENO))
		return;
	if (buffer_add(&screen, clear_screen, strlen(clear_screen)) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		add_session(&screen, sessions[i], time_seconds, options, terminal.columns);
	fit(&screen, strlen(clear_screen), &terminal);
	file_write_fd(STDOUT_FILENO, screen.data, screen.size);
}
