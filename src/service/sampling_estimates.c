/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/sampling_estimates.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "service/sampling_growth.h"
#include "service/sampling_private.h"
#include "service/site_sums.h"

static struct samples_query query_at(double time_seconds, bool zombies)
{
	return (struct samples_query){ .time = time_seconds,
				       .min_age_seconds = SAMPLING_AGE_MIN_SECONDS,
				       .at_rest = true,
				       .zombies = zombies };
}

/* --- the sums of samples, by site instead of stack --- */

static int by_site(const void *a, const void *b)
{
	const struct samples_cell *x = a, *y = b;

	if (x->stack != y->stack)
		return x->stack < y->stack ? -1 : 1;
	if (x->size_class != y->size_class)
		return x->size_class < y->size_class ? -1 : 1;
	return x->window < y->window ? -1 : x->window > y->window;
}

static int site_cells(const struct session *session, const struct samples_query *query,
		      struct samples_cell **ret, size_t *ret_n)
{
	int r = samples_cells(session->sampling->samples, query, ret, ret_n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < *ret_n; i++)
		(*ret)[i].stack = stacks_site_of(session->stacks, (*ret)[i].stack);
	qsort(*ret, *ret_n, sizeof(**ret), by_site);
	return 0;
}

/*
 * A window's number counts it among all windows of the session, whatever it was
 * for: one that could not have met the site is one without any of it, which
 * makes the interval a little wider, never narrower.
 */
static void to_estimate_cells(const struct samples_cell *cells, size_t n, struct estimate_cell *ret)
{
	for (size_t i = 0; i < n; i++)
		ret[i] = (struct estimate_cell){
			.stack = cells[i].stack,
			.bytes = cells[i].expanded_bytes,
			.weight = cells[i].weight,
			.thinning_variance = cells[i].thinning_variance,
			.cluster = cells[i].window ? cells[i].window - 1 : ESTIMATE_EXACT,
			.size_class = cells[i].size_class,
		};
}

/* Raw blocks of a class are not seen by class, so that no class is covered whole. */
static void fill_classes(const struct sampling *sampling, struct estimate_class *classes)
{
	for (unsigned i = 0; i < ESTIMATE_CLASSES; i++) {
		bool known = sampling->totals_valid && i < PYMALLOC_CLASSES_MAX;
		double block_bytes = 16.0 * (i + 1);
		double gone = known && sampling->followed ?
				      baseline_gone_ratio(sampling->followed, i) :
				      NAN;
		double baseline_bytes =
			known ? block_bytes * (double)sampling->baseline.class_blocks[i] : NAN;

		classes[i] = (struct estimate_class){
			.live_bytes = known ? block_bytes *
						      (double)sampling->totals.class_blocks[i] :
					      NAN,
			.baseline_bytes = baseline_bytes,
			/* Of a class that was empty nothing can have gone. */
			.gone_bytes = baseline_bytes == 0 ? 0 : gone * baseline_bytes,
		};
	}
}

static void add_counts(const struct samples_cell *cells, size_t n, struct site_estimate *sites)
{
	for (size_t i = 0; i < n; i++) {
		struct site_estimate *site = &sites[cells[i].stack];

		site->objects += cells[i].weight * cells[i].expanded_count;
		site->raw_bytes += cells[i].weight * cells[i].expanded_bytes;
		site->survivors += cells[i].count;
		site->seen[cells[i].window ? 1 + cells[i].stream : 0] += cells[i].count;
		if (cells[i].size_class == SAMPLES_CLASS_BUFFERS)
			site->buffer_bytes += cells[i].weight * cells[i].expanded_bytes;
		else if (cells[i].size_class >= PYMALLOC_CLASSES_MAX)
			site->chunk_bytes += cells[i].weight * cells[i].expanded_bytes;
	}
}

/* The weights' common error: that of the kind of window that is the least sure. */
static double weights_error(const struct sampling *sampling)
{
	double error = 0;

	for (unsigned group = 0; group < GOVERNOR_GROUPS; group++)
		if (sampling->clocks[group].n_windows)
			error = fmax(error, sampling->clocks[group].relative_error);
	return error;
}

