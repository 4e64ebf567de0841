/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "probes/tracing_flag.h"

#include <errno.h>

#include "base/cleanup.h"

#define RESOLVE_DEPTH_MAX 4
#define TRACING_OFFSET 4 /* of tracing in struct _PyTraceMalloc_Config, 3.8-3.11 */

static const struct walk_limits limits = {
	.path_steps = 80,
	.path_forks = 6,
	.path_branches = 8,
	.steps = 2000,
};

bool tracing_flag_is_tracer(const struct tracing_flag *flag)
{
	return flag->size_bytes == 8;
}

bool tracing_flag_is_far(const struct tracing_flag *flag)
{
	return flag->anchor != 0 &&
	       (flag->displacement < INT8_MIN || flag->displacement > INT8_MAX);
}

static bool resolve(const struct image *image, const struct symbols *symbols, expr e,
		    unsigned depth, uint64_t *ret)
{
	uint64_t base;

	if (depth == RESOLVE_DEPTH_MAX)
		return false;
	switch (expr_kind(symbols, e)) {
	case EXPR_CONSTANT:
		*ret = (uint64_t)expr_value(symbols, e);
		return true;
	case EXPR_SUM:
		if (!resolve(image, symbols, expr_a(symbols, e), depth + 1, &base))
			return false;
		*ret = base + (uint64_t)expr_value(symbols, e);
		return true;
	case EXPR_LOAD:
		return image && expr_value(symbols, e) == 8 &&
		       resolve(image, symbols, expr_a(symbols, e), depth + 1, &base) &&
		       image_slot_target(image, base, ret) == 0;
	default:
		return false;
	}
}

bool tracing_flag_resolve(const struct image *image, const struct symbols *symbols, expr e,
			  uint64_t *ret_vaddr)
{
	return resolve(image, symbols, e, 0, ret_vaddr);
}

bool tracing_flag_is_load(const struct tracing_flag *flag, const struct symbols *symbols, expr e)
{
	uint64_t vaddr;
	expr address, base;
	int64_t offset;

	if (expr_kind(symbols, e) != EXPR_LOAD || expr_value(symbols, e) != flag->size_bytes)
		return false;
	address = expr_a(symbols, e);
	if (tracing_flag_resolve(flag->image, symbols, address, &vaddr))
		return vaddr == flag->vaddr;
	expr_split(symbols, address, &base, &offset);
	return tracing_flag_is_far(flag) && offset == flag->displacement &&
	       !expr_is_stack(symbols, base);
}

struct search {
	const struct image *image;
	bool found;
	uint64_t vaddr;
	unsigned size_bytes;
};

/* PyRefTracer_SetTracer stores its first argument into the flag. */
static void at_store(struct walk *walk, struct walk_path *path, void *context)
{
	const struct state *state = &path->state;
	const struct state_store *store = &state->stores[state->n_stores - 1];
	struct search *search = context;

	if (search->found || store->size_bytes != 8 || store->value != symbols_initial(CODE_RDI))
		return;
	search->found =
		tracing_flag_resolve(search->image, walk->symbols, store->address, &search->vaddr);
	search->size_bytes = 8;
}

/* _Py_NewReference tests it first of all. */
static void at_conditional(struct walk *walk, struct walk_path *path, void *context)
{
	const struct state *state = &path->state;
	struct search *search = context;

	if (search->found || state->flags != FLAGS_ZERO ||
	    expr_kind(walk->symbols, state->flags_a) != EXPR_LOAD)
		return;
	search->size_bytes = (unsigned)expr_value(walk->symbols, state->flags_a);
	search->found = search->size_bytes == state->flags_size_bytes && search->size_bytes >= 4 &&
			tracing_flag_resolve(search->image, walk->symbols,
					     expr_a(walk->symbols, state->flags_a), &search->vaddr);
}

static void ignore_conditional(struct walk *walk, struct walk_path *path, void *context)
{
	(void)walk;
	(void)path;
	(void)context;
}

static int search_function(struct walk *walk, const struct image *image, const char *name,
			   const struct walk_visitor *visitor, struct tracing_flag *ret)
{
	struct search search = {.image = image};
	struct image_symbol symbol;
	size_t start;
	int error;

	if (image_symbol(image, name, &symbol))
		return -ENOENT;
	start = code_index(walk->code, symbol.vaddr);
	if (start == CODE_NONE)
		return -ENOENT;
	error = walk_run(walk, start, start, &limits, visitor, &search);
	if (error)
		return error;
	if (!search.found)
		return -ENOENT;
	ret->vaddr = search.vaddr;
	ret->size_bytes = search.size_bytes;
	return 0;
}

static int find(struct walk *walk, const struct image *image, struct tracing_flag *ret)
{
	static const struct walk_visitor stores = {
		.conditional = ignore_conditional,
		.stored = at_store,
	};
	static const struct walk_visitor tests = {.conditional = at_conditional};
	struct image_symbol symbol;
	int error;

	error = search_function(walk, image, "PyRefTracer_SetTracer", &stores, ret);
	if (error != -ENOENT)
		return error;
	if (image_symbol(image, "_Py_tracemalloc_config", &symbol) == 0) {
		ret->vaddr = symbol.vaddr + TRACING_OFFSET;
		ret->size_bytes = 4;
		return 0;
	}
	return search_function(walk, image, "_Py_NewReference", &tests, ret);
}

int tracing_flag_find(struct walk *walk, const struct image *image, struct tracing_flag *ret)
{
	static const char *const anchors[] = {"_Py_tracemalloc_config", "_PyRuntime"};
	struct tracing_flag flag = {.image = image};
	struct image_symbol symbol;
	int error = find(walk, image, &flag);

	if (error)
		return error;
	for (unsigned i = 0; i < ARRAY_SIZE(anchors) && flag.anchor == 0; i++) {
		if (image_symbol(image, anchors[i], &symbol) || symbol.vaddr > flag.vaddr ||
		    flag.vaddr - symbol.vaddr >= symbol.size)
			continue;
		flag.anchor = symbol.vaddr;
		flag.displacement = (int64_t)(flag.vaddr - symbol.vaddr);
	}
	*ret = flag;
	return 0;
}
