/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What lives now: by stack, class and window; by stack and type; by stack and time. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "ledger/allocate.h"
#include "ledger/samples_state.h"

/* What of the samples a query asks for: their indices and, in each slot's place, its window. */
struct chosen {
	uint32_t index;
	uint16_t window; /* index; 0: always-on */
	uint8_t size_class;
};

static bool query_takes(const struct samples *samples, const struct samples_query *query,
			const struct slot *slot, uint16_t *ret_window)
{
	uint32_t now = ticks_of(query->time);
	uint32_t age = now > slot->seen ? now - slot->seen : 0;

	return slot->state == SLOT_SAMPLE && !slot->unknown && slot->zombie == query->zombies &&
	       !(query->at_rest && slot->changes) && age >= ticks_of(query->min_age_seconds) &&
	       samples_counts(samples, slot, ret_window);
}

/* 0 or -ENOMEM; what is chosen is the caller's to free. */
static int choose(const struct samples *samples, const struct samples_query *query,
		  struct chosen **ret, size_t *ret_n)
{
	struct chosen *chosen = ledger_allocate(samples->totals.samples + 1, sizeof(*chosen));
	size_t n = 0;

	if (!chosen)
		return -ENOMEM;
	for (uint32_t i = 0; i < samples->n_slots; i++) {
		uint16_t window;

		if (query_takes(samples, query, &samples->slots[i], &window))
			chosen[n++] = (struct chosen){.index = i,
						      .window = window,
						      .size_class = samples->slots[i].size_class};
	}
	*ret = chosen;
	*ret_n = n;
	return 0;
}

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

static int compare_cells(const void *a, const void *b)
{
	const struct samples_cell *one = a, *other = b;
	int order = COMPARE(one->stack, other->stack);

	order = order ? order : COMPARE(one->size_class, other->size_class);
	return order ? order : COMPARE(one->window, other->window);
}

/*
 * A buffer that is small lies in the pools, in the class of its size; several
 * of one object, whose classes are not kept, are taken for one if they are
 * small together.
 */
static uint8_t buffers_class(const struct slot *slot)
{
	uint32_t bytes = slot->buffer_steps * SAMPLE_STEP;

	return bytes <= POOLS_BYTES_MAX ? (uint8_t)((bytes - 1) / POOLS_CLASS_BYTES)
					: SAMPLES_CLASS_BUFFERS;
}

static void cell_fill(const struct samples *samples, const struct chosen *chosen, bool buffers,
		      struct samples_cell *ret)
{
	const struct slot *slot = &samples->slots[chosen->index];
	const struct window_record *window = &samples->windows[chosen->window];
	double bytes = (double)(buffers ? slot->buffer_steps : slot->own_steps) * SAMPLE_STEP;
	double expansion = expansion_of(slot);

	*ret = (struct samples_cell){
		.stack = samples->stacks[slot->stack].key,
		.size_class = buffers ? buffers_class(slot) : chosen->size_class,
		.stream = window->stream,
		.window = window->window,
		.ordinal = window->ordinal,
		.count = buffers ? 0 : 1,
		.weight = chosen->window ? window->weight : 1,
		.expanded_count = buffers ? 0 : expansion,
		.expanded_bytes = expansion * bytes,
		.thinning_variance = expansion * (expansion - 1) * bytes * bytes,
	};
}

static void cell_add(struct samples_cell *sum, const struct samples_cell *cell)
{
	sum->count += cell->count;
	sum->expanded_count += cell->expanded_count;
	sum->expanded_bytes += cell->expanded_bytes;
	sum->thinning_variance += cell->thinning_variance;
}

int samples_cells(const struct samples *samples, const struct samples_query *query,
		  struct samples_cell **ret, size_t *ret_n)
{
	_cleanup_free_ struct chosen *chosen = NULL;
	struct samples_cell *cells;
	size_t n_chosen, n = 0, kept = 0;
	int r = choose(samples, query, &chosen, &n_chosen);

	if (r < 0)
		return r;
	cells = ledger_allocate(2 * n_chosen + 1, sizeof(*cells));
	if (!cells)
		return -ENOMEM;
	for (size_t i = 0; i < n_chosen; i++) {
		cell_fill(samples, &chosen[i], false, &cells[n++]);
		if (samples->slots[chosen[i].index].buffer_steps)
			cell_fill(samples, &chosen[i], true, &cells[n++]);
	}
	qsort(cells, n, sizeof(*cells), compare_cells);
	for (size_t i = 0; i < n; i++) {
		if (kept && compare_cells(&cells[kept - 1], &cells[i]) == 0)
			cell_add(&cells[kept - 1], &cells[i]);
		else
			cells[kept++] = cells[i];
	}
	*ret = cells;
	*ret_n = kept;
	return 0;
}

static int compare_keys(const void *a, const void *b)
{
	const struct samples_type_sum *one = a, *other = b;
	int order = COMPARE(one->stack, other->stack);

	return order ? order : COMPARE(one->type, other->type);
}

