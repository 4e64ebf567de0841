/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "report/names.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/*
 * One character at text: its bytes, and the code point; 0: not UTF-8 (RFC 3629:
 * no overlong forms, no surrogates, nothing above U+10FFFF).
 */
static size_t utf8_scan(const unsigned char *text, uint32_t *ret)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t size = *text < 0x80 ? 1 : *text >= 0xf0 ? 4 : *text >= 0xe0 ? 3 : 2;
	uint32_t point = size == 1 ? *text : *text & (0x7fu >> size);

	if (*text >= 0x80 && (*text < 0xc2 || *text > 0xf4))
		return 0;
	for (size_t i = 1; i < size; i++) {
		if ((text[i] & 0xc0) != 0x80) /* the NUL is none either */
			return 0;
		point = point << 6 | (text[i] & 0x3f);
	}
	if (point < least[size] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
		return 0;
	*ret = point;
	return size;
}

/* Controls (C0, DEL, C1), line and paragraph separators, and Unicode's bidirectional formatting. */
static bool is_unfit_for_terminals(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x200e ||
	       point == 0x200f || (point >= 0x2028 && point <= 0x202e) ||
	       (point >= 0x2066 && point <= 0x2069);
}

static const char *keep(uint32_t point)
{
	(void)point;
	return NULL;
}

static const char *for_terminal(uint32_t point)
{
	return is_unfit_for_terminals(point) ? "?" : NULL;
}

static const char *for_folded(uint32_t point)
{
	if (point == ';')
		return ":";
	if (point == ' ')
		return "_";
	return for_terminal(point);
}

/* replace says what stands for a character, or NULL for itself. */
static int add_replaced(struct buffer *buffer, const char *text,
			const char *(*replace)(uint32_t point))
{
	while (*text) {
		uint32_t point;
		size_t size = utf8_scan((const unsigned char *)text, &point);
		const char *instead = size ? replace(point) : REPLACEMENT;

		if (instead)
			buffer_add_string(buffer, instead);
		else
			buffer_add(buffer, text, size);
		text += size ? size : 1;
	}
	return buffer->error;
}

int names_add_utf8(struct buffer *buffer, const char *text)
{
	return add_replaced(buffer, text, keep);
}

int names_add_terminal(struct buffer *buffer, const char *text)
{
	return add_replaced(buffer, text, for_terminal);
}

int names_add_folded(struct buffer *buffer, const char *text)
{
	return add_replaced(buffer, text, for_folded);
}

size_t names_columns(const char *text)
{
	size_t columns = 0;

	for (; *text; text++)
		columns += ((unsigned char)*text & 0xc0) != 0x80;
	return columns;
}
