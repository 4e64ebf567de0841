/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From estimates to verdicts, and to the report. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "report/snapshot_build.h"
#include "service/sampling_estimates.h"
#include "service/sampling_growth.h"
#include "service/sampling_private.h"
#include "service/session_sites.h"

DEFINE_CLEANUP(struct census *, census_free)

/* --- the judgement --- */

static int forget_arena(uint64_t address, uint64_t size_bytes, void *context)
{
	ledger_forget_mapping(context, address, size_bytes);
	return 0;
}

/* What requests hold while they run comes on top of what stays: the least of a few looks. */
#define FLOOR_LOOKS 4
#define FLOOR_HEAP_BYTES (64ull << 20) /* a larger heap is looked at once */

static int take_floor(const struct session *session, struct census **ret)
{
	CLEANUP(census_free) struct census *least = NULL;
	int r = census_take(session->interpreter, true, &least, NULL);

	for (unsigned i = 1; i < FLOOR_LOOKS && r == 0; i++) {
		CLEANUP(census_free) struct census *again = NULL;

		if (census_totals(least)->arena_bytes > FLOOR_HEAP_BYTES ||
		    census_take(session->interpreter, true, &again, NULL) < 0)
			break;
		if (census_totals(again)->live_bytes < census_totals(least)->live_bytes) {
			struct census *other = least;

			least = TAKE_PTR(again);
			census_free(other);
		}
	}
	if (r == 0)
		*ret = TAKE_PTR(least);
	return r;
}

/* By the counters of the pools and of the kernel: no sampling error. */
static void look_at_totals(struct session *session)
{
	CLEANUP(census_free) struct census *census = NULL;
	struct sampling *sampling = session->sampling;

	session_look_at_resident(session);
	if (session->moment != MOMENT_SESSION_END || take_floor(session, &census) < 0 ||
	    sampling_heap_ended(session))
		return;
	sampling->totals = *census_totals(census);
	sampling->totals_valid = true;
	census_arenas_visit(census, forget_arena, session->ledger);
	if (sampling->followed)
		baseline_look(sampling->followed, sampling->liveness);
}

/*
 * The judgement reckons in steps from point to point: two that lie side by side
 * would have the noise of the heap over no time at all.
 */
#define OBSERVED_SECONDS_MIN 0.5

static void judge_totals(struct session *session, double time_seconds)
{
	const struct census_totals *totals = &session->sampling->totals;
	uint64_t rest = sampling_rest_bytes(session, totals);

	if (session->sampling->totals_valid)
		judge_observe(session->judge, SESSION_HEAP_KEY, time_seconds, totals->live_bytes,
			      totals->live_blocks);
	judge_observe(session->judge, SAMPLING_REST_KEY, time_seconds, rest, 0);
}

/* While it is sure that something grows, and not what: at most a minute in ten. */
#define BURST_RATIO 0.05
#define BURST_SECONDS 60.0
#define NAMED_RATIO 0.5 /* of what has grown, by survivors of so many draws */
#define NAMED_DRAWS SAMPLED_DRAWS_LEAK

static bool is_sure_to_grow(const struct session *session)
{
	const struct judgement heap = sampling_judgement(session, SESSION_HEAP_KEY);

	return heap.verdict == VERDICT_GROWING || heap.verdict == VERDICT_LEAK ||
	       (session->sampling->focus && focus_is_sure(session->sampling->focus));
}

static void burst_where_unnamed(struct session *session, const struct site_estimate *sites,
				size_t n, double time_seconds)
{
	struct sampling *sampling = session->sampling;
	double named = 0;

	for (size_t i = 0; i < n; i++)
		if (site_slices(sites[i].counts) >= NAMED_DRAWS)
			named += sites[i].bytes.value - sites[i].growth.bytes;
	if (named >= NAMED_RATIO * sampling_gained_bytes(sampling))
		governor_burst_end(sampling->governor, time_seconds);
	else if (is_sure_to_grow(session))
		governor_burst(sampling->governor, time_seconds,
			       BURST_RATIO / SAMPLING_AFTER_RATIO, BURST_SECONDS);
}

