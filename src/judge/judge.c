/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "judge/judge.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "judge/allocate.h"
#include "judge/growth.h"

#define SITES_FIRST 64u
#define VALUES_FIRST 8u

struct value {
	uint64_t bytes, objects;
};

/*
 * Values stand at the columns of the common time line.  A site that was not
 * told about lately has fewer, or an old one in a last column that has been
 * used again; site_settle() makes good for that.
 */
struct site {
	uint64_t id;
	struct value *values;
	size_t n, capacity;
	uint64_t told; /* interval in which its last value was told */
};

struct column {
	double time;
	uint64_t interval; /* the first is 0 */
};

struct judge {
	struct site *sites;
	size_t n_sites, sites_capacity, max_sites;
	uint32_t *slots; /* 1 + index; 0: empty */
	size_t n_slots;	 /* a power of two, twice the capacity */
	struct column columns[JUDGE_HISTORY_MAX];
	size_t n_columns;
	uint64_t stride; /* each stride-th interval is kept, and the last one */
};

const char *verdict_name(enum verdict verdict)
{
	static const char *const names[] = {
		[VERDICT_WARMING] = "warming",
		[VERDICT_STABLE] = "stable",
		[VERDICT_GROWING] = "growing",
		[VERDICT_LEAK] = "leak",
	};

	if ((unsigned int)verdict >= sizeof(names) / sizeof(*names))
		return "unknown";
	return names[verdict];
}

int judge_new(size_t max_sites, struct judge **ret)
{
	struct judge *judge = judge_allocate(1, sizeof(*judge));

	if (!judge)
		return -ENOMEM;
	judge->max_sites = max_sites ? max_sites : JUDGE_SITES_DEFAULT;
	if (judge->max_sites > UINT32_MAX / 2)
		judge->max_sites = UINT32_MAX / 2;
	judge->stride = 1;
	*ret = judge;
	return 0;
}

void judge_free(struct judge *judge)
{
	if (!judge)
		return;
	for (size_t i = 0; i < judge->n_sites; i++)
		free(judge->sites[i].values);
	free(judge->sites);
	free(judge->slots);
	free(judge);
}

/* The slot of this id, or the empty one where it goes: at most half of them are in use. */
static uint32_t *slot_of(const struct judge *judge, uint64_t id)
{
	size_t slot = (size_t)(id * 0x9e3779b97f4a7c15ull >> 32) & (judge->n_slots - 1);

	while (judge->slots[slot] && judge->sites[judge->slots[slot] - 1].id != id)
		slot = (slot + 1) & (judge->n_slots - 1);
	return &judge->slots[slot];
}

static int sites_grow(struct judge *judge)
{
	size_t capacity = judge->sites_capacity ? judge->sites_capacity * 2 : SITES_FIRST;
	struct site *sites = judge_allocate(capacity, sizeof(*sites));
	uint32_t *slots = judge_allocate(capacity * 2, sizeof(*slots));

	if (!sites || !slots) {
		free(sites);
		free(slots);
		return -ENOMEM;
	}
	if (judge->n_sites)
		memcpy(sites, judge->sites, judge->n_sites * sizeof(*sites));
	free(judge->sites);
	free(judge->slots);
	judge->sites = sites;
	judge->slots = slots;
	judge->sites_capacity = capacity;
	judge->n_slots = capacity * 2;
	for (size_t i = 0; i < judge->n_sites; i++)
		*slot_of(judge, sites[i].id) = (uint32_t)i + 1;
	return 0;
}

static const struct site *site_find(const struct judge *judge, uint64_t id)
{
	uint32_t slot = judge->n_slots ? *slot_of(judge, id) : 0;

	return slot ? &judge->sites[slot - 1] : NULL;
}

