/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/code.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/table.h"
#include "cpython/code_object.h"
#include "cpython/texts.h"

#define CODE_TEXTS_PER_CODE 2 /* function and file; superseded ones have to fit as well */
#define CODE_TEXTS_MAX_BYTES (128u << 20)
#define CODE_UNIT_BYTES 2
#define CODE_GONE_MAX 4096 /* unreadable addresses that are remembered in a look */

struct code_entry {
	struct code_fingerprint fingerprint;
	const char *function, *file; /* the texts' */
	uint8_t *table;
	size_t table_bytes;
	uint64_t code_bytes;
	bool forgotten;
	uint64_t look; /* in which it was last compared with the target */
	uint64_t serial; /* its own: entries take each other's places in memory */
};

/* Lines that were looked up lately: a table is read from its start each time. */
#define LINES_KNOWN 8192 /* a power of two */

struct known_line {
	uint64_t serial; /* of the entry; 0: none */
	uint32_t offset;
	uint32_t line;
};

struct code_cache {
	struct code_reader reader;
	struct table entries; /* address → struct code_entry *, which it owns */
	struct texts *texts;
	size_t tables_bytes; /* of all entries */
	uint64_t look;	     /* number of the present one; 0: none was begun */
	struct table gone;   /* addresses that did not read in this look */
	uint64_t serial;     /* the last one given */
	struct known_line lines[LINES_KNOWN];
};

DEFINE_CLEANUP(struct code_cache *, code_cache_free)

static void code_entry_free(struct code_entry *entry)
{
	if (!entry)
		return;
	free(entry->table);
	free(entry);
}

DEFINE_CLEANUP(struct code_entry *, code_entry_free)

int code_cache_new_in(struct memory *memory, const struct layout *layout, uint64_t code_type,
		      size_t max_codes, struct code_cache **ret)
{
	CLEANUP(code_cache_free) struct code_cache *cache = calloc(1, sizeof(*cache));
	int error;

	if (!cache)
		return -ENOMEM;
	code_reader_init(&cache->reader, memory, layout, code_type);
	cache->entries = table_init(max_codes);
	cache->gone = table_init(CODE_GONE_MAX);
	error = texts_new(max_codes * CODE_TEXTS_PER_CODE, CODE_TEXTS_MAX_BYTES, &cache->texts);
	if (error < 0)
		return error;
	*ret = TAKE_PTR(cache);
	return 0;
}

int code_cache_new(const struct interpreter *interpreter, size_t max_codes, struct code_cache **ret)
{
	struct interpreter_stack_roots roots = { 0 };

	/* Without the type's address it is known by its name. */
	if (interpreter_stack_roots(interpreter, &roots, NULL) < 0)
		roots.code_type_address = 0;
	return code_cache_new_in(interpreter_memory(interpreter), interpreter_layout(interpreter),
				 roots.code_type_address, max_codes, ret);
}

void code_cache_free(struct code_cache *cache)
{
	struct table_cell *cell;
	size_t iterator = 0;

	if (!cache)
		return;
	while (table_next(&cache->entries, &iterator, &cell))
		code_entry_free((struct code_entry *)(uintptr_t)cell->value);
	table_done(&cache->entries);
	table_done(&cache->gone);
	texts_free(cache->texts);
	code_reader_done(&cache->reader);
	free(cache);
}

static struct code_entry *entry_find(const struct code_cache *cache, uint64_t address)
{
	const uint64_t *entry = table_find(&cache->entries, address);

	return entry ? (struct code_entry *)(uintptr_t)*entry : NULL;
}

bool code_cache_forget(struct code_cache *cache, uint64_t address)
{
	struct code_entry *entry = entry_find(cache, address);
	bool was_known = entry && !entry->forgotten;

	if (entry)
		entry->forgotten = true;
	return was_known;
}

void code_cache_begin_look(struct code_cache *cache)
{
	cache->look++;
	table_clear(&cache->gone);
}

