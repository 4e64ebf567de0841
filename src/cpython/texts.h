/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Texts that are kept once each: names and paths, which thousands of code
 * objects share.  Bounded in number and in bytes; nothing is ever dropped, so
 * a pointer that was given out stays good as long as the texts live.
 */
#ifndef PYLEAKD_CPYTHON_TEXTS_H
#define PYLEAKD_CPYTHON_TEXTS_H

#include <stddef.h>

struct texts;

int texts_new(size_t max_texts, size_t max_bytes, struct texts **ret);
void texts_free(struct texts *texts);
/* The kept copy of text, which stays the caller's. -ENOSPC: one of the bounds is reached. */
int texts_keep(struct texts *texts, const char *text, const char **ret);

#endif
