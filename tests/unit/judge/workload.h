/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Invented programs under sampled windows, with a known truth.
 *
 * Wall time is mapped to progress by the load; calls of the leaking line fall
 * into progress; a window of L seconds at a random place of its stratum sees
 * the calls of the progress that the target makes in it, slowed by the window.
 * The progress itself is known from counted hits only.
 */
#ifndef PYLEAKD_TESTS_UNIT_JUDGE_WORKLOAD_H
#define PYLEAKD_TESTS_UNIT_JUDGE_WORKLOAD_H

#include <stdbool.h>

#include "series.h"

#include "judge/estimate.h"

#define WINDOWS_MAX 600
#define CALLS_MAX 20000
#define CALLS_MEAN_MAX 5000 /* more only take time */
#define GUARD 0.1

enum pattern { STEADY, BURSTY, ON_OFF, N_PATTERNS };

struct workload {
	enum pattern pattern;
	double seconds, stratum, window;
	double slowing;		   /* of the target at full load, in a window */
	double hits_per_second;	   /* of always-on sites, by progress */
	double missed;		   /* share of the windows */
	double period, duty, idle; /* ON_OFF: of wall time; idle: the load when off */
	double phase;
	double pareto, call_max; /* objects a call */
	double lifetime;	 /* of an object, in progress; 0: for ever */
	double calls_seen;	 /* wanted */
};

struct place {
	double position, progress; /* of what the window looks at */
	double weight;		   /* once the clock knows */
	bool missed;
};

struct experiment {
	struct workload workload;
	struct place places[WINDOWS_MAX];
	size_t n;
	double progress; /* of the whole session */
	double relative_error;
	double calls, calls_seen; /* expected of the leak */
};

static inline double random_between(uint64_t *seed, double low, double high)
{
	return low + (high - low) * random_uniform(seed);
}

/* Equal chances for each order of magnitude. */
static inline double random_scale(uint64_t *seed, double low, double high)
{
	return low * pow(high / low, random_uniform(seed));
}

static inline unsigned int random_poisson(uint64_t *seed, double mean)
{
	double product = 1, limit = exp(-mean);
	unsigned int n = 0;

	if (mean > 50) {
		double value = mean + sqrt(mean) * random_normal(seed) + 0.5;

		return value > 0 ? (unsigned int)value : 0;
	}
	for (;;) {
		product *= random_uniform(seed);
		if (product <= limit)
			return n;
		n++;
	}
}

static inline struct workload workload_draw(uint64_t *seed, enum pattern pattern)
{
	struct workload w = {.pattern = pattern};

	w.seconds = random_scale(seed, 30, 300);
	w.stratum = random_scale(seed, 0.5, 3);
	/* Windows of 8 to 25 ms, and slices of 100. */
	w.window = random_uniform(seed) < 0.3 ? 0.1 : random_between(seed, 0.008, 0.025);
	w.slowing = random_uniform(seed) < 0.3 ? random_between(seed, 1, 2)
					       : random_between(seed, 8, 17);
	w.hits_per_second = random_scale(seed, 500, 10000);
	w.missed = random_uniform(seed) < 0.5 ? 0 : random_between(seed, 0, 0.3);
	/* Half of them exactly at the windows' cadence. */
	w.period = w.stratum * (random_uniform(seed) < 0.5 ? 1 : random_between(seed, 0.3, 4));
	w.duty = random_between(seed, 0.2, 0.8);
	w.idle = random_between(seed, 0, 0.05);
	w.phase = random_uniform(seed) * w.period;
	w.pareto = random_between(seed, 1.1, 2.6);
	w.call_max = random_uniform(seed) < 0.3 ? 1 : 200;
	w.calls_seen = random_scale(seed, 0.5, 150);
	return w;
}

static inline double load_at(const struct workload *w, double time)
{
	if (w->pattern != ON_OFF)
		return 1;
	return fmod(time + w->phase, w->period) < w->duty * w->period ? 1 : w->idle;
}

/* The load's integral from −phase on. */
static inline double load_sum(const struct workload *w, double time)
{
	double periods = floor((time + w->phase) / w->period), on = w->duty * w->period;
	double rest = time + w->phase - periods * w->period;
	double whole = on + w->idle * (w->period - on);

	if (w->pattern != ON_OFF)
		return time;
	return periods * whole + (rest < on ? rest : on + w->idle * (rest - on));
}

/* Places the windows, and weighs them by what the counted hits say. */
static inline void experiment_begin(uint64_t *seed, const struct workload *w,
				    struct experiment *ret)
{
	struct estimate_clock clock = {0};
	double start = load_sum(w, 0), share;

