/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/programs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "judge/growth.h"
#include "report/snapshot_build.h"

int programs_new(struct programs **ret)
{
	struct programs *programs = calloc(1, sizeof(*programs));

	if (!programs)
		return -ENOMEM;
	*ret = programs;
	return 0;
}

static void program_free(struct program *program)
{
	free(program->sites);
	free(program);
}

void programs_free(struct programs *programs)
{
	if (!programs)
		return;
	for (size_t i = 0; i < programs->n; i++)
		program_free(programs->items[i]);
	free(programs);
}

static void drop(struct programs *programs, size_t at)
{
	program_free(programs->items[at]);
	programs->items[at] = programs->items[--programs->n];
}

/* Room for one more: of those without processes, the one that was left first goes. */
static bool make_room(struct programs *programs)
{
	size_t oldest = programs->n;

	if (programs->n < PROGRAMS_MAX)
		return true;
	for (size_t i = 0; i < programs->n; i++)
		if (programs->items[i]->n_processes == 0 &&
		    (oldest == programs->n ||
		     programs->items[i]->left_at < programs->items[oldest]->left_at))
			oldest = i;
	if (oldest == programs->n)
		return false;
	drop(programs, oldest);
	return true;
}

struct program *programs_join(struct programs *programs, const struct place *place,
			      const char *command)
{
	uint64_t key =
		hash_combine(hash_combine(hash_string(place->unit), hash_string(place->container)),
			     hash_string(command));
	struct program *program = NULL;

	for (size_t i = 0; i < programs->n && !program; i++)
		if (programs->items[i]->key == key)
			program = programs->items[i];
	if (!program) {
		if (!make_room(programs))
			return NULL;
		program = calloc(1, sizeof(*program));
		if (!program)
			return NULL;
		program->key = key;
		program->place = *place;
		snprintf(program->command, sizeof(program->command), "%s", command);
		programs->items[programs->n++] = program;
	}
	program->n_processes++;
	program->n_processes_ever++;
	return program;
}

void programs_leave(struct programs *programs, struct program *program, double now)
{
	(void)programs;
	program->n_processes--;
	program->left_at = now;
}

void programs_expire(struct programs *programs, double now)
{
	for (size_t i = programs->n; i-- > 0;)
		if (programs->items[i]->n_processes == 0 &&
		    now - programs->items[i]->left_at > PROGRAMS_EXPIRE_SECONDS)
			drop(programs, i);
}

/* --- sites --- */

