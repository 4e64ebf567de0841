/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "report/snapshot_build.h"

#include <errno.h>
#include <math.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"

#define BLOCK_BYTES (64u << 10) /* of the arena; larger requests get a block of their own */

struct arena_block {
	struct arena_block *next;
	size_t used, size; /* of bytes */
	alignas(max_align_t) char bytes[];
};

struct rows {
	void *items;
	size_t n, room;
};

/* The snapshot comes first, so that its address is the storage's. */
struct storage {
	struct snapshot snapshot;
	struct arena_block *blocks; /* the one in use comes first */
	size_t total_bytes;
	struct rows sites, refused, losses, heap_types;
	int error; /* the first failure */
};

static struct storage *storage_of(struct snapshot *snapshot)
{
	return (struct storage *)snapshot;
}

static int fail(struct storage *storage, int error)
{
	if (storage->error == 0)
		storage->error = error;
	return storage->error;
}

const char *snapshot_moment_key(enum snapshot_moment moment)
{
	static const char *const keys[SNAPSHOT_MOMENTS] = {
		[MOMENT_SESSION_END] = "session_end",
		[MOMENT_FINALIZATION] = "finalization",
		[MOMENT_EXIT] = "exit",
		[MOMENT_EXEC] = "exec",
	};

	return keys[moment];
}

const char *snapshot_moment_sentence(enum snapshot_moment moment)
{
	static const char *const sentences[SNAPSHOT_MOMENTS] = {
		[MOMENT_FINALIZATION] = "the interpreter's end, before it freed what was left",
		[MOMENT_EXIT] = "the process's end; its interpreter's was not seen",
		[MOMENT_EXEC] = "the program's end, when another one took its place",
	};

	return sentences[moment];
}

int snapshot_new(struct snapshot **ret)
{
	struct storage *storage = calloc(1, sizeof(*storage));

	if (!storage)
		return -ENOMEM;
	storage->snapshot = (struct snapshot){
		.command = "",
		.python = "",
		.mode = "exact",
		.budget_ratio = NAN,
		.overhead_ratio = NAN,
		.coverage_ratio = NAN,
		.reconciled_seconds = NAN,
	};
	*ret = &storage->snapshot;
	return 0;
}

void snapshot_free(struct snapshot *snapshot)
{
	struct storage *storage = storage_of(snapshot);

	if (!storage)
		return;
	while (storage->blocks) {
		struct arena_block *block = storage->blocks;

		storage->blocks = block->next;
		free(block);
	}
	free(storage->sites.items);
	free(storage->refused.items);
	free(storage->losses.items);
	free(storage->heap_types.items);
	free(storage);
}

static int arena_grow(struct storage *storage, size_t size)
{
	size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;
	struct arena_block *block;

	if (room > SNAPSHOT_BYTES_MAX - storage->total_bytes)
		return fail(storage, -E2BIG);
	block = malloc(sizeof(*block) + room);
	if (!block)
		return fail(storage, -ENOMEM);
	block->used = 0;
	block->size = room;
	block->next = storage->blocks;
	storage->blocks = block;
	storage->total_bytes += room;
	return 0;
}

static void *arena_take(struct storage *storage, size_t size)
{
	struct arena_block *block = storage->blocks;
	void *taken;

	if (storage->error < 0)
		return NULL;
	size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (!block || size > block->size - block->used) {
		if (arena_grow(storage, size) < 0)
			return NULL;
		block = storage->blocks;
	}
	taken = block->bytes + block->used;
	block->used += size;
	return taken;
}

const char *snapshot_string(struct snapshot *snapshot, const char *text)
{
	size_t size;
	char *copy;

	if (!text || !*text)
		return "";
	size = strlen(text) + 1;
	copy = arena_take(storage_of(snapshot), size);
	if (!copy)
		return "";
	memcpy(copy, text, size);
	return copy;
}

static int rows_add(struct storage *storage, struct rows *rows, const void *row, size_t size)
{
	size_t room = rows->room ? rows->room * 2 : 16;
	void *items;

	if (storage->error < 0)
		return storage->error;
	if (rows->n == rows->room) {
		items = reallocarray(rows->items, room, size);
		if (!items)
			return fail(storage, -ENOMEM);
		rows->items = items;
		rows->room = room;
	}
	memcpy((char *)rows->items + rows->n++ * size, row, size);
	return 0;
}

static void copy_frames(struct snapshot *snapshot, const struct snapshot_frame *frames,
			struct snapshot_site *site)
{
	struct snapshot_frame *copies;

