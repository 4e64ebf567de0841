/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Fills a plan with sites of decoded code; for those who make plans. */
#ifndef PYLEAKD_PROBES_BUILDER_H
#define PYLEAKD_PROBES_BUILDER_H

#include <stddef.h>
#include <stdint.h>

#include "probes/decode.h"
#include "probes/plan.h"
#include "probes/reachable.h"
#include "target/image.h"

/* An empty plan that carries the image's identity; plan_free(). */
int plan_new(const struct image *image, struct plan **ret);

struct plan_builder {
	const struct image *image; /* not owned, like the others */
	const struct code *code;
	struct plan *plan;
	const struct reachable *reachable; /* NULL: all code is run */
	size_t capacity;
	bool single_stepped; /* plan sites that the kernel does not emulate, too */
};

/*
 * Adds the instruction at index of the code: site brings kind, reg, value,
 * displacement and condition (and function, if it knows better), the rest is
 * filled in.  What must not be probed,
 * what is unreachable and what is not emulated is counted, not added.
 * -E2BIG: more than PLAN_SITES_MAX.
 */
int plan_builder_add(struct plan_builder *builder, size_t index, const struct plan_site *site);
/* Can the instruction be reached at all? What plan_builder_add() prunes can't. */
bool plan_builder_reaches(const struct plan_builder *builder, size_t index);
/* Sorts and counts. -ENOENT: no site. */
int plan_builder_finish(struct plan_builder *builder);

/* Static text: what a site of this kind is part of; NULL for a kind that has no one place. */
const char *plan_site_function(unsigned kind);

#endif
