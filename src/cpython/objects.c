/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Looks at objects, many at once: each object is a small machine that asks for
 * one piece of memory at a time, and the pieces that all of a batch ask for are
 * read in one call.
 *
 *	head → type known? → body, by kind → what the body points at
 *	        └ managed words before the object (3.11, 3.12) → values' prefix
 */
#include "cpython/objects.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cpython/refcount.h"
#include "cpython/types.h"

#define LOOK_BATCH 512	   /* objects of one call */
#define LOOK_ROUNDS_MAX 32 /* pieces that one object can ask for, deque blocks included */
#define LOOK_PENDING_MAX 4
#define LOOK_PIECE_MAX 96

/* Modules/_collectionsmodule.c, 3.8-3.15: BLOCKLEN is 64. */
#define DEQUE_LEFTBLOCK 24
#define DEQUE_RIGHTBLOCK 32
#define DEQUE_BLOCK_RIGHTLINK (8 + 64 * 8)
#define ARRAY_ITEM 24	 /* Modules/arraymodule.c, 3.8-3.15: ob_item behind PyObject_VAR_HEAD */
#define STRING_IO_BUF 16 /* Modules/_io/stringio.c, 3.8-3.15: buf behind PyObject_HEAD */
/*
 * The same, 3.14 and 3.15: writer, a block that PyUnicodeWriter_Create() of
 * Objects/unicodeobject.c takes from a free list of its own.
 */
#define STRING_IO_WRITER 56
#define STRING_IO_WRITER_MINOR 14
/*
 * PyArrayObject_fields of numpy/ndarraytypes.h, 1.7-2.x.  Data below a kilobyte and all
 * shapes come from numpy's own cache (numpy/core/src/multiarray/alloc.c), older
 * than the array.
 */
#define NUMPY_DATA 16
#define NUMPY_DIMENSIONS 32 /* and, in the same block, the strides */
#define NUMPY_FLAGS 64
#define NUMPY_OWNS_DATA 0x4 /* NPY_ARRAY_OWNDATA */
/* Words before an object: Include/internal/pycore_object.h, 3.11 and 3.12. */
#define MANAGED_VALUES_311 (-4 * 8)
#define MANAGED_DICT_OR_VALUES_312 (-3 * 8)

enum look_step {
	LOOK_HEAD,
	LOOK_DICT,
	LOOK_ORDERED_DICT,
	LOOK_SET,
	LOOK_STR,
	LOOK_STR_OWN, /* what a str that is not compact ASCII has behind its head */
	LOOK_POINTER, /* a field that holds a buffer's address, or NULL */
	LOOK_DEQUE,
	LOOK_DEQUE_BLOCK,
	LOOK_NUMPY_ARRAY,
	LOOK_MANAGED,
	LOOK_VALUES, /* whether, and where, a values array has a block of its own */
	LOOK_STEPS_MAX
};

struct look_request {
	uint8_t step; /* enum look_step */
	uint8_t size;
	uint64_t address;
};

struct look_machine {
	struct object_look *look;
	const struct type_info *type;
	struct look_request pending[LOOK_PENDING_MAX];
	size_t n_pending;
	uint64_t last_block; /* of a deque */
	uint64_t str_data;   /* where a compact str's own characters are; 0: elsewhere */
	uint8_t bytes[LOOK_PIECE_MAX];
};

typedef int look_function(struct type_cache *cache, struct look_machine *machine,
			  const struct look_request *request, struct bytes piece);

static int look_ask(struct look_machine *machine, enum look_step step, uint64_t address,
		    uint64_t size)
{
	if (machine->n_pending == LOOK_PENDING_MAX || size == 0 || size > LOOK_PIECE_MAX)
		return -EBADMSG;
	machine->pending[machine->n_pending++] = (struct look_request){
		.step = (uint8_t)step,
		.size = (uint8_t)size,
		.address = address,
	};
	return 0;
}

