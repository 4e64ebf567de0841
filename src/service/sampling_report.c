/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From samples to sites: what they estimate, for the judgement and for the report. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "report/snapshot_build.h"
#include "service/sampling_private.h"
#include "service/session_sites.h"
#include "service/site_sums.h"

DEFINE_CLEANUP(struct census *, census_free)

/* --- sums by site --- */

struct site_estimate {
	double bytes, objects;
	double mapped_bytes; /* of bytes, exact */
	double variance; /* of bytes */
	double window_bytes; /* of one window, while its cells are added up */
	uint32_t window;
	uint32_t windows; /* that have something of it */
};

static void end_window_of(struct site_estimate *site)
{
	/* Each window's sum is one draw: its square estimates its share of the variance. */
	if (site->window) {
		site->variance += site->window_bytes * site->window_bytes;
		site->windows++;
	}
	site->window_bytes = 0;
	site->window = 0;
}

static int by_site_and_window(const void *a, const void *b)
{
	const struct samples_cell *x = a, *y = b;

	if (x->stack != y->stack)
		return x->stack < y->stack ? -1 : 1;
	return x->window < y->window ? -1 : x->window > y->window;
}

/* Mappings are seen whole, all the time. */
static int add_mappings(const struct session *session, struct site_estimate *sites, size_t n)
{
	_cleanup_free_ struct site_sum *sums = NULL;
	size_t n_sums;
	int r;

	r = site_sums(session->ledger, session->stacks, &sums, &n_sums);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_sums; i++) {
		if (sums[i].site >= n)
			continue;
		sites[sums[i].site].bytes += (double)sums[i].outstanding_bytes;
		sites[sums[i].site].mapped_bytes += (double)sums[i].outstanding_bytes;
		sites[sums[i].site].objects += (double)sums[i].outstanding_blocks;
	}
	return 0;
}

/* Sites as indices of session->stacks; the array has stacks_n_sites() rows. */
static int estimate_sites(const struct session *session, double time_seconds,
			  struct site_estimate **ret, size_t *ret_n)
{
	const struct samples_query query = { .time = time_seconds,
					     .min_age_seconds = SAMPLING_AGE_MIN_SECONDS };
	_cleanup_free_ struct samples_cell *cells = NULL;
	_cleanup_free_ struct site_estimate *sites = NULL;
	size_t n_cells, n = stacks_n_sites(session->stacks);
	int r;

	r = samples_cells(session->sampling->samples, &query, &cells, &n_cells);
	if (r < 0)
		return r;
	sites = calloc(n, sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	for (size_t i = 0; i < n_cells; i++)
		cells[i].stack = stacks_site_of(session->stacks, cells[i].stack);
	qsort(cells, n_cells, sizeof(*cells), by_site_and_window);
	for (size_t i = 0; i < n_cells; i++) {
		struct site_estimate *site = &sites[cells[i].stack];
		double bytes = cells[i].weight * cells[i].expanded_bytes;

		if (site->window != cells[i].window)
			end_window_of(site);
		site->window = cells[i].window;
		site->bytes += bytes;
		site->objects += cells[i].weight * cells[i].expanded_count;
		if (cells[i].window)
			site->window_bytes += bytes;
		site->variance += cells[i].weight * cells[i].weight * cells[i].thinning_variance;
	}
	for (size_t i = 0; i < n; i++)
		end_window_of(&sites[i]);
	r = add_mappings(session, sites, n);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(sites);
	*ret_n = n;
	return 0;
}

/* --- the judgement --- */

static int forget_arena(uint64_t address, uint64_t size_bytes, void *context)
{
	ledger_forget_mapping(context, address, size_bytes);
	return 0;
}

static void take_totals(struct session *session)
{
	CLEANUP(census_free) struct census *census = NULL;
	struct sampling *sampling = session->sampling;

	if (census_take(session->interpreter, true, &census, NULL) < 0)
		return;
	sampling->totals = *census_totals(census);
	sampling->totals_valid = true;
	census_arenas_visit(census, forget_arena, session->ledger);
}

int sampling_account(struct session *session, double time_seconds, bool complete)
{
	struct sampling *sampling = session->sampling;
	_cleanup_free_ struct site_estimate *sites = NULL;
	size_t n;
	int r;

	r = sampling_look(session, time_seconds, complete);
	if (r < 0 && r != -ESRCH && r != -EAGAIN)
		return r;
	take_totals(session);
	if (sampling->totals_valid)
		judge_observe(session->judge, SESSION_HEAP_KEY, time_seconds,
			      sampling->totals.live_bytes, sampling->totals.live_blocks);
	r = estimate_sites(session, time_seconds, &sites, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (sites[i].bytes == 0)
			continue;
		r = judge_observe(session->judge, stacks_site(session->stacks, (uint32_t)i)->key,
				  time_seconds, (uint64_t)llround(sites[i].bytes),
				  (uint64_t)llround(sites[i].objects));
		if (r < 0 && r != -ENOSPC)
			return r;
	}
	return 0;
}

/* --- the report --- */

struct site_type {
	uint32_t site;
	uint64_t type;
	double objects, bytes;
};

static int by_site_and_type(const void *a, const void *b)
{
	const struct site_type *x = a, *y = b;

	if (x->site != y->site)
		return x->site < y->site ? -1 : 1;
	return x->type < y->type ? -1 : x->type > y->type;
}

static int types_by_site(const struct session *session, double time_seconds,
			 struct site_type **ret, size_t *ret_n)
{
	const struct samples_query query = { .time = time_seconds,
					     .min_age_seconds = SAMPLING_AGE_MIN_SECONDS };
	_cleanup_free_ struct samples_type_sum *sums = NULL;
	struct site_type *types;
	size_t n, kept = 0;
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
	qsort(types, n, sizeof(*types), by_site_and_type);
	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && types[kept - 1].site == types[i].site &&
		    types[kept - 1].type == types[i].type) {
			types[kept - 1].objects += types[i].objects;
			types[kept - 1].bytes += types[i].bytes;
		} else {
			types[kept++] = types[i];
		}
	}
	*ret = types;
	*ret_n = kept;
	return 0;
}

