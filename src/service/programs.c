/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/programs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "judge/growth.h"

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

static int find_or_add(struct program *program, const struct snapshot_site *seen,
		       struct program_site **ret)
{
	size_t at = place_in_list(program, seen->id);
	struct program_site *site;

	if (at < program->n_sites && program->sites[at].id == seen->id) {
		*ret = &program->sites[at];
		return 0;
	}
	if (!program->sites)
		program->sites = calloc(PROGRAM_SITES_MAX, sizeof(*program->sites));
	if (!program->sites)
		return -ENOMEM;
	make_room_for_site(program);
	at = place_in_list(program, seen->id);
	memmove(program->sites + at + 1, program->sites + at,
		(program->n_sites - at) * sizeof(*program->sites));
	program->n_sites++;
	site = &program->sites[at];
	*site = (struct program_site){.id = seen->id};
	if (seen->n_frames) {
		snprintf(site->function, sizeof(site->function), "%s", seen->frames[0].function);
		snprintf(site->file, sizeof(site->file), "%s", seen->frames[0].file);
	}
	*ret = site;
	return 0;
}

struct known {
	uint64_t id, bytes;
};

static int compare_known(const void *a, const void *b)
{
	const struct known *one = a, *other = b;

	return (one->id > other->id) - (one->id < other->id);
}

/* The sites of a snapshot by id. NULL: no memory. */
static struct known *known_sites(const struct snapshot *snapshot)
{
	struct known *known = calloc(snapshot->n_sites + 1, sizeof(*known));

	if (!known)
		return NULL;
	for (size_t i = 0; i < snapshot->n_sites; i++)
		known[i] =
			(struct known){snapshot->sites[i].id, snapshot->sites[i].outstanding_bytes};
	qsort(known, snapshot->n_sites, sizeof(*known), compare_known);
	return known;
}

/*
 * A site that appears, or is seen no more, counts for nothing: estimates begin
 * late in a session, and what a line has in use at any time would look as if
 * each process had gained it.
 */
static int gain_sites(struct program *program, const struct snapshot *before,
		      const struct snapshot *snapshot, double now)
{
	_cleanup_free_ struct known *known = known_sites(before);
	struct program_site *site;
	int r;

	if (!known)
		return -ENOMEM;
	for (size_t i = 0; i < snapshot->n_sites; i++) {
		const struct snapshot_site *seen = &snapshot->sites[i];
		const struct known *had = bsearch(&(struct known){.id = seen->id}, known,
						  before->n_sites, sizeof(*known), compare_known);

		if (seen->other || !had || had->bytes == 0 || seen->outstanding_bytes == 0)
			continue;
		r = find_or_add(program, seen, &site);
		if (r < 0)
			return r;
		site->gained_bytes += (double)seen->outstanding_bytes - (double)had->bytes;
		site->seen_at = now;
	}
	return 0;
}

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

int program_observe(struct program *program, const struct snapshot *before,
		    const struct snapshot *snapshot, double age_seconds, double now,
		    double interval_seconds)
{
	int r;

	if (!before || before->session_started != snapshot->session_started ||
	    age_seconds < PROGRAM_WARMUP_INTERVALS * interval_seconds)
		return 0;
	program->observed_seconds += snapshot->duration_seconds - before->duration_seconds;
	program->gained_heap_bytes +=
		(double)snapshot->python_live_bytes - (double)before->python_live_bytes;
	program->gained_resident_bytes +=
		(double)snapshot->resident_bytes - (double)before->resident_bytes;
	r = gain_sites(program, before, snapshot, now);
	if (program->observed_seconds - program->pointed_seconds >=
	    PROGRAM_POINT_INTERVALS * interval_seconds)
		add_points(program, now);
	return r;
}