/* calibrated: the census tells of these, by class. */
/*
 * Sites come in one group after the other while the session is young: what
 * leaked through one before that was in no window, or in few, and may be as
 * much as later in the same time.
 */
static void allow_for_learning(const struct sampling *sampling, double time_seconds,
			       struct site_estimate *sites, size_t n)
{
	double learned = sampling->learned_at > 0 ? sampling->learned_at : time_seconds / 2;
	double factor = time_seconds / fmax(time_seconds - learned, time_seconds / 4);

	for (size_t i = 0; i < n; i++)
		sites[i].bytes.high = fmax(sites[i].bytes.high, factor * sites[i].bytes.value);
}

static int add_estimates(const struct session *session, const struct samples_cell *cells, size_t n,
			 bool calibrated, struct site_estimate *sites, size_t n_sites)
{
	const struct sampling *sampling = session->sampling;
	const struct estimate_design design = {
		.n_clusters = sampling->last_window,
		.relative_error = weights_error(sampling),
	};
	_cleanup_free_ struct estimate_cell *inputs = calloc(n + 1, sizeof(*inputs));
	_cleanup_free_ struct estimate *estimates = calloc(n_sites + 1, sizeof(*estimates));
	struct estimate_class classes[ESTIMATE_CLASSES] = { 0 };
	size_t n_estimates;
	int r;

	if (!inputs || !estimates)
		return -ENOMEM;
	to_estimate_cells(cells, n, inputs);
	fill_classes(sampling, classes);
	r = estimate_classes(inputs, n, &design, classes);
	if (r < 0)
		return r;
	r = estimate_stacks(inputs, n, &design, calibrated ? classes : NULL, estimates, n_sites,
			    &n_estimates);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_estimates; i++) {
		struct site_estimate *site = &sites[estimates[i].stack];

		site->bytes = estimates[i].total;
		site->windows = estimates[i].windows;
		/* Objects are as many as the bytes allow. */
		if (site->raw_bytes > 0)
			site->objects *= site->bytes.value / site->raw_bytes;
	}
	allow_for_learning(sampling, sampling->now, sites, n_sites);
	return 0;
}

/* --- when they were made --- */

static int add_cohorts(const struct session *session, const struct samples_query *query,
		       struct site_estimate *sites, size_t n_sites)
{
	_cleanup_free_ struct samples_cohorts *cohorts = NULL;
	size_t n;
	int r;

	_Static_assert(SAMPLED_SLICES == SAMPLES_SLICES, "slices of the ledger and the judgement");
	r = samples_cohorts(session->sampling->samples, query, &cohorts, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_sites; i++)
		sites[i].since = INFINITY;
	for (size_t i = 0; i < n; i++) {
		struct site_estimate *site =
			&sites[stacks_site_of(session->stacks, cohorts[i].stack)];

		site->since = fmin(site->since, cohorts[i].since);
		site->until = fmax(site->until, cohorts[i].until);
		for (unsigned slice = 0; slice < SAMPLED_SLICES; slice++) {
			site->counts[slice] += cohorts[i].counts[slice];
			site->always_on[slice] += cohorts[i].always_on[slice];
			site->made[slice] += cohorts[i].estimated_counts[slice];
		}
	}
	return 0;
}

/* --- what is seen whole, all the time --- */

static int add_mappings(const struct session *session, struct site_estimate *sites, size_t n)
{
	_cleanup_free_ struct site_sum *sums = NULL;
	size_t n_sums;
	int r;

	r = site_sums(session->ledger, session->stacks, &sums, &n_sums);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_sums; i++) {
		struct site_estimate *site = &sites[sums[i].site];
		double bytes = (double)sums[i].outstanding_bytes;

		if (sums[i].site >= n)
			continue;
		site->bytes.value += bytes;
		site->bytes.low += bytes;
		site->bytes.high += bytes;
		site->mapped_bytes += bytes;
		site->objects += (double)sums[i].outstanding_blocks;
	}
	return 0;
}

