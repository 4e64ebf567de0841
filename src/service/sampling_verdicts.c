/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Of each site of the sampled mode: the evidence, and the verdict on it. */
#include <errno.h>
#include <math.h>

#include "base/table.h"
#include "service/sampling_estimates.h"
#include "service/sampling_private.h"

/* The judgement's name for what a site has that was never given back. */
static uint64_t zombies_key(const struct session *session, uint32_t site)
{
	return stacks_site(session->stacks, site)->key ^ 0x7a6f6d6269657321; /* "zombies!" */
}

struct judgement sampling_judgement(const struct session *session, uint64_t key)
{
	struct judgement judgement = {.verdict = VERDICT_WARMING};

	judge_site(session->judge, key, &judgement);
	return judgement;
}

/* What most of a site's bytes are of. */
struct main_type {
	uint64_t type; /* 0: of no one type */
	double objects;
	double objects_of_first, objects_gained; /* judge/sampled.h */
};

/*
 * What must grow if this site does: the pools, or what lies outside of them.  Of the pools' objects
 * there are more and more of their type; that has less noise than all that lives.
 */
static struct judgement judge_whole(const struct session *session, const struct site_estimate *site,
				    uint64_t type)
{
	struct judgement heap = sampling_judgement(session, SESSION_HEAP_KEY);
	struct judgement rest = sampling_judgement(session, SAMPLING_REST_KEY);
	double outside = site->chunk_bytes + site->mapped_bytes;
	struct judgement of_type;

	if (type && session->sampling->focus) {
		focus_judge(session->sampling->focus, type, &of_type);
		heap = of_type.verdict > heap.verdict ? of_type : heap;
	}
	if (outside > site->bytes.value / 2)
		return rest;
	if (outside + site->buffer_bytes > site->bytes.value / 2)
		return rest.verdict > heap.verdict ? rest : heap;
	return heap;
}

#define NEEDED_RATIO_MIN 0.5
#define NEEDED_RATIO_MAX 4

/* What most of the estimate rests on: survivors, or what made the heap larger. */
static bool is_by_growth(const struct site_estimate *site)
{
	return site->growth.bytes > site->bytes.value / 2;
}

/*
 * Whether growth tells better when it was made: survivors name the site, and it needed about as
 * much memory as they weigh, in more of the session than they were met in.  A line that needed
 * far more than it keeps is churn that takes what a leak leaves it.
 */
static bool growth_decides(const struct site_estimate *site)
{
	double needed = (double)(site->growth.pool_bytes + site->growth.break_bytes);

	return is_by_growth(site) || (needed >= NEEDED_RATIO_MIN * site->bytes.value &&
				      needed <= NEEDED_RATIO_MAX * site->bytes.value &&
				      site_slices(site->counts) >= SAMPLED_DRAWS_GROWING &&
				      site_slices(site->growth.counts) >= SAMPLED_DRAWS_LEAK &&
				      site_slices(site->growth.counts) > site_slices(site->counts));
}

static unsigned draws_of(const struct site_estimate *site)
{
	return site_slices(growth_decides(site) ? site->growth.counts : site->counts);
}

