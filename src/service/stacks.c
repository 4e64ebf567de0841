/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/stacks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/table.h"

#define STACK_IDS_MAX (1u << 20)

DEFINE_CLEANUP(struct stacks *, stacks_free)

struct stacks {
	struct code_cache *codes;
	struct stacks_site *sites;
	size_t n_sites, max_sites, room;
	struct table *by_key; /* site key → index */
	struct table *by_id; /* stack id → index */
	uint64_t unreadable_frames;
};

int stacks_new(struct code_cache *codes, size_t max_sites, struct stacks **ret)
{
	CLEANUP(stacks_free) struct stacks *stacks = calloc(1, sizeof(*stacks));
	int r;

	if (!stacks)
		return -ENOMEM;
	stacks->codes = codes;
	stacks->max_sites = max_sites;
	stacks->room = STACKS_SPECIALS * 16;
	stacks->sites = calloc(stacks->room, sizeof(*stacks->sites));
	if (!stacks->sites)
		return -ENOMEM;
	for (size_t i = 0; i < STACKS_SPECIALS; i++)
		stacks->sites[i].key = i;
	stacks->n_sites = STACKS_SPECIALS;
	r = table_new(max_sites, &stacks->by_key);
	if (r < 0)
		return r;
	r = table_new(STACK_IDS_MAX, &stacks->by_id);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(stacks);
	return 0;
}

void stacks_free(struct stacks *stacks)
{
	if (!stacks)
		return;
	for (size_t i = 0; i < stacks->n_sites; i++)
		free((void *)stacks->sites[i].frames);
	free(stacks->sites);
	table_free(stacks->by_key);
	table_free(stacks->by_id);
	free(stacks);
}

static void resolve_frame(struct stacks *stacks, const struct wire_frame *frame,
			  struct snapshot_frame *ret)
{
	struct code_location location;

	if (code_cache_resolve(stacks->codes, frame->code, frame->position, &location, NULL) < 0) {
		stacks->unreadable_frames++;
		*ret = (struct snapshot_frame){ .function = "<unreadable>", .file = "" };
		return;
	}
	*ret = (struct snapshot_frame){
		.function = location.function,
		.file = location.file,
		.line = location.line ? location.line : location.first_line,
	};
}

static uint64_t site_key(const struct snapshot_frame *frames, size_t n_frames, bool cut)
{
	uint64_t key = hash_combine(cut, frames[0].line);

	for (size_t i = 0; i < n_frames; i++) {
		key = hash_combine(key, hash_string(frames[i].function));
		key = hash_combine(key, hash_string(frames[i].file));
	}
	return key < STACKS_SPECIALS ? key + STACKS_SPECIALS : key;
}

static int sites_make_room(struct stacks *stacks)
{
	struct stacks_site *sites;

	if (stacks->n_sites < stacks->room)
		return 0;
	if (stacks->n_sites >= stacks->max_sites)
		return -ENOSPC;
	sites = reallocarray(stacks->sites, stacks->room * 2, sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	stacks->sites = sites;
	stacks->room *= 2;
	return 0;
}

/* Takes frames over where the site is a new one; *ret_index is an existing site's otherwise. */
static int sites_intern(struct stacks *stacks, struct snapshot_frame **frames, size_t n_frames,
			bool cut, uint32_t *ret_index)
{
	uint64_t key = site_key(*frames, n_frames, cut);
	uint64_t index;
	int r;

	if (table_get(stacks->by_key, key, &index) == 0) {
		*ret_index = (uint32_t)index;
		return 0;
	}
	r = sites_make_room(stacks);
	if (r < 0)
		return r;
	r = table_put(stacks->by_key, key, stacks->n_sites);
	if (r < 0)
		return r;
	stacks->sites[stacks->n_sites] = (struct stacks_site){
		.frames = TAKE_PTR(*frames),
		.n_frames = n_frames,
		.key = key,
		.cut = cut,
	};
	*ret_index = (uint32_t)stacks->n_sites++;
	return 0;
}

int stacks_learn(struct stacks *stacks, const struct wire_stack *record)
{
	_cleanup_free_ struct snapshot_frame *frames = NULL;
	uint32_t index;
	int r;

	if (record->n_frames == 0 || record->n_frames > WIRE_MAX_FRAMES)
		return -EINVAL;
	frames = calloc(record->n_frames, sizeof(*frames));
	if (!frames)
		return -ENOMEM;
	for (uint32_t i = 0; i < record->n_frames; i++)
		resolve_frame(stacks, &record->frames[i], &frames[i]);
	r = sites_intern(stacks, &frames, record->n_frames,
			 record->flags & (WIRE_STACK_CUT | WIRE_STACK_BROKEN), &index);
	if (r == -ENOSPC)
		index = STACKS_OTHER;
	else if (r < 0)
		return r;
	return table_put(stacks->by_id, record->id, index);
}

uint32_t stacks_site_of(const struct stacks *stacks, uint64_t stack)
{
	uint64_t index;

	if (stack == WIRE_STACK_NONE)
		return STACKS_NO_FRAME;
	if (stack == WIRE_STACK_UNREADABLE)
		return STACKS_UNREADABLE;
	if (stack == UINT64_MAX)
		return STACKS_OTHER;
	if (table_get(stacks->by_id, stack, &index) < 0)
		return STACKS_UNKNOWN;
	return (uint32_t)index;
}

const struct stacks_site *stacks_site(const struct stacks *stacks, uint32_t index)
{
	return index < stacks->n_sites ? &stacks->sites[index] : NULL;
}

size_t stacks_n_sites(const struct stacks *stacks)
{
	return stacks->n_sites;
}

uint64_t stacks_unreadable_frames(const struct stacks *stacks)
{
	return stacks->unreadable_frames;
}
