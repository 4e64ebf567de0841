/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which allocator objects come from, by the interpreter's own table.  An entry
 * of that table (PyMemAllocatorEx, cpython/pymem.h) is a context and four
 * functions.  What pymalloc's and malloc's functions are called at is known
 * from the file: the tables are initialised statically, with pymalloc for
 * objects and malloc for the raw domain.  What is found in the process is then
 * either one of the two, or a hook whose context leads to the allocator behind
 * it: the debug hooks' is {char api_id; PyMemAllocatorEx}, tracemalloc's is
 * the PyMemAllocatorEx itself.
 */
#include <errno.h>
#include <string.h>

#include "cpython/instructions.h"
#include "cpython/interpreter_private.h"

#define HOOKS_MAX 4 /* one behind another */
#define DEBUG_HOOK_BYTES 8 /* what precedes the allocator in debug_alloc_api_t */

struct table_entry { /* PyMemAllocatorEx */
	uint64_t context;
	uint64_t malloc, calloc, realloc, free;
};

struct tables {
	uint64_t raw, object; /* vaddr of their entries in the image */
	uint64_t raw_malloc, object_malloc; /* vaddr of what they hold in the file */
};

static bool is_code(const struct image *image, uint64_t vaddr)
{
	uint64_t offset;

	return !image_text_offset(image, vaddr, &offset);
}

/* Does the file have an entry of four functions here? Its malloc is *ret. */
static bool static_entry(const struct image *image, uint64_t vaddr, uint64_t *ret)
{
	for (unsigned i = 1; i < sizeof(struct table_entry) / sizeof(uint64_t); i++) {
		uint64_t function;

		if (image_slot_target(image, vaddr + i * sizeof(uint64_t), &function) ||
		    !is_code(image, function))
			return false;
		if (i == 1)
			*ret = function;
	}
	return true;
}

/* A Py_DEBUG build's tables begin with the debug hook: the allocator behind it, in the file. */
static bool behind_static_hook(const struct image *image, uint64_t vaddr, uint64_t *ret)
{
	uint64_t context;

	return !image_slot_target(image, vaddr, &context) && context &&
	       static_entry(image, context + DEBUG_HOOK_BYTES, ret);
}

static bool static_malloc(const struct image *image, uint64_t vaddr, uint64_t *ret)
{
	if (!static_entry(image, vaddr, ret))
		return false;
	behind_static_hook(image, vaddr, ret);
	return true;
}

/*
 * Up to 3.11 the tables are static variables of obmalloc.c.  PyObject_Malloc
 * and PyMem_RawMalloc begin by loading their own: its context, its malloc.
 */
static int table_of_function(const struct image *image, const char *function, uint64_t *ret_table,
			     uint64_t *ret_malloc)
{
	struct references references;
	int error = references_of_function(image, function, &references);

	for (size_t i = 0; !error && i < references.n; i++) {
		uint64_t vaddr = references.entries[i].vaddr;

		for (unsigned member = 0; member < 2; member++) {
			uint64_t table = vaddr - member * sizeof(uint64_t);

			if (!static_malloc(image, table, ret_malloc))
				continue;
			*ret_table = table;
			return 0;
		}
	}
	return error ? error : -ENOENT;
}

static int find_tables(const struct interpreter *interpreter, struct tables *ret)
{
	const struct layout *layout = &interpreter->layout;
	int error;

	if (layout->runtime_allocator_object != LAYOUT_ABSENT) {
		uint64_t runtime = interpreter->runtime - interpreter->bias;

		ret->raw = runtime + layout->runtime_allocator_raw;
		ret->object = runtime + layout->runtime_allocator_object;
		return static_malloc(interpreter->image, ret->raw, &ret->raw_malloc) &&
				       static_malloc(interpreter->image, ret->object,
						     &ret->object_malloc)
			       ? 0
			       : -ENOENT;
	}
	error = table_of_function(interpreter->image, "PyMem_RawMalloc", &ret->raw,
				  &ret->raw_malloc);
	if (!error)
		error = table_of_function(interpreter->image, "PyObject_Malloc", &ret->object,
					  &ret->object_malloc);
	return error;
}

/* pymalloc, malloc, or neither; a build without pymalloc has malloc in both tables. */
static enum interpreter_allocator plain_allocator(const struct interpreter *interpreter,
						  const struct tables *tables, uint64_t function)
{
	if (function == tables->raw_malloc + interpreter->bias)
		return ALLOCATOR_MALLOC;
	if (function == tables->object_malloc + interpreter->bias)
		return ALLOCATOR_PYMALLOC;
	return ALLOCATOR_UNKNOWN;
}

static int read_entry(const struct interpreter *interpreter, uint64_t address,
		      struct table_entry *ret, struct fault *reterr_fault)
{
	return memory_read(interpreter->memory, address, ret, sizeof(*ret), reterr_fault);
}

static bool is_own_function(const struct interpreter *interpreter, uint64_t function)
{
	return is_code(interpreter->image, function - interpreter->bias);
}

static bool own_entry(const struct interpreter *interpreter, uint64_t address,
		      struct table_entry *ret)
{
	return !read_entry(interpreter, address, ret, NULL) &&
	       is_own_function(interpreter, ret->malloc) &&
	       is_own_function(interpreter, ret->calloc) &&
	       is_own_function(interpreter, ret->realloc) &&
	       is_own_function(interpreter, ret->free);
}

/*
 * One hook off: the entry behind *entry.  False where there is none that looks
 * like one: the interpreter's own hooks only, others' contexts are unknown.
 */
static bool unhook(const struct interpreter *interpreter, struct table_entry *entry, bool *debug)
{
	struct table_entry behind;
	uint64_t context = entry->context;

	if (!context || !is_own_function(interpreter, entry->malloc))
		return false;
	if (!own_entry(interpreter, context, &behind)) {
		if (!own_entry(interpreter, context + DEBUG_HOOK_BYTES, &behind))
			return false;
		*debug = true;
	}
	*entry = behind;
	return true;
}

static enum interpreter_allocator with_debug(enum interpreter_allocator allocator)
{
	switch (allocator) {
	case ALLOCATOR_PYMALLOC:
		return ALLOCATOR_PYMALLOC_DEBUG;
	case ALLOCATOR_MALLOC:
		return ALLOCATOR_MALLOC_DEBUG;
	default:
		return allocator;
	}
}

int allocator_detect(const struct interpreter *interpreter, enum interpreter_allocator *ret,
		     struct fault *reterr_fault)
{
	enum interpreter_allocator allocator;
	struct tables tables = { 0 };
	struct table_entry entry;
	bool debug = false;
	int error = find_tables(interpreter, &tables);

	if (error)
		return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0, "allocators");
	error = read_entry(interpreter, tables.object + interpreter->bias, &entry, reterr_fault);
	if (error)
		return error;
	allocator = plain_allocator(interpreter, &tables, entry.malloc);
	for (int i = 0; allocator == ALLOCATOR_UNKNOWN && i < HOOKS_MAX; i++) {
		if (!unhook(interpreter, &entry, &debug))
			break;
		allocator = plain_allocator(interpreter, &tables, entry.malloc);
	}
	*ret = debug ? with_debug(allocator) : allocator;
	return 0;
}
