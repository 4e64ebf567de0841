/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What is known of the target's types, for objects.c and heap_types.c; the
 * interface to others is objects.h.
 *
 * A type is believed when its metatype's metatype … is PyType_Type, the one
 * type that is its own.
 */
#ifndef PYLEAKD_CPYTHON_TYPES_H
#define PYLEAKD_CPYTHON_TYPES_H

#include "base/table.h"
#include "cpython/objects.h"
#include "cpython/texts.h"
#include "cpython/type_flags.h"

/* By which structure an object's raw buffers are found. */
enum object_kind {
	OBJECT_PLAIN,
	OBJECT_DICT,
	OBJECT_ORDERED_DICT,
	OBJECT_LIST,
	OBJECT_SET,
	OBJECT_STR,
	OBJECT_BYTEARRAY,
	OBJECT_DEQUE,
	OBJECT_ARRAY,
	OBJECT_STRING_IO,
	OBJECT_NUMPY_ARRAY,
	OBJECT_TYPE,
	OBJECT_KINDS_MAX
};

struct type_info {
	uint64_t address;
	uint64_t flags;				 /* tp_flags */
	uint64_t name_address, qualname_address; /* of tp_name, and of heap types' ht_qualname */
	uint64_t basicsize, itemsize;
	const char *name;      /* owned by the cache */
	uint64_t look;	       /* the look in which it was last compared with the target */
	uint8_t kind;	       /* enum object_kind */
	uint8_t object_offset; /* of its instances in their blocks, without debug hooks */
};

struct type_cache {
	struct memory *memory;
	const struct layout *layout;
	struct table types;	/* address → struct type_info *, which it owns */
	struct table metatypes; /* types of types */
	struct table not_types; /* addresses that are none, for one look */
	struct texts *texts;
	uint64_t look;	      /* number of the current look at the target */
	uint32_t debug_bytes; /* that debug hooks put before what they give out */
};

/* Without an interpreter; memory and layout stay the caller's and must outlive the cache. */
int type_cache_new_in(struct memory *memory, const struct layout *layout, uint32_t debug_bytes,
		      size_t max_types, struct type_cache **ret);

/* Begins a look: what is known of each type is compared with the target once more. */
void type_cache_begin_look(struct type_cache *cache);

/*
 * The type at an address, as it is in this look; valid until the cache is
 * freed, but filled anew when another type has taken its address.
 * -EBADMSG MALFORMED: no type.
 */
int type_cache_look(struct type_cache *cache, uint64_t address, const struct type_info **ret,
		    struct fault *reterr_fault);

#endif
