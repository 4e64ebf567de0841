/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What types the live blocks of a census are of.  Blocks do not say whether
 * they hold an object: one that does has, at the place where instances of its
 * type begin (behind a collector's head, behind managed words, behind the debug
 * hooks' head), a reference count and a pointer to that very type, and it has
 * the size of such an instance.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "cpython/census.h"
#include "cpython/refcount.h"
#include "cpython/types.h"

#define POOL_BATCH 256 /* pools of one call: 4 MiB */
#define BLOCK_HEAD_BYTES                                                                           \
	96 /* what is looked at of a block: the largest offset, and a str's head                   \
	    */
#define PAGE_BYTES 4096
#define OFFSETS_MAX 3 /* no head, the collector's, the collector's and managed words */
#define ADDRESS_MAX (1ull << 47)
#define STATIC_IMMORTAL (1ull << 30) /* counts from here on may be immortal (3.12+) */

static const char raw_name[] = "(raw buffers)";
static const char parked_name[] = "(free lists)";
static const char unread_name[] = "(unread)";

#define RECENT_TYPES 1024 /* a power of two */

/* What was answered a moment ago: most blocks are of few types. */
struct recent_type {
	uint64_t address;	      /* 0: nothing here */
	const struct type_info *type; /* NULL: it is none */
	uint64_t row;		      /* of the type, if has_row */
	bool has_row;
};

struct type_tally {
	struct recent_type recent[RECENT_TYPES];
	struct type_cache *cache;
	const struct census *census;
	heap_owner_visitor *visit; /* instead of the sums; NULL: they are made */
	void *context;
	struct table rows; /* type → index into counts; of the three kinds without one: 0, 1, 2 */
	struct type_count *counts;
	size_t n, max;
};

static int tally_row(struct type_tally *tally, uint64_t key, const char *name, uint64_t **ret_index)
{
	struct type_count *counts = tally->counts;
	size_t max = tally->max ? 2 * tally->max : 256;
	int error;

	*ret_index = table_find(&tally->rows, key);
	if (*ret_index)
		return 0;
	if (tally->n == tally->max) {
		counts = reallocarray(counts, max, sizeof(*counts));
		if (!counts)
			return -ENOMEM;
		tally->counts = counts;
		tally->max = max;
	}
	error = table_put(&tally->rows, key, tally->n);
	if (error < 0)
		return error;
	counts[tally->n++] = (struct type_count){
		.name = name,
		.type = name == raw_name || name == parked_name || name == unread_name ? 0 : key,
	};
	*ret_index = table_find(&tally->rows, key);
	return 0;
}

static struct recent_type *tally_recent(struct type_tally *tally, uint64_t address)
{
	return &tally->recent[hash_u64(address) % RECENT_TYPES];
}

/* The type at an address, by way of those met a moment ago. NULL: none. */
static const struct type_info *tally_type(struct type_tally *tally, uint64_t address)
{
	struct recent_type *recent = tally_recent(tally, address);
	const struct type_info *type = NULL;

	if (recent->address == address)
		return recent->type;
	/* Types are larger than any block. */
	if (census_in_arena(tally->census, address) ||
	    type_cache_look(tally->cache, address, &type, NULL) < 0)
		type = NULL;
	*recent = (struct recent_type){.address = address, .type = type};
	return type;
}

/* key: the type, or for what has none the address of its name, which no type has. */
static int tally_add(struct type_tally *tally, uint64_t key, const char *name, uint64_t objects,
		     uint64_t bytes)
{
	struct recent_type *recent = tally_recent(tally, key);
	uint64_t *index, row = recent->row;
	int error;

	if (recent->address != key || !recent->has_row) {
		error = tally_row(tally, key, name, &index);
		if (error < 0)
			return error;
		row = *index;
		if (recent->address != key && key & 1) /* nobody's type */
			*recent = (struct recent_type){.address = key};
		if (recent->address == key) {
			recent->row = row;
			recent->has_row = true;
		}
	}
	tally->counts[row].objects += objects;
	tally->counts[row].bytes += bytes;
	return 0;
}

static int tally_add_untyped(struct type_tally *tally, const char *name, uint64_t objects,
			     uint64_t bytes)
{
	/* Odd, so that it is nobody's type. */
	return tally_add(tally, (uintptr_t)name | 1, name, objects, bytes);
}

/* Bytes that an int, a tuple or a bytes of this many items takes; 0: nonsense. */
static uint64_t variable_bytes(const struct layout *layout, const struct type_info *type,
			       uint64_t size_word)
{
	uint64_t n = (int64_t)size_word < 0 ? -size_word : size_word;

	/* lv_tag since 3.12: the digits' number above three bits of sign. */
	if (type->flags & TYPE_LONG_SUBCLASS && layout->minor >= 12)
		n = size_word >> 3;
	if (n > 1u << 20)
		return 0;
	return type->basicsize + n * type->itemsize;
}

/* Bytes that a str takes in its block; 0: nonsense. */
static uint64_t str_bytes(const struct layout *layout, struct bytes object)
{
	uint64_t length;
	uint32_t state;
	unsigned kind;
	bool ascii;

	if (!bytes_read(object, layout->unicode_length, &length, sizeof(length)) ||
	    !bytes_read(object, layout->unicode_state, &state, sizeof(state)) || length > 1u << 20)
		return 0;
	kind = state >> layout->unicode_kind_shift & 7;
	ascii = state >> layout->unicode_ascii_shift & 1;
	if (!(state >> layout->unicode_compact_shift & 1))
		return layout->unicode_basicsize;
	if (kind != 1 && kind != 2 && kind != 4)
		return 0;
	return (ascii ? layout->unicode_ascii_data : layout->unicode_compact_data) +
	       (length + 1) * kind;
}

/*
 * Whether an instance of this type fits the block as its allocation made it.
 * Only types whose size is their basicsize fill it to the rounding; the others
 * shrink in place, or have sizes that are theirs to know.
 */
static bool size_plausible(const struct type_cache *cache, const struct type_info *type,
			   struct bytes object, uint64_t object_room)
{
	const struct layout *layout = cache->layout;
	uint64_t known = TYPE_LONG_SUBCLASS | TYPE_TUPLE_SUBCLASS | TYPE_BYTES_SUBCLASS;
	uint64_t size_word, needed = type->basicsize;
	bool exact = !type->itemsize && !cache->debug_bytes;

	if (layout->minor >= 13 && type->flags & TYPE_INLINE_VALUES)
		exact = false;
	if (type->flags & TYPE_UNICODE_SUBCLASS && type->basicsize == layout->unicode_basicsize) {
		needed = str_bytes(layout, object);
		exact = false;
	} else if (type->flags & known) {
		if (!bytes_read(object, layout->var_size, &size_word, sizeof(size_word)))
			return false;
		needed = variable_bytes(layout, type, size_word);
	}
	if (!needed || needed > object_room)
		return false;
	return !exact || object_room - needed < POOL_ALIGNMENT;
}

/* No object has more references than there are words that could hold them. */
static bool refcount_plausible(const struct type_tally *tally, uint64_t refcount)
{
	unsigned minor = tally->cache->layout->minor;
	uint64_t count = (uint32_t)refcount;

	if (!refcount_is_alive(minor, refcount))
		return false;
	return count <= tally->census->totals.arena_bytes ||
	       (minor >= 12 && count >= STATIC_IMMORTAL);
}

/* Whether the first word is that of an object on a free list: refcount.h. */
static bool word_is_parked(const struct type_tally *tally, uint64_t word)
{
	if (word == 0)
		return true;
	return tally->cache->layout->minor >= 14 && census_in_arena(tally->census, word);
}

enum block_holds { BLOCK_RAW, BLOCK_OBJECT, BLOCK_PARKED };

/* Does an object begin at this offset of the block? *ret_type only if so. */
static enum block_holds block_try(struct type_tally *tally, struct bytes block, uint32_t offset,
				  uint64_t block_size, const struct type_info **ret_type)
{
	struct type_cache *cache = tally->cache;
	const struct layout *layout = cache->layout;
	const struct type_info *type;
	uint64_t refcount, address;
	struct bytes object;

	if (!bytes_slice(block, offset, block.size > offset ? block.size - offset : 0, &object) ||
	    !bytes_read(object, layout->object_refcount, &refcount, sizeof(refcount)) ||
	    !bytes_read(object, layout->object_type, &address, sizeof(address)))
		return BLOCK_RAW;
	if (address == 0 || address % 8 || address >= ADDRESS_MAX)
		return BLOCK_RAW;
	if (!refcount_plausible(tally, refcount) && !word_is_parked(tally, refcount))
		return BLOCK_RAW;
	type = tally_type(tally, address);
	if (!type || type->object_offset + cache->debug_bytes != offset ||
	    !size_plausible(cache, type, object, block_size - offset))
		return BLOCK_RAW;
	*ret_type = type;
	return word_is_parked(tally, refcount) ? BLOCK_PARKED : BLOCK_OBJECT;
}

/*
 * Instances that have raw buffers.  A str's own buffer is of the rare str that is
 * no compact one; most objects of a heap are of the other kind.
 */
static bool may_own(const struct type_info *type)
{
	return (type->kind != OBJECT_PLAIN && type->kind != OBJECT_STR) ||
	       type->flags & TYPE_MANAGED_DICT;
}

static int tally_block(struct type_tally *tally, struct bytes head, uint64_t address,
		       uint64_t block_size)
{
	const struct type_info *type = NULL;
	enum block_holds holds = BLOCK_RAW;
	uint32_t offset = 0;

	for (uint32_t i = 0; i < OFFSETS_MAX && holds == BLOCK_RAW; i++) {
		offset = tally->cache->debug_bytes + 16 * i;
		holds = block_try(tally, head, offset, block_size, &type);
	}
	if (tally->visit)
		return holds == BLOCK_OBJECT && may_own(type)
			       ? tally->visit(tally->context, address + offset, type->address)
			       : 0;
	if (holds == BLOCK_OBJECT)
		return tally_add(tally, type->address, type->name, 1, block_size);
	return tally_add_untyped(tally, holds == BLOCK_PARKED ? parked_name : raw_name, 1,
				 block_size);
}

static bool block_is_live(const struct census *census, const struct census_pool *pool, uint32_t i)
{
	return pool->state == POOL_FULL || census_bit(census, pool, i);
}

static uint64_t block_head_bytes(const struct census_pool *pool)
{
	uint64_t size = class_bytes(pool->size_class);

	return size < BLOCK_HEAD_BYTES ? size : BLOCK_HEAD_BYTES;
}

static int tally_unread(struct type_tally *tally, const struct census_pool *pool, uint64_t n)
{
	if (!n || tally->visit)
		return 0;
	return tally_add_untyped(tally, unread_name, n, n * class_bytes(pool->size_class));
}

static int tally_pool(struct type_tally *tally, const struct census_pool *pool, struct bytes copy)
{
	uint64_t size = class_bytes(pool->size_class), offset = POOL_HEADER_BYTES, n_unread = 0;
	int error = 0;

	for (uint32_t i = 0; i < pool->n_carved && !error; i++, offset += size) {
		struct bytes head;

		if (!block_is_live(tally->census, pool, i))
			continue;
		if (bytes_slice(copy, offset, block_head_bytes(pool), &head) ||
		    (copy.size >= offset + POOL_ALIGNMENT &&
		     bytes_slice(copy, offset, copy.size - offset, &head)))
			error = tally_block(tally, head, pool->address + offset, size);
		else
			n_unread++;
	}
	return error ? error : tally_unread(tally, pool, n_unread);
}

struct pool_batch {
	struct memory_piece pieces[POOL_BATCH];
	const struct census_pool *pools[POOL_BATCH];
	size_t n;
};

/* Reads as many whole pages from a piece's start on as there are; returns the bytes. */
static size_t read_pages(struct memory *memory, const struct memory_piece *piece)
{
	size_t at = 0;

	while (at < piece->size) {
		uint64_t to_page_end = PAGE_BYTES - (piece->address + at) % PAGE_BYTES;
		size_t n = to_page_end < piece->size - at ? to_page_end : piece->size - at;

		if (memory_read(memory, piece->address + at, (uint8_t *)piece->buffer + at, n,
				NULL) < 0)
			break;
		at += n;
	}
	return at;
}

static int tally_batch(struct type_tally *tally, struct pool_batch *batch)
{
	struct memory *memory = tally->cache->memory;
	int error = 0;

	memory_read_pieces(memory, batch->pieces, batch->n);
	for (size_t i = 0; i < batch->n && !error; i++) {
		struct memory_piece *piece = &batch->pieces[i];
		size_t size = piece->error ? read_pages(memory, piece) : piece->size;

		error = tally_pool(tally, batch->pools[i], (struct bytes){piece->buffer, size});
	}
	batch->n = 0;
	return error;
}

/* Up to the last block's head. A page that was never written is absent, and begins behind a link.
 */
static size_t pool_read_bytes(const struct census_pool *pool)
{
	return POOL_HEADER_BYTES + (pool->n_carved - 1u) * (size_t)class_bytes(pool->size_class) +
	       block_head_bytes(pool);
}

static int tally_pools(struct type_tally *tally)
{
	const struct census *census = tally->census;
	size_t max = census->n_pools < POOL_BATCH ? census->n_pools + 1 : POOL_BATCH;
	_cleanup_free_ uint8_t *buffer = malloc(max * census->pool_size);
	struct pool_batch batch = {.n = 0};
	int error = buffer ? 0 : -ENOMEM;

	for (size_t i = 0; i < census->n_pools && !error; i++) {
		const struct census_pool *pool = &census->pools[i];

		if (pool->state != POOL_FULL && pool->state != POOL_MAPPED) {
			error = tally_unread(tally, pool, pool->n_live);
			continue;
		}
		batch.pieces[batch.n] = (struct memory_piece){
			.address = pool->address,
			.buffer = buffer + batch.n * census->pool_size,
			.size = pool_read_bytes(pool),
		};
		batch.pools[batch.n++] = pool;
		if (batch.n == max)
			error = tally_batch(tally, &batch);
	}
	return error ? error : tally_batch(tally, &batch);
}

static int count_compare(const void *a, const void *b)
{
	const struct type_count *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void tally_done(struct type_tally *tally)
{
	table_done(&tally->rows);
	free(tally->counts);
}

int heap_types(struct type_cache *cache, const struct census *census, struct type_count **ret,
	       size_t *ret_n, struct fault *reterr_fault)
{
	__attribute__((cleanup(tally_done))) struct type_tally tally = {
		.cache = cache,
		.census = census,
		.rows = table_init(cache->types.max + 3),
	};
	int error;

	type_cache_begin_look(cache);
	error = tally_pools(&tally);
	if (error < 0)
		return fault_set(reterr_fault, error, REASON_TOO_LARGE, 0, "types");
	if (tally.n)
		qsort(tally.counts, tally.n, sizeof(*tally.counts), count_compare);
	*ret_n = tally.n;
	*ret = TAKE_PTR(tally.counts);
	return 0;
}

int heap_owners_visit(struct type_cache *cache, const struct census *census,
		      heap_owner_visitor *visit, void *context)
{
	struct type_tally tally = {
		.cache = cache,
		.census = census,
		.visit = visit,
		.context = context,
	};

	type_cache_begin_look(cache);
	return tally_pools(&tally);
}