/* NULL is no buffer; one that is met twice counts once; beyond the bound they are left out. */
static void look_found(struct look_machine *machine, uint64_t buffer)
{
	struct object_look *look = machine->look;

	if (!buffer || look->n_buffers == OBJECT_BUFFERS_MAX)
		return;
	for (size_t i = 0; i < look->n_buffers; i++)
		if (look->buffers[i] == buffer)
			return;
	look->buffers[look->n_buffers++] = buffer;
}

static int look_word(struct bytes piece, uint64_t offset, uint64_t *ret)
{
	return bytes_read(piece, offset, ret, sizeof(*ret)) ? 0 : -EBADMSG;
}

/* Asks for what tells whether a values array is a block: PyDictValues of 3.8-3.15. */
static int look_ask_values(struct type_cache *cache, struct look_machine *machine, uint64_t values)
{
	const struct layout *layout = cache->layout;

	if (!values)
		return 0;
	if (layout->minor <= 10) {
		look_found(machine, values);
		return 0;
	}
	if (layout->dictvalues_embedded != LAYOUT_ABSENT)
		return look_ask(machine, LOOK_VALUES, values + layout->dictvalues_embedded, 1);
	return look_ask(machine, LOOK_VALUES, values - 1, 1);
}

/*
 * 3.11, 3.12: the byte before the values says how far behind their block's start
 * they are (new_values of Objects/dictobject.c); 3.13+: whether they are part
 * of an object.
 */
static int look_values(struct type_cache *cache, struct look_machine *machine,
		       const struct look_request *request, struct bytes piece)
{
	uint8_t byte;

	if (!bytes_read(piece, 0, &byte, sizeof(byte)))
		return -EBADMSG;
	if (cache->layout->dictvalues_embedded == LAYOUT_ABSENT)
		look_found(machine, request->address + 1 - byte);
	else if (!byte)
		look_found(machine, request->address - cache->layout->dictvalues_embedded);
	return 0;
}

static int look_managed(struct type_cache *cache, struct look_machine *machine,
			const struct look_request *request, struct bytes piece)
{
	uint64_t word;

	(void)request;
	if (look_word(piece, 0, &word) < 0)
		return -EBADMSG;
	if (cache->layout->minor == 12) /* tagged: values, one byte before them, or a dict */
		word = word & 1 ? word + 1 : 0;
	return look_ask_values(cache, machine, word);
}

/* A dict with values of its own has its keys from a type. */
static int look_dict(struct type_cache *cache, struct look_machine *machine,
		     const struct look_request *request, struct bytes piece)
{
	uint64_t keys, values;

	(void)request;
	if (look_word(piece, 0, &keys) < 0 ||
	    look_word(piece, cache->layout->dict_values - cache->layout->dict_keys, &values) < 0)
		return -EBADMSG;
	if (!values)
		look_found(machine, keys);
	return look_ask_values(cache, machine, values);
}

static int look_pointer(struct type_cache *cache, struct look_machine *machine,
			const struct look_request *request, struct bytes piece)
{
	uint64_t buffer;

	(void)cache;
	(void)request;
	if (look_word(piece, 0, &buffer) < 0)
		return -EBADMSG;
	look_found(machine, buffer);
	return 0;
}

static int look_set(struct type_cache *cache, struct look_machine *machine,
		    const struct look_request *request, struct bytes piece)
{
	uint64_t table;

	(void)request;
	if (look_word(piece, 0, &table) < 0)
		return -EBADMSG;
	if (table != machine->look->object + cache->layout->set_smalltable)
		look_found(machine, table);
	return 0;
}

/* The head of a str: which of its buffers there may be. */
static int look_str(struct type_cache *cache, struct look_machine *machine,
		    const struct look_request *request, struct bytes piece)
{
	const struct layout *layout = cache->layout;
	uint64_t object = request->address, wide = 0;
	bool compact, ascii;
	uint32_t state;

	if (!bytes_read(piece, layout->unicode_state, &state, sizeof(state)))
		return -EBADMSG;
	compact = state >> layout->unicode_compact_shift & 1;
	ascii = state >> layout->unicode_ascii_shift & 1;
	machine->str_data = 0;
	if (compact)
		machine->str_data = object + (ascii ? layout->unicode_ascii_data
						    : layout->unicode_compact_data);
	if (layout->unicode_wstr != LAYOUT_ABSENT &&
	    look_word(piece, layout->unicode_wstr, &wide) < 0)
		return -EBADMSG;
	if (wide != machine->str_data)
		look_found(machine, wide);
	if (compact && ascii)
		return 0;
	return look_ask(machine, LOOK_STR_OWN, object,
			compact ? layout->unicode_compact_data : layout->unicode_basicsize);
}