	if (site->n_frames > SNAPSHOT_FRAMES_MAX) {
		site->n_frames = SNAPSHOT_FRAMES_MAX;
		site->cut = true;
	}
	copies = arena_take(storage_of(snapshot), site->n_frames * sizeof(*copies));
	if (!copies)
		return;
	for (size_t i = 0; i < site->n_frames; i++)
		copies[i] = (struct snapshot_frame){
			.function = snapshot_string(snapshot, frames[i].function),
			.file = snapshot_string(snapshot, frames[i].file),
			.line = frames[i].line,
		};
	site->frames = copies;
}

static int compare_types(const void *left, const void *right)
{
	const struct snapshot_type *a = left, *b = right;

	if (a->bytes != b->bytes)
		return a->bytes > b->bytes ? -1 : 1;
	if (a->objects != b->objects)
		return a->objects > b->objects ? -1 : 1;
	return strcmp(a->name, b->name);
}

static void copy_types(struct snapshot *snapshot, const struct snapshot_type *types,
		       struct snapshot_site *site)
{
	struct snapshot_type *copies =
		arena_take(storage_of(snapshot), site->n_types * sizeof(*copies));

	if (!copies)
		return;
	for (size_t i = 0; i < site->n_types; i++) {
		copies[i] = types[i];
		copies[i].name = snapshot_string(snapshot, types[i].name);
	}
	qsort(copies, site->n_types, sizeof(*copies), compare_types);
	site->types = copies;
}

int snapshot_add_site(struct snapshot *snapshot, const struct snapshot_site *site)
{
	struct storage *storage = storage_of(snapshot);
	struct snapshot_site copy = *site;

	copy.domain = snapshot_string(snapshot, site->domain);
	copy_frames(snapshot, site->frames, &copy);
	copy_types(snapshot, site->types, &copy);
	return rows_add(storage, &storage->sites, &copy, sizeof(copy));
}

int snapshot_add_refusal(struct snapshot *snapshot, const char *what, const char *why)
{
	return snapshot_add_refusals(snapshot, what, why, 1);
}

int snapshot_add_refusals(struct snapshot *snapshot, const char *what, const char *why,
			  uint64_t count)
{
	struct storage *storage = storage_of(snapshot);
	struct snapshot_refusal refusal = {
		.what = snapshot_string(snapshot, what),
		.why = snapshot_string(snapshot, why),
		.count = count,
	};

	return rows_add(storage, &storage->refused, &refusal, sizeof(refusal));
}

int snapshot_add_loss(struct snapshot *snapshot, enum reason reason, uint64_t count)
{
	struct storage *storage = storage_of(snapshot);
	struct snapshot_loss *losses = storage->losses.items;
	struct snapshot_loss loss = {.reason = reason, .count = count};

	if (count == 0)
		return storage->error;
	for (size_t i = 0; i < storage->losses.n; i++) {
		if (losses[i].reason != reason)
			continue;
		losses[i].count += count;
		return storage->error;
	}
	return rows_add(storage, &storage->losses, &loss, sizeof(loss));
}

int snapshot_add_heap_type(struct snapshot *snapshot, const struct snapshot_type *type)
{
	struct storage *storage = storage_of(snapshot);
	struct snapshot_type copy = *type;

	copy.name = snapshot_string(snapshot, type->name);
	return rows_add(storage, &storage->heap_types, &copy, sizeof(copy));
}

/* FNV-1a over bytes: this id stands in dashboards, so no other use may ever want to change it. */
#define ID_SEED 0xcbf29ce484222325ULL
#define ID_PRIME 0x100000001b3ULL

static uint64_t id_add(uint64_t id, const char *text)
{
	do {
		id ^= (unsigned char)*text;
		id *= ID_PRIME;
	} while (*text++); /* the NUL too: "ab", "c" is not "a", "bc" */
	return id;
}

uint64_t snapshot_site_id(const struct snapshot_site *site)
{
	uint64_t id = ID_SEED;

	for (size_t i = 0; i < site->n_frames; i++) {
		id = id_add(id, site->frames[i].function);
		id = id_add(id, site->frames[i].file);
	}
	if (site->n_frames == 0)
		id = id_add(id, site->other ? "other" : "no Python frame");
	id = hash_u64(id);
	return id ? id : 1;
}

uint64_t snapshot_site_id_nth(uint64_t id, size_t k)
{
	uint64_t nth = hash_combine(id, k);

	return nth ? nth : 1;
}

