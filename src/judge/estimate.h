/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * From sampled sightings to bytes with an interval: docs/estimator.md derives
 * it, tests/unit/judge/test_estimate_simulation.c shows how often it is right.
 * Pure, on plain arrays.
 *
 *	window  0     1     2     3     4     5        weight 50 each
 *	bytes   64    —     —     128   —     —        x_h, living now
 *	z_h     3200  0     0     6400  0     0        Σ = 9600, always-on: + 320, exactly
 *
 * The order of work: estimate_classes() compares all stacks with the census and
 * says how far each size class must be pulled; estimate_stacks() and estimate_growth() use
 * it.  All sums are in bytes.
 */
#ifndef PYLEAKD_JUDGE_ESTIMATE_H
#define PYLEAKD_JUDGE_ESTIMATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The interval's two tails: what is missed is mostly above, so the lower is the wider. */
#define ESTIMATE_TAIL_LOW 0.025
#define ESTIMATE_TAIL_HIGH 0.015

struct estimate_interval {
	double value, low, high;
};

/* One window's share in a sum: z_h, weight included. */
struct estimate_cluster {
	uint32_t ordinal; /* its place among all windows */
	double sum;
};

/*
 * Of a sum over n windows, of which only k ≤ n have any: those, in the order of
 * their ordinals (each below n), all sums above 0.  relative_error: the
 * weights' common standard error over their mean.  k = 0: all three are 0.
 */
struct estimate_interval estimate_interval_of(const struct estimate_cluster *clusters, size_t k,
					      uint32_t n, double relative_error);

/* No more than so much hides (98.5 %) where no window has any: events of so many bytes each. */
double estimate_unseen_high(double weight, double event_bytes);

/* Sum and difference of independent ones (Zou and Donner's MOVER). */
struct estimate_interval estimate_add(struct estimate_interval a, struct estimate_interval b);
struct estimate_interval estimate_subtract(struct estimate_interval a, struct estimate_interval b);

/* x with gamma_cdf(shape, x) = p, shape > 0, 0 < p < 1; scale 1. */
double gamma_quantile(double shape, double p);
double gamma_cdf(double shape, double x);

/* --- the progress clock ----------------------------------------------------------------------- */

/*
 * c of docs/estimator.md, pooled over some ESTIMATE_CLOCK_STRATA strata, the
 * old ones fading.  Zeroed: nothing is known yet, c = 1.
 */
struct estimate_clock {
	double strata, windows; /* Σ P_h; Σ d_h p_h */
	double hits; /* that the windows' progress rests on */
	double n;
};
#define ESTIMATE_CLOCK_STRATA 64

/*
 * A stratum is over.  stratum_progress: of all of it.  design_weight S_h / L_h
 * and window_progress (to the detach's start; the guard is samples.h's), both 0
 * where the window was missed.  hits: always-on hits behind window_progress;
 * where progress is reckoned in time, a large number.
 */
void estimate_clock_add(struct estimate_clock *clock, double stratum_progress, double design_weight,
			double window_progress, double hits);
/* The window's weight. */
double estimate_clock_weight(const struct estimate_clock *clock, double design_weight);
/* For struct estimate_design; 1 while nothing is known. */
double estimate_clock_relative_error(const struct estimate_clock *clock);

/* --- sums ------------------------------------------------------------------------------------- */

#define ESTIMATE_EXACT UINT32_MAX /* cluster: always-on */
#define ESTIMATE_CLASSES 128
#define ESTIMATE_CLUSTERS_MAX (1u << 22)

/* What of one stack, class and window lives (struct samples_cell). */
struct estimate_cell {
	uint64_t stack;
	double bytes, weight;
	double thinning_variance; /* of bytes; 0: nothing was thinned */
	uint32_t cluster; /* below the design's n_clusters, or ESTIMATE_EXACT */
	uint8_t size_class; /* below ESTIMATE_CLASSES */
};

struct estimate_design {
	uint32_t n_clusters; /* windows so far, with living samples or without */
	double relative_error; /* of the weights, common to all */
};

struct estimate_class {
	double live_bytes; /* in: the census now; NAN: not known, the class is not calibrated */
	double baseline_bytes; /* in: the census at the session's start */
	double gone_bytes; /* in: of the baseline's, died since; NAN: not known */
	bool covered; /* in: the plan's sites, both tiers, see all of this class */
	double exact_bytes; /* out: always-on */
	double room_bytes; /* out: what the samples can stand for at most; INFINITY: not known */
	struct estimate_interval sampled; /* out: before calibration */
	double calibrated_bytes; /* out: the samples' after it */
	double pull; /* out: see estimate_pulled() */
	double uncovered_bytes; /* out: what grew and no estimate reaches */
};

/* A window's share after calibration: the larger it is, the more of the correction it takes. */
static inline double estimate_pulled(double z, double pull)
{
	return pull >= 0 ? z * (1 + pull * z) : z / (1 - pull * z);
}

/*
 * classes[ESTIMATE_CLASSES]: the four "in" are given.  0; -EINVAL: a cell's
 * cluster or class is out of bounds, or its numbers are not finite and ≥ 0;
 * -ENOMEM.  After an error classes is untouched.
 */
int estimate_classes(const struct estimate_cell *cells, size_t n,
		     const struct estimate_design *design, struct estimate_class *classes);

struct estimate {
	uint64_t stack;
	struct estimate_interval total; /* bytes made since the session began that live */
	double exact_bytes; /* of these from always-on sites */
	uint32_t windows; /* that have any: independent events at least */
};

/*
 * One for each stack in cells, which are in the order of stacks; classes NULL:
 * not calibrated.  0; -ENOSPC: there are more than max; -EINVAL, -ENOMEM as
 * above.
 */
int estimate_stacks(const struct estimate_cell *cells, size_t n,
		    const struct estimate_design *design, const struct estimate_class *classes,
		    struct estimate *ret, size_t max, size_t *ret_n);

/*
 * The same for what is gained a second between two times: total is in bytes a
 * second.  The design is that of the later time.  seconds > 0.
 */
int estimate_growth(const struct estimate_cell *before, size_t n_before,
		    const struct estimate_cell *after, size_t n_after,
		    const struct estimate_design *design, const struct estimate_class *classes,
		    double seconds, struct estimate *ret, size_t max, size_t *ret_n);

#endif