static int look_str_own(struct type_cache *cache, struct look_machine *machine,
			const struct look_request *request, struct bytes piece)
{
	const struct layout *layout = cache->layout;
	uint64_t utf8, data;

	(void)request;
	if (look_word(piece, layout->unicode_utf8, &utf8) < 0)
		return -EBADMSG;
	look_found(machine, utf8);
	if (machine->str_data)
		return 0;
	if (look_word(piece, layout->unicode_data, &data) < 0)
		return -EBADMSG;
	look_found(machine, data);
	return 0;
}

static int look_deque_block(struct type_cache *cache, struct look_machine *machine,
			    const struct look_request *request, struct bytes piece)
{
	uint64_t block;

	(void)cache;
	(void)request;
	if (look_word(piece, 0, &block) < 0)
		return -EBADMSG;
	look_found(machine, block);
	if (!block || block == machine->last_block ||
	    machine->look->n_buffers == OBJECT_BUFFERS_MAX)
		return 0;
	return look_ask(machine, LOOK_DEQUE_BLOCK, block + DEQUE_BLOCK_RIGHTLINK, 8);
}

static int look_deque(struct type_cache *cache, struct look_machine *machine,
		      const struct look_request *request, struct bytes piece)
{
	if (look_word(piece, DEQUE_RIGHTBLOCK - DEQUE_LEFTBLOCK, &machine->last_block) < 0)
		return -EBADMSG;
	return look_deque_block(cache, machine, request, piece);
}

/* A view has its data from another array. */
static int look_numpy_array(struct type_cache *cache, struct look_machine *machine,
			    const struct look_request *request, struct bytes piece)
{
	uint64_t data, dimensions;
	uint32_t flags;

	(void)cache;
	(void)request;
	if (look_word(piece, 0, &data) < 0 ||
	    look_word(piece, NUMPY_DIMENSIONS - NUMPY_DATA, &dimensions) < 0 ||
	    !bytes_read(piece, NUMPY_FLAGS - NUMPY_DATA, &flags, sizeof(flags)))
		return -EBADMSG;
	if (flags & NUMPY_OWNS_DATA)
		look_found(machine, data);
	look_found(machine, dimensions);
	return 0;
}

static int look_ask_string_io(const struct layout *layout, struct look_machine *machine)
{
	uint64_t object = machine->look->object;
	int error = look_ask(machine, LOOK_POINTER, object + STRING_IO_BUF, 8);

	if (error < 0 || layout->minor < STRING_IO_WRITER_MINOR)
		return error;
	return look_ask(machine, LOOK_POINTER, object + STRING_IO_WRITER, 8);
}

/* An OrderedDict's own table stands behind the dict that it begins with. */
static int look_ordered_dict(struct type_cache *cache, struct look_machine *machine,
			     const struct look_request *request, struct bytes piece)
{
	int error = look_dict(cache, machine, request, piece);

	if (error < 0)
		return error;
	return look_ask(machine, LOOK_POINTER,
			machine->look->object + cache->layout->dict_basicsize, 8);
}

