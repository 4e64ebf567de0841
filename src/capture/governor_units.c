/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What is always on: cheapest first, counted at the target's real speed, the hottest out again. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "capture/governor_private.h"
#include "pyleakd/wire.h"

/* Realloc's two ends are one unit: an entry without its return says nothing. */
#define UNIT_KEY_REALLOC 0x20000u
#define UNIT_KEY_SITE 0x40000u

static int stream_of_kind(uint8_t kind)
{
	switch (kind) {
	case SITE_CREATE:
	case SITE_CALLER:
		return CREATIONS;
	case SITE_ALLOC:
	case SITE_FRESH:
		return RAW;
	case SITE_NATIVE_ALLOC:
	case SITE_NATIVE_ALLOC_ENTER:
	case SITE_NATIVE_ALLOC_URETPROBE:
	case SITE_REALLOC_ENTER:
	case SITE_REALLOC_RETURN:
		return NATIVE;
	default:
		return -1;
	}
}

/* Sites with one key are one unit. */
static uint32_t unit_key(const struct governor_options *options, size_t site)
{
	uint8_t kind = options->site_kinds[site];

	if (kind == SITE_REALLOC_ENTER || kind == SITE_REALLOC_RETURN)
		return UNIT_KEY_REALLOC;
	if (options->site_constructors &&
	    options->site_constructors[site] != GOVERNOR_CONSTRUCTOR_NONE)
		return options->site_constructors[site] | (uint32_t)stream_of_kind(kind) << 20;
	return UNIT_KEY_SITE + (uint32_t)site;
}

struct keyed {
	uint32_t key;
	uint16_t site;
};

static int by_key(const void *a, const void *b)
{
	const struct keyed *left = a, *right = b;

	if (left->key != right->key)
		return left->key < right->key ? -1 : 1;
	return left->site < right->site ? -1 : left->site > right->site;
}

static void unit_begin(struct unit *unit, uint8_t kind, uint32_t members)
{
	*unit = (struct unit){
		.stream = (uint8_t)stream_of_kind(kind),
		.caller = kind == SITE_CALLER,
		.state = UNIT_UNKNOWN,
		.group = NO_GROUP,
		.in = NO_GROUP,
		.last_in = NO_GROUP,
		.members = members,
		.rate = NAN,
	};
	/* A pool's first block is seldom, and exact from the first second: tried at once. */
	if (kind == SITE_FRESH) {
		unit->state = UNIT_WAITING;
		unit->rate = 0;
	}
}

/* A unit's rate is known if all of its sites' are. */
static void unit_add_known(struct unit *unit, double rate)
{
	if (unit->n_members == 0) {
		unit->rate = rate;
		if (!isnan(rate))
			unit->state = UNIT_WAITING;
		return;
	}
	unit->rate += rate;
	if (isnan(unit->rate))
		unit->state = UNIT_UNKNOWN;
}

int units_make(struct governor *governor, const struct governor_options *options)
{
	struct keyed *keyed = calloc(options->n_sites + 1, sizeof(*keyed));
	struct unit *unit = NULL;
	size_t n = 0;

	if (!keyed)
		return -ENOMEM;
	for (size_t i = 0; i < options->n_sites; i++) {
		governor->unit_of[i] = UINT16_MAX;
		if (stream_of_kind(options->site_kinds[i]) >= 0)
			keyed[n++] = (struct keyed){unit_key(options, i), (uint16_t)i};
	}
	qsort(keyed, n, sizeof(*keyed), by_key);
	for (size_t i = 0; i < n; i++) {
		uint16_t site = keyed[i].site;

		if (i == 0 || keyed[i].key != keyed[i - 1].key) {
			unit = &governor->units[governor->n_units++];
			unit_begin(unit, options->site_kinds[site], (uint32_t)i);
		}
		if (options->known_rates)
			unit_add_known(unit, options->known_rates[site]);
		unit->n_members++;
		governor->members[i] = site;
		governor->unit_of[site] = (uint16_t)(governor->n_units - 1);
	}
	free(keyed);
	return 0;
}