static int judge_sites(struct session *session, double time_seconds)
{
	_cleanup_free_ struct site_estimate *sites = NULL;
	size_t n;
	int r = sampling_estimates(session, time_seconds, &sites, &n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (sites[i].bytes.value < 1)
			continue;
		r = judge_observe(session->judge, stacks_site(session->stacks, (uint32_t)i)->key,
				  time_seconds, (uint64_t)llround(sites[i].bytes.value),
				  (uint64_t)llround(sites[i].objects));
		if (r < 0 && r != -ENOSPC)
			return r;
	}
	burst_where_unnamed(session, sites, n, time_seconds);
	return 0;
}

int sampling_account(struct session *session, double time_seconds, bool complete)
{
	struct sampling *sampling = session->sampling;
	int r;

	/* What follows takes long. */
	if (sampling->open_window)
		sampling_close_group(session, sampling->window_group, time_seconds);
	sampling->accounted_at = time_seconds;
	r = sampling_look(session, time_seconds, complete);
	if (r < 0 && r != -ESRCH && r != -EAGAIN)
		return r;
	if (sampling_heap_ended(session))
		return 0;
	look_at_totals(session);
	if (sampling->observed && time_seconds - sampling->observed_at < OBSERVED_SECONDS_MIN)
		return 0;
	sampling->observed = true;
	sampling->observed_at = time_seconds;
	judge_totals(session, time_seconds);
	return judge_sites(session, time_seconds);
}

/* --- the report --- */

static uint64_t whole_bytes(double bytes)
{
	return bytes > 0 ? (uint64_t)llround(fmin(bytes, 1e18)) : 0;
}

static void set_types(struct session *session, const struct site_type *types, size_t n,
		      double ratio, struct snapshot_type *of_site, struct snapshot_site *ret)
{
	double untyped_bytes = 0, bytes = 0;

	ret->types = of_site;
	for (size_t i = 0; i < n; i++) {
		const char *name = "?";

		bytes += types[i].bytes;
		if (!types[i].type) {
			untyped_bytes += types[i].bytes;
			continue;
		}
		type_cache_name(session->types, types[i].type, &name, NULL);
		of_site[ret->n_types++] =
			(struct snapshot_type){name, whole_bytes(ratio * types[i].objects),
					       whole_bytes(ratio * types[i].bytes)};
	}
	if (n > 0 && untyped_bytes > bytes / 2)
		ret->domain = "native";
}

static void set_evidence(const struct site_estimate *site, struct snapshot_evidence *ret)
{
	*ret = (struct snapshot_evidence){
		.survivors = site->survivors,
		.windows = site->windows,
		.new_pools = site->growth.pools,
		.new_pool_bytes = site->growth.pool_bytes,
		.breaks = site->growth.breaks,
		.break_bytes = site->growth.break_bytes,
		.mapped_bytes = whole_bytes(site->mapped_bytes),
		.growth_bytes = whole_bytes(site->growth.bytes),
	};
}

/* A row of the report: a site's objects that live, or its zombies. */
struct told {
	uint32_t index;
	bool zombies;
	const struct site_estimate *estimate;
	const struct judgement *judgement;
	struct site_finding finding;
	const struct site_type *types;
	size_t n_types;
};

static int add_site(struct session *session, const struct told *told, struct snapshot *snapshot)
{
	const struct site_estimate *estimate = told->estimate;
	_cleanup_free_ struct snapshot_type *of_site = calloc(told->n_types + 1, sizeof(*of_site));
	struct snapshot_site site = {
		.outstanding_bytes = whole_bytes(estimate->bytes.value),
		.outstanding_objects = whole_bytes(estimate->objects),
		.estimated = true,
		.outstanding_low = whole_bytes(estimate->bytes.low),
		.outstanding_high = whole_bytes(estimate->bytes.high),
		.domain = "object",
		.zombies = told->zombies,
		.finding_number = told->finding.number,
		.finding_head = told->finding.head,
	};

	set_evidence(estimate, &site.evidence);
	if (!of_site)
		return -ENOMEM;
	set_types(session, told->types, told->n_types, site_calibrated_ratio(estimate), of_site,
		  &site);
	if (estimate->mapped_bytes + estimate->growth.break_bytes_told > estimate->bytes.value / 2)
		site.domain = "native";
	session_site_frames(session, told->index, &site);
	session_site_judged(told->judgement, &site);
	return snapshot_add_site(snapshot, &site);
}

