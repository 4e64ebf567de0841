/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "probes/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "probes/builder.h"

DEFINE_CLEANUP(struct plan *, plan_free)

void plan_free(struct plan *plan)
{
	if (!plan)
		return;
	free(plan->sites);
	free(plan);
}

int plan_new(const struct image *image, struct plan **ret)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (!plan)
		return -ENOMEM;
	plan->build_id_size = (uint32_t)image_build_id(image, plan->build_id);
	plan->file_size = image_file_size(image);
	*ret = plan;
	return 0;
}

const char *plan_site_function(unsigned kind)
{
	static const char *const names[SITE_KINDS] = {
		[SITE_ALLOC] = "pymalloc_alloc",	 [SITE_FREE] = "pymalloc_free",
		[SITE_FRESH] = "allocate_from_new_pool", [SITE_CREATE] = "_Py_NewReference",
		[SITE_DESTROY] = "_Py_Dealloc",		 [SITE_NATIVE_FREE] = "free",
		[SITE_REALLOC_ENTER] = "realloc",	 [SITE_REALLOC_RETURN] = "realloc",
		[SITE_CALLER] = "a constructor's caller",
	};

	return kind < SITE_KINDS ? names[kind] : NULL;
}

/* Everything that a compiler made has an unwind entry; what has none is what a rewriter left. */
static bool has_unwind_entry(const struct image *image, uint64_t vaddr)
{
	const struct image_range *functions = NULL;
	size_t low = 0, high = image_function_ranges(image, &functions);

	if (high == 0)
		return true;
	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (functions[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && vaddr < functions[low - 1].end;
}

bool plan_builder_reaches(const struct plan_builder *builder, size_t index)
{
	const uint64_t vaddr = code_vaddr(builder->code, index);

	return has_unwind_entry(builder->image, vaddr) &&
	       (!builder->reachable || reachable_is_live(builder->reachable, vaddr));
}

static int reserve(struct plan_builder *builder)
{
	struct plan *plan = builder->plan;
	const size_t capacity = builder->capacity ? builder->capacity * 2 : 256;
	struct plan_site *grown;

	if (plan->n_sites < builder->capacity)
		return 0;
	if (plan->n_sites >= PLAN_SITES_MAX)
		return -E2BIG;
	grown = realloc(plan->sites, capacity * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	plan->sites = grown;
	builder->capacity = capacity;
	return 0;
}

int plan_builder_add(struct plan_builder *builder, size_t index, const struct plan_site *site)
{
	struct plan *plan = builder->plan;
	struct plan_site added = *site;
	int error;

	added.vaddr = code_vaddr(builder->code, index);
	added.length = code_at(builder->code, index)->length;
	added.emulated = code_is_emulated(builder->code, index);
	if (!added.function)
		added.function = plan_site_function(site->kind);
	memcpy(added.bytes, code_instruction_bytes(builder->code, index), added.length);
	if (!plan_builder_reaches(builder, index)) {
		plan->statistics.pruned++;
		return 0;
	}
	if (!added.emulated) {
		plan->statistics.not_emulated++;
		if (!builder->single_stepped)
			return 0;
	}
	error = image_text_offset(builder->image, added.vaddr, &added.offset);
	if (error)
		return error;
	error = reserve(builder);
	if (error)
		return error;
	plan->sites[plan->n_sites++] = added;
	return 0;
}

static int compare_sites(const void *a, const void *b)
{
	const struct plan_site *left = a, *right = b;

	if (left->vaddr != right->vaddr)
		return left->vaddr < right->vaddr ? -1 : 1;
	return (int)left->kind - (int)right->kind;
}

int plan_builder_finish(struct plan_builder *builder)
{
	struct plan *plan = builder->plan;

	plan->statistics.instructions = (uint32_t)code_count(builder->code);
	plan->statistics.undecodable = (uint32_t)code_undecodable(builder->code);
	plan->statistics.dead = (uint32_t)code_left_out(builder->code);
	if (plan->n_sites == 0)
		return -ENOENT;
	qsort(plan->sites, plan->n_sites, sizeof(*plan->sites), compare_sites);
	for (size_t i = 0; i < plan->n_sites; i++)
		plan->statistics.by_kind[plan->sites[i].kind]++;
	return 0;
}