static int look_ask_kind(const struct layout *layout, struct look_machine *machine)
{
	uint64_t object = machine->look->object;
	uint32_t dict_bytes = layout->dict_values + 8 - layout->dict_keys;

	switch ((enum object_kind)machine->type->kind) {
	case OBJECT_DICT:
		return look_ask(machine, LOOK_DICT, object + layout->dict_keys, dict_bytes);
	case OBJECT_ORDERED_DICT:
		return look_ask(machine, LOOK_ORDERED_DICT, object + layout->dict_keys, dict_bytes);
	case OBJECT_LIST:
		return look_ask(machine, LOOK_POINTER, object + layout->list_item, 8);
	case OBJECT_SET:
		return look_ask(machine, LOOK_SET, object + layout->set_table, 8);
	case OBJECT_STR:
		return look_ask(machine, LOOK_STR, object, layout->unicode_ascii_data);
	case OBJECT_BYTEARRAY: /* since 3.15 its bytes are those of a bytes object */
		if (layout->bytearray_object != LAYOUT_ABSENT)
			return 0;
		return look_ask(machine, LOOK_POINTER, object + layout->bytearray_bytes, 8);
	case OBJECT_DEQUE:
		return look_ask(machine, LOOK_DEQUE, object + DEQUE_LEFTBLOCK, 16);
	case OBJECT_ARRAY:
		return look_ask(machine, LOOK_POINTER, object + ARRAY_ITEM, 8);
	case OBJECT_STRING_IO:
		return look_ask_string_io(layout, machine);
	case OBJECT_NUMPY_ARRAY:
		if (machine->type->basicsize < NUMPY_FLAGS + 8)
			return 0; /* of another numpy than those */
		return look_ask(machine, LOOK_NUMPY_ARRAY, object + NUMPY_DATA,
				NUMPY_FLAGS + 8 - NUMPY_DATA);
	default:
		return 0;
	}
}

/* Asks for all that an object of this type may own. */
static int look_ask_body(const struct layout *layout, struct look_machine *machine)
{
	const struct type_info *type = machine->type;
	uint64_t object = machine->look->object;
	int error = look_ask_kind(layout, machine);

	if (!error && type->flags & TYPE_MANAGED_DICT && layout->minor == 11)
		error = look_ask(machine, LOOK_MANAGED, object + MANAGED_VALUES_311, 8);
	if (!error && type->flags & TYPE_MANAGED_DICT && layout->minor == 12)
		error = look_ask(machine, LOOK_MANAGED, object + MANAGED_DICT_OR_VALUES_312, 8);
	return error;
}

/* A type is static or has the keys that its instances share behind it. */
static int look_ask_type(struct type_cache *cache, struct look_machine *machine)
{
	const struct type_info *self;
	uint64_t object = machine->look->object;

	if (machine->type->kind != OBJECT_TYPE || type_cache_look(cache, object, &self, NULL) < 0 ||
	    !(self->flags & TYPE_HEAPTYPE))
		return 0;
	return look_ask(machine, LOOK_POINTER, object + cache->layout->heaptype_cached_keys, 8);
}

static int look_begin_body(struct type_cache *cache, struct look_machine *machine)
{
	int error = type_cache_look(cache, machine->look->type, &machine->type, NULL);

	if (!error)
		error = look_ask_body(cache->layout, machine);
	return error ? error : look_ask_type(cache, machine);
}

static int look_head(struct type_cache *cache, struct look_machine *machine,
		     const struct look_request *request, struct bytes piece)
{
	const struct layout *layout = cache->layout;
	struct object_look *look = machine->look;
	const struct type_info *type;
	uint64_t refcount, address;

	(void)request;
	if (look_word(piece, layout->object_refcount, &refcount) < 0 ||
	    look_word(piece, layout->object_type, &address) < 0)
		return -EBADMSG;
	look->state = refcount_is_alive(layout->minor, refcount) ? OBJECT_ALIVE : OBJECT_PARKED;
	if (type_cache_look(cache, address, &type, NULL) < 0)
		/* Up to 3.13 the free list of floats is linked through ob_type. */
		return look->state == OBJECT_PARKED && refcount == 0 ? 0 : -EBADMSG;
	look->type = address;
	return look->state == OBJECT_ALIVE ? look_begin_body(cache, machine) : 0;
}

static look_function *const look_functions[LOOK_STEPS_MAX] = {
	[LOOK_HEAD] = look_head,
	[LOOK_DICT] = look_dict,
	[LOOK_ORDERED_DICT] = look_ordered_dict,
	[LOOK_SET] = look_set,
	[LOOK_STR] = look_str,
	[LOOK_STR_OWN] = look_str_own,
	[LOOK_POINTER] = look_pointer,
	[LOOK_DEQUE] = look_deque,
	[LOOK_DEQUE_BLOCK] = look_deque_block,
	[LOOK_NUMPY_ARRAY] = look_numpy_array,
	[LOOK_MANAGED] = look_managed,
	[LOOK_VALUES] = look_values,
};