/* By class, what sites explain that were met often enough to be named by survivors. */
static void explain(const struct samples_cell *cells, size_t n, const struct site_estimate *sites,
		    double *ret)
{
	for (size_t i = 0; i < n; i++) {
		const struct site_estimate *site = &sites[cells[i].stack];

		if (site_slices(site->counts) >= SAMPLED_DRAWS_LEAK)
			ret[cells[i].size_class] += cells[i].weight * cells[i].expanded_bytes;
	}
}

/* explained: ESTIMATE_CLASSES; NULL: of zombies. */
static int add_samples(const struct session *session, const struct samples_query *query,
		       struct site_estimate *sites, size_t n, double *explained)
{
	_cleanup_free_ struct samples_cell *cells = NULL;
	size_t n_cells;
	int r;

	r = site_cells(session, query, &cells, &n_cells);
	if (r < 0)
		return r;
	add_counts(cells, n_cells, sites);
	r = add_estimates(session, cells, n_cells, explained, sites, n);
	if (r == 0)
		r = add_cohorts(session, query, sites, n);
	if (r == 0 && explained)
		explain(cells, n_cells, sites, explained);
	return r;
}

int sampling_zombies(const struct session *session, double time_seconds,
		     struct site_estimate **ret, size_t *ret_n)
{
	const struct samples_query query = query_at(time_seconds, true);
	_cleanup_free_ struct site_estimate *sites = NULL;
	size_t n = stacks_n_sites(session->stacks);
	int r;

	sites = calloc(n, sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	r = add_samples(session, &query, sites, n, NULL);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(sites);
	*ret_n = n;
	return 0;
}

int sampling_estimates(const struct session *session, double time_seconds,
		       struct site_estimate **ret, size_t *ret_n)
{
	const struct samples_query query = query_at(time_seconds, false);
	_cleanup_free_ struct site_estimate *sites = NULL;
	double explained[ESTIMATE_CLASSES] = { 0 };
	size_t n = stacks_n_sites(session->stacks);
	int r;

	sites = calloc(n, sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	r = add_samples(session, &query, sites, n, explained);
	if (r < 0)
		return r;
	r = add_mappings(session, sites, n);
	if (r < 0)
		return r;
	r = sampling_growth_estimate(session, time_seconds, explained, sites, n);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(sites);
	*ret_n = n;
	return 0;
}

/* --- types --- */

static int by_site_and_type(const void *a, const void *b)
{
	const struct site_type *x = a, *y = b;

	if (x->site != y->site)
		return x->site < y->site ? -1 : 1;
	return x->type < y->type ? -1 : x->type > y->type;
}

static size_t merge_types(struct site_type *types, size_t n)
{
	size_t kept = 0;

	qsort(types, n, sizeof(*types), by_site_and_type);
	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && by_site_and_type(&types[kept - 1], &types[i]) == 0) {
			types[kept - 1].objects += types[i].objects;
			types[kept - 1].bytes += types[i].bytes;
		} else {
			types[kept++] = types[i];
		}
	}
	return kept;
}

int sampling_types(const struct session *session, double time_seconds, bool zombies,
		   struct site_type **ret, size_t *ret_n)
{
	const struct samples_query query = query_at(time_seconds, zombies);
	_cleanup_free_ struct samples_type_sum *sums = NULL;
	struct site_type *types;
	size_t n;
	int r;

	r = samples_types(session->sampling->samples, &query, &sums, &n);
	if (r < 0)
		return r;
	types = calloc(n + 1, sizeof(*types));
	if (!types)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		types[i] = (struct site_type){
			.site = stacks_site_of(session->stacks, sums[i].stack),
			.type = sums[i].type,
			.objects = sums[i].estimated_count,
			.bytes = sums[i].estimated_bytes + sums[i].estimated_buffer_bytes,
		};
	*ret = types;
	*ret_n = merge_types(types, n);
	return 0;
}
