/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The sites of a C library's allocator, without a return probe: a return is
 * foretold by the last conditional jump before it.
 *
 *	test al, 0xf
 *	jne  corrupted        this arm not taken ...
 *	mov  [rax+8], 0
 *	pop  rbx              ... runs straight to a return,
 *	ret                   whose rax is what rax is at the jump
 *
 * Each arm of each conditional jump of a function from which control runs
 * straight to a return is a site, with the condition under which that arm is
 * taken, and what the returned register is there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "probes/builder.h"
#include "probes/native_private.h"

#define PLT_STUB_MAX 16 /* bytes: endbr64, then the jump */

DEFINE_CLEANUP(struct code *, code_free)
DEFINE_CLEANUP(struct plan *, plan_free)
DEFINE_CLEANUP(struct symbols *, symbols_free)

const struct native_role native_roles[NATIVE_FUNCTIONS] = {
	[NATIVE_FREE] = {"free", SITE_NATIVE_FREE, RESULT_NOTHING},
	[NATIVE_MALLOC] = {"malloc", SITE_NATIVE_ALLOC, RESULT_RETURNED},
	[NATIVE_CALLOC] = {"calloc", SITE_NATIVE_ALLOC, RESULT_RETURNED},
	[NATIVE_MEMALIGN] = {"memalign", SITE_NATIVE_ALLOC, RESULT_RETURNED},
	[NATIVE_ALIGNED_ALLOC] = {"aligned_alloc", SITE_NATIVE_ALLOC, RESULT_RETURNED},
	[NATIVE_VALLOC] = {"valloc", SITE_NATIVE_ALLOC, RESULT_RETURNED},
	[NATIVE_PVALLOC] = {"pvalloc", SITE_NATIVE_ALLOC, RESULT_RETURNED},
	[NATIVE_REALLOC] = {"realloc", SITE_REALLOC_RETURN, RESULT_RETURNED},
	[NATIVE_REALLOCARRAY] = {"reallocarray", SITE_REALLOC_RETURN, RESULT_RETURNED},
	[NATIVE_POSIX_MEMALIGN] = {"posix_memalign", SITE_NATIVE_ALLOC, RESULT_STORED},
};

/* No work of its own where it calls one of the others: it hands over what that made. */
static bool passes_on(enum native_function function)
{
	return function == NATIVE_REALLOCARRAY || function == NATIVE_POSIX_MEMALIGN;
}

/* memalign jumps to what does its work: whoever calls that has sites there. */
static void cover_tail_calls(struct native *native)
{
	for (size_t i = 0; i < native->body.n; i++) {
		const size_t index = native->body.at[i];
		const uint8_t flow = code_at(native->code, index)->flow;
		size_t target;

		if (flow != FLOW_JUMP && flow != FLOW_CONDITIONAL)
			continue;
		target = native_target(native, index);
		if (target != CODE_NONE && native_is_function_start(native, target))
			native_cover(native, target);
	}
}

static int match_function(struct native *native, enum native_function function)
{
	const size_t entry = native->entries->at[function];
	int r;

	if (entry == CODE_NONE || native_is_covered(native, entry))
		return 0;
	native_body_collect(native, entry);
	if (passes_on(function) && native->body.calls_covered)
		return 0;
	r = native_match_body(native, function);
	if (r < 0)
		return r;
	native_cover(native, entry);
	cover_tail_calls(native);
	return 0;
}

