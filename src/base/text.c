/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define DURATION_MAX_SECONDS (100.0 * 365 * 86400)

static int digit_value(char character)
{
	if (character >= '0' && character <= '9')
		return character - '0';
	if (character >= 'a' && character <= 'f')
		return character - 'a' + 10;
	if (character >= 'A' && character <= 'F')
		return character - 'A' + 10;
	return 99;
}

static bool scan_number(const char **at, const char *end, unsigned base, uint64_t *ret)
{
	const char *from = *at;
	uint64_t value = 0;

	while (from < end && (unsigned)digit_value(*from) < base) {
		if (__builtin_mul_overflow(value, base, &value) ||
		    __builtin_add_overflow(value, (uint64_t)digit_value(*from), &value))
			return false;
		from++;
	}
	if (from == *at)
		return false;
	*at = from;
	*ret = value;
	return true;
}

bool scan_decimal(const char **at, const char *end, uint64_t *ret)
{
	return scan_number(at, end, 10, ret);
}

bool scan_hex(const char **at, const char *end, uint64_t *ret)
{
	return scan_number(at, end, 16, ret);
}

static bool is_all_digits(const char *text)
{
	return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	const char *at = text;
	uint64_t value;

	if (!is_all_digits(text))
		return -EINVAL;
	if (!scan_decimal(&at, text + strlen(text), &value) || value < min || value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}

/* "12" or "12.5", at most 15 digits, so that a double holds it exactly enough. */
static int scan_fraction(const char **at, double *ret)
{
	const char *text = *at;
	size_t whole = strspn(text, "0123456789");
	size_t part = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
	double value = 0, unit = 1;

	if (whole == 0 || (text[whole] == '.' && part == 0))
		return -EINVAL;
	if (whole + part > 15)
		return -ERANGE;
	for (size_t i = 0; i < whole; i++)
		value = value * 10 + (text[i] - '0');
	for (size_t i = 0; i < part; i++) {
		unit /= 10;
		value += (text[whole + 1 + i] - '0') * unit;
	}
	*at = text + whole + (part > 0 ? part + 1 : 0);
	*ret = value;
	return 0;
}

struct unit {
	const char *name;
	double factor;
};

static const struct unit *find_unit(const struct unit *units, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(units[i].name, name) == 0)
			return &units[i];
	return NULL;
}

static int parse_with_unit(const char *text, const struct unit *units, size_t n, double *ret)
{
	const struct unit *unit;
	double value;
	int r = scan_fraction(&text, &value);

	if (r < 0)
		return r;
	unit = find_unit(units, n, text);
	if (!unit)
		return -EINVAL;
	*ret = value * unit->factor;
	return 0;
}

int parse_duration_ns(const char *text, uint64_t *ret_ns)
{
	static const struct unit units[] = {
		{"", 1},   {"s", 1},	{"sec", 1},  {"ms", 1e-3}, {"us", 1e-6},
		{"m", 60}, {"min", 60}, {"h", 3600}, {"d", 86400},
	};
	double seconds;
	int r = parse_with_unit(text, units, ARRAY_SIZE(units), &seconds);

	if (r < 0)
		return r;
	if (seconds * 1e9 < 1 || seconds > DURATION_MAX_SECONDS)
		return -ERANGE;
	*ret_ns = (uint64_t)llround(seconds * 1e9);
	return 0;
}

int parse_size_bytes(const char *text, uint64_t *ret_bytes)
{
	static const struct unit units[] = {
		{"", 1},	 {"B", 1},	 {"K", 0x1p10},	  {"KB", 0x1p10},  {"KiB", 0x1p10},
		{"M", 0x1p20},	 {"MB", 0x1p20}, {"MiB", 0x1p20}, {"G", 0x1p30},   {"GB", 0x1p30},
		{"GiB", 0x1p30}, {"T", 0x1p40},	 {"TB", 0x1p40},  {"TiB", 0x1p40},
	};
	double bytes;
	int r = parse_with_unit(text, units, ARRAY_SIZE(units), &bytes);

	if (r < 0)
		return r;
	if (bytes > 0x1p62)
		return -ERANGE;
	*ret_bytes = (uint64_t)bytes;
	return 0;
}

const char *text_bytes(char buffer[static TEXT_NUMBER_MAX], double bytes)
{
	static const char *const units[] = {"KB", "MB", "GB", "TB", "PB"};
	double value = fabs(bytes);
	size_t unit = 0;

	if (value < 999.5) {
		snprintf(buffer, TEXT_NUMBER_MAX, "%.0f B", bytes);
		return buffer;
	}
	value /= 1000;
	/* What would be rounded to 1000 is said in the next unit. */
	for (; value >= 999.5 && unit + 1 < ARRAY_SIZE(units); unit++)
		value /= 1000;
	snprintf(buffer, TEXT_NUMBER_MAX, value < 99.95 ? "%s%.1f %s" : "%s%.0f %s",
		 bytes < 0 ? "-" : "", fmin(value, 1e9), units[unit]);
	return buffer;
}

const char *text_count(char buffer[static TEXT_NUMBER_MAX], uint64_t count)
{
	char digits[TEXT_NUMBER_MAX];
	int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)count);
	size_t at = 0;

	for (int i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			buffer[at++] = ',';
		buffer[at++] = digits[i];
	}
	buffer[at] = '\0';
	return buffer;
}

const char *text_duration(char buffer[static TEXT_NUMBER_MAX], double seconds)
{
	static const struct {
		double below, unit;
		const char *name;
	} scales[] = {
		{0.9995, 1e-3, "ms"},	  {119.5, 1, "s"},	  {119.5 * 60, 60, "min"},
		{47.5 * 3600, 3600, "h"}, {INFINITY, 86400, "d"},
	};
	size_t scale = 0;
	double value;

	while (seconds >= scales[scale].below && scale + 1 < ARRAY_SIZE(scales))
		scale++;
	value = fmin(seconds / scales[scale].unit, 1e12);
	snprintf(buffer, TEXT_NUMBER_MAX, "%.0f %s", value, scales[scale].name);
	return buffer;
}

/* The length of the valid, printable UTF-8 sequence at text; 0 where there is none. */
static size_t printable_length(const unsigned char *text)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = text[0] < 0x80	 ? 1
			: text[0] < 0xc2 ? 0
			: text[0] < 0xe0 ? 2
			: text[0] < 0xf0 ? 3
			: text[0] < 0xf5 ? 4
					 : 0;
	uint32_t point;

	if (length < 2)
		return length == 1 && text[0] >= 0x20 && text[0] != 0x7f;
	point = text[0] & (0x7f >> length);
	for (size_t i = 1; i < length; i++) {
		if ((text[i] & 0xc0) != 0x80) /* the terminating NUL is none either */
			return 0;
		point = point << 6 | (text[i] & 0x3f);
	}
	if (point < smallest[length] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000) ||
	    point < 0xa0)
		return 0;
	return length;
}

void text_make_printable(char *text)
{
	while (*text) {
		size_t length = printable_length((const unsigned char *)text);

		if (length == 0)
			*text++ = '?';
		else
			text += length;
	}
}
