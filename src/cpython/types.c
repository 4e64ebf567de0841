/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/types.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "cpython/refcount.h"
#include "cpython/unicode.h"

#define TYPE_HEAD_MAX 512 /* sizeof(PyTypeObject) is 400 to 416 */
#define TYPE_NAME_MAX_BYTES 1024
#define TYPE_TEXTS_MAX_BYTES (16u << 20)
#define TYPE_BASICSIZE_MAX (1u << 24)
#define METATYPES_MAX 65536
#define METATYPE_DEPTH_MAX 16	 /* metatypes of metatypes … up to type */
#define BASES_MAX 64		 /* tp_base of tp_base … up to object */
#define NOT_TYPES_MAX (1u << 18) /* 5 MiB */
#define DEBUG_HEAD_BYTES 16 /* 2 * sizeof(size_t): _PyMem_DebugRawAlloc of Objects/obmalloc.c */
#define PREHEADER_BYTES 16  /* two words: Include/internal/pycore_object.h of 3.11 and later */
/* What of tp_flags stays the same as long as a type lives. */
#define TYPE_STABLE_FLAGS (TYPE_HEAPTYPE | TYPE_HAVE_GC | 0xff000000ull)

DEFINE_CLEANUP(struct type_cache *, type_cache_free)

/*
 * Types whose instances own buffers, by tp_name.  A class of a program has no
 * dot in its tp_name; types of extension modules, some of them heap types by
 * now, have.
 */
static const struct {
	const char *name;
	enum object_kind kind;
} named_kinds[] = {
	{ "set", OBJECT_SET },
	{ "frozenset", OBJECT_SET },
	{ "bytearray", OBJECT_BYTEARRAY },
	{ "collections.OrderedDict", OBJECT_ORDERED_DICT },
	{ "collections.deque", OBJECT_DEQUE },
	{ "array.array", OBJECT_ARRAY },
	{ "_io.StringIO", OBJECT_STRING_IO },
	{ "numpy.ndarray", OBJECT_NUMPY_ARRAY },
};

int type_cache_new_in(struct memory *memory, const struct layout *layout, uint32_t debug_bytes,
		      size_t max_types, struct type_cache **ret)
{
	CLEANUP(type_cache_free) struct type_cache *cache = calloc(1, sizeof(*cache));
	int error;

	if (!cache)
		return -ENOMEM;
	cache->memory = memory;
	cache->layout = layout;
	cache->debug_bytes = debug_bytes;
	cache->types = table_init(max_types);
	cache->metatypes = table_init(METATYPES_MAX);
	cache->not_types = table_init(NOT_TYPES_MAX);
	cache->look = 1;
	/* Each type may be succeeded by another one at its address. */
	error = texts_new(2 * max_types, TYPE_TEXTS_MAX_BYTES, &cache->texts);
	if (error < 0)
		return error;
	*ret = TAKE_PTR(cache);
	return 0;
}

int type_cache_new(const struct interpreter *interpreter, size_t max_types, struct type_cache **ret)
{
	enum interpreter_allocator allocator = interpreter_allocator(interpreter);
	bool debug = allocator == ALLOCATOR_PYMALLOC_DEBUG || allocator == ALLOCATOR_MALLOC_DEBUG;

	return type_cache_new_in(interpreter_memory(interpreter), interpreter_layout(interpreter),
				 debug ? DEBUG_HEAD_BYTES : 0, max_types, ret);
}

void type_cache_free(struct type_cache *cache)
{
	struct table_cell *cell;
	size_t iterator = 0;

	if (!cache)
		return;
	while (table_next(&cache->types, &iterator, &cell))
		free((struct type_info *)(uintptr_t)cell->value);
	table_done(&cache->types);
	table_done(&cache->metatypes);
	table_done(&cache->not_types);
	texts_free(cache->texts);
	free(cache);
}

void type_cache_begin_look(struct type_cache *cache)
{
	cache->look++;
	table_clear(&cache->not_types);
	table_clear(&cache->metatypes);
}

