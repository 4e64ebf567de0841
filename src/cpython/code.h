/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Code objects: from a raw frame (code address, position) to qualified
 * function name, file and line.  The line tables of 3.8-3.9 (lnotab), 3.10
 * (linetable of PEP 626) and 3.11+ (location table) are three formats.
 */
#ifndef PYLEAKD_CPYTHON_CODE_H
#define PYLEAKD_CPYTHON_CODE_H

#include "cpython/interpreter.h"

#define CODE_NAME_MAX_BYTES 4096 /* longer names and paths are cut */
#define CODE_TABLE_MAX_BYTES (4u << 20)
#define CODE_TABLES_MAX_BYTES (64u << 20) /* all line tables of a cache */

struct code_location {
	const char *function; /* qualified where the version has it; owned by the cache */
	const char *file;
	uint32_t line;	     /* 0: this instruction has none */
	uint32_t first_line; /* of the function */
};

/*
 * What was read of code objects, bounded:
 *
 *	address → { fingerprint, function, file, first line, line table }
 *
 * The fingerprint is a few of the object's words; it is compared with the
 * target's each time (code_cache_begin_look() has the exception), so an
 * address that was given to another code object is noticed.  A code object
 * that does not read any more is taken from here, unless it was forgotten.
 *
 * Functions are named by co_qualname, which 3.11 introduced; before, by
 * co_name: the class of a method stands in its function objects only, which a
 * code object does not know.
 */
struct code_cache;
int code_cache_new(const struct interpreter *interpreter, size_t max_codes,
		   struct code_cache **ret);
/*
 * The same without an interpreter; memory and layout stay the caller's and must
 * outlive the cache. code_type: address of PyCode_Type; 0: whatever type calls
 * itself "code".
 */
int code_cache_new_in(struct memory *memory, const struct layout *layout, uint64_t code_type,
		      size_t max_codes, struct code_cache **ret);
void code_cache_free(struct code_cache *cache);
/*
 * Reads the code object unless it is known. Strings live as long as the cache.
 * position: as struct wire_frame has it.  CODE_UNREADABLE with the error of
 * what failed: no code object (any more), or none that the position lies in;
 * -ENOSPC CODE_CACHE_FULL: one of the cache's bounds is reached.
 */
int code_cache_resolve(struct code_cache *cache, uint64_t code_address, uint64_t position,
		       struct code_location *ret, struct fault *reterr_fault);
/*
 * Begins a look: what is known is compared with the target once more.  Within
 * one look, what was compared, or could not be read, stands as it is, unless it
 * is forgotten or made anew; before the first one nothing does.  For whoever
 * sees the target's frees, and begins a look every few milliseconds.
 */
void code_cache_begin_look(struct code_cache *cache);
/* An object was created at this address: what could not be read there before may read now. */
void code_cache_expect(struct code_cache *cache, uint64_t address);
/* A code object at this address died: what is known of it is not used for later stacks. Returns
 * whether it was known. */
bool code_cache_forget(struct code_cache *cache, uint64_t address);

/* Line of an instruction, by format; pure, for tests and fuzzers. 0: none. -EBADMSG: malformed. */
int line_of_lnotab(const uint8_t *table, size_t size, uint32_t first_line, uint32_t byte_offset,
		   uint32_t *ret_line);
int line_of_linetable310(const uint8_t *table, size_t size, uint32_t first_line,
			 uint32_t byte_offset, uint32_t *ret_line);
int line_of_locations311(const uint8_t *table, size_t size, uint32_t first_line,
			 uint32_t byte_offset, uint32_t *ret_line);

#endif
