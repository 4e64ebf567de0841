/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the first word of an object says of whether the object lives. */
#ifndef PYLEAKD_CPYTHON_REFCOUNT_H
#define PYLEAKD_CPYTHON_REFCOUNT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A live object has a count above zero, which fits 32 bits: up to 3.11 because
 * more references than that need more memory than there is to hold them, since
 * 3.12 by design (immortal ones included: UINT_MAX in 3.12 and 3.13, 3 << 30
 * since 3.14).  Since 3.14 the upper 16 bits are flags and the 16 below them
 * (ob_overflow) stay zero: Include/refcount.h of 3.14.
 *
 * Anything else is dead or parked: 0 on a free list up to 3.13, the link to
 * the next one on a free list since (Include/internal/pycore_freelist.h of
 * 3.14; only the last one has 0), or pymalloc's own link in a free block.
 * Links are addresses of anonymous mappings, beyond 4 GiB.
 */
static inline bool refcount_is_alive(unsigned minor, uint64_t word)
{
	uint64_t flags_mask = minor >= 14 ? 0xffffull << 48 : 0;

	return (uint32_t)word != 0 && (word & ~flags_mask) >> 32 == 0;
}

#endif