static int compare_bytes(const void *a, const void *b)
{
	const struct samples_type_sum *one = a, *other = b;
	int order = COMPARE(one->stack, other->stack);

	order = order ? order : COMPARE(other->estimated_bytes, one->estimated_bytes);
	return order ? order : COMPARE(one->type, other->type);
}

static size_t merge_types(struct samples_type_sum *sums, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (!kept || compare_keys(&sums[kept - 1], &sums[i]) != 0) {
			sums[kept++] = sums[i];
			continue;
		}
		sums[kept - 1].count += sums[i].count;
		sums[kept - 1].estimated_count += sums[i].estimated_count;
		sums[kept - 1].estimated_bytes += sums[i].estimated_bytes;
		sums[kept - 1].estimated_buffer_bytes += sums[i].estimated_buffer_bytes;
	}
	return kept;
}

int samples_types(const struct samples *samples, const struct samples_query *query,
		  struct samples_type_sum **ret, size_t *ret_n)
{
	_cleanup_free_ struct chosen *chosen = NULL;
	struct samples_type_sum *sums;
	size_t n;
	int r = choose(samples, query, &chosen, &n);

	if (r < 0)
		return r;
	sums = ledger_allocate(n + 1, sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct slot *slot = &samples->slots[chosen[i].index];
		double weight = expansion_of(slot);

		if (chosen[i].window)
			weight *= samples->windows[chosen[i].window].weight;
		sums[i] = (struct samples_type_sum){
			.stack = samples->stacks[slot->stack].key,
			.type = samples->types[slot->type].key,
			.count = 1,
			.estimated_count = weight,
			.estimated_bytes = weight * slot->own_steps * SAMPLE_STEP,
			.estimated_buffer_bytes = weight * slot->buffer_steps * SAMPLE_STEP,
		};
	}
	qsort(sums, n, sizeof(*sums), compare_keys);
	n = merge_types(sums, n);
	qsort(sums, n, sizeof(*sums), compare_bytes);
	*ret = sums;
	*ret_n = n;
	return 0;
}

static int compare_cohorts(const void *a, const void *b)
{
	const struct samples_cohorts *one = a, *other = b;

	return COMPARE(one->stack, other->stack);
}

static unsigned int slice_of(const struct slot *slot, double time)
{
	double share = time > 0 ? (double)slot->seen / TICKS_PER_SECOND / time : 0;

	return share < 1 ? (unsigned int)(share * SAMPLES_SLICES) : SAMPLES_SLICES - 1;
}

/* Nothing is known of a site that nobody told of: it may have been in all the time. */
static void add_times_seen(const struct samples *samples, const struct slot *slot, double time,
			   struct samples_cohorts *sum)
{
	const struct site_record *site = &samples->sites[slot->site % SAMPLES_SITES_MAX];
	bool known = slot->site < SAMPLES_SITES_MAX && site->seen;
	bool out = known && site->state != SAMPLE_SITE_ALWAYS;
	double since = known ? (double)site->seen_since / TICKS_PER_SECOND : 0;

	sum->since = sum->count ? fmin(sum->since, since) : since;
	sum->until = fmax(sum->until, out ? (double)site->seen_until / TICKS_PER_SECOND : time);
}

static void cohorts_add(const struct samples *samples, struct samples_cohorts *sum,
			const struct slot *slot, const struct window_record *window, double time)
{
	double age = time - (double)slot->seen / TICKS_PER_SECOND;
	unsigned int slice = slice_of(slot, time);

	sum->counts[slice]++;
	sum->always_on[slice] += !window;
	sum->estimated_counts[slice] += expansion_of(slot) * (window ? window->weight : 1);
	add_times_seen(samples, slot, time, sum);
	sum->count++;
	sum->oldest_seconds = fmax(sum->oldest_seconds, age);
	/* Until the end the number of them. */
	sum->older_half_ratio += slice < SAMPLES_SLICES / 2;
}

int samples_cohorts(const struct samples *samples, const struct samples_query *query,
		    struct samples_cohorts **ret, size_t *ret_n)
{
	_cleanup_free_ struct samples_cohorts *by_index = NULL;
	struct samples_cohorts *kept;
	size_t n = 0;

	by_index = ledger_allocate(samples->n_stacks + 1, sizeof(*by_index));
	if (!by_index)
		return -ENOMEM;
	for (size_t i = 0; i < samples->n_slots; i++) {
		const struct slot *slot = &samples->slots[i];
		uint16_t window;

		if (query_takes(samples, query, slot, &window))
			cohorts_add(samples, &by_index[slot->stack], slot,
				    window ? &samples->windows[window] : NULL, query->time);
	}
	for (size_t i = 0; i < samples->n_stacks; i++) {
		if (!by_index[i].count)
			continue;
		by_index[n] = by_index[i];
		by_index[n].stack = samples->stacks[i].key;
		by_index[n].older_half_ratio /= by_index[n].count;
		n++;
	}
	qsort(by_index, n, sizeof(*by_index), compare_cohorts);
	kept = TAKE_PTR(by_index);
	*ret = kept;
	*ret_n = n;
	return 0;
}