static int not_a_type(uint64_t address, const char *field, struct fault *reterr_fault)
{
	return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, address, field);
}

/* Does type(type(… this)) end at the type that is its own type? */
static int metatype_confirm(struct type_cache *cache, uint64_t metatype, struct fault *reterr_fault)
{
	const struct layout *layout = cache->layout;
	uint64_t address = metatype;

	for (unsigned i = 0; i < METATYPE_DEPTH_MAX; i++) {
		uint64_t type, flags;
		struct memory_piece pieces[] = {
			{ address + layout->object_type, &type, sizeof(type), 0 },
			{ address + layout->type_flags, &flags, sizeof(flags), 0 },
		};

		if (table_find(&cache->metatypes, address))
			break;
		if (address % sizeof(uint64_t))
			return not_a_type(address, "ob_type", reterr_fault);
		memory_read_pieces(cache->memory, pieces, ARRAY_SIZE(pieces));
		if (pieces[0].error || pieces[1].error)
			return fault_set(reterr_fault, -EFAULT, REASON_READ_FAILED, address,
					 "ob_type");
		if (!(flags & TYPE_TYPE_SUBCLASS) || !(flags & TYPE_READY))
			return not_a_type(address, "tp_flags", reterr_fault);
		if (type == address)
			break;
		address = type;
		if (i + 1 == METATYPE_DEPTH_MAX)
			return not_a_type(metatype, "ob_type", reterr_fault);
	}
	(void)table_put(&cache->metatypes, metatype, 1); /* full: it is confirmed again */
	return 0;
}

struct type_head {
	uint64_t refcount, metatype, name, basicsize, itemsize, flags, base;
};

static bool type_head_parse(const struct layout *layout, struct bytes head, struct type_head *ret)
{
	return bytes_read(head, layout->object_refcount, &ret->refcount, 8) &&
	       bytes_read(head, layout->object_type, &ret->metatype, 8) &&
	       bytes_read(head, layout->type_name, &ret->name, 8) &&
	       bytes_read(head, layout->type_basicsize, &ret->basicsize, 8) &&
	       bytes_read(head, layout->type_itemsize, &ret->itemsize, 8) &&
	       bytes_read(head, layout->type_flags, &ret->flags, 8) &&
	       bytes_read(head, layout->type_base, &ret->base, 8);
}

static int type_head_read(struct type_cache *cache, uint64_t address, struct type_head *ret,
			  struct fault *reterr_fault)
{
	const struct layout *layout = cache->layout;
	uint8_t buffer[TYPE_HEAD_MAX];
	struct bytes head = { buffer, (size_t)layout->type_base + sizeof(uint64_t) };
	struct type_head found;
	int error;

	if (head.size > sizeof(buffer) || address % sizeof(uint64_t))
		return not_a_type(address, "type", reterr_fault);
	error = memory_read(cache->memory, address, buffer, head.size, reterr_fault);
	if (error < 0)
		return error;
	if (!type_head_parse(layout, head, &found) ||
	    !refcount_is_alive(layout->minor, found.refcount) || !(found.flags & TYPE_READY) ||
	    found.basicsize > TYPE_BASICSIZE_MAX || found.itemsize > TYPE_BASICSIZE_MAX)
		return not_a_type(address, "type", reterr_fault);
	*ret = found;
	return 0;
}

static int tp_name_read(struct type_cache *cache, uint64_t address, char *buffer,
			struct fault *reterr_fault)
{
	int error = memory_read_string(cache->memory, address, buffer, TYPE_NAME_MAX_BYTES,
				       reterr_fault);

	if (error < 0)
		return error;
	if (!buffer[0])
		return not_a_type(address, "tp_name", reterr_fault);
	text_make_printable(buffer);
	return 0;
}

static enum object_kind kind_of_name(const char *name, uint64_t flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(named_kinds); i++)
		if (strcmp(named_kinds[i].name, name) == 0 &&
		    (!(flags & TYPE_HEAPTYPE) || strchr(name, '.')))
			return named_kinds[i].kind;
	return OBJECT_PLAIN;
}