static void look_fail(struct look_machine *machine, int error)
{
	machine->look->error = error;
	machine->look->n_buffers = 0;
	machine->n_pending = 0;
}

/* Reads what each machine asks for next, and lets it go on. Returns how many asked. */
static size_t look_round(struct type_cache *cache, struct look_machine *machines, size_t n)
{
	struct memory_piece pieces[LOOK_BATCH];
	size_t asking[LOOK_BATCH], n_asking = 0;

	for (size_t i = 0; i < n; i++) {
		struct look_machine *machine = &machines[i];
		const struct look_request *request;

		if (!machine->n_pending)
			continue;
		request = &machine->pending[machine->n_pending - 1];
		pieces[n_asking] = (struct memory_piece){
			.address = request->address,
			.buffer = machine->bytes,
			.size = request->size,
		};
		asking[n_asking++] = i;
	}
	if (n_asking)
		memory_read_pieces(cache->memory, pieces, n_asking);
	for (size_t i = 0; i < n_asking; i++) {
		struct look_machine *machine = &machines[asking[i]];
		struct look_request request = machine->pending[--machine->n_pending];
		struct bytes piece = { machine->bytes, request.size };
		int error = pieces[i].error;

		if (!error)
			error = look_functions[request.step](cache, machine, &request, piece);
		if (error)
			look_fail(machine, error);
	}
	return n_asking;
}

/* Until no machine asks for anything; one that goes on beyond the bound is cut with what it has. */
static void look_run(struct type_cache *cache, struct look_machine *machines, size_t n)
{
	for (unsigned i = 0; i < LOOK_ROUNDS_MAX; i++)
		if (look_round(cache, machines, n) == 0)
			return;
}

static void looks_batch(struct type_cache *cache, struct look_machine *machines,
			struct object_look *looks, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		machines[i].look = &looks[i];
		machines[i].n_pending = 0;
		looks[i].n_buffers = 0;
		looks[i].error = look_ask(&machines[i], LOOK_HEAD, looks[i].object,
					  cache->layout->object_type + sizeof(uint64_t));
	}
	look_run(cache, machines, n);
}

void objects_look(struct type_cache *cache, struct object_look *looks, size_t n)
{
	_cleanup_free_ struct look_machine *machines =
		malloc((n < LOOK_BATCH ? n : LOOK_BATCH) * sizeof(*machines) + 1);

	type_cache_begin_look(cache);
	for (size_t i = 0; i < n; i += LOOK_BATCH) {
		size_t n_batch = n - i < LOOK_BATCH ? n - i : LOOK_BATCH;

		if (machines)
			looks_batch(cache, machines, looks + i, n_batch);
		for (size_t k = i; !machines && k < i + n_batch; k++)
			looks[k].error = -ENOMEM;
	}
}

int object_buffers(struct type_cache *cache, uint64_t object, uint64_t type,
		   uint64_t ret[static OBJECT_BUFFERS_MAX], size_t *ret_n,
		   struct fault *reterr_fault)
{
	struct object_look look = { .object = object, .type = type };
	struct look_machine machine = { .look = &look };

	look.error = look_begin_body(cache, &machine);
	if (!look.error)
		look_run(cache, &machine, 1);
	if (look.error)
		return fault_set(reterr_fault, look.error, REASON_MALFORMED, object, "object");
	memcpy(ret, look.buffers, look.n_buffers * sizeof(*ret));
	*ret_n = look.n_buffers;
	return 0;
}

int object_state(struct type_cache *cache, uint64_t object, enum object_state *ret,
		 struct fault *reterr_fault)
{
	uint64_t refcount;
	int error = memory_read_u64(cache->memory, object + cache->layout->object_refcount,
				    &refcount, reterr_fault);

	if (error < 0)
		return error;
	*ret = refcount_is_alive(cache->layout->minor, refcount) ? OBJECT_ALIVE : OBJECT_PARKED;
	return 0;
}
