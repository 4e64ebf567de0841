/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/sampling_focus.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "service/sampling_private.h"

/*
 * Between two looks: what grows is to be known within seconds at first, a part of the time that has
 * passed is soon enough later; longer where a look takes long: so much of the time at most.
 */
#define LOOK_SECONDS 1.0
#define LOOK_SECONDS_MAX 10.0
#define LOOK_TIME_RATIO (1 / 30.0)
#define LOOK_RATIO 0.01
/*
 * A type grows if there are so many more of it, at this look and at the one
 * before: what is in flight comes and goes.
 */
#define GROWN_OBJECTS_MIN 16
/* Of some pools only: what moves between these and the others is no growth. */
#define DRAWN_OBJECTS_MIN 4
/* Of what all types that grow have gained together. */
#define GROWN_SHARE_MIN 0.03

/* Types that are told to the judgement, at most. */
#define TOLD_MAX 64

struct grown {
	uint64_t type;
	double bytes;
};

struct focus {
	const struct interpreter *interpreter;
	struct type_cache *types;
	unsigned shift; /* one pool in 2^shift is looked at; the heap has grown since the start */
	double first_scale;
	struct type_count *first, *last; /* by type; last: at the look before */
	size_t n_first, n_last;
	double *least; /* objects of the types of first, in all pools, when there were least */
	struct grown grown[FOCUS_TYPES_MAX]; /* most bytes first */
	size_t n_grown;
	double gained_bytes;
	double next_at;
	/* What types that have grown once have gained, over time. */
	struct judge *judge;
	uint64_t told[TOLD_MAX];
	size_t n_told;
};

DEFINE_CLEANUP(struct focus *, focus_free)
DEFINE_CLEANUP(struct census *, census_free)

void focus_free(struct focus *focus)
{
	if (!focus)
		return;
	judge_free(focus->judge);
	free(focus->first);
	free(focus->least);
	free(focus->last);
	free(focus);
}

static int by_type(const void *a, const void *b)
{
	const struct type_count *x = a, *y = b;

	return x->type < y->type ? -1 : x->type > y->type;
}

/* Live objects by type, sorted by type. */
static int count(struct focus *focus, struct type_count **ret, size_t *ret_n)
{
	CLEANUP(census_free) struct census *census = NULL;
	int r = census_take_share(focus->interpreter, focus->shift, &census, NULL);

	if (r == 0)
		r = heap_types(focus->types, census, ret, ret_n, NULL);
	if (r < 0)
		return r;
	if (*ret_n)
		qsort(*ret, *ret_n, sizeof(**ret), by_type);
	return 0;
}

int focus_new(const struct interpreter *interpreter, struct type_cache *types, uint64_t arena_bytes,
	      struct focus **ret)
{
	CLEANUP(focus_free) struct focus *focus = calloc(1, sizeof(*focus));
	int r;

	if (!focus)
		return -ENOMEM;
	focus->interpreter = interpreter;
	focus->types = types;
	focus->next_at = LOOK_SECONDS;
	while (arena_bytes >> focus->shift > FOCUS_HEAP_BYTES)
		focus->shift++;
	focus->first_scale = (double)(1ull << focus->shift);
	r = judge_new(TOLD_MAX, &focus->judge);
	if (r == 0)
		r = count(focus, &focus->first, &focus->n_first);
	if (r < 0)
		return r;
	focus->least = calloc(focus->n_first + 1, sizeof(*focus->least));
	if (!focus->least)
		return -ENOMEM;
	for (size_t i = 0; i < focus->n_first; i++)
		focus->least[i] = focus->first_scale * (double)focus->first[i].objects;
	*ret = TAKE_PTR(focus);
	return 0;
}

double focus_gained_bytes(const struct focus *focus)
{
	return focus->gained_bytes;
}

/* --- what grows --- */

static const struct type_count *find(const struct type_count *counts, size_t n, uint64_t type)
{
	const struct type_count key = { .type = type };

	return n ? bsearch(&key, counts, n, sizeof(key), by_type) : NULL;
}

static struct type_count count_of(const struct type_count *counts, size_t n, uint64_t type)
{
	const struct type_count *found = find(counts, n, type);

	return found ? *found : (struct type_count){ .type = type };
}

/* What there is of a type now, and was at the start, in the pools that are looked at now. */
struct change {
	double first_objects, objects, bytes;
};

/* Of a type for good: the least of this look and the one before. */
static struct change change_of(const struct focus *focus, const struct type_count *now,
			       bool for_good)
{
	struct type_count first = count_of(focus->first, focus->n_first, now->type);
	double share = focus->first_scale / (double)(1ull << focus->shift);
	struct type_count least = *now;

	if (for_good && focus->last) {
		least = count_of(focus->last, focus->n_last, now->type);
		if (now->bytes < least.bytes)
			least = *now;
	}
	return (struct change){
		.first_objects = (double)first.objects * share,
		.objects = (double)least.objects - (double)first.objects * share,
		.bytes = (double)least.bytes - (double)first.bytes * share,
	};
}

static void note_least(struct focus *focus, const struct type_count *now, size_t n)
{
	double scale = (double)(1ull << focus->shift);

	for (size_t i = 0; i < focus->n_first; i++) {
		struct type_count found = count_of(now, n, focus->first[i].type);

		focus->least[i] = fmin(focus->least[i], scale * (double)found.objects);
	}
}