static enum object_kind kind_of_flags(uint64_t flags)
{
	if (flags & TYPE_DICT_SUBCLASS)
		return OBJECT_DICT;
	if (flags & TYPE_LIST_SUBCLASS)
		return OBJECT_LIST;
	if (flags & TYPE_UNICODE_SUBCLASS)
		return OBJECT_STR;
	if (flags & TYPE_TYPE_SUBCLASS)
		return OBJECT_TYPE;
	return OBJECT_PLAIN;
}

/* Of the nearest base that has a kind of its own. */
static int type_find_kind(struct type_cache *cache, const struct type_head *head,
			  enum object_kind *ret, struct fault *reterr_fault)
{
	struct type_head base = *head;

	for (unsigned i = 0; i < BASES_MAX; i++) {
		char name[TYPE_NAME_MAX_BYTES];
		enum object_kind kind = OBJECT_PLAIN;
		int error = tp_name_read(cache, base.name, name, reterr_fault);

		if (!error)
			kind = kind_of_name(name, base.flags);
		else if (error != -EOVERFLOW) /* a class may be called at any length */
			return error;
		if (kind != OBJECT_PLAIN || !base.base) {
			*ret = kind != OBJECT_PLAIN ? kind : kind_of_flags(head->flags);
			return 0;
		}
		error = type_head_read(cache, base.base, &base, reterr_fault);
		if (error < 0)
			return error;
	}
	*ret = kind_of_flags(head->flags);
	return 0;
}

static int qualname_read(struct type_cache *cache, uint64_t address, char **ret,
			 struct fault *reterr_fault)
{
	struct unicode unicode;
	int error = unicode_look(cache->memory, cache->layout, address, &unicode, reterr_fault);

	if (error < 0)
		return error;
	return unicode_text(cache->memory, &unicode, TYPE_NAME_MAX_BYTES, ret, reterr_fault);
}

/* A heap type's __qualname__; else what follows the last dot of tp_name. */
static int type_find_name(struct type_cache *cache, const struct type_info *info, const char **ret,
			  struct fault *reterr_fault)
{
	_cleanup_free_ char *qualname = NULL;
	char buffer[TYPE_NAME_MAX_BYTES];
	const char *name = buffer, *dot;
	int error;

	if (info->qualname_address) {
		error = qualname_read(cache, info->qualname_address, &qualname, reterr_fault);
		name = qualname;
	} else {
		error = tp_name_read(cache, info->name_address, buffer, reterr_fault);
		dot = error ? NULL : strrchr(buffer, '.');
		if (dot && dot[1])
			name = dot + 1;
	}
	if (error < 0)
		return error;
	error = texts_keep(cache->texts, name, ret);
	return error ? fault_set(reterr_fault, error, REASON_TOO_LARGE, info->address, "types") : 0;
}

/*
 * How far behind its block's start an instance begins: _PyType_PreHeaderSize of
 * Include/internal/pycore_object.h (3.12); in 3.11 it is part of
 * _PyType_AllocNoTrack of Objects/typeobject.c.
 */
static uint8_t type_object_offset(const struct layout *layout, uint64_t flags)
{
	uint64_t preheader = layout->minor >= 12   ? TYPE_MANAGED_DICT | TYPE_MANAGED_WEAKREF
			     : layout->minor == 11 ? TYPE_MANAGED_DICT
						   : 0;
	uint32_t offset = flags & TYPE_HAVE_GC ? layout->gc_head_size : 0;

	return (uint8_t)(offset + (flags & preheader ? PREHEADER_BYTES : 0));
}

