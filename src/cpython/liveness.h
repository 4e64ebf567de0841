/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What lives at addresses that probes saw: many at once, in few system calls,
 * while the target runs.
 *
 *	addresses → arenas → their pools' headers → free lists of those that are not full
 *	                   → allocated: the object's head → type, count, fingerprint
 *	                                → its raw buffers → their pools' headers, or chunks
 *
 * A block that is allocated may by now be another one at the same address.  A
 * fingerprint tells: three words that are taken from what an object holds.
 *
 *	type                      words                                       if they differ
 *	str                       length and kind; hash of characters; hash   REUSED
 *	bytes                     length; hash of bytes; hash                 REUSED
 *	int, tuple                size; hash of digits or items; 0            REUSED
 *	float, complex            the value                                   REUSED
 *	dict                      used; version (where there is one); keys    CHANGED
 *	list, bytearray, array    length and the words behind it              CHANGED
 *	set                       fill; used; hash of table's address, entries CHANGED
 *	instances of a class      the managed dict's word; the body           CHANGED
 *	anything else             two words; hash of the rest                 CHANGED
 *	raw blocks                the first three words                       CHANGED
 *
 * (A str's or bytes' own hash is -1 until it is asked for, which equals any.)
 * What cannot change while an object lives proves another object; what can is
 * no proof of either: CHANGED says so, and gives the words as they are now.
 * Whoever keeps samples should count a sample's age from its last change: an
 * object that leaks comes to rest, while churn at one address changes at each
 * look.
 */
#ifndef PYLEAKD_CPYTHON_LIVENESS_H
#define PYLEAKD_CPYTHON_LIVENESS_H

#include "cpython/glibc.h"
#include "cpython/objects.h"

enum liveness_answer {
	LIVENESS_LIVE,	  /* by what is asked of it the same one, if a fingerprint was given */
	LIVENESS_CHANGED, /* lives; the same one used meanwhile, or another one of its type and size
			   */
	LIVENESS_DEAD,	  /* free: pool's free list, never carved, a free chunk, or in the tcache */
	LIVENESS_REUSED,  /* type, size class, chunk's size, or what cannot change, is another's */
	LIVENESS_PARKED,  /* an object on a free list of the interpreter */
	LIVENESS_ZOMBIE,  /* reference count 0, of no type with free lists, block not given back */
	LIVENESS_UNKNOWN, /* unread (swapped, absent, torn), or an allocator whose blocks don't tell
			   */
};

enum liveness_kind {
	LIVENESS_OBJECT,     /* address: a PyObject, in a pool or in a chunk of the C library */
	LIVENESS_POOL_BLOCK, /* a raw block; above 512 bytes a chunk */
	LIVENESS_CHUNK,	     /* what malloc() gave out */
};

#define LIVENESS_WORDS 3
#define LIVENESS_NO_CLASS UINT8_MAX /* size_class of what lies in no pool */

struct liveness_look {
	uint64_t address;		      /* in */
	uint64_t type;			      /* in: ob_type at the hit, 0: any; out: as found */
	uint64_t fingerprint[LIVENESS_WORDS]; /* in, to be compared; out, of what is allocated */
	uint64_t block;			      /* out: what the allocator gave out; 0: not known */
	uint64_t size_bytes; /* in (0: any); out: of the class, or usable of the chunk */
	uint64_t buffers[OBJECT_BUFFERS_MAX];	   /* out: raw blocks that it owns, if it lives */
	uint64_t buffer_sizes[OBJECT_BUFFERS_MAX]; /* out: 0: static, or could not be told */
	uint8_t n_buffers;			   /* out */
	bool buffers_unread;			   /* out: it may have others */
	uint8_t size_class;   /* out; LIVENESS_NO_CLASS. Class n is of 16 * (n + 1) bytes */
	uint8_t kind;	      /* in: enum liveness_kind */
	uint8_t answer;	      /* out: enum liveness_answer */
	bool has_fingerprint; /* in: fingerprint and size_bytes are of an earlier look; out: set */
};

struct liveness;

/* interpreter and types stay the caller's and must outlive it. -ENOMEM. */
int liveness_new(const struct interpreter *interpreter, struct type_cache *types,
		 struct liveness **ret);
void liveness_free(struct liveness *liveness);

/*
 * Blocks outside of pools are told by this C library's chunks; it stays the
 * caller's and must outlive the liveness.  Without it, or with another
 * allocator, they are UNKNOWN.
 */
void liveness_set_glibc(struct liveness *liveness, struct glibc *glibc);

/*
 * One round. What is read of pools is read once in it. A look that fails is
 * UNKNOWN; fingerprint, size and type of looks that are UNKNOWN, DEAD, REUSED
 * or PARKED stay as they were given.  -errno, and no answer, only where nothing
 * could be read: -ESRCH the process is gone, -EAGAIN the arenas moved at each
 * try, -ENOMEM.
 */
int liveness_look(struct liveness *liveness, struct liveness_look *looks, size_t n,
		  struct fault *reterr_fault);

#endif
