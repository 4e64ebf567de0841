/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the bytes of an object say: alive, parked, dead in place, the same as before. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "cpython/liveness_private.h"
#include "cpython/refcount.h"

#define HASH_UNKNOWN UINT64_MAX		      /* -1: not computed so far */
#define FREE_LIST_MINOR_LINKED_BY_REFCOUNT 14 /* refcount.h */
/* Bytes before an object: Include/internal/pycore_object.h. */
#define MANAGED_311 (4 * 8) /* values; 3 * 8: dict */
#define MANAGED_312 (3 * 8)
/* ma_used, ma_version_tag (3.8-3.13; watcher bits since), ma_keys: three words side by side. */
#define SET_SMALL_BYTES (8 * 16) /* its smalltable */
#define SET_FILL 16		 /* fill, used: Include/setobject.h, 3.8-3.15 */
/* The bits of a str's state that are its form: kind, compact, ascii. */
#define FORM_SHIFT 56
#define FORM_COMPACT_ASCII 0x18

struct fingerprint {
	uint64_t words[LIVENESS_WORDS];
	bool immutable;	    /* no word changes as long as the object lives, … */
	bool hash_wildcard; /* … but for the last one, which is HASH_UNKNOWN at first */
};

/*
 * Types whose dead objects the interpreter keeps for itself in any of 3.8-3.15
 * (up to 3.13 each type's own file, since Include/internal/
 * pycore_freelist_state.h); as type_cache_name() has them.
 */
static const char *const parking_types[] = {
	"float",
	"complex",
	"int",
	"tuple",
	"list",
	"dict",
	"frame",
	"slice",
	"range",
	"range_iterator",
	"list_iterator",
	"tuple_iterator",
	"method",
	"builtin_function_or_method",
	"builtin_method",
	"Context",
	"MemoryError",
	"async_generator_asend",
	"async_generator_wrapped_value",
	"FutureIter",
};

static uint64_t word_at(struct bytes bytes, uint64_t offset)
{
	uint64_t word = 0;

	bytes_read(bytes, offset, &word, sizeof(word));
	return word;
}

static void take_words(struct bytes object, uint64_t offset, struct fingerprint *ret)
{
	for (unsigned i = 0; i < LIVENESS_WORDS; i++)
		ret->words[i] = word_at(object, offset + i * sizeof(uint64_t));
}

/* Of at most n bytes at offset: as far as they were read. */
static uint64_t hash_part(struct bytes object, uint64_t offset, uint64_t n)
{
	uint64_t hash = n;

	if (offset >= object.size)
		return 0;
	if (n > object.size - offset)
		n = object.size - offset;
	for (uint64_t i = 0; i < n; i += sizeof(uint64_t)) {
		uint64_t word = 0;

		memcpy(&word, object.data + offset + i,
		       n - i < sizeof(word) ? n - i : sizeof(word));
		hash = hash_combine(hash, word);
	}
	return hash;
}

static void take_str(const struct layout *layout, struct bytes object, struct fingerprint *ret)
{
	uint64_t length = word_at(object, layout->unicode_length);
	uint64_t data = layout->unicode_data;
	uint32_t state = 0, kind, compact, ascii;

	bytes_read(object, layout->unicode_state, &state, sizeof(state));
	kind = state >> layout->unicode_kind_shift & 7;
	compact = state >> layout->unicode_compact_shift & 1;
	ascii = state >> layout->unicode_ascii_shift & 1;
	if (compact)
		data = ascii ? layout->unicode_ascii_data : layout->unicode_compact_data;
	ret->words[0] = length | (uint64_t)(kind | compact << 3 | ascii << 4) << FORM_SHIFT;
	ret->words[1] =
		compact ? hash_part(object, data,
				    length > OBJECT_HEAD_BYTES ? OBJECT_HEAD_BYTES : length * kind)
			: word_at(object, data);
	ret->words[2] = word_at(object, layout->unicode_length + sizeof(uint64_t)); /* hash */
	ret->immutable = ret->hash_wildcard = true;
}

