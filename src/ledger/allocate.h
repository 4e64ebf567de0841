/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The one place where the ledger takes memory, in an object file of its own:
 * a test that defines ledger_allocate itself replaces it and fails the N-th.
 */
#ifndef PYLEAKD_LEDGER_ALLOCATE_H
#define PYLEAKD_LEDGER_ALLOCATE_H

#include <stddef.h>

/* n * size zeroed bytes, to free(); NULL where there are none or the product overflows. */
void *ledger_allocate(size_t n, size_t size);

#endif
