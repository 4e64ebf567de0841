/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Names out of a target, made fit for what prints them.  They are foreign
 * bytes: a function may be called "\033]0;pwned\a", or not be UTF-8 at all.
 */
#ifndef PYLEAKD_REPORT_NAMES_H
#define PYLEAKD_REPORT_NAMES_H

#include <stddef.h>

#include "base/buffer.h"

/* Each adds the text to the buffer: 0, or the buffer's error. What is no UTF-8 becomes U+FFFD. */
int names_add_utf8(struct buffer *buffer, const char *text);
/* Controls, escapes and changes of writing direction become "?". */
int names_add_terminal(struct buffer *buffer, const char *text);
/* The same, with what separates frames in folded stacks replaced: ";" by ":", blanks by "_". */
int names_add_folded(struct buffer *buffer, const char *text);

/* Columns of UTF-8 text on a terminal, a character being taken for one. */
size_t names_columns(const char *text);

#endif
