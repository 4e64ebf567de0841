/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Numbers, times and sizes as people write and read them. */
#ifndef PYLEAKD_BASE_TEXT_H
#define PYLEAKD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_NUMBER_MAX 32 /* room that each text_* below needs at most, NUL included */

/*
 * All of text is one decimal number in [min, max]; no sign, no blank.
 * -EINVAL: it is not; -ERANGE: it is outside.
 */
int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);

/*
 * "30s", "5m", "2h", "1d", "250ms", "1.5s"; a bare number is seconds.  In
 * nanoseconds, above 0.  -EINVAL: not a time; -ERANGE: 0, or over 100 years.
 */
int parse_duration_ns(const char *text, uint64_t *ret_ns);

/* "64M", "1.5G", "4096": bytes, with K, M, G, T as powers of 1024 (KiB, MB … are taken too). */
int parse_size_bytes(const char *text, uint64_t *ret_bytes);

/* All write to buffer (TEXT_NUMBER_MAX bytes) and return it. */
const char *text_bytes(char buffer[static TEXT_NUMBER_MAX], double bytes); /* "1.8 MB", "312 B" */
const char *text_count(char buffer[static TEXT_NUMBER_MAX], uint64_t count); /* "28,104" */
const char *text_duration(char buffer[static TEXT_NUMBER_MAX], double seconds); /* "5 min" */

/*
 * Makes foreign text fit for a terminal and for JSON: control characters, and
 * bytes that are no valid UTF-8 (RFC 3629), become "?".  In place.
 */
void text_make_printable(char *text);

/*
 * Bounded steps through foreign text: a number at *at, which is moved behind
 * it.  False, and nothing moved, without a digit there or where the number
 * does not fit 64 bits.
 */
bool scan_decimal(const char **at, const char *end, uint64_t *ret);
bool scan_hex(const char **at, const char *end, uint64_t *ret);

#endif
