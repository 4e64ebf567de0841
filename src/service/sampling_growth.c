/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/sampling_growth.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "ledger/growth.h"
#include "report/snapshot_build.h"
#include "service/sampling_estimates.h"
#include "service/sampling_private.h"

DEFINE_CLEANUP(struct census *, census_free)
DEFINE_CLEANUP(struct sampling_growth *, sampling_growth_free)

_Static_assert(SAMPLING_GROUP_POOLS > SAMPLING_GROUP_NATIVE_SLICES &&
		       SAMPLING_GROUP_POOLS < CAPTURE_GROUPS_MAX,
	       "groups of the capture's");
_Static_assert(GROWTH_SLICES == SAMPLED_SLICES, "slices of the ledger and the judgement");

/* Hits come in bursts: so many seconds' worth at once, but half of a window's delay at most. */
#define CREDIT_SECONDS 10.0
#define CREDIT_DELAY_SECONDS 0.0125
#define CREDIT_MIN 16.0
#define BACK_OFF_FIRST 10.0
#define BACK_OFF_MAX 60.0 /* so that even the hottest have a second in each minute */
#define FORGIVE_SECONDS 60.0
/* Of the time, what a census before each opening may take of this thread. */
#define CENSUS_TIME_RATIO 0.02
/* A smaller block has no mapping of its own; M_MMAP_THRESHOLD is 128 KiB unless it is set. */
#define MAPPED_BYTES_MIN 4096

struct sampling_growth {
	struct growth *growth;
	bool defined; /* there are sites that tell new pools */
	bool known;   /* the pools that are there, since the probes were in last */
	bool open;
	bool limited; /* no credit left: to be closed */
	double again_at, back_off, opened_at, counted_at;
	double on_seconds;	 /* before the last opening */
	double credit;		 /* hits */
	uint64_t hits, all_hits; /* booked: of this opening, of all */
	uint64_t too_hot;	 /* how often they were closed for it */
	uint64_t without_room;	 /* pools that could not be told */
	uint64_t break_bytes;	 /* new maxima in all */
	uint64_t rest_bytes;	 /* resident outside of arenas, at the start */
};

static void know(struct session *session, struct sampling_growth *growth,
		 const struct census *census)
{
	_cleanup_free_ uint64_t *addresses = NULL;
	size_t n;
	int r;

	if (census_pool_addresses(census, &addresses, &n) < 0)
		return;
	r = capture_know_pools(session->capture, addresses, n);
	if (r > 0)
		growth->without_room += (uint64_t)r;
	growth->known = r >= 0;
}

uint64_t sampling_rest_bytes(const struct session *session, const struct census_totals *totals)
{
	return session->resident_bytes > totals->arena_bytes
		       ? session->resident_bytes - totals->arena_bytes
		       : 0;
}

int sampling_growth_start(struct session *session, struct sampling *sampling,
			  const struct census *census)
{
	CLEANUP(sampling_growth_free) struct sampling_growth *growth = calloc(1, sizeof(*growth));
	struct capture_group_use use;
	int r;

	if (!growth)
		return -ENOMEM;
	r = growth_new(&growth->growth);
	if (r < 0)
		return r;
	growth->back_off = BACK_OFF_FIRST;
	growth->defined = capture_group_define_pools(session->capture, SAMPLING_GROUP_POOLS,
						     SAMPLING_PYTHON) == 0 &&
			  capture_group_look(session->capture, SAMPLING_GROUP_POOLS, &use) == 0;
	if (!census)
		growth->defined = false; /* no pools here */
	if (growth->defined)
		know(session, growth, census);
	session_look_at_resident(session);
	growth->rest_bytes = sampling_rest_bytes(session, &sampling->totals);
	sampling->growth = TAKE_PTR(growth);
	return 0;
}

void sampling_growth_free(struct sampling_growth *growth)
{
	if (!growth)
		return;
	growth_free(growth->growth);
	free(growth);
}

/* --- in and out --- */

static double hits_per_second(const struct session *session)
{
	return SAMPLING_GROWTH_SHARE * session->sampling->budget_ratio / SAMPLING_AFTER_RATIO /
	       session->hit_seconds;
}

static double credit_max(const struct session *session)
{
	return fmax(fmin(CREDIT_SECONDS * hits_per_second(session),
			 CREDIT_DELAY_SECONDS / session->hit_seconds),
		    CREDIT_MIN);
}