static void take_variable(const struct layout *layout, const struct type_info *type,
			  struct bytes object, struct fingerprint *ret)
{
	uint64_t size = word_at(object, layout->var_size), n = size;

	if (type->flags & TYPE_LONG_SUBCLASS)
		n = layout->minor >= 12 ? size >> 3 : (int64_t)size < 0 ? -size : size;
	ret->words[0] = size;
	ret->immutable = true;
	if (n > OBJECT_HEAD_BYTES)
		n = OBJECT_HEAD_BYTES;
	if (type->flags & TYPE_BYTES_SUBCLASS) {
		ret->words[1] = hash_part(object, layout->bytes_data, n);
		ret->words[2] = word_at(object, layout->var_size + sizeof(uint64_t));
		ret->hash_wildcard = true;
		return;
	}
	/* What follows the head, a cached hash of 3.14's tuples included, ends at tp_basicsize. */
	ret->words[1] = hash_part(object, type->basicsize, n * type->itemsize);
}

/* Two words, and a hash of all that follows in the block. */
static void take_body(const struct layout *layout, struct bytes object, struct fingerprint *ret)
{
	uint64_t body = layout->object_type + sizeof(uint64_t);

	take_words(object, body, ret);
	ret->words[2] = hash_part(object, body + 2 * sizeof(uint64_t), object.size);
}

/* An instance of a class: its managed dict's word lies before it. */
static void take_instance(const struct layout *layout, const struct type_info *type,
			  const struct object_bytes *bytes, struct fingerprint *ret)
{
	size_t before = layout->minor == 11 ? MANAGED_311 : MANAGED_312;

	take_body(layout, bytes->object, ret);
	ret->words[2] = hash_combine(ret->words[2], ret->words[1]);
	ret->words[1] = ret->words[0];
	ret->words[0] = 0;
	if (type->flags & TYPE_MANAGED_DICT && bytes->before.size >= before)
		ret->words[0] = word_at(bytes->before, bytes->before.size - before);
}

static bool is_number(const struct type_info *type)
{
	return !(type->flags & TYPE_HEAPTYPE) &&
	       (strcmp(type->name, "float") == 0 || strcmp(type->name, "complex") == 0);
}

static struct fingerprint take_fingerprint(const struct layout *layout,
					   const struct type_info *type,
					   const struct object_bytes *bytes)
{
	uint64_t variable = TYPE_LONG_SUBCLASS | TYPE_TUPLE_SUBCLASS | TYPE_BYTES_SUBCLASS;
	struct fingerprint ret = {0};

	if (type->kind == OBJECT_STR) {
		take_str(layout, bytes->object, &ret);
	} else if (type->kind == OBJECT_DICT || type->kind == OBJECT_ORDERED_DICT) {
		take_words(bytes->object, layout->dict_used, &ret);
	} else if (type->kind == OBJECT_SET) {
		take_words(bytes->object, SET_FILL, &ret);
		ret.words[2] = hash_combine(
			word_at(bytes->object, layout->set_table),
			hash_part(bytes->object, layout->set_smalltable, SET_SMALL_BYTES));
	} else if (type->kind == OBJECT_PLAIN && type->flags & variable) {
		take_variable(layout, type, bytes->object, &ret);
	} else if (type->kind == OBJECT_PLAIN && type->flags & TYPE_HEAPTYPE) {
		take_instance(layout, type, bytes, &ret);
	} else if (type->kind == OBJECT_PLAIN) {
		take_body(layout, bytes->object, &ret);
		ret.immutable = is_number(type);
	} else {
		take_words(bytes->object, layout->object_type + sizeof(uint64_t), &ret);
	}
	return ret;
}

static bool word_same(const struct fingerprint *now, const uint64_t *then, unsigned i)
{
	return now->words[i] == then[i] ||
	       (now->hash_wildcard && i == 2 && then[i] == HASH_UNKNOWN);
}

/* Takes the fingerprint over, and says what it means beside the one that was given. */
static enum liveness_answer compare(struct liveness_look *look, const struct fingerprint *now)
{
	enum liveness_answer answer = LIVENESS_LIVE;

