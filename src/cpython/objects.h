/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Objects as the heap holds them: type names, where an object lies in its
 * block, which raw buffers it owns, whether it is parked on a free list.
 */
#ifndef PYLEAKD_CPYTHON_OBJECTS_H
#define PYLEAKD_CPYTHON_OBJECTS_H

#include "cpython/interpreter.h"
#include "cpython/pymalloc.h"

#define OBJECT_BUFFERS_MAX 8

struct type_cache;
int type_cache_new(const struct interpreter *interpreter, size_t max_types,
		   struct type_cache **ret);
void type_cache_free(struct type_cache *cache);
/*
 * Name of a type as type.__qualname__ would print it for heap types (MyClass,
 * Outer.Inner), tp_name's last part else (dict, datetime). Lives as long as
 * the cache; "?" is never returned: a type that does not read is a fault.
 * A known type costs no read: what is known is compared with the target at
 * each objects_look() and heap_types() that meets it.
 */
int type_cache_name(struct type_cache *cache, uint64_t type, const char **ret,
		    struct fault *reterr_fault);

/*
 * Raw buffers that the object owns now (dict: keys, unless shared, and values;
 * list: items; set: a table that is not the small one; bytearray, str with a
 * buffer of its own, deque blocks up to the bound, array, StringIO; numpy's
 * ndarray: its data, unless they are another's, and its shape; a type's shared
 * keys; instances' inline values of 3.11 and 3.12, which since are part of the
 * object).  n of them into ret, as their allocator gave them out; an
 * object without any: 0.  Static ones (the keys of an empty dict) come too:
 * they lie in no heap.
 */
int object_buffers(struct type_cache *cache, uint64_t object, uint64_t type,
		   uint64_t ret[static OBJECT_BUFFERS_MAX], size_t *ret_n,
		   struct fault *reterr_fault);

/* Whether the object at this address is alive by its reference count, or parked on a free list. */
enum object_state { OBJECT_ALIVE, OBJECT_PARKED };
int object_state(struct type_cache *cache, uint64_t object, enum object_state *ret,
		 struct fault *reterr_fault);

/*
 * Many objects at once, in few system calls. Each item's type may be given (the
 * type at its creation) and is replaced by the type found now; a parked object
 * whose type is overwritten keeps it.
 */
struct object_look {
	uint64_t object, type;		      /* in; type also out */
	enum object_state state;	      /* out */
	uint64_t buffers[OBJECT_BUFFERS_MAX]; /* out */
	size_t n_buffers;
	int error; /* out: 0, or -errno of this one */
};
void objects_look(struct type_cache *cache, struct object_look *looks, size_t n);

/*
 * How far into its block an object of this type begins: the collector's header,
 * what 3.11 and later keep before an instance, and what debug hooks put there.
 */
int type_cache_object_offset(struct type_cache *cache, uint64_t type, uint64_t *ret,
			     struct fault *reterr_fault);

/* Live objects by type, of a census: the whole heap, memory from before the attach too. */
struct type_count {
	const char *name; /* owned by the type cache */
	uint64_t type;
	uint64_t objects, bytes; /* bytes: of their blocks, raw buffers left out */
};
/* ret: most bytes first, the caller's to free(). Blocks that hold no object are counted under "(raw
 * buffers)". */
int heap_types(struct type_cache *cache, const struct census *census, struct type_count **ret,
	       size_t *ret_n, struct fault *reterr_fault);

/*
 * Live objects of a census that may own raw buffers (object_buffers(); a str's
 * are left out), until visit returns non-zero, which is returned.
 */
typedef int heap_owner_visitor(void *context, uint64_t object, uint64_t type);
int heap_owners_visit(struct type_cache *cache, const struct census *census,
		      heap_owner_visitor *visit, void *context);

#endif