/* … and what is on gets the rest, if that is more than its share. */
double units_on_rate_allowed(const struct governor *governor)
{
	double share = governor->budget * governor->always_on_share;
	double rest = governor->budget * (BUDGET_USED - SLICES_KEEP) - governor->full_share;

	share = fmax(share, rest);
	return fmax(share - governor->other_loss, share * SITES_KEEP) / governor->hit;
}

/* The last minute's share has gone: nothing more comes on. */
static bool on_share_spent(const struct governor *governor, double now)
{
	return account_spent(&governor->account, now, ALWAYS) >
	       units_on_rate_allowed(governor) * governor->hit * MINUTE * ALWAYS_ON_MINUTE *
		       account_base(&governor->account, now, governor->budget) / governor->budget;
}

double units_on_rate(const struct governor *governor)
{
	double sum = 0;

	for (size_t i = 0; i < governor->n_units; i++)
		if (governor->units[i].group != NO_GROUP)
			sum += governor->units[i].rate;
	return sum;
}

bool unit_is_lukewarm(const struct governor *governor, const struct unit *unit)
{
	return unit->group == NO_GROUP && unit->state != UNIT_UNKNOWN && !unit->caller &&
	       !unit->focused && unit->rate * governor->hit <=
		       (unit->counted || unit->sliced ? GENTLE_LOSS : GUESSED_LOSS);
}

/* Groups by heat: a decade of the always-on share each, so that a trip costs few sites their time.
 */
static uint8_t slot_of(const struct governor *governor, const struct unit *unit)
{
	double decade;

	if (unit->stream == NATIVE)
		return NATIVE_SLOT;
	if (!(unit->rate > 0))
		return 0;
	decade = floor(log10(unit->rate / units_on_rate_allowed(governor)));
	if (decade >= -1)
		return HOTTEST_SLOT;
	return decade <= -HOTTEST_SLOT ? 1 : (uint8_t)(HOTTEST_SLOT + 1 + (int)decade);
}

static int by_rate(const void *a, const void *b, void *units)
{
	double left = ((struct unit *)units)[*(const uint32_t *)a].rate;
	double right = ((struct unit *)units)[*(const uint32_t *)b].rate;

	if (left != right)
		return left < right ? -1 : 1;
	return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

static void sort_by_rate(struct governor *governor, size_t n)
{
	qsort_r(governor->order, n, sizeof(*governor->order), by_rate, governor->units);
}

static void unit_put_in(struct governor *governor, struct unit *unit, double now)
{
	unit->group = slot_of(governor, unit);
	unit->state = UNIT_ON;
	unit->counted = false;
	unit->counted_seconds = 0;
	unit->recent = 0;
	unit->on_since = now;
	governor->groups[unit->group].dirty = true;
}

static void unit_take_out(struct governor *governor, struct unit *unit)
{
	if (unit->group != NO_GROUP)
		governor->groups[unit->group].dirty = true;
	unit->group = NO_GROUP;
}

/* Out, and tried again later: each time after twice as long, never in step with others. */
void unit_drop(struct governor *governor, struct unit *unit, double now)
{
	double back_off;

	if (now - unit->on_since > FORGIVE_SECONDS && unit->drops > 0)
		unit->drops--;
	back_off = fmin(BACK_OFF_FIRST * exp2(fmin(unit->drops, 20)), BACK_OFF_MAX);
	unit_take_out(governor, unit);
	unit->state = UNIT_DROPPED;
	unit->drops++;
	unit->retry_at = now + back_off * (1 + 0.25 * governor_random(governor));
	governor->sites_dropped += unit->n_members;
}

static bool is_candidate(const struct unit *unit, double now)
{
	return unit->group == NO_GROUP && !isnan(unit->rate) && unit->retry_at <= now &&
	       (unit->state == UNIT_WAITING || unit->state == UNIT_DROPPED);
}

static size_t gather_candidates(struct governor *governor, double now)
{
	size_t n = 0;

	for (size_t i = 0; i < governor->n_units; i++)
		if (is_candidate(&governor->units[i], now))
			governor->order[n++] = (uint32_t)i;
	sort_by_rate(governor, n);
	return n;
}

/* Where counting has shown that an ON unit belongs two decades elsewhere, it moves. */
static void regroup(struct governor *governor, double now)
{
	for (size_t i = 0; i < governor->n_units; i++) {
		struct unit *unit = &governor->units[i];
		uint8_t slot;

		if (unit->group == NO_GROUP || !unit->counted)
			continue;
		slot = slot_of(governor, unit);
		if (abs((int)slot - (int)unit->group) < 2)
			continue;
		governor->groups[unit->group].dirty = true;
		governor->groups[slot].dirty = true;
		unit->group = slot;
	}
	governor->next_regroup = now + REGROUP_INTERVAL;
}

static bool all_settled(const struct governor *governor)
{
	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++)
		if (governor->groups[i].dirty || governor->groups[i].tripped)
			return false;
	return true;
}