/* What became a pool while the probes were out is not new when it is used once more. */
static void know_again(struct session *session, struct sampling_growth *growth, double now)
{
	CLEANUP(census_free) struct census *census = NULL;
	uint64_t began_ns = clock_monotonic_ns();
	double seconds;

	if (census_take(session->interpreter, true, &census, NULL) == 0)
		know(session, growth, census);
	seconds = (double)(clock_monotonic_ns() - began_ns) / NS_PER_SECOND;
	growth->again_at = now + seconds / CENSUS_TIME_RATIO;
}

static void open_probes(struct session *session, struct sampling_growth *growth, double now)
{
	if (!sampling_has_room(session, now)) {
		growth->again_at = now + BACK_OFF_FIRST;
		return;
	}
	if (!growth->known)
		know_again(session, growth, now);
	growth->credit = credit_max(session);
	if (!growth->known || capture_group_open(session->capture, SAMPLING_GROUP_POOLS,
						 (uint64_t)growth->credit, NULL) < 0) {
		growth->again_at = fmax(growth->again_at, now + BACK_OFF_FIRST);
		return;
	}
	growth->open = true;
	session->sampling->attached = true;
	growth->limited = false;
	growth->opened_at = now;
	growth->hits = 0;
}

static void note_closed(struct session *session, struct sampling_growth *growth, double now)
{
	sampling_growth_count(session, now);
	growth->open = growth->limited = growth->known = false;
	growth->on_seconds += now - growth->opened_at;
}

static void close_hot(struct session *session, struct sampling_growth *growth, double now)
{
	capture_group_close(session->capture, SAMPLING_GROUP_POOLS, NULL);
	if (now - growth->opened_at > FORGIVE_SECONDS)
		growth->back_off = BACK_OFF_FIRST;
	note_closed(session, growth, now);
	growth->too_hot++;
	growth->again_at = fmax(growth->again_at, now + growth->back_off);
	growth->back_off = fmin(2 * growth->back_off, BACK_OFF_MAX);
}

void sampling_growth_step(struct session *session, double now)
{
	struct sampling_growth *growth = session->sampling->growth;

	if (growth->open && growth->limited)
		close_hot(session, growth, now);
	else if (!growth->open && growth->defined && now >= growth->again_at &&
		 !session->sampling->forks.often)
		open_probes(session, growth, now);
}

void sampling_growth_closed(struct session *session, double now)
{
	struct sampling_growth *growth = session->sampling->growth;

	if (!growth || !growth->open)
		return;
	note_closed(session, growth, now);
	growth->again_at = fmax(growth->again_at, now + SAMPLING_FORK_PAUSE_SECONDS);
}

/* --- what they cost --- */

static double count_pools(struct session *session, struct sampling_growth *growth, double now)
{
	uint64_t hits = capture_group_hits(session->capture, SAMPLING_GROUP_POOLS);
	uint64_t more = hits - growth->hits;

	growth->hits = hits;
	growth->all_hits += more;
	growth->credit += (now - growth->counted_at) * hits_per_second(session) - (double)more;
	growth->credit = fmin(growth->credit, credit_max(session));
	if (growth->credit < 1)
		growth->limited = true;
	else
		capture_group_refill(session->capture, SAMPLING_GROUP_POOLS,
				     (uint64_t)growth->credit);
	return (double)more * session->hit_seconds;
}

void sampling_growth_count(struct session *session, double now)
{
	struct sampling_growth *growth = session->sampling->growth;
	/* Measured with all that comes after a call of the kernel's. */
	double seconds = sampling_mappings_count(session, now) / SAMPLING_AFTER_RATIO;

	if (growth->open)
		seconds += count_pools(session, growth, now);
	growth->counted_at = now;
	governor_note_other(session->sampling->governor, now, seconds);
}

/* --- records --- */

/* An arena's mapping: its pools are counted. */
static void forget_arena(struct session *session, uint64_t pool)
{
	struct ledger_block block;

	if (ledger_find(session->ledger, pool, &block) == 0 && block.domain == LEDGER_MAPPED)
		ledger_forget_mapping(session->ledger, block.address, block.size_bytes);
}

