/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The plan of an interpreter, put together from what the matchers find. */
#include "probes/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "probes/builder.h"
#include "probes/decode.h"
#include "probes/match.h"

DEFINE_CLEANUP(struct code *, code_free)
DEFINE_CLEANUP(struct plan *, plan_free)

/* How the pointer is had, of all that is right on every path; -ENOENT. */
static int choose_name(const struct match *match, struct plan_site *ret)
{
	struct state_name name = match->name;

	ret->value = match->value;
	ret->condition = match->condition;
	if (match->registers)
		name = (struct state_name){(uint8_t)__builtin_ctz(match->registers), false, 0};
	else if (match->pool_named && (!match->named || match->name.memory))
		name = (struct state_name){match->pool.reg, true, match->pool.displacement};
	else if (!match->named)
		return -ENOENT;
	if (match->value == VALUE_REGISTER && name.memory)
		ret->value = VALUE_MEMORY;
	ret->reg = name.reg;
	ret->size_register = match->size_register;
	ret->displacement = name.displacement;
	return 0;
}

static int add_matches(struct plan_builder *builder, const struct matches *matches)
{
	struct plan_statistics *statistics = &builder->plan->statistics;

	for (size_t i = 0; i < matches->n; i++) {
		const struct match *match = &matches->items[i];
		struct plan_site site = {.kind = match->kind};
		int error;

		if (choose_name(match, &site)) {
			statistics->unresolved++;
			continue;
		}
		error = plan_builder_add(builder, match->at, &site);
		if (error)
			return error;
	}
	return 0;
}

static int match_all(struct code *code, const struct image *image,
		     const struct plan_python_options *options, struct matches *matches,
		     uint32_t *ret_unresolved)
{
	uint32_t unresolved = 0;
	int error = match_pymalloc(code, matches);

	if (error)
		return error;
	if (matches->n == 0)
		return -ENOENT;
	error = match_fresh_pools(code, matches, &unresolved);
	if (error)
		return error;
	*ret_unresolved = unresolved;
	error = match_creations(code, image, options->destructions, matches);
	return error == -ENOENT ? 0 : error;
}

int plan_make_python(const struct image *image, const struct plan_python_options *options,
		     struct plan **ret, struct fault *reterr_fault)
{
	__attribute__((cleanup(matches_done))) struct matches matches = {0};
	CLEANUP(code_free) struct code *code = NULL;
	CLEANUP(plan_free) struct plan *plan = NULL;
	struct plan_builder builder;
	uint32_t unresolved = 0;
	int error;

	error = code_new(image, &code, reterr_fault);
	if (error)
		return error;
	error = match_all(code, image, options, &matches, &unresolved);
	if (error == -ENOENT)
		return fault_set(reterr_fault, -ENOENT, REASON_NO_PLAN, 0, "pymalloc");
	if (error)
		return error;
	error = plan_new(image, &plan);
	if (error)
		return error;
	plan->statistics.unresolved = unresolved;
	builder = (struct plan_builder){.image = image, .code = code, .plan = plan};
	error = add_matches(&builder, &matches);
	if (!error)
		error = plan_builder_finish(&builder);
	if (error)
		return fault_set(reterr_fault, error, REASON_NO_PLAN, 0, "sites");
	*ret = TAKE_PTR(plan);
	return 0;
}