/* The hottest that is on makes room for one that is much cheaper. */
static bool make_room(struct governor *governor, const struct unit *cheapest, double now)
{
	struct unit *hottest = NULL;

	for (size_t i = 0; i < governor->n_units; i++) {
		struct unit *unit = &governor->units[i];

		if (unit->group != NO_GROUP && unit->counted &&
		    (!hottest || unit->rate > hottest->rate))
			hottest = unit;
	}
	if (!hottest || cheapest->rate > hottest->rate * RETRIAL_ROOM / 2)
		return false;
	unit_take_out(governor, hottest);
	hottest->state = UNIT_WAITING;
	hottest->retry_at = now + BACK_OFF_FIRST;
	return true;
}

/* What a group that turns hot costs until it is out. */
double trip_cost(const struct governor *governor)
{
	return allowance_delay(governor) / GOVERNOR_ALWAYS_ON_GROUPS + WAKE_SECONDS +
	       DETACH_EDGE_MAX * governor->streams[CREATIONS].detach_seconds;
}

/* A trial may meet a hot site: what that would cost has to be there, learning apart. */
bool trip_can_be_paid(const struct governor *governor, double now)
{
	const struct account *account = &governor->account;
	double spent = account_spent(account, now, ALWAYS) + account_spent(account, now, WINDOWS) +
		       account_spent(account, now, OTHER);

	return spent + trip_cost(governor) <=
	       account_allowed(account, now, governor->budget) * BUDGET_USED;
}

bool admission_can_be_paid(const struct governor *governor, double now)
{
	return !on_share_spent(governor, now) && trip_can_be_paid(governor, now);
}

static double caller_rate_allowed(const struct governor *governor)
{
	return units_on_rate_allowed(governor) * CALLER_SHARE;
}

/* No later window corrects what the first ones made of a caller: it is tried. */
static double rate_expected(const struct unit *unit)
{
	return unit->caller && !unit->counted ? unit->rate / CALLER_GUESS : unit->rate;
}

static void trim_callers(struct governor *governor, double now)
{
	double allowed = caller_rate_allowed(governor) * ALWAYS_ON_HYSTERESIS;

	for (size_t i = 0; i < governor->n_units; i++) {
		struct unit *unit = &governor->units[i];

		if (unit->caller && unit->group != NO_GROUP && unit->counted &&
		    unit->rate > allowed)
			unit_drop(governor, unit, now);
	}
}

/*
 * The next stage: the cheapest that wait, of one group, while they fit.  Nothing
 * fits: the climb is over, and what waits is looked at rarely from then on.
 */
