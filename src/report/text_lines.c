/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Lines of the text report, which break between their parts. */
#include <stdarg.h>
#include <string.h>

#include "base/cleanup.h"
#include "report/names.h"
#include "report/text_private.h"

void line_add_coloured(struct text *text, const char *colour, const char *part)
{
	if (text->options->colour && colour)
		buffer_add_string(&text->line, colour);
	buffer_add_string(&text->line, part);
	if (text->options->colour && colour)
		buffer_add_string(&text->line, RESET);
	text->column += names_columns(part);
}

void line_end(struct text *text)
{
	struct buffer *line = &text->line;

	while (line->error == 0 && line->size > 0 && line->data[line->size - 1] == ' ')
		line->size--;
	buffer_add_char(&text->line, '\n');
	text->column = 0;
}

void line_pad(struct text *text, size_t column)
{
	while (text->column < column) {
		buffer_add_char(&text->line, ' ');
		text->column++;
	}
}

void line_add(struct text *text, const char *colour, const char *gap, const char *part)
{
	if (text->column + strlen(gap) + names_columns(part) > text->columns &&
	    text->column > INDENT) {
		line_end(text);
		line_pad(text, INDENT);
	} else if (text->column != 0 && text->column != INDENT) {
		line_add_coloured(text, NULL, gap);
	}
	line_add_coloured(text, colour, part);
}

void __attribute__((format(printf, 4, 5)))
line_printf(struct text *text, const char *colour, const char *gap, const char *format, ...)
{
	_cleanup_buffer_ struct buffer part = buffer_init(LINE_BYTES_MAX);
	char *to;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0 || buffer_reserve(&part, (size_t)length, &to) < 0)
		return;
	va_start(arguments, format);
	vsnprintf(to, (size_t)length + 1, format, arguments);
	va_end(arguments);
	buffer_grew(&part, (size_t)length);
	line_add(text, colour, gap, part.data);
}

int name_for_terminal(struct buffer *buffer, const char *name, size_t columns_max)
{
	size_t over = names_columns(name);
	int r;

	if (over > columns_max) {
		over -= columns_max - 1;
		r = buffer_add_string(buffer, "…");
		if (r < 0)
			return r;
		while (over > 0 && *name) {
			name++;
			while (((unsigned char)*name & 0xc0) == 0x80)
				name++;
			over--;
		}
	}
	r = names_add_terminal(buffer, name);
	return r < 0 ? r : buffer_add_string(buffer, "");
}

void line_begin(struct text *text, const char *colour, const char *label)
{
	line_add_coloured(text, colour, label);
	line_pad(text, INDENT);
}

int line_write(struct text *text, const struct sink *sink)
{
	int r = text->line.error;

	if (r >= 0 && text->line.size > 0)
		r = sink->write(sink->context, text->line.data, text->line.size);
	buffer_clear(&text->line);
	return r < 0 ? r : 0;
}