/* Found or added. */
static int site_get(struct judge *judge, uint64_t id, struct site **ret)
{
	const struct site *site = site_find(judge, id);

	if (site) {
		*ret = &judge->sites[site - judge->sites];
		return 0;
	}
	if (judge->n_sites >= judge->max_sites)
		return -ENOSPC;
	if (judge->n_sites == judge->sites_capacity) {
		int error = sites_grow(judge);

		if (error)
			return error;
	}
	*ret = &judge->sites[judge->n_sites++];
	**ret = (struct site){.id = id};
	*slot_of(judge, id) = (uint32_t)judge->n_sites;
	return 0;
}

/* The site's value at a column, 0 where it was not told. */
static struct value site_value(const struct judge *judge, const struct site *site, size_t column)
{
	bool is_last = column + 1 == site->n;

	if (column >= site->n || (is_last && judge->columns[column].interval != site->told))
		return (struct value){0};
	return site->values[column];
}

/* Room for n values. */
static int site_reserve(struct site *site, size_t n)
{
	size_t capacity = site->capacity ? site->capacity : VALUES_FIRST;
	struct value *values;

	if (n <= site->capacity)
		return 0;
	while (capacity < n)
		capacity *= 2;
	values = judge_allocate(capacity, sizeof(*values));
	if (!values)
		return -ENOMEM;
	if (site->n)
		memcpy(values, site->values, site->n * sizeof(*values));
	free(site->values);
	site->values = values;
	site->capacity = capacity;
	return 0;
}

/* Every second column is kept, from the first on; twice as many intervals a column from now on. */
static void thin_out(struct judge *judge)
{
	size_t kept = JUDGE_HISTORY_MAX / 2;

	for (size_t i = 0; i < judge->n_sites; i++) {
		struct site *site = &judge->sites[i];
		size_t n = (site->n + 1) / 2;

		/* Its last value is settled, and goes or stays as one of a column that is full. */
		for (size_t column = 0; column < n; column++)
			site->values[column] = site_value(judge, site, 2 * column);
		site->n = n;
		if (n)
			site->told = judge->columns[2 * (n - 1)].interval;
	}
	for (size_t column = 0; column < kept; column++)
		judge->columns[column] = judge->columns[2 * column];
	judge->n_columns = kept;
	judge->stride *= 2;
}

/* The last column is used again for the next interval, unless it is one that is kept. */
static void interval_begin(struct judge *judge, double time)
{
	struct column next = {.time = time};

	if (judge->n_columns) {
		const struct column *last = &judge->columns[judge->n_columns - 1];

		next.interval = last->interval + 1;
		if (last->interval % judge->stride) {
			judge->columns[judge->n_columns - 1] = next;
			return;
		}
	}
	if (judge->n_columns == JUDGE_HISTORY_MAX)
		thin_out(judge);
	judge->columns[judge->n_columns++] = next;
}

int judge_observe(struct judge *judge, uint64_t id, double time_seconds, uint64_t outstanding_bytes,
		  uint64_t outstanding_objects)
{
	const struct column *last = judge->n_columns ? &judge->columns[judge->n_columns - 1] : NULL;
	struct site *site;
	size_t n;
	int error;

	if (!isfinite(time_seconds) || (last && time_seconds < last->time))
		return -EINVAL;
	if (!last || time_seconds > last->time)
		interval_begin(judge, time_seconds);
	error = site_get(judge, id, &site);
	if (!error)
		error = site_reserve(site, judge->n_columns);
	if (error)
		return error;
	n = judge->n_columns;
	for (size_t column = site->n ? site->n - 1 : 0; column + 1 < n; column++)
		site->values[column] = site_value(judge, site, column);
	site->values[n - 1] = (struct value){outstanding_bytes, outstanding_objects};
	site->n = n;
	site->told = judge->columns[n - 1].interval;
	return 0;
}

int judge_site(const struct judge *judge, uint64_t id, struct judgement *ret)
{
	const struct site *site = site_find(judge, id);
	struct point points[JUDGE_HISTORY_MAX];

	if (!site)
		return -ENOENT;
	for (size_t column = 0; column < judge->n_columns; column++) {
		points[column].time = judge->columns[column].time;
		points[column].value = (double)site_value(judge, site, column).bytes;
	}
	growth_judge(points, judge->n_columns, ret);
	return 0;
}
