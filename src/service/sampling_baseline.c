/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/sampling_baseline.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/hash.h"

DEFINE_CLEANUP(struct baseline *, baseline_free)
DEFINE_CLEANUP(struct census *, census_free)

#define CLASS_STEP 16 /* bytes between size classes */

struct followed_class {
	uint64_t seen;	  /* blocks of it that the census had */
	uint64_t addresses[BASELINE_FOLLOWED_MAX];
	unsigned n, gone; /* addresses of those that live come first: n - gone */
};

struct baseline {
	uint64_t seed, draws;
	struct followed_class classes[PYMALLOC_CLASSES_MAX];
};

void baseline_free(struct baseline *baseline)
{
	free(baseline);
}

/* Each block of a class is among those followed with the same probability (a reservoir). */
static int draw(uint64_t address, uint64_t size_bytes, void *context)
{
	struct baseline *baseline = context;
	uint64_t number = size_bytes / CLASS_STEP;
	struct followed_class *class;
	uint64_t place;

	if (number == 0 || number > PYMALLOC_CLASSES_MAX)
		return 0;
	class = &baseline->classes[number - 1];
	class->seen++;
	if (class->n < BASELINE_FOLLOWED_MAX) {
		class->addresses[class->n++] = address;
		return 0;
	}
	place = hash_u64(hash_combine(baseline->seed, ++baseline->draws)) % class->seen;
	if (place < BASELINE_FOLLOWED_MAX)
		class->addresses[place] = address;
	return 0;
}

int baseline_new(const struct interpreter *interpreter, uint64_t seed, struct baseline **ret)
{
	CLEANUP(baseline_free) struct baseline *baseline = calloc(1, sizeof(*baseline));
	CLEANUP(census_free) struct census *census = NULL;
	int r;

	if (!baseline)
		return -ENOMEM;
	baseline->seed = seed;
	r = census_take(interpreter, false, &census, NULL);
	if (r < 0)
		return r;
	r = census_live_visit(census, draw, baseline);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(baseline);
	return 0;
}

static bool has_gone(const struct liveness_look *look)
{
	return look->answer == LIVENESS_DEAD || look->answer == LIVENESS_REUSED;
}

static void take_answers(struct followed_class *class, const struct liveness_look *looks,
			 unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++)
		if (!has_gone(&looks[i]))
			class->addresses[kept++] = looks[i].address;
	class->gone += n - kept;
}

int baseline_look(struct baseline *baseline, struct liveness *liveness)
{
	_cleanup_free_ struct liveness_look *looks =
		calloc((size_t)PYMALLOC_CLASSES_MAX * BASELINE_FOLLOWED_MAX, sizeof(*looks));
	size_t n = 0, at = 0;
	int r;

	if (!looks)
		return -ENOMEM;
	for (unsigned i = 0; i < PYMALLOC_CLASSES_MAX; i++)
		for (unsigned j = 0; j < baseline->classes[i].n - baseline->classes[i].gone; j++)
			looks[n++] = (struct liveness_look){
				.address = baseline->classes[i].addresses[j],
				.kind = LIVENESS_POOL_BLOCK,
				/* Whatever it holds, if only it is given out. */
				.has_fingerprint = true,
				.size_bytes = (i + 1ull) * CLASS_STEP,
			};
	if (n == 0)
		return 0;
	r = liveness_look(liveness, looks, n, NULL);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < PYMALLOC_CLASSES_MAX; i++) {
		unsigned living = baseline->classes[i].n - baseline->classes[i].gone;

		take_answers(&baseline->classes[i], looks + at, living);
		at += living;
	}
	return 0;
}

double baseline_gone_ratio(const struct baseline *baseline, unsigned size_class)
{
	const struct followed_class *class;

	if (size_class >= PYMALLOC_CLASSES_MAX || baseline->classes[size_class].n == 0)
		return NAN;
	class = &baseline->classes[size_class];
	return (double)class->gone / class->n;
}
