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

struct code_location {
	const char *function; /* qualified where the version has it; owned by the cache */
	const char *file;
	uint32_t line; /* 0: this instruction has none */
	uint32_t first_line; /* of the function */
};

struct code_cache; /* what was read of code objects, bounded */
int code_cache_new(const struct interpreter *interpreter, size_t max_codes,
		   struct code_cache **ret);
void code_cache_free(struct code_cache *cache);
/* Reads the code object unless it is known. Strings live as long as the cache. */
int code_cache_resolve(struct code_cache *cache, uint64_t code_address, uint64_t position,
		       struct code_location *ret, struct fault *reterr_fault);
/* A code object at this address died: what is known of it is not used for later stacks. Returns whether it was known. */
bool code_cache_forget(struct code_cache *cache, uint64_t address);

/* Line of an instruction, by format; pure, for tests and fuzzers. 0: none. -EBADMSG: malformed. */
int line_of_lnotab(const uint8_t *table, size_t size, uint32_t first_line, uint32_t byte_offset,
		   uint32_t *ret_line);
int line_of_linetable310(const uint8_t *table, size_t size, uint32_t first_line,
			 uint32_t byte_offset, uint32_t *ret_line);
int line_of_locations311(const uint8_t *table, size_t size, uint32_t first_line,
			 uint32_t byte_offset, uint32_t *ret_line);

#endif
