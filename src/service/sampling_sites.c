/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The governor's sites are those of the interpreter's plan, and behind them
 * those of the C library's.  A group of the governor's is one of the capture's
 * for each of the two files.
 *
 *	governor's group   0 … 6 python   7 native   8, 9 python   10 native   11 both
 *	capture's                                                              11, 12
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "service/sampling_private.h"

/* Functions beyond this size hold creations of unrelated types, as the evaluation loop does. */
#define CONSTRUCTOR_BYTES_MAX 2048

static uint16_t function_of(const struct image_range *functions, size_t n, uint64_t vaddr)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (functions[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || vaddr >= functions[low - 1].end ||
	    functions[low - 1].end - functions[low - 1].start > CONSTRUCTOR_BYTES_MAX ||
	    low - 1 >= GOVERNOR_CONSTRUCTOR_NONE)
		return GOVERNOR_CONSTRUCTOR_NONE;
	return (uint16_t)(low - 1);
}

/*
 * A constructor that takes from a free list, or else from the allocator, has a
 * site for each: hot and cold apart, the cold one would tell of objects that
 * others have taken over through the hot one.
 */
static void fill_constructors(const struct image *image, const struct plan *plan, uint16_t *ret)
{
	const struct image_range *functions;
	size_t n = image_function_ranges(image, &functions);

	for (size_t i = 0; i < plan->n_sites; i++)
		if (plan->sites[i].kind == SITE_CREATE)
			ret[i] = function_of(functions, n, plan->sites[i].vaddr);
}

/* Objects by their creations; what others ask of the C library by its allocations. */
static uint8_t governed_kind(const struct plan_site *site)
{
	switch (site->kind) {
	case SITE_CREATE:
	case SITE_CALLER:
	case SITE_NATIVE_ALLOC:
	case SITE_REALLOC_ENTER:
	case SITE_REALLOC_RETURN:
		return site->kind;
	default:
		return GOVERNOR_NOT_GOVERNED;
	}
}

static const struct plan *plan_of(const struct session *session, unsigned file)
{
	return file == SAMPLING_PYTHON ? session->target->python.plan :
					 session->target->libc.plan;
}

int sampling_sites_init(struct session *session, struct sampling *sampling)
{
	const struct plan *native = plan_of(session, SAMPLING_NATIVE);

	sampling->n_python = plan_of(session, SAMPLING_PYTHON)->n_sites;
	sampling->n_sites = sampling->n_python + (native ? native->n_sites : 0);
	sampling->site_hits = calloc(sampling->n_sites + 1, sizeof(*sampling->site_hits));
	sampling->group_of_site = malloc(sampling->n_sites + 1);
	if (!sampling->site_hits || !sampling->group_of_site)
		return -ENOMEM;
	memset(sampling->group_of_site, SAMPLING_NO_GROUP, sampling->n_sites + 1);
	return 0;
}

int sampling_make_governor(struct session *session, struct sampling *sampling)
{
	const struct opening_file *python = &session->target->python;
	const struct plan *native = plan_of(session, SAMPLING_NATIVE);
	_cleanup_free_ uint8_t *kinds = calloc(sampling->n_sites + 1, sizeof(*kinds));
	_cleanup_free_ uint16_t *constructors =
		malloc((sampling->n_sites + 1) * sizeof(*constructors));
	struct governor_options options = {
		.budget_ratio = sampling->budget_ratio / SAMPLING_AFTER_RATIO,
		.hit_seconds = sampling_price_init(&sampling->price),
		.n_sites = sampling->n_sites,
		.site_kinds = kinds,
		.site_constructors = constructors,
		.seed = clock_monotonic_ns(),
	};

	if (!kinds || !constructors)
		return -ENOMEM;
	memset(constructors, 0xff, (sampling->n_sites + 1) * sizeof(*constructors));
	for (size_t i = 0; i < sampling->n_python; i++)
		kinds[i] = governed_kind(&python->plan->sites[i]);
	for (size_t i = sampling->n_python; i < sampling->n_sites; i++)
		kinds[i] = governed_kind(&native->sites[i - sampling->n_python]);
	fill_constructors(python->image, python->plan, constructors);
	session->hit_seconds = options.hit_seconds;
	return governor_new(&options, 0, &sampling->governor);
}

/* --- groups --- */

