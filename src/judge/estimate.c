/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "judge/estimate.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "judge/allocate.h"

/* A cell of one window in one sum. */
struct share {
	uint32_t key; /* which sum */
	struct estimate_cluster cluster;
};

static bool cells_are_valid(const struct estimate_cell *cells, size_t n,
			    const struct estimate_design *design)
{
	if (design->n_clusters > ESTIMATE_CLUSTERS_MAX || !(design->relative_error >= 0))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (cells[i].size_class >= ESTIMATE_CLASSES ||
		    (cells[i].cluster >= design->n_clusters && cells[i].cluster != ESTIMATE_EXACT))
			return false;
		if (!(cells[i].bytes >= 0) || !(cells[i].weight >= 0) ||
		    !(cells[i].thinning_variance >= 0) ||
		    !isfinite(cells[i].bytes * cells[i].weight + cells[i].thinning_variance))
			return false;
	}
	return true;
}

static int compare_shares(const void *a, const void *b)
{
	const struct share *one = a, *other = b;

	if (one->key != other->key)
		return one->key > other->key ? 1 : -1;
	return (one->cluster.ordinal > other->cluster.ordinal) -
	       (one->cluster.ordinal < other->cluster.ordinal);
}

static int compare_clusters(const void *a, const void *b)
{
	const struct estimate_cluster *one = a, *other = b;

	return (one->ordinal > other->ordinal) - (one->ordinal < other->ordinal);
}

/* Sorts, and makes one of all with the same ordinal; those of 0 go. Returns how many are left. */
static size_t clusters_merge(struct estimate_cluster *clusters, size_t n)
{
	size_t kept = 0, positive = 0;

	qsort(clusters, n, sizeof(*clusters), compare_clusters);
	for (size_t i = 0; i < n; i++) {
		if (kept && clusters[kept - 1].ordinal == clusters[i].ordinal)
			clusters[kept - 1].sum += clusters[i].sum;
		else
			clusters[kept++] = clusters[i];
	}
	for (size_t i = 0; i < kept; i++)
		if (clusters[i].sum != 0)
			clusters[positive++] = clusters[i];
	return positive;
}

/* --- classes ---------------------------------------------------------------------------------- */

/* See docs/estimator.md, "Calibration by the census". */
static void class_calibrate(struct estimate_class *class)
{
	double value = class->sampled.value;
	double low, high;

	class->factor = 1;
	class->uncovered_bytes = 0;
	if (isnan(class->live_bytes))
		return;
	high = class->live_bytes - class->exact_bytes;
	low = high - class->baseline_bytes;
	if (!isnan(class->gone_bytes))
		low = high = low + class->gone_bytes;
	high = fmax(high, 0);
	low = fmax(low, 0);
	if (value > high)
		class->factor = high / value;
	else if (value < low && value > 0)
		class->factor = fmin(low, class->sampled.high) / value;
	class->uncovered_bytes = fmax(0, low - class->factor * value);
}

int estimate_classes(const struct estimate_cell *cells, size_t n,
		     const struct estimate_design *design, struct estimate_class *classes)
{
	_cleanup_free_ struct share *shares = NULL;
	_cleanup_free_ struct estimate_cluster *clusters = NULL;
	double exact[ESTIMATE_CLASSES] = {0};
	size_t n_shares = 0, at = 0;

	if (!cells_are_valid(cells, n, design))
		return -EINVAL;
	shares = judge_allocate(n + 1, sizeof(*shares));
	clusters = judge_allocate(n + 1, sizeof(*clusters));
	if (!shares || !clusters)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (cells[i].cluster == ESTIMATE_EXACT)
			exact[cells[i].size_class] += cells[i].bytes;
		else
			shares[n_shares++] = (struct share){
				cells[i].size_class,
				{cells[i].cluster, cells[i].weight * cells[i].bytes}};
	}
	qsort(shares, n_shares, sizeof(*shares), compare_shares);
	for (uint32_t class = 0; class < ESTIMATE_CLASSES; class ++) {
		size_t k = 0;

		while (at < n_shares && shares[at].key == class)
			clusters[k++] = shares[at++].cluster;
		k = clusters_merge(clusters, k);
		classes[class].exact_bytes = exact[class];
		classes[class].sampled = estimate_interval_of(clusters, k, design->n_clusters,
							      design->relative_error);
		class_calibrate(&classes[class]);
	}
	return 0;
}

/* --- stacks ----------------------------------------------------------------------------------- */

/* One stack's cells being added up. */
struct stack_sum {
	struct estimate_cluster *gained, *lost; /* room for all cells each */
	size_t n_gained, n_lost;
	double exact, exact_variance;
	double seen; /* certain: not weighed, not thinned */
};

static double factor_of(const struct estimate_class *classes, uint8_t size_class)
{
	return classes ? classes[size_class].factor : 1;
}

/* sign −1: as of an earlier time. */
static void stack_add(struct stack_sum *sum, const struct estimate_cell *cell,
		      const struct estimate_class *classes, int sign)
{
	double z = sign * cell->weight * cell->bytes * factor_of(classes, cell->size_class);

	if (cell->cluster == ESTIMATE_EXACT) {
		sum->exact += sign * cell->bytes;
		sum->exact_variance += cell->thinning_variance;
	} else {
		sum->gained[sum->n_gained++] = (struct estimate_cluster){cell->cluster, z};
	}
	if (cell->thinning_variance == 0)
		sum->seen += cell->bytes;
}