static uint32_t leaf_line(const struct snapshot_site *site)
{
	return site->n_frames ? site->frames[0].line : 0;
}

static int compare_ids(const void *left, const void *right)
{
	const struct snapshot_site *a = left, *b = right;

	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	if (leaf_line(a) != leaf_line(b))
		return leaf_line(a) < leaf_line(b) ? -1 : 1;
	if (a->outstanding_bytes != b->outstanding_bytes)
		return a->outstanding_bytes > b->outstanding_bytes ? -1 : 1;
	return strcmp(a->domain, b->domain);
}

static void give_ids(struct snapshot_site *sites, size_t n)
{
	uint64_t shared = 0;
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (sites[i].id == 0)
			sites[i].id = snapshot_site_id(&sites[i]);
	qsort(sites, n, sizeof(*sites), compare_ids);
	for (size_t i = 0; i < n; i++) {
		k = i > 0 && sites[i].id == shared ? k + 1 : 0;
		shared = sites[i].id;
		if (k > 0)
			sites[i].id = snapshot_site_id_nth(shared, k);
	}
}

/* Leaks first. Numbers of enum verdict rise with the alarm but for "warming", told last. */
static int verdict_rank(enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_LEAK:
		return 0;
	case VERDICT_GROWING:
		return 1;
	case VERDICT_STABLE:
		return 2;
	case VERDICT_WARMING:
		break;
	}
	return 3;
}

/* Unknown growth is ordered like none at all. */
static double growth_of(const struct snapshot_site *site)
{
	return isnan(site->growth_bytes_per_second) ? 0 : site->growth_bytes_per_second;
}

static int compare_sites(const void *left, const void *right)
{
	const struct snapshot_site *a = left, *b = right;

	if (a->verdict != b->verdict)
		return verdict_rank(a->verdict) - verdict_rank(b->verdict);
	if (growth_of(a) != growth_of(b))
		return growth_of(a) > growth_of(b) ? -1 : 1;
	if (a->outstanding_bytes != b->outstanding_bytes)
		return a->outstanding_bytes > b->outstanding_bytes ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static int compare_losses(const void *left, const void *right)
{
	const struct snapshot_loss *a = left, *b = right;

	if (a->count != b->count)
		return a->count > b->count ? -1 : 1;
	return (int)a->reason - (int)b->reason;
}

static int compare_findings(const void *left, const void *right)
{
	const struct snapshot_site *const *a = left, *const *b = right;

	if ((*a)->finding_number != (*b)->finding_number)
		return (*a)->finding_number < (*b)->finding_number ? -1 : 1;
	return (int)(*b)->finding_head - (int)(*a)->finding_head;
}

/* Each site is given the id of its finding's head. */
static void give_findings(struct storage *storage)
{
	struct snapshot_site *sites = storage->sites.items;
	size_t n = storage->sites.n;
	_cleanup_free_ struct snapshot_site **order = calloc(n + 1, sizeof(struct snapshot_site *));
	uint64_t head = 0;

	if (!order) {
		fail(storage, -ENOMEM);
		return;
	}
	for (size_t i = 0; i < n; i++)
		order[i] = &sites[i];
	qsort(order, n, sizeof(*order), compare_findings);
	for (size_t i = 0; i < n; i++) {
		if (order[i]->finding_head)
			head = order[i]->id;
		order[i]->finding = order[i]->finding_number ? head : order[i]->id;
	}
}

static void sort_rows(const struct rows *rows, size_t size,
		      int (*compare)(const void *left, const void *right))
{
	if (rows->n > 0)
		qsort(rows->items, rows->n, size, compare);
}

int snapshot_finish(struct snapshot *snapshot)
{
	struct storage *storage = storage_of(snapshot);

	if (storage->sites.n > 0)
		give_ids(storage->sites.items, storage->sites.n);
	give_findings(storage);
	sort_rows(&storage->sites, sizeof(struct snapshot_site), compare_sites);
	sort_rows(&storage->losses, sizeof(struct snapshot_loss), compare_losses);
	sort_rows(&storage->heap_types, sizeof(struct snapshot_type), compare_types);
	snapshot->sites = storage->sites.items;
	snapshot->n_sites = storage->sites.n;
	snapshot->refused = storage->refused.items;
	snapshot->n_refused = storage->refused.n;
	snapshot->losses = storage->losses.items;
	snapshot->n_losses = storage->losses.n;
	snapshot->heap_types = storage->heap_types.items;
	snapshot->n_heap_types = storage->heap_types.n;
	return storage->error;
}