void code_cache_expect(struct code_cache *cache, uint64_t address)
{
	table_remove(&cache->gone, address, NULL);
	code_cache_forget(cache, address);
}

/* A new entry of what was read; takes the object's table. */
static int entry_new(struct code_cache *cache, const struct code_fingerprint *fingerprint,
		     struct code_object *object, struct code_entry **ret)
{
	CLEANUP(code_entry_free) struct code_entry *entry = calloc(1, sizeof(*entry));
	int error;

	if (!entry)
		return -ENOMEM;
	error = texts_keep(cache->texts, object->function, &entry->function);
	if (error < 0)
		return error;
	error = texts_keep(cache->texts, object->file, &entry->file);
	if (error < 0)
		return error;
	entry->fingerprint = *fingerprint;
	entry->table = TAKE_PTR(object->table);
	entry->table_bytes = object->table_bytes;
	entry->code_bytes = object->code_bytes;
	entry->serial = ++cache->serial;
	*ret = TAKE_PTR(entry);
	return 0;
}

/* Puts the entry, which the cache then owns, in the place of what stood at its address. */
static int entry_put(struct code_cache *cache, uint64_t address, struct code_entry *entry)
{
	struct code_entry *old = entry_find(cache, address);
	size_t old_bytes = old ? old->table_bytes : 0;
	int error;

	if (entry->table_bytes > CODE_TABLES_MAX_BYTES - (cache->tables_bytes - old_bytes))
		return -ENOSPC;
	error = table_put(&cache->entries, address, (uintptr_t)entry);
	if (error < 0)
		return error;
	cache->tables_bytes += entry->table_bytes - old_bytes;
	code_entry_free(old);
	return 0;
}

static int entry_load(struct code_cache *cache, uint64_t address,
		      const struct code_fingerprint *fingerprint, struct code_entry **ret,
		      struct fault *reterr_fault)
{
	__attribute__((cleanup(code_object_done))) struct code_object object = { 0 };
	CLEANUP(code_entry_free) struct code_entry *entry = NULL;
	struct fault fault = FAULT_NONE;
	int error = code_read(&cache->reader, fingerprint, &object, &fault);

	if (error < 0)
		return fault_set(reterr_fault, error, REASON_CODE_UNREADABLE, address, fault.field);
	error = entry_new(cache, fingerprint, &object, &entry);
	if (error == 0)
		error = entry_put(cache, address, entry);
	if (error < 0)
		return fault_set(reterr_fault, error, REASON_CODE_CACHE_FULL, address, NULL);
	*ret = TAKE_PTR(entry);
	return 0;
}

/* What is known of the code object, after a look at whether it is still that one. */
static int entry_compare(struct code_cache *cache, uint64_t address, struct code_entry **ret,
			 struct fault *reterr_fault)
{
	struct code_entry *entry = entry_find(cache, address);
	struct code_fingerprint fingerprint;
	struct fault fault = FAULT_NONE;
	int error = code_read_fingerprint(&cache->reader, address,
					  entry ? &entry->fingerprint : NULL, &fingerprint, &fault);

	if (error < 0) {
		if (!entry || entry->forgotten)
			return fault_set(reterr_fault, error, REASON_CODE_UNREADABLE, address,
					 fault.field);
		*ret = entry; /* gone by now; it was alive when its frame was seen */
		return 0;
	}
	if (entry && code_fingerprint_equal(&entry->fingerprint, &fingerprint)) {
		entry->forgotten = false;
		*ret = entry;
		return 0;
	}
	return entry_load(cache, address, &fingerprint, ret, reterr_fault);
}

static int entry_current(struct code_cache *cache, uint64_t address, struct code_entry **ret,
			 struct fault *reterr_fault)
{
	struct code_entry *entry = entry_find(cache, address);
	int error;