int native_match(struct code *code, const struct native_entries *entries, struct native_sites *ret)
{
	CLEANUP(symbols_free) struct symbols *symbols = NULL;
	_cleanup_free_ struct native *native = calloc(1, sizeof(*native));
	_cleanup_free_ uint8_t *seen = calloc(code_count(code) / 8 + 1, 1);
	int r;

	if (!native || !seen)
		return -ENOMEM;
	r = symbols_new(&symbols);
	if (r < 0)
		return r;
	if (entries->at[NATIVE_MALLOC] == CODE_NONE || entries->at[NATIVE_FREE] == CODE_NONE)
		return -ENOENT;
	ret->n = ret->unresolved = 0;
	native->code = code;
	native->symbols = symbols;
	native->entries = entries;
	native->sites = ret;
	native->seen = seen;
	/* realloc(p, 0) may go on there: it returns nothing. */
	native_cover(native, entries->at[NATIVE_FREE]);
	r = native_match_entry(native, NATIVE_FREE, SITE_NATIVE_FREE);
	if (r == 0)
		r = native_match_entry(native, NATIVE_REALLOC, SITE_REALLOC_ENTER);
	for (int i = NATIVE_MALLOC; i < NATIVE_FUNCTIONS && r == 0; i++)
		r = match_function(native, (enum native_function)i);
	return r;
}

/* --- of an image --------------------------------------------------------------------------- */

struct resolver {
	const struct image *image;
	const struct code *code;
};

/* A PLT's entry jumps through a slot of the GOT: to what that is bound to within the image. */
static size_t resolve_stub(uint64_t vaddr, void *context)
{
	const struct resolver *resolver = context;
	const uint8_t *bytes = image_bytes(resolver->image, vaddr, PLT_STUB_MAX);
	uint64_t target;
	int32_t relative;
	size_t at = 0;

	if (!bytes)
		return CODE_NONE;
	if (!memcmp(bytes, "\xf3\x0f\x1e\xfa", 4)) /* endbr64 */
		at = 4;
	at += bytes[at] == 0xf2;			/* bnd */
	if (bytes[at] != 0xff || bytes[at + 1] != 0x25) /* jmp [rip + relative] */
		return CODE_NONE;
	memcpy(&relative, bytes + at + 2, sizeof(relative));
	if (image_slot_target(resolver->image, vaddr + at + 6 + (uint64_t)(int64_t)relative,
			      &target) < 0)
		return CODE_NONE;
	return code_index(resolver->code, target);
}

static size_t entry_of(const struct image *image, const struct code *code, const char *name)
{
	struct image_symbol symbol;

	if (image_symbol(image, name, &symbol) < 0)
		return CODE_NONE;
	return code_index(code, symbol.vaddr);
}

static int fill_plan(const struct native_sites *sites, struct plan_builder *builder)
{
	int r = 0;

	builder->plan->statistics.unresolved = sites->unresolved;
	for (size_t i = 0; i < sites->n && r == 0; i++)
		r = plan_builder_add(builder, sites->items[i].at, &sites->items[i].site);
	return r == 0 ? plan_builder_finish(builder) : r;
}

static int match_image(const struct image *image, struct code *code, struct plan *plan)
{
	_cleanup_free_ struct native_sites *sites = malloc(sizeof(*sites));
	struct resolver resolver = {image, code};
	struct plan_builder builder = {.image = image, .code = code, .plan = plan};
	struct native_entries entries = {.resolve = resolve_stub, .context = &resolver};
	int r;

	if (!sites)
		return -ENOMEM;
	entries.n_functions = image_function_ranges(image, &entries.functions);
	for (size_t i = 0; i < NATIVE_FUNCTIONS; i++)
		entries.at[i] = entry_of(image, code, native_roles[i].name);
	r = native_match(code, &entries, sites);
	return r == 0 ? fill_plan(sites, &builder) : r;
}

int plan_make_native(const struct image *image, struct plan **ret, struct fault *reterr_fault)
{
	CLEANUP(code_free) struct code *code = NULL;
	CLEANUP(plan_free) struct plan *plan = NULL;
	int r;

	r = code_new(image, &code, reterr_fault);
	if (r < 0)
		return r;
	r = plan_new(image, &plan);
	if (r < 0)
		return r;
	r = match_image(image, code, plan);
	if (r == -ENOENT)
		return fault_set(reterr_fault, -ENOENT, REASON_NO_PLAN, 0, "malloc");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(plan);
	return 0;
}