double focus_gained_objects(const struct focus *focus, uint64_t type)
{
	const struct type_count *first = find(focus->first, focus->n_first, type);
	double scale = (double)(1ull << focus->shift), objects, error = 0;

	if (!focus->last)
		return INFINITY;
	objects = (double)count_of(focus->last, focus->n_last, type).objects;
	/* Never counted: of some types the heap does not tell that they are objects. */
	if (!first && objects <= 0)
		return INFINITY;
	if (focus->shift)
		error = DRAWN_OBJECTS_MIN + 2 * sqrt(objects);
	return scale * (objects + error) - (first ? focus->least[first - focus->first] : 0);
}

/* Bytes that a type has gained for good; 0: it has not. */
static double gained(const struct focus *focus, const struct type_count *now)
{
	double scale = (double)(1ull << focus->shift), least = GROWN_OBJECTS_MIN / scale;
	struct change change;

	if (!now->type)
		return 0;
	change = change_of(focus, now, true);
	if (focus->shift)
		least = fmax(least, DRAWN_OBJECTS_MIN + 2 * sqrt(change.first_objects));
	return change.objects < least ? 0 : fmax(change.bytes, 0) * scale;
}

static void rank(struct focus *focus, uint64_t type, double bytes)
{
	size_t at = focus->n_grown;

	while (at > 0 && focus->grown[at - 1].bytes < bytes)
		at--;
	if (at == FOCUS_TYPES_MAX)
		return;
	if (focus->n_grown < FOCUS_TYPES_MAX)
		focus->n_grown++;
	for (size_t i = focus->n_grown - 1; i > at; i--)
		focus->grown[i] = focus->grown[i - 1];
	focus->grown[at] = (struct grown){type, bytes};
}

static void find_grown(struct focus *focus, const struct type_count *now, size_t n)
{
	double scale = (double)(1ull << focus->shift), sum = 0;

	focus->n_grown = 0;
	focus->gained_bytes = 0;
	for (size_t i = 0; i < n; i++) {
		double bytes = gained(focus, &now[i]);

		if (bytes <= 0)
			continue;
		sum += bytes;
		focus->gained_bytes += scale * change_of(focus, &now[i], false).bytes;
		rank(focus, now[i].type, bytes);
	}
	while (focus->n_grown > 0 &&
	       focus->grown[focus->n_grown - 1].bytes < GROWN_SHARE_MIN * sum)
		focus->n_grown--;
}

/* --- how it grows --- */

static void tell(struct focus *focus, uint64_t type)
{
	for (size_t i = 0; i < focus->n_told; i++)
		if (focus->told[i] == type)
			return;
	if (focus->n_told < TOLD_MAX)
		focus->told[focus->n_told++] = type;
}

/* All at one time, each from when it has grown first: before that it had gained nothing. */
static void observe(struct focus *focus, const struct type_count *now, size_t n, double at)
{
	double scale = (double)(1ull << focus->shift);

	for (size_t i = 0; i < focus->n_grown; i++)
		tell(focus, focus->grown[i].type);
	for (size_t i = 0; i < focus->n_told; i++) {
		struct type_count found = count_of(now, n, focus->told[i]);
		struct change change = change_of(focus, &found, false);

		judge_observe(focus->judge, focus->told[i], at,
			      (uint64_t)(scale * fmax(change.bytes, 0)),
			      (uint64_t)(scale * fmax(change.objects, 0)));
	}
}

void focus_judge(const struct focus *focus, uint64_t type, struct judgement *ret)
{
	*ret = (struct judgement){ .verdict = VERDICT_WARMING };
	judge_site(focus->judge, type, ret);
}

bool focus_is_sure(const struct focus *focus)
{
	for (size_t i = 0; i < focus->n_told; i++) {
		struct judgement judgement;

		focus_judge(focus, focus->told[i], &judgement);
		if (judgement.verdict == VERDICT_LEAK)
			return true;
	}
	return false;
}

/* --- who makes it --- */

static void tell_governor(struct session *session, double now)
{
	uint16_t sites[FOCUS_TYPES_MAX * SAMPLES_MAKERS_MAX];
	struct sampling *sampling = session->sampling;
	const struct focus *focus = sampling->focus;
	size_t n = 0;

	for (size_t i = 0; i < focus->n_grown; i++)
		n += samples_type_makers(sampling->samples, focus->grown[i].type, sites + n);
	if (governor_focus(sampling->governor, now, sites, n))
		sampling_refocus(session, now);
}

/* A heap that has grown would take ever longer: fewer of its pools from now on. */
#define HEAP_GROWN 4

static void keep_short(struct focus *focus, uint64_t arena_bytes)
{
	while (arena_bytes >> focus->shift > HEAP_GROWN * FOCUS_HEAP_BYTES) {
		focus->shift++;
		free(focus->last);
		focus->last = NULL;
		focus->n_last = 0;
	}
}

static double pause_after(double time_seconds)
{
	return fmin(fmax(time_seconds * LOOK_TIME_RATIO, LOOK_SECONDS), LOOK_SECONDS_MAX);
}

void sampling_focus_step(struct session *session, double time_seconds)
{
	struct focus *focus = session->sampling->focus;
	struct type_count *now = NULL;
	uint64_t began_ns = clock_monotonic_ns();
	size_t n;

	if (!focus || time_seconds < focus->next_at)
		return;
	keep_short(focus, session->sampling->totals.arena_bytes);
	if (count(focus, &now, &n) == 0) {
		find_grown(focus, now, n);
		observe(focus, now, n, time_seconds);
		note_least(focus, now, n);
		free(focus->last);
		focus->last = now;
		focus->n_last = n;
		tell_governor(session, time_seconds);
	}
	focus->next_at = time_seconds + fmax((double)(clock_monotonic_ns() - began_ns) /
						     NS_PER_SECOND / LOOK_RATIO,
					     pause_after(time_seconds));
}