	ret->workload = *w;
	ret->n = (size_t)(w->seconds / w->stratum);
	ret->n = ret->n < WINDOWS_MAX ? ret->n : WINDOWS_MAX;
	ret->progress = load_sum(w, (double)ret->n * w->stratum) - start;
	for (size_t i = 0; i < ret->n; i++) {
		double open = ((double)i + random_uniform(seed)) * w->stratum;
		double slowing = 1 + (w->slowing - 1) * load_at(w, open), hits, stratum;
		struct place *place = &ret->places[i];

		place->missed = random_uniform(seed) < w->missed;
		place->position = load_sum(w, open) - start;
		place->progress = (load_sum(w, open + w->window) - start - place->position) /
				  slowing * (1 - GUARD);
		stratum = load_sum(w, (double)(i + 1) * w->stratum) -
			  load_sum(w, (double)i * w->stratum);
		stratum = random_poisson(seed, w->hits_per_second * stratum);
		hits = place->missed ? 0
				     : random_poisson(seed, w->hits_per_second * place->progress);
		estimate_clock_add(&clock, stratum, place->missed ? 0 : w->stratum / w->window,
				   hits, hits);
		place->weight = w->stratum / w->window;
	}
	/* The weight is told when the clock has seen enough: here, for all at the end. */
	for (size_t i = 0; i < ret->n; i++)
		ret->places[i].weight = estimate_clock_weight(&clock, w->stratum / w->window);
	ret->relative_error = estimate_clock_relative_error(&clock);
	/* Of nothing that the windows' places change. */
	share = w->window / w->stratum / w->slowing * (1 - GUARD) * (1 - w->missed);
	ret->calls = fmin(w->calls_seen / share, CALLS_MEAN_MAX);
	ret->calls_seen = ret->calls * share;
}

struct call {
	double position; /* in progress */
	double objects;
	double until; /* its objects die, all at once; INFINITY */
};

static inline int compare_calls(const void *a, const void *b)
{
	const struct call *one = a, *other = b;

	return (one->position > other->position) - (one->position < other->position);
}

static inline void call_draw(uint64_t *seed, const struct workload *w, double position,
			     struct call *ret)
{
	*ret = (struct call){
		.position = position,
		.objects = floor(pow(random_uniform(seed), -1 / w->pareto)),
		.until = w->lifetime > 0 ? position - w->lifetime * log(random_uniform(seed))
					 : INFINITY,
	};
	ret->objects = ret->objects < w->call_max ? ret->objects : w->call_max;
}

/* In the order of their positions; how many. */
static inline size_t calls_draw(uint64_t *seed, const struct experiment *e, double mean,
				struct call *ret, size_t max)
{
	const struct workload *w = &e->workload;
	double burst = w->pattern == BURSTY ? random_between(seed, 2, 22) : 1;
	double width = random_scale(seed, 0.001, 0.1);
	unsigned int n_bursts = random_poisson(seed, mean / burst);
	size_t n = 0;

	for (unsigned int i = 0; i < n_bursts; i++) {
		double position = random_uniform(seed) * e->progress;
		unsigned int n_calls = burst > 1 ? 1 + random_poisson(seed, burst - 1) : 1;

		for (unsigned int k = 0; k < n_calls && n < max; k++) {
			double at = position + (burst > 1 ? width * random_uniform(seed) : 0);

			if (at < e->progress)
				call_draw(seed, w, at, &ret[n++]);
		}
	}
	qsort(ret, n, sizeof(*ret), compare_calls);
	return n;
}

/* Objects that live at a time (a progress), of the calls before it. */
static inline double calls_living(const struct call *calls, size_t n, double time)
{
	double objects = 0;

	for (size_t i = 0; i < n && calls[i].position < time; i++)
		objects += calls[i].until > time ? calls[i].objects : 0;
	return objects;
}

/* The same of those that a window saw; calls are in order. */
static inline double place_living(const struct place *place, const struct call *calls, size_t n,
				  double time)
{
	size_t low = 0, high = n;
	double objects = 0;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (calls[middle].position < place->position)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < n && calls[low].position < place->position + place->progress; low++)
		if (calls[low].position < time && calls[low].until > time)
			objects += calls[low].objects;
	return place->missed ? 0 : objects;
}

/* One cell a window that has any; each object takes so many bytes. How many; max: e->n. */
static inline size_t cells_fill(const struct experiment *e, const struct call *calls, size_t n,
				double time, uint64_t stack, uint8_t size_class, double bytes,
				struct estimate_cell *ret)
{
	uint32_t ordinal = 0;
	size_t kept = 0;

	for (size_t i = 0; i < e->n; i++) {
		double objects = place_living(&e->places[i], calls, n, time);

		if (objects > 0)
			ret[kept++] = (struct estimate_cell){.stack = stack,
							     .bytes = objects * bytes,
							     .weight = e->places[i].weight,
							     .cluster = ordinal,
							     .size_class = size_class};
		ordinal += !e->places[i].missed;
	}
	return kept;
}

static inline struct estimate_design experiment_design(const struct experiment *e)
{
	struct estimate_design design = {.relative_error = e->relative_error};

	for (size_t i = 0; i < e->n; i++)
		design.n_clusters += !e->places[i].missed;
	return design;
}

#endif