static size_t place_in_list(const struct program *program, uint64_t id)
{
	size_t low = 0, high = program->n_sites;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (program->sites[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void remove_site(struct program *program, size_t at)
{
	program->n_sites--;
	memmove(program->sites + at, program->sites + at + 1,
		(program->n_sites - at) * sizeof(*program->sites));
}

static void make_room_for_site(struct program *program)
{
	size_t least = 0;

	if (program->n_sites < PROGRAM_SITES_MAX)
		return;
	for (size_t i = 1; i < program->n_sites; i++)
		if (program->sites[i].gained_bytes < program->sites[least].gained_bytes)
			least = i;
	remove_site(program, least);
}

static int find_or_add(struct program *program, uint64_t id, const struct snapshot_site *seen,
		       struct program_site **ret)
{
	size_t at = place_in_list(program, id);
	struct program_site *site;

	if (at < program->n_sites && program->sites[at].id == id) {
		*ret = &program->sites[at];
		return 0;
	}
	if (!program->sites)
		program->sites = calloc(PROGRAM_SITES_MAX, sizeof(*program->sites));
	if (!program->sites)
		return -ENOMEM;
	make_room_for_site(program);
	at = place_in_list(program, id);
	memmove(program->sites + at + 1, program->sites + at,
		(program->n_sites - at) * sizeof(*program->sites));
	program->n_sites++;
	site = &program->sites[at];
	*site = (struct program_site){.id = id};
	if (seen->n_frames) {
		snprintf(site->function, sizeof(site->function), "%s", seen->frames[0].function);
		snprintf(site->file, sizeof(site->file), "%s", seen->frames[0].file);
	}
	*ret = site;
	return 0;
}

/* --- a process's share --- */

struct program_held {
	uint64_t id;
	double bytes;
	bool known; /* it was there before */
	/* While a new account is taken in: what it has now, and one of its rows there, or NULL. */
	double bytes_now;
	const struct snapshot_site *seen;
};

void program_share_done(struct program_share *share)
{
	free(share->sites);
	*share = (struct program_share){0};
}

/* What was known before what is seen. */
static int compare_held(const void *a, const void *b)
{
	const struct program_held *one = a, *other = b;

	if (one->id != other->id)
		return one->id < other->id ? -1 : 1;
	return other->known - one->known;
}

/*
 * What was known and what is seen, a row a site.  Lines of one function are one:
 * which of them has which number behind the id depends on what else is seen.  ret:
 * the caller's, to free().
 */
static int merge(const struct program_share *share, const struct snapshot *snapshot,
		 struct program_held **ret, size_t *ret_n)
{
	size_t n_seen = snapshot->n_sites < PROGRAM_SHARE_SITES_MAX ? snapshot->n_sites
								    : PROGRAM_SHARE_SITES_MAX;
	struct program_held *rows = calloc(share->n_sites + n_seen + 1, sizeof(*rows));
	size_t n = 0, kept = 0;

	if (!rows)
		return -ENOMEM;
	for (; n < share->n_sites; n++)
		rows[n] = (struct program_held){
			.id = share->sites[n].id, .bytes = share->sites[n].bytes, .known = true};
	for (size_t i = 0; i < n_seen; i++)
		if (!snapshot->sites[i].other && snapshot->sites[i].outstanding_bytes)
			rows[n++] = (struct program_held){
				.id = snapshot_site_id(&snapshot->sites[i]),
				.bytes_now = (double)snapshot->sites[i].outstanding_bytes,
				.seen = &snapshot->sites[i],
			};
	qsort(rows, n, sizeof(*rows), compare_held);
	for (size_t i = 0; i < n; i++) {
		if (kept == 0 || rows[kept - 1].id != rows[i].id) {
			rows[kept++] = rows[i];
			continue;
		}
		rows[kept - 1].bytes_now += rows[i].bytes_now;
		rows[kept - 1].seen = rows[i].seen;
	}
	*ret = rows;
	*ret_n = kept;
	return 0;
}

static int gain_site(struct program *program, const struct program_held *row, double now)
{
	size_t at = place_in_list(program, row->id);
	struct program_site *site = NULL;
	int r;

	if (!row->known || (!row->seen && row->bytes == 0))
		return 0;
	if (row->seen) {
		r = find_or_add(program, row->id, row->seen, &site);
		if (r < 0)
			return r;
	} else if (at < program->n_sites && program->sites[at].id == row->id) {
		site = &program->sites[at];
	} else { /* it made room for others */
		return 0;
	}
	site->gained_bytes += row->bytes_now - row->bytes;
	site->seen_at = now;
	return 0;
}

/* Rows become the share; those of sites seen no more go first where there are too many. */
static void keep(struct program_share *share, struct program_held *rows, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (rows[i].seen || n <= PROGRAM_SHARE_SITES_MAX)
			rows[kept++] =
				(struct program_held){.id = rows[i].id, .bytes = rows[i].bytes_now};
	free(share->sites);
	share->sites = rows;
	share->n_sites = kept;
}

static int gain(struct program *program, struct program_share *share,
		const struct snapshot *snapshot, bool counts, double now)
{
	struct program_held *rows;
	size_t n;
	int r;

	r = merge(share, snapshot, &rows, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && counts && r == 0; i++)
		r = gain_site(program, &rows[i], now);
	if (counts) {
		program->observed_seconds += snapshot->duration_seconds - share->duration_seconds;
		program->gained_heap_bytes +=
			(double)snapshot->python_live_bytes - share->heap_bytes;
		program->gained_resident_bytes +=
			(double)snapshot->resident_bytes - share->resident_bytes;
	}
	keep(share, rows, n);
	return r;
}

/* --- the series --- */

static void judge_site_of(struct program_site *site)
{
	struct point points[RETAINED_POINTS]; /* used up */

	memcpy(points, site->series.points, site->series.n * sizeof(*points));
	if (site->series.n >= JUDGE_INTERVALS_MIN)
		growth_judge(points, site->series.n, &site->judgement);
}

/* In the processes' own time: while none is there, nothing stands still. */
static void add_points(struct program *program, double now)
{
	double seconds = program->observed_seconds;

	program->pointed_seconds = seconds;
	retained_observe(&program->retained, seconds, program->gained_heap_bytes,
			 program->gained_resident_bytes);
	for (size_t i = program->n_sites; i-- > 0;) {
		struct program_site *site = &program->sites[i];

		if (now - site->seen_at > PROGRAMS_EXPIRE_SECONDS) {
			remove_site(program, i);
			continue;
		}
		retained_series_add(&site->series, seconds, site->gained_bytes);
		judge_site_of(site);
	}
}

int program_observe(struct program *program, struct program_share *share,
		    const struct snapshot *snapshot, double age_seconds, double now,
		    double interval_seconds)
{
	bool counts = age_seconds >= PROGRAM_WARMUP_INTERVALS * interval_seconds;
	int r;

	if (share->session_started != snapshot->session_started) {
		program_share_done(share);
		counts = false;
	}
	r = gain(program, share, snapshot, counts, now);
	share->session_started = snapshot->session_started;
	share->duration_seconds = snapshot->duration_seconds;
	share->heap_bytes = (double)snapshot->python_live_bytes;
	share->resident_bytes = (double)snapshot->resident_bytes;
	if (program->observed_seconds - program->pointed_seconds >=
	    PROGRAM_POINT_INTERVALS * interval_seconds)
		add_points(program, now);
	return r;
}

bool program_site_leaks(const struct program *program, const struct program_site *site)
{
	return site->judgement.verdict == VERDICT_LEAK && program->retained.growing;
}