/* After all were added: windows that lost move to the others, as what they lost. */
static void stack_split(struct stack_sum *sum)
{
	size_t n = clusters_merge(sum->gained, sum->n_gained);

	sum->n_gained = sum->n_lost = 0;
	for (size_t i = 0; i < n; i++) {
		struct estimate_cluster cluster = sum->gained[i];

		if (cluster.sum > 0) {
			sum->gained[sum->n_gained++] = cluster;
		} else {
			cluster.sum = -cluster.sum;
			sum->lost[sum->n_lost++] = cluster;
		}
	}
}

static struct estimate_interval stack_interval(struct stack_sum *sum,
					       const struct estimate_design *design)
{
	double deviation = sqrt(sum->exact_variance);
	struct estimate_interval gained, lost, exact = {.value = sum->exact};

	stack_split(sum);
	gained = estimate_interval_of(sum->gained, sum->n_gained, design->n_clusters,
				      design->relative_error);
	lost = estimate_interval_of(sum->lost, sum->n_lost, design->n_clusters,
				    design->relative_error);
	/* What was thinned is many coins: near enough to normal. */
	exact.low = exact.value - 1.96 * deviation;
	exact.high = exact.value + 1.96 * deviation;
	return estimate_add(estimate_subtract(gained, lost), exact);
}

static int stack_sum_init(struct stack_sum *sum, size_t n)
{
	*sum = (struct stack_sum){
		.gained = judge_allocate(n + 1, sizeof(*sum->gained)),
		.lost = judge_allocate(n + 1, sizeof(*sum->lost)),
	};
	return sum->gained && sum->lost ? 0 : -ENOMEM;
}

static void stack_sum_done(struct stack_sum *sum)
{
	free(sum->gained);
	free(sum->lost);
}

static void stack_sum_restart(struct stack_sum *sum)
{
	sum->n_gained = sum->n_lost = 0;
	sum->exact = sum->exact_variance = sum->seen = 0;
}

int estimate_stacks(const struct estimate_cell *cells, size_t n,
		    const struct estimate_design *design, const struct estimate_class *classes,
		    struct estimate *ret, size_t max, size_t *ret_n)
{
	__attribute__((cleanup(stack_sum_done))) struct stack_sum sum = {0};
	size_t n_stacks = 0, i = 0;

	if (!cells_are_valid(cells, n, design))
		return -EINVAL;
	if (stack_sum_init(&sum, n) < 0)
		return -ENOMEM;
	while (i < n) {
		struct estimate *estimate = &ret[n_stacks];
		uint64_t stack = cells[i].stack;

		if (n_stacks++ >= max)
			return -ENOSPC;
		stack_sum_restart(&sum);
		for (; i < n && cells[i].stack == stack; i++)
			stack_add(&sum, &cells[i], classes, 1);
		*estimate = (struct estimate){.stack = stack,
					      .total = stack_interval(&sum, design),
					      .exact_bytes = sum.exact,
					      .windows = (uint32_t)sum.n_gained};
		estimate->total.low = fmax(estimate->total.low, sum.seen);
		estimate->total.value = fmax(estimate->total.value, estimate->total.low);
		estimate->total.high = fmax(estimate->total.high, estimate->total.value);
	}
	*ret_n = n_stacks;
	return 0;
}

int estimate_growth(const struct estimate_cell *before, size_t n_before,
		    const struct estimate_cell *after, size_t n_after,
		    const struct estimate_design *design, const struct estimate_class *classes,
		    double seconds, struct estimate *ret, size_t max, size_t *ret_n)
{
	__attribute__((cleanup(stack_sum_done))) struct stack_sum sum = {0};
	size_t n_stacks = 0, i = 0, k = 0;

	if (!(seconds > 0) || !cells_are_valid(before, n_before, design) ||
	    !cells_are_valid(after, n_after, design))
		return -EINVAL;
	if (stack_sum_init(&sum, n_before + n_after) < 0)
		return -ENOMEM;
	while (i < n_before || k < n_after) {
		bool older = k == n_after || (i < n_before && before[i].stack < after[k].stack);
		uint64_t stack = older ? before[i].stack : after[k].stack;
		struct estimate_interval gain;

		if (n_stacks >= max)
			return -ENOSPC;
		stack_sum_restart(&sum);
		for (; i < n_before && before[i].stack == stack; i++)
			stack_add(&sum, &before[i], classes, -1);
		for (; k < n_after && after[k].stack == stack; k++)
			stack_add(&sum, &after[k], classes, 1);
		gain = stack_interval(&sum, design);
		ret[n_stacks++] = (struct estimate){
			.stack = stack,
			.total = {gain.value / seconds, gain.low / seconds, gain.high / seconds},
			.exact_bytes = sum.exact,
			.windows = (uint32_t)(sum.n_gained + sum.n_lost),
		};
	}
	*ret_n = n_stacks;
	return 0;
}
