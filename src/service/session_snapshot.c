/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What a session has to report, as a snapshot. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "report/snapshot_build.h"
#include "service/recorded.h"
#include "service/sampling.h"
#include "service/session_private.h"
#include "service/session_sites.h"
#include "service/site_sums.h"
#include "service/type_sums.h"

DEFINE_CLEANUP(struct snapshot *, snapshot_free)

static const char *const domain_names[LEDGER_DOMAINS] = {
	[LEDGER_OBJECT] = "object", [LEDGER_MEM] = "mem",	[LEDGER_RAW] = "raw",
	[LEDGER_NATIVE] = "native", [LEDGER_MAPPED] = "native",
};

/* Frames of the sites that are none. */
static const struct snapshot_frame unreadable_frame = { "<unreadable stack>", "", 0 };
static const struct snapshot_frame unknown_frame = { "<unknown stack>", "", 0 };

static const char *main_domain(const struct site_sum *sum)
{
	size_t most = 0;

	for (size_t i = 1; i < LEDGER_DOMAINS; i++)
		if (sum->domain_bytes[i] > sum->domain_bytes[most])
			most = i;
	return domain_names[most];
}

void session_site_frames(const struct session *session, uint32_t index, struct snapshot_site *ret)
{
	const struct stacks_site *site = stacks_site(session->stacks, index);

	ret->frames = site->frames;
	ret->n_frames = site->n_frames;
	ret->cut = site->cut;
	ret->other = index == STACKS_OTHER;
	if (index == STACKS_UNREADABLE || index == STACKS_UNKNOWN) {
		ret->frames = index == STACKS_UNKNOWN ? &unknown_frame : &unreadable_frame;
		ret->n_frames = 1;
	}
}

void session_site_judged(const struct judgement *judgement, struct snapshot_site *ret)
{
	ret->verdict = judgement->verdict;
	ret->growth_bytes_per_second = judgement->growth_bytes_per_second;
	ret->growth_low = judgement->growth_low;
	ret->growth_high = judgement->growth_high;
	ret->confidence_ratio = judgement->confidence_ratio;
}

/* Types of one site out of all, which are ascending by site; *cursor moves behind them. */
static int set_types(const struct type_sum *sums, size_t n_sums, size_t *cursor, uint32_t site,
		     struct snapshot_type **ret, size_t *ret_n)
{
	struct snapshot_type *types;
	size_t first = *cursor, n = 0;

	while (first < n_sums && sums[first].site < site)
		first++;
	while (first + n < n_sums && sums[first + n].site == site)
		n++;
	*cursor = first + n;
	types = calloc(n + 1, sizeof(*types));
	if (!types)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		types[i] = (struct snapshot_type){ sums[first + i].name, sums[first + i].objects,
						   sums[first + i].bytes };
	*ret = types;
	*ret_n = n;
	return 0;
}

static int add_site(const struct session *session, const struct site_sum *sum,
		    const struct type_sum *types, size_t n_types, size_t *cursor,
		    struct snapshot *snapshot)
{
	_cleanup_free_ struct snapshot_type *of_site = NULL;
	struct judgement judgement = { .verdict = VERDICT_WARMING };
	struct snapshot_site site = {
		.outstanding_bytes = sum->outstanding_bytes,
		.outstanding_objects = sum->outstanding_blocks,
		.domain = main_domain(sum),
	};
	int r;

	r = set_types(types, n_types, cursor, sum->site, &of_site, &site.n_types);
	if (r < 0)
		return r;
	if (sum->outstanding_blocks == 0)
		return 0;
	site.types = of_site;
	session_site_frames(session, sum->site, &site);
	judge_site(session->judge, stacks_site(session->stacks, sum->site)->key, &judgement);
	session_site_judged(&judgement, &site);
	return snapshot_add_site(snapshot, &site);
}

static int add_sites(const struct session *session, struct snapshot *snapshot)
{
	_cleanup_free_ struct site_sum *sums = NULL;
	_cleanup_free_ struct type_sum *types = NULL;
	size_t n_sums, n_types, cursor = 0;
	int r;

	r = site_sums(session->ledger, session->stacks, &sums, &n_sums);
	if (r < 0)
		return r;
	r = type_sums(session->ledger, session->stacks, session->types, &types, &n_types);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_sums; i++) {
		r = add_site(session, &sums[i], types, n_types, &cursor, snapshot);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * The others are events that are in the books, if under a stack that is not
 * known, or events that were never seen.
 */
static bool is_lost_event(enum reason reason)
{
	switch (reason) {
	case REASON_RING_FULL:
	case REASON_BLOCK_UNREADABLE:
	case REASON_THREAD_MAP_FULL:
	case REASON_UNKNOWN_SITE:
	case REASON_REENTERED:
	case REASON_RECORD_MALFORMED:
	case REASON_LEDGER_FULL:
		return true;
	default:
		return false;
	}
}

/* What was seen and not accounted for: in BPF, in the ledger, here. */
static void add_losses(const struct session *session, const struct ledger_totals *totals,
		       struct snapshot *snapshot)
{
	for (size_t i = 0; i < WIRE_LOSS_MAX; i++)
		snapshot_add_loss(snapshot, (enum reason)i, session->counters.losses[i]);
	for (size_t i = 0; i < ARRAY_SIZE(session->losses); i++)
		snapshot_add_loss(snapshot, (enum reason)i,
				  session->losses[i] + totals->losses[i]);
	snapshot_add_loss(snapshot, REASON_RECORD_MALFORMED, session->counters.malformed);
	snapshot_add_loss(snapshot, REASON_CODE_UNREADABLE,
			  stacks_unreadable_frames(session->stacks));
}

/* Of a finished snapshot: before, it has no losses to look through. */
static void sum_lost_events(struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->n_losses; i++)
		if (is_lost_event(snapshot->losses[i].reason))
			snapshot->events_lost += snapshot->losses[i].count;
}

