/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "judge/estimate.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "judge/allocate.h"

#define PULL_BISECTIONS 64

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

/* Σ z / (1 + μ z), which falls from Σ z to 0 as μ rises. */
static double pulled_sum(const struct share *shares, size_t n, double pull)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += estimate_pulled(shares[i].cluster.sum, pull);
	return sum;
}

/* So that the sum becomes target, which is below it. Ends: PULL_BISECTIONS. */
static double pull_down(const struct share *shares, size_t n, double target)
{
	double low = 0, high = 1e-6; /* of μ */

	for (int i = 0; i < PULL_BISECTIONS && pulled_sum(shares, n, -high) > target; i++)
		high *= 8;
	for (int i = 0; i < PULL_BISECTIONS && high - low > high * 1e-9; i++) {
		double middle = (low + high) / 2;

		if (pulled_sum(shares, n, -middle) > target)
			low = middle;
		else
			high = middle;
	}
	return -high;
}

static double pull_up(const struct share *shares, size_t n, double missing)
{
	double squares = 0;

	for (size_t i = 0; i < n; i++)
		squares += shares[i].cluster.sum * shares[i].cluster.sum;
	return missing / squares;
}

/* See docs/estimator.md, "Calibration by the census". shares: all cells of the class. */
static void class_calibrate(struct estimate_class *class, const struct share *shares, size_t n)
{
	double value = class->sampled.value;
	double low, high;

	class->pull = 0;
	class->uncovered_bytes = 0;
	class->room_bytes = INFINITY;
	class->calibrated_bytes = value;
	if (isnan(class->live_bytes))
		return;
	high = class->live_bytes - class->exact_bytes;
	low = high - class->baseline_bytes;
	if (!isnan(class->gone_bytes))
		low = high = low + class->gone_bytes;
	low = fmax(low, 0);
	high = fmax(high, 0);
	class->room_bytes = high;
	if (value > high)
		class->pull = pull_down(shares, n, high);
	else if (value < low && value > 0 && class->covered)
		class->pull = pull_up(shares, n, fmin(low, class->sampled.high) - value);
	class->calibrated_bytes = pulled_sum(shares, n, class->pull);
	class->uncovered_bytes = fmax(0, low - class->calibrated_bytes);
}

/* All cells of one class. clusters: room for as many. */
static void class_estimate(struct estimate_class *class, const struct share *shares, size_t n,
			   struct estimate_cluster *clusters, const struct estimate_design *design)
{
	size_t k;

	for (size_t i = 0; i < n; i++)
		clusters[i] = shares[i].cluster;
	k = clusters_merge(clusters, n);
	class->sampled =
		estimate_interval_of(clusters, k, design->n_clusters, design->relative_error);
	class_calibrate(class, shares, n);
}

int estimate_classes(const struct estimate_cell *cells, size_t n,
		     const struct estimate_design *design, struct estimate_class *classes)
{
	_cleanup_free_ struct share *shares = NULL;
	_cleanup_free_ struct estimate_cluster *clusters = NULL;
	double exact[ESTIMATE_CLASSES] = {0};
	size_t n_shares = 0, from = 0;

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
		size_t end = from;

		while (end < n_shares && shares[end].key == class)
			end++;
		classes[class].exact_bytes = exact[class];
		class_estimate(&classes[class], shares + from, end - from, clusters, design);
		from = end;
	}
	return 0;
}

/* --- stacks ----------------------------------------------------------------------------------- */

/* One stack's cells being added up. */
struct stack_sum {
	struct estimate_cluster *gained, *lost; /* room for all cells each */
	size_t n_gained, n_lost;
	double exact, exact_variance;
	double seen;		 /* certain: not weighed, not thinned */
	double pulled;		 /* of the windows, calibrated */
	double room;		 /* of the classes that windows have any of */
	unsigned int last_class; /* cells are in the order of classes */
};

/* sign −1: as of an earlier time. pull_all: the intervals, too, are of what is calibrated. */
static void stack_add(struct stack_sum *sum, const struct estimate_cell *cell,
		      const struct estimate_class *classes, bool pull_all, int sign)
{
	double z = cell->weight * cell->bytes;
	double pulled = classes ? estimate_pulled(z, classes[cell->size_class].pull) : z;

	if (cell->cluster == ESTIMATE_EXACT) {
		sum->exact += sign * cell->bytes;
		sum->exact_variance += cell->thinning_variance;
	} else {
		sum->gained[sum->n_gained++] =
			(struct estimate_cluster){cell->cluster, sign * (pull_all ? pulled : z)};
		sum->pulled += sign * pulled;
		if (cell->size_class != sum->last_class)
			sum->room += classes ? classes[cell->size_class].room_bytes : INFINITY;
		sum->last_class = cell->size_class;
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

static struct estimate_interval sum_interval(const struct stack_sum *sum, bool lost,
					     const struct estimate_design *design)
{
	return estimate_interval_of(lost ? sum->lost : sum->gained,
				    lost ? sum->n_lost : sum->n_gained, design->n_clusters,
				    design->relative_error);
}

/* One that no window saw, while k saw the other: events would be of the other's mean size. */
static void allow_for_unseen(struct estimate_interval *unseen, double other, size_t k)
{
	if (unseen->value == 0 && k > 0)
		unseen->high = estimate_unseen_high(1, other / (double)k);
}

/* What windows gained and lost. */
static struct estimate_interval difference_interval(struct stack_sum *sum,
						    const struct estimate_design *design)
{
	struct estimate_interval gained, lost;

	stack_split(sum);
	gained = sum_interval(sum, false, design);
	lost = sum_interval(sum, true, design);
	allow_for_unseen(&lost, gained.value, sum->n_gained);
	allow_for_unseen(&gained, lost.value, sum->n_lost);
	return estimate_subtract(gained, lost);
}

/* What was thinned is many coins: near enough to normal. */
static struct estimate_interval exact_interval(const struct stack_sum *sum)
{
	double half = 1.96 * sqrt(sum->exact_variance);

	return (struct estimate_interval){sum->exact, sum->exact - half, sum->exact + half};
}

/*
 * Calibration moves the estimate, and the interval's end on that side; the other
 * end stays: that the class as a whole is too high says little of one stack.
 */
static struct estimate_interval calibrated(struct estimate_interval interval,
					   const struct stack_sum *sum)
{
	double ratio = interval.value > 0 ? sum->pulled / interval.value : 1;

	interval.value = sum->pulled;
	if (ratio < 1)
		interval.low *= ratio;
	else
		interval.high *= ratio;
	interval.high = fmax(interval.value, fmin(interval.high, sum->room));
	return interval;
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
	sum->exact = sum->exact_variance = sum->seen = sum->pulled = sum->room = 0;
	sum->last_class = ESTIMATE_CLASSES;
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
		struct estimate_interval windows;

		if (n_stacks++ >= max)
			return -ENOSPC;
		stack_sum_restart(&sum);
		for (; i < n && cells[i].stack == stack; i++)
			stack_add(&sum, &cells[i], classes, false, 1);
		stack_split(&sum);
		windows = calibrated(sum_interval(&sum, false, design), &sum);
		*estimate = (struct estimate){.stack = stack,
					      .total = estimate_add(windows, exact_interval(&sum)),
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
			stack_add(&sum, &before[i], classes, true, -1);
		for (; k < n_after && after[k].stack == stack; k++)
			stack_add(&sum, &after[k], classes, true, 1);
		gain = estimate_add(difference_interval(&sum, design), exact_interval(&sum));
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
