/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Bits of tp_flags. */
#ifndef PYLEAKD_CPYTHON_TYPE_FLAGS_H
#define PYLEAKD_CPYTHON_TYPE_FLAGS_H

/* Include/object.h, tp_flags that mean the same from 3.8 to 3.15. */
#define TYPE_HEAPTYPE (1ull << 9)
#define TYPE_READY (1ull << 12)
#define TYPE_HAVE_GC (1ull << 14)
#define TYPE_LONG_SUBCLASS (1ull << 24)
#define TYPE_LIST_SUBCLASS (1ull << 25)
#define TYPE_TUPLE_SUBCLASS (1ull << 26)
#define TYPE_BYTES_SUBCLASS (1ull << 27)
#define TYPE_UNICODE_SUBCLASS (1ull << 28)
#define TYPE_DICT_SUBCLASS (1ull << 29)
#define TYPE_TYPE_SUBCLASS (1ull << 31)
/* And those that came later; earlier versions use some of the bits for other things. */
#define TYPE_INLINE_VALUES (1ull << 2)	 /* 3.13 */
#define TYPE_MANAGED_WEAKREF (1ull << 3) /* 3.12 */
#define TYPE_MANAGED_DICT (1ull << 4)	 /* 3.11 */

#endif