/* Mappings are known whole: their own series speaks for them. */
static void judge_estimate(const struct session *session, uint64_t key,
			   const struct site_estimate *site, const struct main_type *type,
			   double time_seconds, struct judgement *ret)
{
	struct sampled_evidence evidence = {
		.own = sampling_judgement(session, key),
		.whole = judge_whole(session, site, type->type),
		.draws = draws_of(site),
		.exact = site->windows == 0 && !growth_decides(site),
		.seconds = time_seconds,
		.outstanding_bytes = site->bytes.value,
		.growth_bytes_per_second = site->bytes.value / time_seconds,
		.growth_low = site->bytes.low / time_seconds,
		.growth_high = site->bytes.high / time_seconds,
		.objects_gained = INFINITY,
	};

	if (site->mapped_bytes > site->bytes.value / 2) {
		*ret = evidence.own;
		return;
	}
	if (!growth_decides(site)) {
		evidence.objects = type->objects;
		evidence.objects_of_first = type->objects_of_first;
		evidence.objects_gained = type->objects_gained;
		evidence.since = SAMPLED_SLICES * fmin(site->since / time_seconds, 1);
		evidence.until = SAMPLED_SLICES * fmin(site->until / time_seconds, 1);
	}
	for (unsigned i = 0; i < SAMPLED_SLICES; i++)
		evidence.counts[i] = growth_decides(site) ? site->growth.counts[i] : site->made[i];
	sampled_judge(&evidence, ret);
	/* Who needed more is not always who keeps it. */
	if (ret->verdict == VERDICT_LEAK && growth_decides(site))
		ret->verdict = VERDICT_GROWING;
}

static struct main_type main_type(const struct site_type *types, size_t n, double ratio)
{
	double sum = 0;
	size_t most = 0;

	for (size_t i = 0; i < n; i++) {
		sum += types[i].bytes;
		most = types[i].bytes > types[most].bytes ? i : most;
	}
	if (n == 0 || types[most].bytes <= sum / 2 || !types[most].type)
		return (struct main_type){.objects_gained = INFINITY};
	return (struct main_type){
		.type = types[most].type,
		.objects = ratio * types[most].objects,
		.objects_gained = INFINITY,
	};
}

/* Of each type, what the site has that has most of it. */
static int find_first(const struct sampled_rows *rows, struct table *first)
{
	const struct site_type *types = rows->types;

	for (size_t i = 0; i < rows->n_types && types[i].site < rows->n_sites; i++) {
		const struct site_estimate *site = &rows->sites[types[i].site];
		double ratio = site_calibrated_ratio(site);
		uint64_t objects = (uint64_t)llround(fmin(ratio * types[i].objects, 1e15));
		uint64_t *most = types[i].type ? table_find(first, types[i].type) : NULL;

		/* Where growth has the say, what was seen of it has not been calibrated. */
		if (site->growth.bytes > 0)
			continue;
		if (most)
			*most = objects > *most ? objects : *most;
		else if (types[i].type && table_put(first, types[i].type, objects) == -ENOMEM)
			return -ENOMEM;
	}
	return 0;
}

/* Of a site, outside of the pools: there the heap does not tell how many there are. */
#define UNCOUNTED_RATIO_MAX 0.1

/* What other lines, and the heap, have of the type. */
static void compare(const struct session *session, const struct site_estimate *site,
		    const struct table *first, struct main_type *type)
{
	uint64_t objects;

	if (!type->type)
		return;
	if (table_get(first, type->type, &objects) == 0)
		type->objects_of_first = (double)objects;
	if (session->sampling->focus &&
	    site->chunk_bytes + site->mapped_bytes < UNCOUNTED_RATIO_MAX * site->bytes.value)
		type->objects_gained = focus_gained_objects(session->sampling->focus, type->type);
}

int sampling_verdicts(const struct session *session, const struct sampled_rows *rows,
		      struct judgement *ret)
{
	struct table first = table_init(rows->n_types + 1);
	int r = find_first(rows, &first);
	size_t at = 0;

	for (uint32_t i = 0; r == 0 && i < rows->n_sites; i++) {
		size_t from = at;
		struct main_type type;

		while (at < rows->n_types && rows->types[at].site == i)
			at++;
		if (rows->sites[i].bytes.value < 1)
			continue;
		type = main_type(rows->types + from, at - from,
				 site_calibrated_ratio(&rows->sites[i]));
		if (!rows->zombies)
			compare(session, &rows->sites[i], &first, &type);
		judge_estimate(session,
			       rows->zombies ? zombies_key(session, i)
					     : stacks_site(session->stacks, i)->key,
			       &rows->sites[i], &type, rows->time_seconds, &ret[i]);
	}
	table_done(&first);
	return r;
}