	if (cache->look && entry && entry->look == cache->look && !entry->forgotten) {
		*ret = entry;
		return 0;
	}
	if (table_has(&cache->gone, address))
		return fault_set(reterr_fault, -EBADMSG, REASON_CODE_UNREADABLE, address, NULL);
	error = entry_compare(cache, address, &entry, reterr_fault);
	if (error < 0) {
		if (cache->look) /* full: it is asked again */
			(void)table_put(&cache->gone, address, 1);
		return error;
	}
	entry->look = cache->look;
	*ret = entry;
	return 0;
}

/*
 * From a frame's position to a byte offset into the code; negative: the frame
 * has not begun (PyCode_Addr2Line then says the function's first line).
 *
 * f_lasti is an int that counts bytes up to 3.9 and instructions in 3.10
 * (bpo-42246).  prev_instr (3.11, 3.12) points at the last code unit that was
 * executed, an inline cache included; instr_ptr (3.13+) at the instruction
 * that is being executed, the call in a calling frame.  Include/internal/
 * pycore_frame.h of each: _PyInterpreterFrame_LASTI.
 */
static int64_t position_to_offset(const struct layout *layout, uint64_t code_address,
				  uint64_t position)
{
	if (layout->minor <= 9)
		return (int32_t)position;
	if (layout->minor == 10)
		return (int64_t)(int32_t)position * CODE_UNIT_BYTES;
	return (int64_t)(position - (code_address + layout->code_code));
}

static int line_of_entry(const struct layout *layout, const struct code_entry *entry,
			 uint32_t byte_offset, uint32_t *ret)
{
	uint32_t first_line = entry->fingerprint.first_line;

	if (layout->minor <= 9)
		return line_of_lnotab(entry->table, entry->table_bytes, first_line, byte_offset,
				      ret);
	if (layout->minor == 10)
		return line_of_linetable310(entry->table, entry->table_bytes, first_line,
					    byte_offset, ret);
	return line_of_locations311(entry->table, entry->table_bytes, first_line, byte_offset, ret);
}

static int line_known(struct code_cache *cache, const struct code_entry *entry,
		      uint32_t byte_offset, uint32_t *ret)
{
	struct known_line *known =
		&cache->lines[hash_combine(entry->serial, byte_offset) % LINES_KNOWN];
	uint32_t line;
	int error;

	if (known->serial != entry->serial || known->offset != byte_offset) {
		error = line_of_entry(cache->reader.layout, entry, byte_offset, &line);
		if (error < 0)
			return error;
		*known = (struct known_line){ entry->serial, byte_offset, line };
	}
	*ret = known->line;
	return 0;
}

static int entry_locate(struct code_cache *cache, const struct code_entry *entry, int64_t offset,
			struct code_location *ret)
{
	struct code_location found = {
		.function = entry->function,
		.file = entry->file,
		.line = entry->fingerprint.first_line,
		.first_line = entry->fingerprint.first_line,
	};
	int error;

	/* A frame before its first instruction stands one unit, or one byte, before the code. */
	if (offset < -CODE_UNIT_BYTES || (offset >= 0 && (uint64_t)offset >= entry->code_bytes))
		return -ERANGE;
	if (offset >= 0) {
		error = line_known(cache, entry, (uint32_t)offset, &found.line);
		if (error < 0)
			return error;
	}
	*ret = found;
	return 0;
}

int code_cache_resolve(struct code_cache *cache, uint64_t code_address, uint64_t position,
		       struct code_location *ret, struct fault *reterr_fault)
{
	const struct layout *layout = cache->reader.layout;
	struct code_entry *entry;
	int error = entry_current(cache, code_address, &entry, reterr_fault);

	if (error < 0)
		return error;
	error = entry_locate(cache, entry, position_to_offset(layout, code_address, position),
			     ret);
	if (error < 0)
		return fault_set(reterr_fault, error, REASON_CODE_UNREADABLE, code_address,
				 error == -ERANGE ? "position" : "co_linetable");
	return 0;
}