/* The capture's group with the part of a group of the governor's that lies in a file. */
static unsigned capture_group_of(unsigned group, unsigned file)
{
	return group == GOVERNOR_GROUP_SLICES && file == SAMPLING_NATIVE ?
		       SAMPLING_GROUP_NATIVE_SLICES :
		       group;
}

/* How many of the capture's groups it is: the first file's stands for either. */
static unsigned parts_of(unsigned group)
{
	return group == GOVERNOR_GROUP_SLICES ? SAMPLING_FILES : 1;
}

static bool is_of_file(const struct sampling *sampling, uint16_t site, unsigned file)
{
	return (site < sampling->n_python) == (file == SAMPLING_PYTHON);
}

static int open_part(struct session *session, const struct governor_step *step, unsigned file)
{
	struct sampling *sampling = session->sampling;
	_cleanup_free_ uint16_t *sites = calloc(step->n_sites + 1, sizeof(*sites));
	unsigned group = capture_group_of(step->group, file);
	size_t n = 0;
	int r;

	if (!sites)
		return -ENOMEM;
	for (size_t i = 0; i < step->n_sites; i++)
		if (is_of_file(sampling, step->sites[i], file))
			sites[n++] = (uint16_t)(step->sites[i] -
						(file == SAMPLING_PYTHON ? 0 : sampling->n_python));
	if (n == 0)
		return 0;
	r = capture_group_define(session->capture, group, file, sites, n);
	if (r < 0)
		return r;
	/* A window begins for all of its sites at once: when they are in. */
	return capture_group_open(session->capture, group,
				  step->group < GOVERNOR_ALWAYS_ON_GROUPS ? step->hits_max :
									    CAPTURE_SILENT,
				  NULL);
}

void sampling_refill(struct session *session, unsigned group, uint64_t hits_max)
{
	for (unsigned file = 0; file < parts_of(group); file++)
		capture_group_refill(session->capture, capture_group_of(group, file), hits_max);
}

int sampling_open_sites(struct session *session, const struct governor_step *step)
{
	struct sampling *sampling = session->sampling;
	int r = open_part(session, step, SAMPLING_PYTHON);

	if (r == 0)
		r = open_part(session, step, SAMPLING_NATIVE);
	if (r < 0) {
		sampling_close_sites(session, step->group, &(struct capture_group_use){ 0 });
		return r;
	}
	for (size_t i = 0; i < step->n_sites; i++)
		if (step->sites[i] < sampling->n_sites)
			sampling->group_of_site[step->sites[i]] = (uint8_t)step->group;
	return 0;
}

static void add_use(const struct capture_group_use *use, struct capture_group_use *sum)
{
	sum->hits += use->hits;
	sum->limited |= use->limited;
	if (!sum->produced_at_closing)
		sum->produced_at_closing = use->produced_at_closing;
}

void sampling_close_sites(struct session *session, unsigned group, struct capture_group_use *ret)
{
	for (unsigned file = 0; file < parts_of(group); file++) {
		struct capture_group_use use = { 0 };

		if (capture_group_close(session->capture, capture_group_of(group, file), &use) == 0)
			add_use(&use, ret);
	}
}

void sampling_group_use(const struct session *session, unsigned group,
			struct capture_group_use *ret)
{
	*ret = (struct capture_group_use){ 0 };
	for (unsigned file = 0; file < parts_of(group); file++) {
		struct capture_group_use use;

		if (capture_group_look(session->capture, capture_group_of(group, file), &use) == 0)
			add_use(&use, ret);
	}
}

uint64_t sampling_group_hits(const struct session *session, unsigned group)
{
	uint64_t hits = 0;

	for (unsigned file = 0; file < parts_of(group); file++)
		hits += capture_group_hits(session->capture, capture_group_of(group, file));
	return hits;
}

int sampling_count_sites(struct session *session)
{
	struct sampling *sampling = session->sampling;
	int r = capture_site_hits(session->capture, SAMPLING_PYTHON, sampling->site_hits,
				  sampling->n_python);

	if (r < 0 || sampling->n_sites == sampling->n_python)
		return r;
	return capture_site_hits(session->capture, SAMPLING_NATIVE,
				 sampling->site_hits + sampling->n_python,
				 sampling->n_sites - sampling->n_python);
}
