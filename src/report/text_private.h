/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the files of the text report share: lines that break between their
 * parts.  Errors stick to the line and are told by line_write().
 */
#ifndef PYLEAKD_REPORT_TEXT_PRIVATE_H
#define PYLEAKD_REPORT_TEXT_PRIVATE_H

#include "base/buffer.h"
#include "report/paths.h"
#include "report/snapshot.h"

#define INDENT 9 /* of what stands below a verdict or behind a label */
#define LOCATION_COLUMNS_MAX 40
#define FUNCTION_COLUMNS_MAX 32
#define LINE_BYTES_MAX (1u << 20)
#define GAP "   "

#define RED "\033[1;31m"
#define YELLOW "\033[33m"
#define GREEN "\033[32m"
#define BOLD "\033[1m"
#define RESET "\033[0m"

struct text {
	const struct snapshot *snapshot;
	const struct report_options *options;
	size_t columns;
	struct paths paths;
	struct buffer line; /* what is not yet written, of this block */
	size_t column;	    /* where the present line stands */
};

/* colour: NULL, or one of those above. */
void line_add_coloured(struct text *text, const char *colour, const char *part);
void line_end(struct text *text);
void line_pad(struct text *text, size_t column);
/* A part behind a gap, or, where it does not fit, on a line of its own, indented. */
void line_add(struct text *text, const char *colour, const char *gap, const char *part);
void __attribute__((format(printf, 4, 5)))
line_printf(struct text *text, const char *colour, const char *gap, const char *format, ...);
/* A label, and to where what it is of stands. */
void line_begin(struct text *text, const char *colour, const char *label);
/* Writes what stands in lines. 0 or -errno. */
int line_write(struct text *text, const struct sink *sink);

/* A name of the target's, cut in the middle of nothing: its end is what tells it from others. */
int name_for_terminal(struct buffer *buffer, const char *name, size_t columns_max);

/* text_findings.c: the lines that are one leak with this one. */
void text_add_members(struct text *text, const struct snapshot_site *head);
/* Whether it stands beneath another site, and not by itself. */
bool text_is_member(const struct snapshot_site *site);

#endif