static int add_rows(struct session *session, const struct site_estimate *sites, size_t n_sites,
		    bool zombies, double time_seconds, struct snapshot *snapshot)
{
	_cleanup_free_ struct judgement *judgements = calloc(n_sites + 1, sizeof(*judgements));
	_cleanup_free_ struct site_finding *findings = calloc(n_sites + 1, sizeof(*findings));
	_cleanup_free_ struct site_type *types = NULL;
	size_t n_types, at = 0;
	int r;

	if (!judgements || !findings)
		return -ENOMEM;
	r = sampling_types(session, time_seconds, zombies, &types, &n_types);
	if (r < 0)
		return r;
	r = sampling_verdicts(session,
			      &(struct sampled_rows){ sites, types, n_sites, n_types, zombies,
						      time_seconds },
			      judgements);
	if (r < 0)
		return r;
	r = zombies ? 0 : sampling_findings(sites, judgements, n_sites, findings);
	for (uint32_t i = 0; r >= 0 && i < n_sites; i++) {
		size_t first = at;

		while (at < n_types && types[at].site == i)
			at++;
		if (sites[i].bytes.value >= 1)
			r = add_site(session,
				     &(struct told){ i, zombies, &sites[i], &judgements[i],
						     findings[i], types + first, at - first },
				     snapshot);
	}
	return r;
}

/* Less than this is what comes and goes. */
#define GAINED_BYTES_MIN 65536.0

/* To an object's own bytes, what it owns besides, by the samples. */
static double owned_ratio(const struct session *session, double time_seconds)
{
	const struct samples_query query = { .time = time_seconds, .at_rest = true };
	_cleanup_free_ struct samples_type_sum *sums = NULL;
	double own = 0, owned = 0;
	size_t n;

	if (samples_types(session->sampling->samples, &query, &sums, &n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		own += sums[i].estimated_bytes;
		owned += sums[i].estimated_buffer_bytes;
	}
	return own > 0 ? owned / own : 0;
}

/*
 * Of what the pools have gained, the share that probed sites can have given
 * out: objects, which the heap itself tells from raw blocks, and what they own.
 */
static double coverage_ratio(const struct session *session, double time_seconds)
{
	const struct sampling *sampling = session->sampling;
	double gained = sampling_gained_bytes(sampling);

	if (!sampling->totals_valid || !sampling->totals.arena_bytes || !sampling->focus)
		return NAN;
	if (gained < GAINED_BYTES_MIN)
		return 1;
	return fmin(focus_gained_bytes(sampling->focus) *
			    (1 + owned_ratio(session, time_seconds)) / gained,
		    1);
}

int sampling_add_sites(struct session *session, struct snapshot *snapshot, double time_seconds)
{
	_cleanup_free_ struct site_estimate *sites = NULL, *zombies = NULL;
	size_t n_sites, n_zombies;
	int r;

	r = sampling_estimates(session, time_seconds, &sites, &n_sites);
	if (r < 0)
		return r;
	r = sampling_zombies(session, time_seconds, &zombies, &n_zombies);
	if (r < 0)
		return r;
	snapshot->coverage_ratio = coverage_ratio(session, time_seconds);
	r = add_rows(session, sites, n_sites, false, time_seconds, snapshot);
	return r < 0 ? r : add_rows(session, zombies, n_zombies, true, time_seconds, snapshot);
}

void sampling_add_facts(const struct session *session, double time_seconds,
			struct snapshot *snapshot)
{
	const struct sampling *sampling = session->sampling;

	snapshot->mode = sampling->attached ? "sampled" : "watch";
	sampling_add_refusals(session, time_seconds, snapshot);
	sampling_growth_add_refusals(session, time_seconds, snapshot);
	snapshot->budget_ratio = sampling->budget_ratio;
	snapshot->overhead_ratio = SAMPLING_AFTER_RATIO *
				   governor_overhead_total(sampling->governor, time_seconds);
	snapshot->windows = sampling->windows;
	if (!sampling->totals_valid)
		return;
	snapshot->python_live_bytes = sampling->totals.live_bytes;
	snapshot->python_live_blocks = sampling->totals.live_blocks;
	snapshot->python_growth_bytes_per_second =
		sampling_judgement(session, SESSION_HEAP_KEY).growth_bytes_per_second;
}
