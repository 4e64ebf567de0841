/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/mountinfo.h"

#include <string.h>

#include "base/cleanup.h"

static bool is_octal(char character)
{
	return character >= '0' && character <= '7';
}

/* One of "\040" and its kind, as the kernel writes blanks, tabs, newlines and backslashes. */
static bool is_escape(const char *at)
{
	return at[0] == '\\' && is_octal(at[1]) && is_octal(at[2]) && is_octal(at[3]);
}

/* Copies a field without its escapes and moves *at behind it and the blank that ends it. */
static bool take_field(const char **at, char *ret, size_t size)
{
	const char *from = *at;
	size_t n = 0;

	while (*from && *from != ' ' && *from != '\n') {
		if (n + 1 == size)
			return false;
		if (is_escape(from)) {
			ret[n++] = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 |
					  (from[3] - '0'));
			from += 4;
		} else {
			ret[n++] = *from++;
		}
	}
	ret[n] = '\0';
	*at = *from == ' ' ? from + 1 : from;
	return n > 0;
}

static bool skip_fields(const char **at, unsigned n)
{
	for (; n > 0; n--) {
		const char *blank = strpbrk(*at, " \n");

		if (!blank || *blank == '\n')
			return false;
		*at = blank + 1;
	}
	return true;
}

/* Any number of optional fields ends in a field "-". */
static bool skip_optional_fields(const char **at)
{
	while (strncmp(*at, "- ", 2) != 0)
		if (!skip_fields(at, 1))
			return false;
	*at += 2;
	return true;
}

bool mountinfo_next(const char **at, struct mountinfo *ret)
{
	const char *line = *at;
	const char *end = strchr(line, '\n');

	*at = end && end[1] ? end + 1 : NULL;
	return skip_fields(&line, 3) && /* id, parent, device */
	       take_field(&line, ret->root, sizeof(ret->root)) &&
	       take_field(&line, ret->mount_point, sizeof(ret->mount_point)) &&
	       skip_fields(&line, 1) && /* options of the mount */
	       skip_optional_fields(&line) && take_field(&line, ret->type, sizeof(ret->type)) &&
	       skip_fields(&line, 1) && /* source */
	       take_field(&line, ret->super_options, sizeof(ret->super_options));
}

bool mountinfo_has_option(const char *options, const char *option)
{
	size_t length = strlen(option);

	for (const char *at = options; at; at = strchr(at, ',')) {
		if (*at == ',')
			at++;
		if (strncmp(at, option, length) == 0 && (at[length] == ',' || at[length] == '\0'))
			return true;
	}
	return false;
}