static void note_pool(struct session *session, const struct wire_alloc *record)
{
	uint32_t pool_bytes = interpreter_layout(session->interpreter)->pool_size_bytes;
	unsigned class = GROWTH_CLASS_UNKNOWN;

	if (record->size && record->size <= 16ull * PYMALLOC_CLASSES_MAX)
		class = (unsigned)(record->size / 16 - 1);
	growth_note(session->sampling->growth->growth, record->stack, class, pool_bytes,
		    session->sampling->now);
	forget_arena(session, record->address);
}

static void note_break(struct session *session, const struct wire_mapping *record)
{
	struct sampling_growth *growth = session->sampling->growth;
	uint64_t bytes = record->address - record->old_address;

	if (!record->old_address || record->address <= record->old_address)
		return;
	growth->break_bytes += bytes;
	growth_note(growth->growth, record->stack, GROWTH_BREAK, bytes, session->sampling->now);
}

bool sampling_growth_record(struct session *session, const struct wire_header *record)
{
	struct sampling_growth *growth = session->sampling->growth;

	if (!growth)
		return record->kind == WIRE_NEW_POOL;
	switch (record->kind) {
	case WIRE_NEW_POOL:
		note_pool(session, (const void *)record);
		return true;
	case WIRE_BRK:
		note_break(session, (const void *)record);
		return true;
	case WIRE_LIMIT:
		if (record->site != SAMPLING_GROUP_POOLS)
			return false;
		growth->limited = true;
		return true;
	default:
		return false;
	}
}

uint64_t sampling_growth_unmapped(const struct session *session, uint64_t address,
				  uint64_t size_bytes)
{
	struct ledger_block block;

	if (size_bytes < MAPPED_BYTES_MIN || ledger_find(session->ledger, address, &block) < 0 ||
	    block.domain != LEDGER_MAPPED)
		return size_bytes;
	return 0;
}

/* --- what they say --- */

/* Once in a while a cache or a peak needs more, too. */
#define STEADY_SLICES 4
#define STEADY_POOLS 8
#define STEADY_BREAKS 4
/*
 * Samples that explain so much of a class, or that have not had their time yet,
 * leave it to them: they know who keeps it.  A line that fills and empties what
 * a leak has left over takes all that is new (pools alone were right in
 * 20 of 45 real leaks, the break in 16).
 */
#define EXPLAINED_RATIO 0.1
#define SAMPLES_FIRST_SECONDS 10.0
/*
 * Objects that grow are of types that windows look for: survivors name them,
 * with what they own.  So much of what the pools have gained in objects leaves
 * all of it to them.
 */
#define OBJECTS_RATIO 0.05

#define CLASSES (GROWTH_BREAK + 1)

/* By the pools' own counters; what lies outside of them, by the break and what is resident. */
static void grown_bytes(const struct session *session, double mapped_bytes, double *ret)
{
	const struct sampling *sampling = session->sampling;
	double rest = (double)sampling_rest_bytes(session, &sampling->totals) -
		      (double)sampling->growth->rest_bytes - mapped_bytes;

	for (unsigned i = 0; i < PYMALLOC_CLASSES_MAX; i++)
		ret[i] = sampling->totals_valid
				 ? 16.0 * (i + 1) *
					   ((double)sampling->totals.class_blocks[i] -
					    (double)sampling->baseline.class_blocks[i])
				 : 0;
	ret[GROWTH_BREAK] = fmin((double)sampling->growth->break_bytes, rest);
	for (unsigned i = 0; i < CLASSES; i++)
		ret[i] = fmax(ret[i], 0);
}

/* Of what has grown, what no sample explains. Raw buffers may be of any class, or chunks. */
static void unexplained_bytes(const double *explained, double *bytes)
{
	double buffers = explained[SAMPLES_CLASS_BUFFERS], sum = 0;

	for (unsigned i = 0; i < CLASSES; i++) {
		double known = explained[i == GROWTH_BREAK ? SAMPLES_CLASS_NONE : i];

		bytes[i] = known < EXPLAINED_RATIO * bytes[i] ? bytes[i] - known : 0;
		sum += bytes[i];
	}
	for (unsigned i = 0; i < CLASSES && sum > 0; i++)
		bytes[i] *= fmax(1 - buffers / sum, 0);
}

