/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The one place where the judge takes memory, in an object file of its own: a
 * test that defines judge_allocate itself replaces it and fails the N-th.
 */
#ifndef PYLEAKD_JUDGE_ALLOCATE_H
#define PYLEAKD_JUDGE_ALLOCATE_H

#include <stddef.h>

/* n * size zeroed bytes, to free(); NULL where there are none or the product overflows. */
void *judge_allocate(size_t n, size_t size);

#endif