#define INTERVAL_DEVIATIONS 1.96

static int add_site(struct session *session, uint32_t index, const struct site_estimate *estimate,
		    const struct site_type *types, size_t n_types, struct snapshot *snapshot)
{
	_cleanup_free_ struct snapshot_type *of_site = calloc(n_types + 1, sizeof(*of_site));
	double half = INTERVAL_DEVIATIONS * sqrt(estimate->variance);
	double native_bytes = estimate->mapped_bytes;
	struct snapshot_site site = {
		.outstanding_bytes = (uint64_t)llround(estimate->bytes),
		.outstanding_objects = (uint64_t)llround(estimate->objects),
		.estimated = true,
		.outstanding_low = (uint64_t)llround(fmax(estimate->bytes - half, 0)),
		.outstanding_high = (uint64_t)llround(estimate->bytes + half),
		.domain = "object",
		.types = of_site,
	};

	if (!of_site)
		return -ENOMEM;
	for (size_t i = 0; i < n_types; i++) {
		const char *name = "?";

		if (!types[i].type) { /* a chunk of the C library's */
			native_bytes += types[i].bytes;
			continue;
		}
		type_cache_name(session->types, types[i].type, &name, NULL);
		of_site[site.n_types++] = (struct snapshot_type){
			name, (uint64_t)llround(types[i].objects), (uint64_t)llround(types[i].bytes)
		};
	}
	if (native_bytes > estimate->bytes / 2)
		site.domain = "native";
	session_site_frames(session, index, &site);
	session_site_judgement(session, index, &site);
	return snapshot_add_site(snapshot, &site);
}

int sampling_add_sites(struct session *session, struct snapshot *snapshot, double time_seconds)
{
	_cleanup_free_ struct site_estimate *sites = NULL;
	_cleanup_free_ struct site_type *types = NULL;
	size_t n_sites, n_types, at = 0;
	int r;

	r = estimate_sites(session, time_seconds, &sites, &n_sites);
	if (r < 0)
		return r;
	r = types_by_site(session, time_seconds, &types, &n_types);
	if (r < 0)
		return r;
	for (uint32_t site = 0; site < n_sites; site++) {
		size_t first = at;

		while (at < n_types && types[at].site == site)
			at++;
		if (sites[site].bytes < 1)
			continue;
		r = add_site(session, site, &sites[site], types + first, at - first, snapshot);
		if (r < 0)
			return r;
	}
	return 0;
}

void sampling_add_facts(const struct session *session, double time_seconds,
			struct snapshot *snapshot)
{
	const struct sampling *sampling = session->sampling;

	snapshot->mode = "sampled";
	snapshot->budget_ratio = sampling->budget_ratio;
	snapshot->overhead_ratio = governor_overhead_total(sampling->governor, time_seconds);
	snapshot->windows = sampling->windows;
	if (!sampling->totals_valid)
		return;
	snapshot->python_live_bytes = sampling->totals.live_bytes;
	snapshot->python_live_blocks = sampling->totals.live_blocks;
}