static void leave_to_objects(const struct session *session, double *bytes)
{
	const struct sampling *sampling = session->sampling;
	double gained = sampling_gained_bytes(sampling);

	if (sampling->focus && focus_gained_bytes(sampling->focus) > OBJECTS_RATIO * gained)
		memset(bytes, 0, PYMALLOC_CLASSES_MAX * sizeof(*bytes));
}

static void add_row(const struct growth_row *row, struct site_growth *growth)
{
	if (row->class == GROWTH_BREAK) {
		growth->breaks += row->count;
		growth->break_bytes += row->bytes;
	} else {
		growth->pools += row->count;
		growth->pool_bytes += row->bytes;
	}
	for (unsigned i = 0; i < SAMPLED_SLICES; i++)
		growth->counts[i] += row->counts[i];
}

static bool is_steady(const struct site_growth *growth)
{
	unsigned slices = 0;

	for (unsigned i = 0; i < SAMPLED_SLICES; i++)
		slices += growth->counts[i] > 0;
	return slices >= STEADY_SLICES &&
	       (growth->pools >= STEADY_POOLS || growth->breaks >= STEADY_BREAKS);
}

static void share_out(const struct growth_row *row, const double *unexplained, const double *grown,
		      struct site_estimate *site)
{
	double all = unexplained[row->class];
	double bytes = all * (double)row->bytes / fmax(grown[row->class], 1);

	if (!is_steady(&site->growth))
		return;
	site->growth.bytes += bytes;
	site->growth.high += all;
	if (row->class == GROWTH_BREAK)
		site->growth.break_bytes_told += bytes;
}

/*
 * Few samples of a site don't count on top of it.  Who took the new pools need
 * not be who keeps what is in them: from nothing, or what was sampled, to all.
 */
static void settle(struct site_estimate *site)
{
	struct site_growth *growth = &site->growth;
	double sampled = site->bytes.value - site->mapped_bytes;

	if (growth->bytes <= sampled) {
		growth->bytes = growth->break_bytes_told = 0;
		return;
	}
	site->bytes.value = site->mapped_bytes + growth->bytes;
	site->bytes.high = fmax(site->bytes.high, site->mapped_bytes + growth->high);
	site->chunk_bytes = growth->break_bytes_told;
}

int sampling_growth_estimate(const struct session *session, double time_seconds,
			     const double *explained, struct site_estimate *sites, size_t n)
{
	_cleanup_free_ struct growth_row *rows = NULL;
	double unexplained[CLASSES], by_class[CLASSES] = {0}, mapped = 0;
	size_t n_rows;
	int r;

	r = growth_rows(session->sampling->growth->growth, time_seconds, &rows, &n_rows);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		mapped += sites[i].mapped_bytes;
	grown_bytes(session, mapped, unexplained);
	unexplained_bytes(explained, unexplained);
	leave_to_objects(session, unexplained);
	for (size_t i = 0; i < n_rows; i++) {
		uint32_t site = stacks_site_of(session->stacks, rows[i].stack);

		by_class[rows[i].class] += (double)rows[i].bytes;
		if (site < n)
			add_row(&rows[i], &sites[site].growth);
	}
	for (size_t i = 0; i < n_rows && time_seconds >= SAMPLES_FIRST_SECONDS; i++) {
		uint32_t site = stacks_site_of(session->stacks, rows[i].stack);

		if (site < n)
			share_out(&rows[i], unexplained, by_class, &sites[site]);
	}
	for (size_t i = 0; i < n; i++)
		settle(&sites[i]);
	return 0;
}

void sampling_growth_add_refusals(const struct session *session, double time_seconds,
				  struct snapshot *snapshot)
{
	const struct sampling_growth *growth = session->sampling->growth;
	char why[SESSION_MESSAGE_BYTES];
	double on = growth->on_seconds + (growth->open ? time_seconds - growth->opened_at : 0);

	if (growth->too_hot) {
		snprintf(why, sizeof(why),
			 "pools empty and refill more often than the budget pays for (%.0f times a "
			 "second; looked at for %.1f of %.1f s)",
			 on > 0 ? (double)growth->all_hits / on : 0, on, time_seconds);
		snapshot_add_refusal(snapshot, "probes of new pools", why);
	}
	sampling_mappings_add_refusal(session, time_seconds, snapshot);
	snapshot_add_loss(snapshot, REASON_POOL_MAP_FULL, growth->without_room);
}