static void add_totals(const struct session *session, const struct ledger_totals *totals,
		       struct snapshot *snapshot)
{
	struct judgement heap;

	snapshot->native_live_bytes = totals->native_bytes + totals->mapped_bytes;
	snapshot->parked_bytes = totals->parked_bytes;
	snapshot->parked_blocks = totals->parked_blocks;
	snapshot->resident_bytes = session->resident_bytes;
	if (!session->books_valid)
		return;
	snapshot->python_live_bytes = session->books.pool_live_bytes;
	snapshot->python_live_blocks = session->books.pool_live_blocks;
	if (session->facts.probed) {
		snapshot->coverage_ratio = session->books.coverage_ratio;
		snapshot->born_live_blocks = session->books.born_live_blocks;
		snapshot->born_held_blocks = session->books.born_held_blocks;
		snapshot->held_checked_blocks = session->books.held_checked_blocks;
		snapshot->held_live_blocks = session->books.held_live_blocks;
		snapshot->seen_net_blocks = session->books.seen_net_blocks;
		snapshot->pools_net_blocks = session->books.pools_net_blocks;
		snapshot->seen_allocations = session->books.seen_allocations;
	}
	if (judge_site(session->judge, SESSION_HEAP_KEY, &heap) == 0)
		snapshot->python_growth_bytes_per_second = heap.growth_bytes_per_second;
}

static int add_heap_types(const struct session *session, struct snapshot *snapshot)
{
	const struct census *census = session->reconcile ? reconcile_census(session->reconcile) :
							   NULL;
	_cleanup_free_ struct type_count *counts = NULL;
	size_t n;
	int r;

	if (!census || session->facts.probed)
		return 0;
	r = heap_types(session->types, census, &counts, &n, NULL);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	for (size_t i = 0; i < n; i++) {
		r = snapshot_add_heap_type(snapshot,
					   &(struct snapshot_type){ counts[i].name,
								    counts[i].objects,
								    counts[i].bytes });
		if (r < 0)
			return r;
	}
	return 0;
}

static void add_facts(const struct session *session, double time_seconds,
		      struct snapshot *snapshot)
{
	snapshot->pid = session->facts.pid;
	snapshot->command = snapshot_string(snapshot, session->facts.command);
	snapshot->python = snapshot_string(snapshot, session->facts.python);
	snapshot->target_started = session->facts.target_started;
	snapshot->mode = session->facts.probed ? "exact" : "watch";
	snapshot->moment = session->moment;
	snapshot->reconciled_seconds = session->reconciled_seconds;
	snapshot->session_started = session->facts.session_started;
	snapshot->duration_seconds = time_seconds;
	snapshot->overhead_ratio = session_overhead(session, time_seconds);
	snapshot->events = session->events;
	for (size_t i = 0; i < session->n_refusals; i++)
		snapshot_add_refusals(snapshot, session->refusals[i].what, session->refusals[i].why,
				      session->refusals[i].times);
}

int session_snapshot(struct session *session, double time_seconds, struct snapshot **ret)
{
	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
	struct ledger_totals totals;
	int r;

	/* Types are read on the way, here and in a replay. */
	recorded_counters(session);
	recorded_mark(session, RECORDING_REPORTED, time_seconds, 0);
	r = snapshot_new(&snapshot);
	if (r < 0)
		return r;
	ledger_totals(session->ledger, &totals);
	add_facts(session, time_seconds, snapshot);
	add_losses(session, &totals, snapshot);
	add_totals(session, &totals, snapshot);
	if (session->sampling) {
		sampling_add_facts(session, time_seconds, snapshot);
		r = sampling_add_sites(session, snapshot, time_seconds);
	} else {
		r = add_sites(session, snapshot);
	}
	if (r < 0)
		return r;
	r = add_heap_types(session, snapshot);
	if (r < 0)
		return r;
	r = snapshot_finish(snapshot);
	if (r < 0)
		return r;
	sum_lost_events(snapshot);
	*ret = TAKE_PTR(snapshot);
	return 0;
}