void units_admit(struct governor *governor, double now)
{
	double room = units_on_rate_allowed(governor) - units_on_rate(governor);
	size_t n, taken = 0;
	uint8_t slot = NO_GROUP;

	if (governor->windows_only) {
		governor->climbing = governor->learning_left > 0;
		return;
	}
	if (governor->learning_left > 0 || now < governor->trial_until || !all_settled(governor) ||
	    !admission_can_be_paid(governor, now))
		return;
	n = gather_candidates(governor, now);
	for (size_t i = 0; i < n; i++) {
		struct unit *unit = &governor->units[governor->order[i]];
		double part = governor->climbing && unit->drops == 0 ? 1 : RETRIAL_ROOM;

		if (unit->caller && unit->counted && unit->rate > caller_rate_allowed(governor))
			continue;
		if (rate_expected(unit) > room * part)
			continue;
		/* Native sites, among the others by heat, have a group of their own. */
		if (slot != NO_GROUP && slot_of(governor, unit) != slot)
			continue;
		slot = slot_of(governor, unit);
		unit->rate = rate_expected(unit);
		room -= unit->rate;
		unit_put_in(governor, unit, now);
		taken++;
	}
	if (taken == 0 &&
	    !(n > 0 && make_room(governor, &governor->units[governor->order[0]], now)))
		governor->climbing = governor->learning_left > 0;
	governor->trial_until = now + (governor->climbing ? TRIAL_SECONDS : RETRIAL_INTERVAL);
	if (taken == 0 && now >= governor->next_regroup)
		regroup(governor, now);
}

void governor_windows_only(struct governor *governor, double now, bool only)
{
	if (governor->windows_only == only)
		return;
	governor->windows_only = only;
	governor->climbing = true;
	governor->trial_until = now;
	for (size_t i = 0; i < governor->n_units; i++) {
		struct unit *unit = &governor->units[i];

		if (unit->group == NO_GROUP)
			continue;
		unit_take_out(governor, unit);
		unit->state = UNIT_WAITING;
		unit->retry_at = now;
	}
	streams_share(governor);
}

/* What is on costs more than its share: the hottest go until it doesn't. */
void units_trim(struct governor *governor, double now)
{
	double sum = units_on_rate(governor), allowed = units_on_rate_allowed(governor);
	bool over_minute = on_share_spent(governor, now);
	size_t n = 0;

	trim_callers(governor, now);
	if (sum <= allowed * ALWAYS_ON_HYSTERESIS && !over_minute)
		return;
	/* The minute is spent: down to a quarter, until old cells have left the books. */
	if (over_minute)
		allowed /= 4;
	for (size_t i = 0; i < governor->n_units; i++)
		if (governor->units[i].group != NO_GROUP)
			governor->order[n++] = (uint32_t)i;
	sort_by_rate(governor, n);
	while (n > 0 && sum > allowed) {
		struct unit *unit = &governor->units[governor->order[--n]];

		sum -= unit->rate;
		unit_drop(governor, unit, now);
	}
}

static int by_recent(const void *a, const void *b, void *units)
{
	double left = ((struct unit *)units)[*(const uint32_t *)a].recent;
	double right = ((struct unit *)units)[*(const uint32_t *)b].recent;

	if (left != right)
		return left > right ? -1 : 1;
	return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

/* A group has been closed for its limit and its sites' counts are here: the offenders stay out. */
void units_after_trip(struct governor *governor, unsigned group, double now)
{
	double sum = 0, rest;
	size_t n = 0;

	for (size_t i = 0; i < governor->n_units; i++) {
		if (governor->units[i].group != group)
			continue;
		governor->order[n++] = (uint32_t)i;
		sum += governor->units[i].recent;
	}
	qsort_r(governor->order, n, sizeof(*governor->order), by_recent, governor->units);
	rest = sum;
	/* None counted though the limit was reached: nothing is known of them, all stay out. */
	for (size_t i = 0; i < n && (sum == 0 || rest > sum * TRIP_REST); i++) {
		struct unit *unit = &governor->units[governor->order[i]];

		rest -= unit->recent;
		unit_drop(governor, unit, now);
	}
	governor->groups[group].tripped = false;
	governor->groups[group].dirty = true;
	governor->groups[group].last_trip = governor->last_trip = now;
}

void group_fill_always_on(struct governor *governor, unsigned group)
{
	struct group *found = &governor->groups[group];

	found->n_sites = 0;
	for (size_t i = 0; i < governor->n_units; i++) {
		const struct unit *unit = &governor->units[i];

		if (unit->group != group)
			continue;
		memcpy(found->sites + found->n_sites, governor->members + unit->members,
		       unit->n_members * sizeof(*found->sites));
		found->n_sites += unit->n_members;
	}
}