static int type_load(struct type_cache *cache, uint64_t address, const struct type_head *head,
		     uint64_t qualname, struct type_info *ret, struct fault *reterr_fault)
{
	enum object_kind kind = OBJECT_PLAIN;
	struct type_info found = {
		.address = address,
		.flags = head->flags,
		.name_address = head->name,
		.qualname_address = qualname,
		.basicsize = head->basicsize,
		.itemsize = head->itemsize,
		.object_offset = type_object_offset(cache->layout, head->flags),
		.look = cache->look,
	};
	int error = metatype_confirm(cache, head->metatype, reterr_fault);

	if (!error)
		error = type_find_kind(cache, head, &kind, reterr_fault);
	if (!error)
		error = type_find_name(cache, &found, &found.name, reterr_fault);
	if (error < 0)
		return error;
	found.kind = (uint8_t)kind;
	*ret = found;
	return 0;
}

/* Is what is known of a type still true? */
static bool type_unchanged(const struct type_info *info, const struct type_head *head,
			   uint64_t qualname)
{
	return info->name_address == head->name && info->qualname_address == qualname &&
	       info->basicsize == head->basicsize && info->itemsize == head->itemsize &&
	       (info->flags & TYPE_STABLE_FLAGS) == (head->flags & TYPE_STABLE_FLAGS);
}

static int type_read(struct type_cache *cache, uint64_t address, struct type_info *known,
		     struct type_info *ret, struct fault *reterr_fault)
{
	struct type_head head;
	uint64_t qualname = 0;
	int error = type_head_read(cache, address, &head, reterr_fault);

	if (!error && head.flags & TYPE_HEAPTYPE)
		error = memory_read_u64(cache->memory, address + cache->layout->heaptype_qualname,
					&qualname, reterr_fault);
	if (error < 0)
		return error;
	if (known && type_unchanged(known, &head, qualname)) {
		*ret = *known;
		ret->look = cache->look;
		return 0;
	}
	return type_load(cache, address, &head, qualname, ret, reterr_fault);
}

static int type_put(struct type_cache *cache, const struct type_info *found, struct type_info **ret)
{
	_cleanup_free_ struct type_info *info = malloc(sizeof(*info));
	int error;

	if (!info)
		return -ENOMEM;
	*info = *found;
	error = table_put(&cache->types, found->address, (uintptr_t)info);
	if (error < 0)
		return error;
	*ret = TAKE_PTR(info);
	return 0;
}

static void remember_no_type(struct type_cache *cache, uint64_t address)
{
	if (table_put(&cache->not_types, address, 1) == -ENOSPC)
		table_clear(&cache->not_types);
}

int type_cache_look(struct type_cache *cache, uint64_t address, const struct type_info **ret,
		    struct fault *reterr_fault)
{
	uint64_t *cell = table_find(&cache->types, address);
	struct type_info *known = cell ? (struct type_info *)(uintptr_t)*cell : NULL;
	struct type_info found;
	int error;

	if (known && known->look == cache->look) {
		*ret = known;
		return 0;
	}
	if (table_find(&cache->not_types, address))
		return not_a_type(address, "type", reterr_fault);
	error = type_read(cache, address, known, &found, reterr_fault);
	if (error < 0) {
		remember_no_type(cache, address);
		return error;
	}
	if (known) {
		*known = found;
	} else {
		error = type_put(cache, &found, &known);
		if (error < 0)
			return fault_set(reterr_fault, error, REASON_TOO_LARGE, address, "types");
	}
	*ret = known;
	return 0;
}

int type_cache_name(struct type_cache *cache, uint64_t type, const char **ret,
		    struct fault *reterr_fault)
{
	uint64_t *cell = table_find(&cache->types, type);
	const struct type_info *info = cell ? (struct type_info *)(uintptr_t)*cell : NULL;
	int error = info ? 0 : type_cache_look(cache, type, &info, reterr_fault);

	if (error < 0)
		return error;
	*ret = info->name;
	return 0;
}

int type_cache_object_offset(struct type_cache *cache, uint64_t type, uint64_t *ret,
			     struct fault *reterr_fault)
{
	const struct type_info *info;
	int error = type_cache_look(cache, type, &info, reterr_fault);

	if (error < 0)
		return error;
	*ret = (uint64_t)info->object_offset + cache->debug_bytes;
	return 0;
}
