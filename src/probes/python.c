/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The plan of an interpreter, put together from what the matchers find. */
#include "probes/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "probes/builder.h"
#include "probes/callers.h"
#include "probes/decode.h"
#include "probes/match.h"

/* pymalloc is in so few places where it was not inlined: 1 to 3 seen, elsewhere 150 and more. */
#define NOT_INLINED_MAX 8

DEFINE_CLEANUP(struct code *, code_free)
DEFINE_CLEANUP(struct plan *, plan_free)
DEFINE_CLEANUP(struct reachable *, reachable_free)

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
	ret->function = match->function;
	ret->displacement = name.displacement;
	return 0;
}

static int add_match(struct plan_builder *builder, const struct match *match)
{
	struct plan_site site = {.kind = match->kind};

	if (choose_name(match, &site) == 0)
		return plan_builder_add(builder, match->at, &site);
	if (plan_builder_reaches(builder, match->at))
		builder->plan->statistics.unresolved++;
	return 0;
}

static size_t count_of(const struct matches *matches, unsigned kind)
{
	size_t n = 0;

	for (size_t i = 0; i < matches->n; i++)
		n += matches->items[i].kind == kind;
	return n;
}

/*
 * clang inlines _Py_Dealloc into every Py_DECREF: 9,000 to 15,700 destructions
 * in its builds of 3.13.  All of them or none: half would show no object's end.
 */
static int add_matches(struct plan_builder *builder, const struct matches *matches)
{
	const size_t destructions = count_of(matches, SITE_DESTROY);
	const bool fit = matches->n <= PLAN_SITES_MAX;

	if (!fit)
		builder->plan->statistics.left_out = (uint32_t)destructions;
	for (size_t i = 0; i < matches->n; i++) {
		int error;

		if (!fit && matches->items[i].kind == SITE_DESTROY)
			continue;
		error = add_match(builder, &matches->items[i]);
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
	error = match_fresh_pools(code, matches, &unresolved);
	if (error)
		return error;
	error = match_creations(code, image, options->destructions, matches);
	if (error == -ENOENT) /* the flag: every creation is missing */
		unresolved++;
	else if (error)
		return error;
	if (options->callers == PLAN_CALLERS_ALL ||
	    (options->callers == PLAN_CALLERS_CORE &&
	     count_of(matches, SITE_ALLOC) <= NOT_INLINED_MAX)) {
		error = match_callers(code, image, options->callers == PLAN_CALLERS_CORE, matches);
		if (error)
			return error;
	}
	*ret_unresolved = unresolved;
	return matches->n > 0 ? 0 : -ENOENT;
}

/*
 * Whatever holds CPython exports it to extension modules.  Asked first: to
 * decode some large program that is none would cost a second.
 */
static bool holds_cpython(const struct image *image)
{
	static const char *const exported[] = {"_PyRuntime", "_Py_NewReference", "PyObject_Malloc"};
	struct image_symbol symbol;
	struct image_range section;

	for (unsigned i = 0; i < ARRAY_SIZE(exported); i++)
		if (image_symbol(image, exported[i], &symbol) == 0)
			return true;
	return image_section(image, ".PyRuntime", &section) == 0;
}

int plan_make_python(const struct image *image, const struct plan_python_options *options,
		     struct plan **ret, struct fault *reterr_fault)
{
	__attribute__((cleanup(matches_done))) struct matches matches = {0};
	CLEANUP(code_free) struct code *code = NULL;
	CLEANUP(reachable_free) struct reachable *reachable = NULL;
	CLEANUP(plan_free) struct plan *plan = NULL;
	struct plan_builder builder;
	uint32_t unresolved = 0;
	int error;

	if (!holds_cpython(image))
		return fault_set(reterr_fault, -ENOENT, REASON_NO_PLAN, 0, "CPython");
	error = code_new(image, &code, reterr_fault);
	if (error)
		return error;
	error = reachable_new(code, image, &reachable);
	if (error && error != -ENOENT)
		return error;
	if (reachable)
		reachable_leave_out_dead(reachable, code);
	error = match_all(code, image, options, &matches, &unresolved);
	if (error == -ENOENT)
		return fault_set(reterr_fault, -ENOENT, REASON_NO_PLAN, 0, "pymalloc");
	if (error)
		return error;
	error = plan_new(image, &plan);
	if (error)
		return error;
	plan->statistics.unresolved = unresolved;
	builder = (struct plan_builder){
		.image = image, .code = code, .plan = plan, .reachable = reachable};
	error = add_matches(&builder, &matches);
	if (!error)
		error = plan_builder_finish(&builder);
	if (error)
		return fault_set(reterr_fault, error, REASON_NO_PLAN, 0, "sites");
	*ret = TAKE_PTR(plan);
	return 0;
}