	for (unsigned i = 0; i < LIVENESS_WORDS && look->has_fingerprint; i++)
		if (!word_same(now, look->fingerprint, i))
			answer = now->immutable ? LIVENESS_REUSED : LIVENESS_CHANGED;
	if (answer == LIVENESS_REUSED)
		return answer;
	memcpy(look->fingerprint, now->words, sizeof(now->words));
	look->has_fingerprint = true;
	return answer;
}

/* A class of a program may be called like one of these; it is then no zombie, wrongly. */
static bool type_parks(const struct type_info *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(parking_types); i++)
		if (strcmp(type->name, parking_types[i]) == 0)
			return true;
	return false;
}

/*
 * The block is allocated, but its object's count says that it does not live: on
 * a free list, dead and never given back, or given back since the pool was read
 * (then its first word is pymalloc's link).
 */
static enum liveness_answer judge_dead(struct liveness *liveness, const struct liveness_look *look,
				       uint64_t refcount, uint64_t type_address)
{
	bool by_refcount = liveness->layout->minor >= FREE_LIST_MINOR_LINKED_BY_REFCOUNT;
	const struct type_info *type;

	if (type_cache_look(liveness->types, type_address, &type, NULL) < 0) {
		if (look->type == type_address)
			return LIVENESS_UNKNOWN;
		/* Up to 3.13 the free list of floats is linked through ob_type. */
		return refcount == 0 && !by_refcount ? LIVENESS_PARKED : LIVENESS_DEAD;
	}
	if (look->type && type_address != look->type)
		return LIVENESS_REUSED;
	if (type_parks(type) && (refcount == 0 || by_refcount))
		return LIVENESS_PARKED;
	return refcount == 0 ? LIVENESS_ZOMBIE : LIVENESS_DEAD;
}

/* A str has buffers only where it is the rarer one that is not compact ASCII. */
static bool may_own(const struct layout *layout, const struct type_info *type, struct bytes object,
		    const struct fingerprint *fingerprint)
{
	uint64_t form = fingerprint->words[0] >> FORM_SHIFT;

	if (type->kind == OBJECT_STR)
		return (form & FORM_COMPACT_ASCII) != FORM_COMPACT_ASCII ||
		       (layout->unicode_wstr != LAYOUT_ABSENT &&
			word_at(object, layout->unicode_wstr));
	return type->kind != OBJECT_PLAIN ||
	       (type->flags & TYPE_MANAGED_DICT && (layout->minor == 11 || layout->minor == 12));
}

void liveness_judge_object(struct liveness *liveness, struct liveness_look *look,
			   const struct object_bytes *bytes, int64_t offset, bool *ret_owns)
{
	const struct layout *layout = liveness->layout;
	const struct type_info *type;
	struct fingerprint now;
	uint64_t refcount, address;
	int error;

	*ret_owns = false;
	look->answer = LIVENESS_UNKNOWN;
	if (!bytes_read(bytes->object, layout->object_refcount, &refcount, sizeof(refcount)) ||
	    !bytes_read(bytes->object, layout->object_type, &address, sizeof(address)))
		return;
	if (!refcount_is_alive(layout->minor, refcount)) {
		look->answer = judge_dead(liveness, look, refcount, address);
		return;
	}
	if (look->type && look->type != address) {
		look->answer = LIVENESS_REUSED;
		return;
	}
	error = type_cache_look(liveness->types, address, &type, NULL);
	if (error < 0) { /* no object at all, unless it is known to be one */
		look->answer =
			error == -EBADMSG && !look->type ? LIVENESS_REUSED : LIVENESS_UNKNOWN;
		return;
	}
	if (offset >= 0 && offset != type->object_offset + liveness->types->debug_bytes) {
		look->answer = LIVENESS_REUSED;
		return;
	}
	now = take_fingerprint(layout, type, bytes);
	look->answer = compare(look, &now);
	if (look->answer == LIVENESS_REUSED)
		return;
	look->type = address;
	*ret_owns = may_own(layout, type, bytes->object, &now);
}

void liveness_judge_block(struct liveness_look *look, struct bytes block)
{
	struct fingerprint now = {0};

	take_words(block, 0, &now);
	look->answer = compare(look, &now);
}
